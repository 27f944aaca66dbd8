select
    pages.page_id,
    escalations.organisation_id,
    pages.escalation_id,
    escalations.schedule_id,
    escalations.alert_id,
    alerts.incident_id,
    alerts.alert_source,
    pages.user_id,
    users.user_name,
    pages.channel,
    pages.paged_at,
    date_trunc(date(pages.paged_at, organisations.timezone), month) as paged_month,
    pages.acked_at,
    pages.acked_at is not null as is_acked,
    {{ minutes_between('pages.paged_at', 'pages.acked_at') }} as minutes_to_ack,
    pages.is_out_of_hours
from {{ ref('stg_product__pages') }} as pages
inner join {{ ref('stg_product__escalations') }} as escalations
    on pages.escalation_id = escalations.escalation_id
inner join {{ ref('stg_product__organisations') }} as organisations
    on escalations.organisation_id = organisations.organisation_id
left join {{ ref('stg_product__alerts') }} as alerts
    on escalations.alert_id = alerts.alert_id
left join {{ ref('stg_product__users') }} as users
    on pages.user_id = users.user_id
