{%- set today = "date '" ~ var('as_of') ~ "'" if var('as_of', none) else 'current_date()' -%}

with opportunities as (
    select
        *,
        stage_name in ('Closed Won', 'Closed Lost') as is_closed,
        date(created_at) as created_on,
        case stage_name
            when 'Prospecting' then 0.1
            when 'Proposal' then 0.5
            when 'Negotiation' then 0.75
            when 'Closed Won' then 1.0
            else 0.0
        end as win_probability
    from {{ ref('stg_salesforce__opportunities') }}
),

contacts as (
    select
        account_id,
        count(*) as contacts
    from {{ ref('stg_salesforce__contacts') }}
    group by account_id
)

select
    opportunities.opportunity_id,
    opportunities.opportunity_name,
    opportunities.account_id as salesforce_account_id,
    accounts.account_name,
    accounts.organisation_id,
    accounts.owner_user_id as salesforce_owner_id,
    owners.user_name as owner_name,
    coalesce(contacts.contacts, 0) as contacts,
    opportunities.stage_name,
    not opportunities.is_closed as is_open,
    opportunities.stage_name = 'Closed Won' as is_won,
    coalesce(opportunities.amount, 0.0) as amount,
    opportunities.win_probability,
    coalesce(opportunities.amount, 0.0) * opportunities.win_probability as weighted_amount,
    opportunities.created_on,
    opportunities.closes_on,
    if(opportunities.is_closed, null, date_diff({{ today }}, opportunities.created_on, day)) as age_days,
    not opportunities.is_closed and opportunities.closes_on < {{ today }} as is_overdue
from opportunities
left join {{ ref('stg_salesforce__accounts') }} as accounts
    on opportunities.account_id = accounts.account_id
left join {{ ref('stg_salesforce__users') }} as owners
    on accounts.owner_user_id = owners.salesforce_user_id
left join contacts
    on opportunities.account_id = contacts.account_id
