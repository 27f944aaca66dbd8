-- The first to sign in on a browser or phone: who signs in on it later does not change who visited before.
with identified as (
    select
        anonymous_id,
        user_id,
        organisation_id,
        received_at
    from {{ ref('stg_segment_website__identifies') }}
    union all
    select
        anonymous_id,
        user_id,
        organisation_id,
        received_at
    from {{ ref('stg_segment_web_app__identifies') }}
    union all
    select
        anonymous_id,
        user_id,
        organisation_id,
        received_at
    from {{ ref('stg_segment_mobile__identifies') }}
)

select
    anonymous_id,
    user_id,
    organisation_id,
    received_at as known_at
from identified
where anonymous_id is not null and user_id is not null
qualify row_number() over (partition by anonymous_id order by received_at, user_id) = 1
