with newest as (
    select max(occurred_on) as occurred_on
    from {{ ref('int_activity_daily') }}
)

select
    activity.organisation_id,
    activity.feature,
    min(activity.first_at) as first_used_at,
    max(activity.last_at) as last_used_at,
    count(distinct activity.user_id) as users,
    sum(activity.events) as events,
    count(distinct date_trunc(activity.occurred_on, isoweek)) as active_weeks,
    -- The week ends with the newest day of anybody's, not today: the figures stand still while no event arrives.
    count(
        distinct if(activity.occurred_on > date_sub(newest.occurred_on, interval 7 day), activity.user_id, null)
    ) as weekly_active_users
from {{ ref('int_activity_daily') }} as activity
cross join newest
where activity.organisation_id is not null and activity.feature is not null
group by activity.organisation_id, activity.feature
