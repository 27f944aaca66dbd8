with items as (
    select
        items.subscription_id,
        items.subscription_item_id,
        items.quantity,
        items.current_period_starts_at,
        items.current_period_ends_at,
        prices.plan,
        prices.currency,
        prices.unit_amount_cents,
        items.quantity * prices.unit_amount_cents as amount_cents
    from {{ ref('stg_stripe__subscription_items') }} as items
    left join {{ ref('stg_stripe__prices') }} as prices
        on items.price_id = prices.price_id
),

main_items as (
    select
        *,
        sum(amount_cents) over (partition by subscription_id) as subscription_amount_cents
    from items
    qualify row_number() over (
        partition by subscription_id
        order by amount_cents desc, subscription_item_id asc
    ) = 1
)

select
    subscriptions.subscription_id,
    subscriptions.customer_id,
    subscriptions.subscription_status,
    main_items.plan,
    main_items.quantity as seats,
    main_items.unit_amount_cents,
    main_items.subscription_amount_cents as amount_cents,
    main_items.currency,
    subscriptions.created_at,
    main_items.current_period_starts_at,
    main_items.current_period_ends_at,
    subscriptions.cancelled_at,
    subscriptions.ended_at,
    subscriptions.trial_ends_at
from {{ ref('stg_stripe__subscriptions') }} as subscriptions
left join main_items
    on subscriptions.subscription_id = main_items.subscription_id
