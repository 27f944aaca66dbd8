select
    date_trunc(date(alerted_at), month) as alerted_month,
    cause,
    countif(not is_transient) as incidents,
    countif(is_transient) as transients,
    countif(is_customer_facing and not is_transient) as customer_facing_incidents,
    countif(resolved_at is null and not is_transient) as open_incidents,
    coalesce(sum(if(is_transient, 0, minutes_to_resolve)), 0) as minutes
from {{ ref('incident_response') }}
group by alerted_month, cause
