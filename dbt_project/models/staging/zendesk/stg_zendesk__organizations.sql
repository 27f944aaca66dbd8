select
    id as zendesk_organization_id,
    -- Text in Zendesk; Fivetran lands it as a number where every value looks like one.
    cast(external_id as string) as organisation_id,
    name as zendesk_organization_name,
    created_at,
    updated_at
from {{ source('zendesk', 'organization') }}
where {{ is_active_row('zendesk', 'organization') }}
