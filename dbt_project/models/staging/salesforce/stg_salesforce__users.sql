select
    id as salesforce_user_id,
    name as user_name,
    email,
    is_active
from {{ source('salesforce', 'user') }}
where {{ is_active_row('salesforce', 'user') }}
