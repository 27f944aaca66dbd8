select
    date_trunc(date(alerted_at), month) as alerted_month,
    cause,
    count(*) as incidents,
    countif(is_customer_facing) as customer_facing_incidents,
    countif(resolved_at is null) as open_incidents,
    coalesce(sum(minutes_to_resolve), 0) as minutes
from {{ ref('incident_response') }}
group by alerted_month, cause
