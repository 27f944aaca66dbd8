with schedules as (
    select
        organisation_id,
        timezone,
        working_hours_start,
        working_hours_end
    from {{ ref('stg_product__schedules') }}
    qualify row_number() over (partition by organisation_id order by created_at, schedule_id) = 1
)

select
    organisations.organisation_id,
    coalesce(schedules.timezone, organisations.timezone) as timezone,
    coalesce(schedules.working_hours_start, 9) as working_hours_start,
    coalesce(schedules.working_hours_end, 17) as working_hours_end
from {{ ref('stg_product__organisations') }} as organisations
left join schedules
    on organisations.organisation_id = schedules.organisation_id
