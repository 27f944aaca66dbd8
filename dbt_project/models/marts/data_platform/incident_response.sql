with failures as (
    select
        run_id,
        unit,
        min(occurred_at) as failed_at
    from {{ ref('stg_dataplatform__asset_events') }}
    where event_kind = 'failed'
    group by run_id, unit
),

failed_runs as (
    select
        run_id,
        min(failed_at) as failed_at
    from failures
    group by run_id
),

alerts as (
    select
        alerts.incident_id,
        alerts.unit,
        alerts.kind,
        alerts.team,
        -- A failure that only passed for one is none any more when another alert of its incident is real.
        logical_and(alerts.is_transient) over (partition by alerts.incident_id) as is_transient,
        logical_or(alerts.is_flapping) over (partition by alerts.incident_id) as is_flapping,
        alerts.created_at,
        alerts.resolved_at,
        -- A run that died without a word has no unit of the same name.
        coalesce(failures.failed_at, failed_runs.failed_at) as failed_at,
        logical_or(alerts.is_customer_facing) over (partition by alerts.incident_id) as is_customer_facing
    from {{ ref('stg_incident_io__alerts') }} as alerts
    left join failures on alerts.failed_run_id = failures.run_id and alerts.unit = failures.unit
    left join failed_runs on alerts.failed_run_id = failed_runs.run_id
    where alerts.incident_id is not null
    -- Alerts that were joined to an incident later are its consequences.
    qualify row_number() over (partition by alerts.incident_id order by alerts.created_at, alerts.alert_id) = 1
),

incidents as (
    select
        incidents.incident_id,
        incidents.reference,
        incidents.incident_name,
        incidents.severity,
        incidents.status_category,
        alerts.unit,
        alerts.kind,
        alerts.team,
        coalesce(incidents.cause, alerts.unit, 'unknown') as cause,
        coalesce(alerts.is_customer_facing, false) as is_customer_facing,
        coalesce(alerts.is_transient, false) as is_transient,
        coalesce(alerts.is_flapping, false) as is_flapping,
        alerts.failed_at,
        coalesce(alerts.created_at, incidents.created_at) as alerted_at,
        incidents.paged_at,
        incidents.acknowledged_at,
        coalesce(incidents.resolved_at, alerts.resolved_at) as resolved_at
    from {{ ref('stg_incident_io__incidents') }} as incidents
    left join alerts on incidents.incident_id = alerts.incident_id
)

select
    incident_id,
    reference,
    incident_name,
    severity,
    status_category,
    unit,
    kind,
    team,
    cause,
    is_customer_facing,
    is_transient,
    is_flapping,
    failed_at,
    alerted_at,
    paged_at,
    acknowledged_at,
    resolved_at,
    {{ minutes_between('failed_at', 'alerted_at') }} as minutes_to_detect,
    {{ minutes_between('alerted_at', 'acknowledged_at') }} as minutes_to_acknowledge,
    {{ minutes_between('alerted_at', 'resolved_at') }} as minutes_to_resolve
from incidents
