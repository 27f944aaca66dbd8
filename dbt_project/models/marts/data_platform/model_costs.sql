{{ config(cluster_by=['asset_key']) }}

select
    asset_key,
    occurred_on,
    count(distinct run_id) as runs,
    coalesce(sum(bytes_billed), 0) as bytes_billed,
    coalesce(sum(slot_ms), 0) as slot_ms,
    coalesce(sum(duration_seconds), 0) as seconds
from {{ ref('stg_dataplatform__asset_events') }}
where
    event_kind = 'materialized'
    -- Only what dbt builds says what BigQuery bills for it.
    and bytes_billed is not null
group by asset_key, occurred_on
