select
    id as subscription_id,
    organisation_id,
    plan,
    seats,
    mrr_cents,
    status as subscription_status,
    started_at,
    cancelled_at,
    created_at,
    updated_at
from {{ source('product', 'subscriptions') }}
where {{ is_active_row('product', 'subscriptions') }}
