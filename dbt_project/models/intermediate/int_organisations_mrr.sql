with invoiced as (
    select
        customers.organisation_id,
        invoices.subscription_id,
        date_trunc(date(invoices.created_at), month) as revenue_month,
        invoices.amount_due_cents
    from {{ ref('stg_stripe__invoices') }} as invoices
    inner join {{ ref('stg_stripe__customers') }} as customers
        on invoices.customer_id = customers.customer_id
    where
        invoices.invoice_status in ('open', 'paid')
        and invoices.amount_due_cents > 0
        and invoices.subscription_id is not null
        and customers.organisation_id is not null
    -- A change in the middle of a month bills a subscription anew: what counts is how the month left it.
    qualify row_number() over (
        partition by invoices.subscription_id, date_trunc(date(invoices.created_at), month)
        order by invoices.created_at desc, invoices.invoice_id desc
    ) = 1
),

billed as (
    select
        organisation_id,
        revenue_month,
        sum(amount_due_cents) as mrr_cents
    from invoiced
    group by organisation_id, revenue_month
),

began as (
    select
        organisation_id,
        min(revenue_month) as first_month
    from billed
    group by organisation_id
),

-- Who is billed on the 28th has not left on the 10th: the month that is still being billed is not shown.
ended as (
    select date_sub(max(revenue_month), interval 1 month) as last_month
    from billed
),

months as (
    select
        began.organisation_id,
        revenue_month
    from began
    cross join ended
    cross join unnest(generate_date_array(began.first_month, ended.last_month, interval 1 month)) as revenue_month
)

select
    months.organisation_id,
    months.revenue_month,
    coalesce(billed.mrr_cents, 0) as mrr_cents
from months
left join billed
    on
        months.organisation_id = billed.organisation_id
        and months.revenue_month = billed.revenue_month
