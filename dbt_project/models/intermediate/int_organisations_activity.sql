with dated_incidents as (
    select
        *,
        max(declared_at) over (partition by organisation_id) as latest_declared_at
    from {{ ref('int_incidents_enriched') }}
    where not is_declined
),

incidents as (
    select
        organisation_id,
        count(*) as incidents_28d,
        count(minutes_to_resolve) as resolved_28d,
        countif(minutes_to_resolve <= 120) as resolved_in_target_28d
    from dated_incidents
    where declared_at > timestamp_sub(latest_declared_at, interval 28 day)
    group by organisation_id
),

tasks as (
    select
        organisation_id,
        countif(outcome != 'dropped') as kept_tasks,
        countif(outcome = 'done_on_time') as tasks_done_on_time,
        countif(outcome = 'open') as open_tasks
    from {{ ref('int_post_incident_tasks_enriched') }}
    group by organisation_id
)

select
    organisations.organisation_id,
    organisations.organisation_name,
    coalesce(incidents.incidents_28d, 0) as incidents_28d,
    coalesce(incidents.resolved_28d, 0) as resolved_28d,
    coalesce(incidents.resolved_in_target_28d, 0) as resolved_in_target_28d,
    coalesce(tasks.kept_tasks, 0) as kept_tasks,
    coalesce(tasks.tasks_done_on_time, 0) as tasks_done_on_time,
    coalesce(tasks.open_tasks, 0) as open_tasks
from {{ ref('stg_product__organisations') }} as organisations
left join incidents
    on organisations.organisation_id = incidents.organisation_id
left join tasks
    on organisations.organisation_id = tasks.organisation_id
