select
    id as page_id,
    escalation_id,
    user_id,
    channel,
    paged_at,
    acked_at,
    out_of_hours as is_out_of_hours,
    created_at,
    updated_at
from {{ source('product', 'pages') }}
where {{ is_active_row('product', 'pages') }}
