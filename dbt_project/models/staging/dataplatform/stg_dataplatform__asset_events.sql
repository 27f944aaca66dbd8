select
    event_id,
    run_id,
    step_key,
    kind as event_kind,
    unit,
    asset_key,
    partition_key,
    row_count,
    rows_moved,
    duration_seconds,
    bytes_billed,
    slot_ms,
    error,
    occurred_at,
    date(occurred_at) as occurred_on
from {{ source('dataplatform', 'asset_events') }}
