select
    id as user_id,
    email,
    name as user_name,
    organisation_id,
    role as user_role,
    received_at
from {{ source('segment_website', 'users') }}
