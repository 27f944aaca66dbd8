select
    run_id,
    root_run_id,
    parent_run_id,
    attempt,
    job as job_name,
    status as run_status,
    launched_by,
    created_at,
    started_at,
    ended_at,
    updated_at
from {{ source('dataplatform', 'runs') }}
