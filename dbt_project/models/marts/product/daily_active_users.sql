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
    platform,
    count(distinct user_id) as users,
    sum(events) as events
from {{ ref('int_activity_daily') }}
where
    -- A visit to the website is no use of the product, and a workflow runs without the user who made it.
    platform in ('web_app', 'mobile', 'slack', 'insights')
    and user_id is not null
    and organisation_id is not null
    and {{ on_event_days('occurred_on') }}
group by occurred_on, organisation_id, platform
