select
    id as customer_id,
    metadata_organisation_id as organisation_id,
    name as customer_name,
    email as billing_email,
    currency,
    delinquent as is_delinquent,
    created as created_at
from {{ source('stripe', 'customer') }}
where not _fivetran_deleted
