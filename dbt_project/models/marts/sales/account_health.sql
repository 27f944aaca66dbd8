-- A row may depend on its own organisation only, and on nothing that a clock or Hightouch writes:
-- else each sync to Salesforce would itself change rows for the next one.
with accounts as (
    select
        organisation_id,
        min(account_id) as salesforce_account_id
    from {{ ref('stg_salesforce__accounts') }}
    where organisation_id is not null
    group by organisation_id
),

parts as (
    select
        activity.organisation_id,
        activity.organisation_name,
        accounts.salesforce_account_id,
        activity.incidents_28d,
        activity.open_tasks,
        coalesce(revenue.mrr, 0.0) as mrr,
        coalesce(safe_divide(activity.resolved_in_target_28d, activity.resolved_28d), 0.0) as response,
        coalesce(safe_divide(activity.tasks_done_on_time, activity.kept_tasks), 1.0) as follow_through,
        case
            when revenue.has_past_due_subscription then 0.3
            when revenue.has_active_subscription then 1.0
            when revenue.has_trial then 0.6
            else 0.0
        end as billing
    from {{ ref('int_organisations_activity') }} as activity
    inner join accounts
        on activity.organisation_id = accounts.organisation_id
    left join {{ ref('int_organisations_revenue') }} as revenue
        on activity.organisation_id = revenue.organisation_id
),

scored as (
    select
        *,
        round(40.0 * response + 30.0 * follow_through + 30.0 * billing, 1) as health_score
    from parts
)

select
    organisation_id,
    organisation_name,
    salesforce_account_id,
    health_score,
    case
        when health_score >= 75 then 'healthy'
        when health_score >= 50 then 'at_risk'
        else 'critical'
    end as health_band,
    incidents_28d,
    open_tasks,
    mrr
from scored
