select
    id as subscription_id,
    customer_id,
    status as subscription_status,
    plan,
    quantity as seats,
    unit_amount as unit_amount_cents,
    currency,
    created as created_at,
    current_period_start as current_period_starts_at,
    current_period_end as current_period_ends_at,
    canceled_at as cancelled_at,
    ended_at,
    trial_end as trial_ends_at
from {{ source('stripe', 'subscription') }}
where not _fivetran_deleted
