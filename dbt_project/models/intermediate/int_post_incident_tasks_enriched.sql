select
    tasks.task_id,
    tasks.organisation_id,
    tasks.incident_id,
    incidents.severity,
    tasks.created_at,
    date_trunc(date(tasks.created_at, organisations.timezone), isoweek) as created_week,
    case
        when tasks.task_status != 'done' then tasks.task_status
        when tasks.completed_at <= tasks.due_at then 'done_on_time'
        else 'done_late'
    end as outcome
from {{ ref('stg_product__post_incident_tasks') }} as tasks
inner join {{ ref('stg_product__organisations') }} as organisations
    on tasks.organisation_id = organisations.organisation_id
inner join {{ ref('stg_product__incidents') }} as incidents
    on tasks.incident_id = incidents.incident_id
where incidents.incident_status != 'declined'
