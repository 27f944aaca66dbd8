{# The two are synced one after the other, so that a change may be seen in one of them first: no reason to stop. #}
{{ config(severity='warn', meta={'dagster': {'ref': {'name': 'invoices'}}}) }}

-- Organisations whose active Stripe subscriptions come to another amount than the product has for them.
with billed as (
    select
        customers.organisation_id,
        sum(subscriptions.amount_cents) as mrr_cents
    from {{ ref('int_subscriptions_priced') }} as subscriptions
    inner join {{ ref('stg_stripe__customers') }} as customers
        on subscriptions.customer_id = customers.customer_id
    where subscriptions.subscription_status in ('active', 'past_due')
    group by customers.organisation_id
),

sold as (
    select
        organisation_id,
        sum(mrr_cents) as mrr_cents
    from {{ ref('stg_product__subscriptions') }}
    where subscription_status in ('active', 'past_due')
    group by organisation_id
)

select
    billed.mrr_cents as billed_cents,
    sold.mrr_cents as sold_cents,
    coalesce(billed.organisation_id, sold.organisation_id) as organisation_id
from billed
full outer join sold
    on billed.organisation_id = sold.organisation_id
where coalesce(billed.mrr_cents, 0) != coalesce(sold.mrr_cents, 0)
