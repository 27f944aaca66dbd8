select
    id as incident_id,
    reference,
    name as incident_name,
    status_category,
    severity,
    cause,
    created_at,
    updated_at,
    reported_at,
    paged_at,
    acknowledged_at,
    resolved_at
from {{ source('incident_io', 'incidents') }}
