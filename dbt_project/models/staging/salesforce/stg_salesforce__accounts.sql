select
    id as account_id,
    name as account_name,
    industry,
    owner_id as owner_user_id,
    organisation_id_c as organisation_id
from {{ source('salesforce', 'account') }}
where {{ is_active_row('salesforce', 'account') }}
