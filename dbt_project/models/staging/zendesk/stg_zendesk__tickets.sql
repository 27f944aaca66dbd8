select
    id as ticket_id,
    organization_id as zendesk_organization_id,
    requester_id,
    assignee_id,
    subject,
    status as ticket_status,
    priority,
    type as ticket_type,
    via_channel as channel,
    created_at,
    cast(updated_at as timestamp) as updated_at
from {{ source('zendesk', 'ticket') }}
where {{ is_active_row('zendesk', 'ticket') }} and status != 'deleted'
