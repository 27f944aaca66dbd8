{{ config(cluster_by=['asset_key']) }}

with events as (
    select
        events.asset_key,
        events.occurred_on,
        events.event_kind,
        events.run_id,
        -- An event can be exported a moment before its run is.
        coalesce(runs.root_run_id, events.run_id) as root_run_id,
        coalesce(runs.attempt, 1) as attempt
    from {{ ref('stg_dataplatform__asset_events') }} as events
    left join {{ ref('stg_dataplatform__runs') }} as runs on events.run_id = runs.run_id
    where
        events.asset_key is not null
        and events.event_kind in ('materialized', 'failed')
),

made as (
    select
        root_run_id,
        asset_key,
        max(attempt) as last_attempt
    from events
    where event_kind = 'materialized'
    group by root_run_id, asset_key
),

days as (
    select
        events.asset_key,
        events.occurred_on,
        count(distinct events.run_id) as attempts,
        countif(events.event_kind = 'materialized') as materializations,
        count(distinct if(events.event_kind = 'failed', events.run_id, null)) as failures,
        count(
            distinct if(events.event_kind = 'failed' and made.last_attempt > events.attempt, events.run_id, null)
        ) as transients
    from events
    left join made on events.root_run_id = made.root_run_id and events.asset_key = made.asset_key
    group by events.asset_key, events.occurred_on
)

select
    asset_key,
    occurred_on,
    attempts,
    materializations,
    failures,
    transients,
    failures / attempts as failure_rate
from days
