select
    id as alert_id,
    incident_id,
    title,
    status as alert_status,
    deduplication_key,
    unit,
    regexp_extract(deduplication_key, r'([^:]+)$') as failed_run_id,
    customer_facing as is_customer_facing,
    created_at,
    updated_at,
    resolved_at
from {{ source('incident_io', 'alerts') }}
