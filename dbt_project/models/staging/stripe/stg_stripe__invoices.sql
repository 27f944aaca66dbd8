select
    id as invoice_id,
    customer_id,
    subscription_id,
    number as invoice_number,
    status as invoice_status,
    currency,
    amount_due as amount_due_cents,
    amount_paid as amount_paid_cents,
    period_start as period_starts_at,
    period_end as period_ends_at,
    created as created_at,
    due_date as due_at,
    status_transitions_paid_at as paid_at
from {{ source('stripe', 'invoice') }}
where {{ is_active_row('stripe', 'invoice') }}
