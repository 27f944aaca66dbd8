select
    id as alert_id,
    organisation_id,
    incident_id,
    source as alert_source,
    title as alert_title,
    status as alert_status,
    fired_at,
    resolved_at,
    created_at,
    updated_at
from {{ source('product', 'alerts') }}
where {{ is_active_row('product', 'alerts') }}
