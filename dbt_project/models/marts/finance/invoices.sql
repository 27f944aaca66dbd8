select
    invoices.invoice_id,
    invoices.invoice_number,
    customers.organisation_id,
    invoices.customer_id as stripe_customer_id,
    invoices.subscription_id as stripe_subscription_id,
    subscriptions.plan,
    invoices.invoice_status,
    invoices.currency,
    invoices.amount_due_cents / 100.0 as amount_due,
    invoices.amount_paid_cents / 100.0 as amount_paid,
    if(
        invoices.invoice_status = 'open', invoices.amount_due_cents - invoices.amount_paid_cents, 0
    ) / 100.0 as amount_outstanding,
    invoices.created_at,
    invoices.due_at,
    invoices.paid_at,
    {{ minutes_between('invoices.created_at', 'invoices.paid_at') }} / 1440.0 as days_to_pay
from {{ ref('stg_stripe__invoices') }} as invoices
left join {{ ref('stg_stripe__customers') }} as customers
    on invoices.customer_id = customers.customer_id
left join {{ ref('int_subscriptions_priced') }} as subscriptions
    on invoices.subscription_id = subscriptions.subscription_id
