{{ config(
    materialized='incremental',
    partition_by={'field': 'occurred_on', 'data_type': 'date'},
    partitions=event_partitions(),
    cluster_by=['event_name'],
    meta={'partitions': 'daily'}
) }}

select
    id as event_id,
    anonymous_id,
    user_id,
    event as event_name,
    context_page_path as page_path,
    timestamp as occurred_at,
    received_at,
    date(timestamp) as occurred_on
from {{ source('segment_website', 'tracks') }}
where
    {{ event_window('timestamp', ingestion_time=true) }}
qualify
    {{ first_received('id', 'timestamp') }}
