{{ config(cluster_by=['asset_key']) }}

with results as (
    select
        asset_key,
        check_name,
        severity,
        is_passed,
        occurred_at,
        max(if(is_passed, occurred_at, null)) over (
            partition by asset_key, check_name
            order by occurred_at, event_id
            rows between unbounded preceding and 1 preceding
        ) as passed_before,
        min(if(is_passed, occurred_at, null)) over (
            partition by asset_key, check_name
            order by occurred_at, event_id
            rows between 1 following and unbounded following
        ) as passed_after,
        row_number() over (partition by asset_key, check_name order by occurred_at desc, event_id desc) as age
    from {{ ref('stg_dataplatform__check_results') }}
),

checks as (
    select
        asset_key,
        check_name,
        max(if(age = 1, severity, null)) as severity,
        count(*) as evaluations,
        countif(not is_passed) as failures,
        -- Failures in a row between the same two passes are one flip.
        count(
            distinct if(
                not is_passed and timestamp_diff(passed_after, passed_before, second) <= 24 * 60 * 60,
                passed_before,
                null
            )
        ) as flips,
        max(occurred_at) as last_evaluated_at,
        max(if(not is_passed, occurred_at, null)) as last_failed_at
    from results
    group by asset_key, check_name
)

select
    asset_key,
    check_name,
    severity,
    evaluations,
    failures,
    flips,
    flips / evaluations as flakiness_rate,
    last_evaluated_at,
    last_failed_at
from checks
