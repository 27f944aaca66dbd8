select
    id as alert_id,
    incident_id,
    title,
    status as alert_status,
    deduplication_key,
    unit,
    regexp_extract(deduplication_key, r'([^:]+)$') as failed_run_id,
    kind,
    team,
    customer_facing as is_customer_facing,
    -- Alerts that an earlier version exported have none.
    coalesce(transient, false) as is_transient,
    coalesce(flapping, false) as is_flapping,
    created_at,
    updated_at,
    resolved_at
from {{ source('incident_io', 'alerts') }}
