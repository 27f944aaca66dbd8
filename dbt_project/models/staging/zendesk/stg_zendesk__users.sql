select
    id as zendesk_user_id,
    organization_id as zendesk_organization_id,
    name as user_name,
    email,
    role as user_role,
    created_at,
    cast(updated_at as timestamp) as updated_at
from {{ source('zendesk', 'user') }}
where {{ is_active_row('zendesk', 'user') }}
