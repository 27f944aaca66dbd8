select
    id as incident_update_id,
    incident_id,
    user_id,
    to_status as to_incident_status,
    message,
    posted_at,
    created_at,
    updated_at
from {{ source('product', 'incident_updates') }}
where {{ is_active_row('product', 'incident_updates') }}
