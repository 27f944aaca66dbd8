select
    id as task_id,
    incident_id,
    organisation_id,
    assignee_user_id,
    title as task_title,
    status as task_status,
    due_at,
    completed_at,
    created_at,
    updated_at
from {{ source('product', 'post_incident_tasks') }}
where {{ is_active_row('product', 'post_incident_tasks') }}
