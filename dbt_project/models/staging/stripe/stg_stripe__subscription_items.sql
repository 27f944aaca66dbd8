select
    id as subscription_item_id,
    subscription_id,
    -- A price has the id of the plan that Stripe keeps for it.
    plan_id as price_id,
    quantity,
    created as created_at,
    current_period_start as current_period_starts_at,
    current_period_end as current_period_ends_at
from {{ source('stripe', 'subscription_item') }}
where {{ is_active_row('stripe', 'subscription_item') }}
