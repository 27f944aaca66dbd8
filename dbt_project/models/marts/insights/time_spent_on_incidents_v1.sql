-- What version 2 counts, as averages: the two cannot come apart while both are read.
select
    organisation_id,
    declared_on,
    severity,
    incidents_declared,
    incidents_resolved,
    participants,
    minutes_worked,
    safe_divide(minutes_to_mitigate, incidents_mitigated) as avg_minutes_to_mitigate,
    safe_divide(minutes_to_resolve, incidents_resolved) as avg_minutes_to_resolve,
    median_minutes_to_resolve
from {{ ref('time_spent_on_incidents', v=2) }}
