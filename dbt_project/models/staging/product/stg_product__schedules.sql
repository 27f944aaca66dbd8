select
    id as schedule_id,
    organisation_id,
    name as schedule_name,
    timezone,
    working_hours_start,
    working_hours_end,
    created_at,
    updated_at
from {{ source('product', 'schedules') }}
where {{ is_active_row('product', 'schedules') }}
