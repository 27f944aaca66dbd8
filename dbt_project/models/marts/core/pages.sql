select
    page_id,
    organisation_id,
    user_id,
    escalation_id,
    schedule_id,
    alert_id,
    alert_source,
    incident_id,
    channel,
    paged_at,
    acked_at,
    is_acked,
    minutes_to_ack,
    is_out_of_hours
from {{ ref('int_pages_enriched') }}
