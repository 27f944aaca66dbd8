select
    organisation_id,
    created_week,
    count(*) as tasks_created,
    countif(outcome = 'done_on_time') as tasks_done_on_time,
    countif(outcome = 'done_late') as tasks_done_late,
    countif(outcome = 'dropped') as tasks_dropped,
    countif(outcome = 'open') as tasks_open,
    countif(outcome = 'open' and severity = 'critical') as critical_tasks_open,
    safe_divide(
        countif(outcome in ('done_on_time', 'done_late')),
        countif(outcome != 'dropped')
    ) as completion_rate
from {{ ref('int_post_incident_tasks_enriched') }}
group by organisation_id, created_week
