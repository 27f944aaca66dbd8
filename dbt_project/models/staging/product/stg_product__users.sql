select
    id as user_id,
    organisation_id,
    email,
    name as user_name,
    role as user_role,
    created_at,
    updated_at
from {{ source('product', 'users') }}
where {{ is_active_row('product', 'users') }}
