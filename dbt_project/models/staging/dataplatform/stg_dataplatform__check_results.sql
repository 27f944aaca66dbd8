select
    event_id,
    run_id,
    asset_key,
    check_name,
    severity,
    passed as is_passed,
    failed_rows,
    occurred_at
from {{ source('dataplatform', 'check_results') }}
