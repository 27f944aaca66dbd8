{{ config(
    materialized='incremental',
    partition_by={'field': 'occurred_on', 'data_type': 'date'},
    partitions=event_partitions(),
    cluster_by=['organisation_id'],
    meta={'partitions': 'daily'}
) }}

select
    occurred_on,
    organisation_id,
    user_id,
    anonymous_id,
    platform,
    event_name,
    feature,
    count(*) as events,
    min(occurred_at) as first_at,
    max(occurred_at) as last_at
from {{ ref('int_activity') }}
where {{ on_event_days('occurred_on') }}
group by occurred_on, organisation_id, user_id, anonymous_id, platform, event_name, feature
