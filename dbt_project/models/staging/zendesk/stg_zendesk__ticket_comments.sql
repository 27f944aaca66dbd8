select
    id as ticket_comment_id,
    ticket_id,
    user_id as author_id,
    public as is_public,
    created as created_at
from {{ source('zendesk', 'ticket_comment') }}
where {{ is_active_row('zendesk', 'ticket_comment') }}
