select
    id as price_id,
    nickname as plan,
    currency,
    unit_amount as unit_amount_cents,
    recurring_interval,
    recurring_interval_count,
    created as created_at
from {{ source('stripe', 'price') }}
-- A price that was deleted or archived is still paid by the subscriptions that had it.
