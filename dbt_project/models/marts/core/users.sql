with pages as (
    select
        user_id,
        count(*) as pages,
        max(paged_at) as latest_paged_at
    from {{ ref('int_pages_enriched') }}
    group by user_id
),

work as (
    select
        participants.user_id,
        count(*) as incidents,
        sum(participants.minutes_worked) as minutes_worked
    from {{ ref('stg_product__incident_participants') }} as participants
    inner join {{ ref('stg_product__incidents') }} as incidents
        on participants.incident_id = incidents.incident_id
    where incidents.incident_status != 'declined'
    group by participants.user_id
)

select
    users.user_id,
    users.organisation_id,
    users.user_name,
    users.email,
    users.user_role,
    users.created_at,
    coalesce(work.incidents, 0) as incidents,
    coalesce(work.minutes_worked, 0) as minutes_worked,
    coalesce(pages.pages, 0) as pages,
    pages.latest_paged_at
from {{ ref('stg_product__users') }} as users
left join work
    on users.user_id = work.user_id
left join pages
    on users.user_id = pages.user_id
