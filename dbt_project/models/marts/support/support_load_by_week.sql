with tickets as (
    select
        *,
        {{ median_over('first_reply_working_minutes', ['created_week', 'priority']) }} as median_first_reply,
        {{ median_over('minutes_to_resolve', ['created_week', 'priority']) }} as median_to_resolve
    from {{ ref('tickets') }}
)

select
    created_week,
    priority,
    count(*) as tickets_created,
    countif(is_resolved) as tickets_resolved,
    countif(first_replied_at is not null) as tickets_replied,
    countif(first_reply_working_minutes <= 240) as tickets_replied_in_target,
    countif(requester_follow_ups > 0) as tickets_followed_up,
    sum(replies) as replies,
    any_value(median_first_reply) as median_first_reply_working_minutes,
    any_value(median_to_resolve) as median_minutes_to_resolve
from tickets
group by created_week, priority
