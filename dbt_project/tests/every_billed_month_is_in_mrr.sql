{{ config(meta={'dagster': {'ref': {'name': 'mrr_movements'}}}) }}

-- Months whose revenue is not what the invoices of those who pay come to, and paid months that are missing.
-- A month in which a subscription was billed twice counts its last invoice; the newest month is still being billed.
with counted as (
    select
        date_trunc(date(created_at), month) as revenue_month,
        amount_due
    from {{ ref('invoices') }}
    where
        invoice_status in ('open', 'paid')
        and amount_due > 0
        and stripe_subscription_id is not null
        and organisation_id is not null
    qualify row_number() over (
        partition by stripe_subscription_id, date_trunc(date(created_at), month)
        order by created_at desc, invoice_id desc
    ) = 1
),

billed as (
    select
        revenue_month,
        sum(amount_due) as revenue
    from counted
    group by revenue_month
    qualify revenue_month < max(revenue_month) over ()
),

shown as (
    select
        revenue_month,
        sum(closing_mrr) as revenue
    from {{ ref('mrr_movements') }}
    group by revenue_month
)

select
    billed.revenue as billed_revenue,
    shown.revenue as shown_revenue,
    coalesce(billed.revenue_month, shown.revenue_month) as revenue_month
from billed
full outer join shown
    on billed.revenue_month = shown.revenue_month
where abs(coalesce(billed.revenue, 0) - coalesce(shown.revenue, 0)) > 0.01
