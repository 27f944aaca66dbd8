select
    id as contact_id,
    account_id,
    owner_id as owner_user_id,
    name as contact_name,
    first_name,
    last_name,
    email,
    title as job_title,
    created_date as created_at
from {{ source('salesforce', 'contact') }}
where {{ is_active_row('salesforce', 'contact') }}
