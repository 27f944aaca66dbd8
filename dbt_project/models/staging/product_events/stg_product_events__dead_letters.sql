select
    event_id,
    event_name,
    event_version,
    payload,
    reason,
    received_at
from {{ source('product_events', 'dead_letters') }}
