{{ config(
    materialized='incremental',
    partition_by={'field': 'occurred_on', 'data_type': 'date'},
    partitions=event_partitions(),
    cluster_by=['organisation_id'],
    meta={'partitions': 'daily'}
) }}

select
    event_id,
    event_version,
    organisation_id,
    user_id,
    workflow_id,
    outcome as run_outcome,
    duration_ms,
    occurred_at,
    received_at,
    date(occurred_at) as occurred_on
from {{ source('product_events', 'workflow_run_finished') }}
where
    {{ event_window('occurred_at') }}
qualify
    {{ first_received('event_id', 'occurred_at') }}
