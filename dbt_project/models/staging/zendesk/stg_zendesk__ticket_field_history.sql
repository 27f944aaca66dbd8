select
    ticket_id,
    field_name,
    value as field_value,
    user_id as changed_by_user_id,
    updated as changed_at
from {{ source('zendesk', 'ticket_field_history') }}
where {{ is_active_row('zendesk', 'ticket_field_history') }}
