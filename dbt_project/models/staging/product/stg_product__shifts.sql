select
    id as shift_id,
    schedule_id,
    user_id,
    starts_at,
    ends_at,
    created_at,
    updated_at
from {{ source('product', 'shifts') }}
where {{ is_active_row('product', 'shifts') }}
