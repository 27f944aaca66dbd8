select
    id as account_id,
    name as account_name,
    industry,
    owner_id as owner_user_id,
    organisation_id_c as organisation_id,
    created_date as created_at
from {{ source('salesforce', 'account') }}
where not _fivetran_deleted and not is_deleted
