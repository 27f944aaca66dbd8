select
    id as subscription_id,
    customer_id,
    status as subscription_status,
    created as created_at,
    canceled_at as cancelled_at,
    ended_at,
    trial_end as trial_ends_at
from {{ source('stripe', 'subscription_history') }}
where {{ is_active_row('stripe', 'subscription_history') }}
