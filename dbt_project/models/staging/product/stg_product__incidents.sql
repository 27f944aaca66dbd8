select
    id as incident_id,
    organisation_id,
    reference,
    name as incident_name,
    severity,
    status as incident_status,
    declared_by_user_id,
    declared_at,
    mitigated_at,
    resolved_at,
    created_at,
    updated_at
from {{ source('product', 'incidents') }}
where {{ is_active_row('product', 'incidents') }}
