with work as (
    select
        incident_id,
        count(*) as participants,
        sum(minutes_worked) as minutes_worked
    from {{ ref('stg_product__incident_participants') }}
    group by incident_id
)

select
    incidents.incident_id,
    incidents.organisation_id,
    incidents.reference,
    incidents.incident_name,
    incidents.severity,
    incidents.incident_status,
    incidents.incident_status = 'declined' as is_declined,
    incidents.declared_by_user_id,
    incidents.declared_at,
    date(incidents.declared_at, organisations.timezone) as declared_on,
    incidents.mitigated_at,
    incidents.resolved_at,
    {{ minutes_between('incidents.declared_at', 'incidents.mitigated_at') }} as minutes_to_mitigate,
    {{ minutes_between('incidents.declared_at', 'incidents.resolved_at') }} as minutes_to_resolve,
    {{ working_minutes_between(
        'incidents.declared_at', 'incidents.resolved_at',
        'hours.timezone', 'hours.working_hours_start', 'hours.working_hours_end'
    ) }} as working_minutes_to_resolve,
    coalesce(work.participants, 0) as participants,
    coalesce(work.minutes_worked, 0) as minutes_worked
from {{ ref('stg_product__incidents') }} as incidents
inner join {{ ref('stg_product__organisations') }} as organisations
    on incidents.organisation_id = organisations.organisation_id
inner join {{ ref('int_organisations_working_hours') }} as hours
    on incidents.organisation_id = hours.organisation_id
left join work
    on incidents.incident_id = work.incident_id
