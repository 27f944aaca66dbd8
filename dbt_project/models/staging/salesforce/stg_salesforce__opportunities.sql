select
    id as opportunity_id,
    account_id,
    name as opportunity_name,
    stage_name,
    amount,
    cast(close_date as date) as closes_on,
    created_date as created_at
from {{ source('salesforce', 'opportunity') }}
where {{ is_active_row('salesforce', 'opportunity') }}
