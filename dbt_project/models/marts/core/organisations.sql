with subscriptions as (
    select *
    from {{ ref('stg_product__subscriptions') }}
    -- One that runs goes before one that is over, and a newer one before an older one.
    qualify row_number() over (
        partition by organisation_id
        order by if(subscription_status = 'cancelled', 1, 0), started_at desc, subscription_id desc
    ) = 1
),

users as (
    select
        organisation_id,
        count(*) as users
    from {{ ref('stg_product__users') }}
    group by organisation_id
),

incidents as (
    select
        organisation_id,
        count(*) as incidents,
        min(declared_at) as first_incident_at,
        max(declared_at) as latest_incident_at
    from {{ ref('int_incidents_enriched') }}
    where not is_declined
    group by organisation_id
)

select
    organisations.organisation_id,
    organisations.organisation_name,
    organisations.slug,
    organisations.industry,
    organisations.region,
    organisations.timezone,
    hours.timezone as working_hours_timezone,
    hours.working_hours_start,
    hours.working_hours_end,
    organisations.created_at,
    subscriptions.plan,
    coalesce(subscriptions.subscription_status, 'none') as subscription_status,
    coalesce(subscriptions.subscription_status in ('active', 'past_due'), false) as is_paying,
    coalesce(subscriptions.seats, 0) as seats,
    coalesce(users.users, 0) as users,
    coalesce(incidents.incidents, 0) as incidents,
    incidents.first_incident_at,
    incidents.latest_incident_at
from {{ ref('stg_product__organisations') }} as organisations
inner join {{ ref('int_organisations_working_hours') }} as hours
    on organisations.organisation_id = hours.organisation_id
left join subscriptions
    on organisations.organisation_id = subscriptions.organisation_id
left join users
    on organisations.organisation_id = users.organisation_id
left join incidents
    on organisations.organisation_id = incidents.organisation_id
