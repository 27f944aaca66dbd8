{%- set desk = ["'Europe/London'", 9, 18] -%}

with tickets as (
    select
        tickets.*,
        replied.first_replied_at,
        coalesce(replied.replies, 0) as replies,
        coalesce(replied.requester_follow_ups, 0) as requester_follow_ups,
        if(tickets.ticket_status in ('solved', 'closed'), resolved.resolved_at, null) as resolved_at
    from {{ ref('stg_zendesk__tickets') }} as tickets
    left join {{ ref('int_tickets_replied') }} as replied
        on tickets.ticket_id = replied.ticket_id
    left join {{ ref('int_tickets_resolved') }} as resolved
        on tickets.ticket_id = resolved.ticket_id
)

select
    tickets.ticket_id,
    organizations.organisation_id,
    tickets.zendesk_organization_id,
    tickets.requester_id,
    tickets.assignee_id,
    assignees.user_name as assignee_name,
    tickets.subject,
    tickets.ticket_status,
    tickets.ticket_status in ('solved', 'closed') as is_resolved,
    coalesce(tickets.priority, 'none') as priority,
    tickets.ticket_type,
    tickets.channel,
    tickets.created_at,
    date_trunc(date(tickets.created_at, 'Europe/London'), isoweek) as created_week,
    tickets.first_replied_at,
    {{ minutes_between('tickets.created_at', 'tickets.first_replied_at') }} as first_reply_minutes,
    {{ working_minutes_between('tickets.created_at', 'tickets.first_replied_at', *desk) }}
        as first_reply_working_minutes,
    tickets.resolved_at,
    {{ minutes_between('tickets.created_at', 'tickets.resolved_at') }} as minutes_to_resolve,
    {{ working_minutes_between('tickets.created_at', 'tickets.resolved_at', *desk) }}
        as working_minutes_to_resolve,
    tickets.replies,
    tickets.requester_follow_ups
from tickets
left join {{ ref('stg_zendesk__organizations') }} as organizations
    on tickets.zendesk_organization_id = organizations.zendesk_organization_id
left join {{ ref('stg_zendesk__users') }} as assignees
    on tickets.assignee_id = assignees.zendesk_user_id
