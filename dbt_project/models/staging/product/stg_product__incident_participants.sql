select
    id as incident_participant_id,
    incident_id,
    user_id,
    role as participant_role,
    minutes_worked,
    created_at,
    updated_at
from {{ source('product', 'incident_participants') }}
where {{ is_active_row('product', 'incident_participants') }}
