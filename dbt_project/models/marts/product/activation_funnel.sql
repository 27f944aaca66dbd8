-- Visitors are joined to whoever they turned out to be, however late: a first visit is often weeks before the sign-up.
with activity as (
    select
        activity.event_name,
        activity.platform,
        activity.first_at,
        coalesce(activity.organisation_id, identities.organisation_id) as organisation_id
    from {{ ref('int_activity_daily') }} as activity
    left join {{ ref('int_identities') }} as identities
        on activity.anonymous_id = identities.anonymous_id
),

firsts as (
    select
        organisation_id,
        min(if(platform = 'website' and event_name = 'page_viewed', first_at, null)) as visited_at,
        min(if(event_name = 'demo_requested', first_at, null)) as demo_requested_at,
        min(if(event_name = 'integration_connected', first_at, null)) as integration_connected_at,
        min(if(event_name = 'status_page_viewed', first_at, null)) as status_page_viewed_at
    from activity
    group by organisation_id
),

incidents as (
    select
        organisation_id,
        min(declared_at) as incident_declared_at
    from {{ ref('stg_product__incidents') }}
    where incident_status != 'declined'
    group by organisation_id
)

select
    organisations.organisation_id,
    firsts.visited_at,
    firsts.demo_requested_at,
    organisations.created_at as signed_up_at,
    firsts.integration_connected_at,
    incidents.incident_declared_at,
    firsts.status_page_viewed_at,
    case
        when firsts.status_page_viewed_at is not null then 'status_page_viewed'
        when incidents.incident_declared_at is not null then 'incident_declared'
        when firsts.integration_connected_at is not null then 'integration_connected'
        else 'signed_up'
    end as step_reached,
    {{ minutes_between('organisations.created_at', 'incidents.incident_declared_at') }} / 1440 as days_to_first_incident
from {{ ref('stg_product__organisations') }} as organisations
left join firsts
    on organisations.organisation_id = firsts.organisation_id
left join incidents
    on organisations.organisation_id = incidents.organisation_id
