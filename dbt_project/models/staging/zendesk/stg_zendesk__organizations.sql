select
    id as zendesk_organization_id,
    external_id as organisation_id,
    name as zendesk_organization_name,
    created_at,
    updated_at
from {{ source('zendesk', 'organization') }}
where not _fivetran_deleted
