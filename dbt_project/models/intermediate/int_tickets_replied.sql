with said as (
    select
        comments.ticket_id,
        comments.created_at,
        comments.author_id = tickets.requester_id as is_requester,
        comments.author_id != tickets.requester_id and authors.user_role in ('agent', 'admin') as is_reply
    from {{ ref('stg_zendesk__ticket_comments') }} as comments
    inner join {{ ref('stg_zendesk__tickets') }} as tickets
        on comments.ticket_id = tickets.ticket_id
    left join {{ ref('stg_zendesk__users') }} as authors
        on comments.author_id = authors.zendesk_user_id
    where comments.is_public
),

dated as (
    select
        *,
        min(if(is_reply, created_at, null)) over (partition by ticket_id) as first_replied_at
    from said
)

select
    ticket_id,
    min(first_replied_at) as first_replied_at,
    countif(is_reply) as replies,
    countif(is_requester and created_at > first_replied_at) as requester_follow_ups
from dated
group by ticket_id
