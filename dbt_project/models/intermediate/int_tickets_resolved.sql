with statuses as (
    select
        ticket_id,
        changed_at,
        field_value in ('solved', 'closed') as is_resolved
    from {{ ref('stg_zendesk__ticket_field_history') }}
    where field_name = 'status'
),

-- A ticket that was solved and opened again is resolved from the last time on.
dated as (
    select
        *,
        max(if(is_resolved, null, changed_at)) over (partition by ticket_id) as last_unresolved_at
    from statuses
)

select
    ticket_id,
    min(changed_at) as resolved_at
from dated
where is_resolved and (last_unresolved_at is null or changed_at >= last_unresolved_at)
group by ticket_id
