with pages as (
    select
        incident_id,
        count(*) as pages,
        min(paged_at) as first_paged_at,
        min(acked_at) as first_acked_at
    from {{ ref('int_pages_enriched') }}
    where incident_id is not null
    group by incident_id
),

tasks as (
    select
        incident_id,
        count(*) as tasks
    from {{ ref('stg_product__post_incident_tasks') }}
    group by incident_id
)

select
    incidents.incident_id,
    incidents.organisation_id,
    incidents.reference,
    incidents.incident_name,
    incidents.severity,
    incidents.incident_status,
    incidents.is_declined,
    incidents.declared_by_user_id,
    incidents.declared_at,
    incidents.declared_on,
    incidents.mitigated_at,
    incidents.resolved_at,
    incidents.minutes_to_mitigate,
    incidents.minutes_to_resolve,
    incidents.working_minutes_to_resolve,
    {{ minutes_between('pages.first_paged_at', 'pages.first_acked_at') }} as minutes_to_ack,
    incidents.participants,
    incidents.minutes_worked,
    coalesce(pages.pages, 0) as pages,
    coalesce(tasks.tasks, 0) as tasks
from {{ ref('int_incidents_enriched') }} as incidents
left join pages
    on incidents.incident_id = pages.incident_id
left join tasks
    on incidents.incident_id = tasks.incident_id
