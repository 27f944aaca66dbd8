select
    id as customer_id,
    -- One column for all of a customer's metadata: JSON since July 2025, text before. This reads both.
    json_value(metadata, '$.organisation_id') as organisation_id,
    name as customer_name,
    email as billing_email,
    currency,
    delinquent as is_delinquent,
    created as created_at
from {{ source('stripe', 'customer') }}
where {{ is_active_row('stripe', 'customer') }}
