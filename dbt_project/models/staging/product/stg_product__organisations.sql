select
    id as organisation_id,
    name as organisation_name,
    slug,
    industry,
    region,
    timezone,
    created_at,
    updated_at
from {{ source('product', 'organisations') }}
where {{ is_active_row('product', 'organisations') }}
