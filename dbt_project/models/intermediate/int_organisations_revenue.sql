select
    organisation_id,
    sum(if(subscription_status in ('active', 'past_due'), mrr_cents, 0)) / 100.0 as mrr,
    logical_or(subscription_status = 'active') as has_active_subscription,
    logical_or(subscription_status = 'trialing') as has_trial,
    logical_or(subscription_status = 'past_due') as has_past_due_subscription
from {{ ref('stg_product__subscriptions') }}
group by organisation_id
