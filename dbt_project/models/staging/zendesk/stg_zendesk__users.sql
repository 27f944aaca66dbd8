select
    id as zendesk_user_id,
    organization_id as zendesk_organization_id,
    name as user_name,
    email,
    role as user_role,
    created_at,
    updated_at
from {{ source('zendesk', 'user') }}
where not _fivetran_deleted
