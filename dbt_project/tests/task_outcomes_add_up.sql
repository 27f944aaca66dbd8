-- Weeks in which a task was counted twice or not at all.
select
    organisation_id,
    created_week
from {{ ref('post_incident_task_completion') }}
where tasks_created != tasks_done_on_time + tasks_done_late + tasks_dropped + tasks_open
