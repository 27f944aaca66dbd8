select
    id as event_id,
    anonymous_id,
    user_id,
    email,
    name as user_name,
    organisation_id,
    role as user_role,
    timestamp as identified_at,
    received_at
from {{ landed_table('segment_web_app', 'identifies') }}
qualify row_number() over (partition by id order by received_at) = 1
