select
    id as alert_id,
    incident_id,
    title,
    status as alert_status,
    deduplication_key,
    unit,
    -- A sensor's tick, late data and a full queue have no run, and end in something else. An alert that came to hurt
    -- customers while it was open has gone on under a key of its own.
    regexp_extract(
        deduplication_key, r':([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})(?::customer)?$'
    ) as failed_run_id,
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
