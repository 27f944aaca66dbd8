with incidents as (
    select
        *,
        minutes_to_resolve - working_minutes_to_resolve as out_of_hours_minutes_to_resolve,
        {{ median_over('minutes_to_resolve', ['organisation_id', 'declared_on', 'severity']) }} as median_to_resolve
    from {{ ref('int_incidents_enriched') }}
    where not is_declined
)

select
    organisation_id,
    declared_on,
    severity,
    count(*) as incidents_declared,
    count(minutes_to_mitigate) as incidents_mitigated,
    count(minutes_to_resolve) as incidents_resolved,
    sum(participants) as participants,
    sum(minutes_worked) as minutes_worked,
    coalesce(sum(minutes_to_mitigate), 0) as minutes_to_mitigate,
    coalesce(sum(minutes_to_resolve), 0) as minutes_to_resolve,
    coalesce(sum(out_of_hours_minutes_to_resolve), 0) as out_of_hours_minutes_to_resolve,
    any_value(median_to_resolve) as median_minutes_to_resolve
from incidents
group by organisation_id, declared_on, severity
