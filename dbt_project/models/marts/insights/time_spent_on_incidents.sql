with incidents as (
    select
        *,
        {{ median_over('minutes_to_resolve', ['organisation_id', 'declared_on', 'severity']) }} as median_to_resolve
    from {{ ref('int_incidents_enriched') }}
)

select
    organisation_id,
    declared_on,
    severity,
    count(*) as incidents_declared,
    count(minutes_to_resolve) as incidents_resolved,
    sum(participants) as participants,
    sum(minutes_worked) as minutes_worked,
    avg(minutes_to_mitigate) as avg_minutes_to_mitigate,
    avg(minutes_to_resolve) as avg_minutes_to_resolve,
    any_value(median_to_resolve) as median_minutes_to_resolve
from incidents
group by organisation_id, declared_on, severity
