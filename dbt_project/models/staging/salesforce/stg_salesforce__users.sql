select
    id as salesforce_user_id,
    name as user_name,
    email,
    is_active,
    created_date as created_at
from {{ source('salesforce', 'user') }}
where not _fivetran_deleted and not is_deleted
