select
    id as escalation_id,
    organisation_id,
    alert_id,
    schedule_id,
    status as escalation_status,
    created_at,
    updated_at
from {{ source('product', 'escalations') }}
where {{ is_active_row('product', 'escalations') }}
