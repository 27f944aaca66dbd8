{{ config(
    materialized='incremental',
    partition_by={'field': 'started_on', 'data_type': 'date'},
    partitions=event_partitions(),
    cluster_by=['organisation_id'],
    meta={'partitions': 'daily', 'empty_days': 'allowed'}
) }}

-- A day may lose its only session: a late event of the day before may close the gap to a session that began there.
-- Read from the day before, since a session that seems to begin at midnight may go on from there, to the day after,
-- where those of the last day end. A session is cut at the end of the day after its start: its row is the same however
-- many days are read.
with events as (
    select
        *,
        lag(occurred_at) over (partition by person_id order by occurred_at, event_id) as previous_at
    from {{ ref('int_activity') }}
    where
        platform in ('website', 'web_app', 'mobile')
        and person_id is not null
        and {{ on_event_days('occurred_on', before=1, after=1) }}
),

numbered as (
    select
        *,
        countif(previous_at is null or occurred_at > timestamp_add(previous_at, interval 30 minute)) over (
            partition by person_id order by occurred_at, event_id
        ) as session_number
    from events
),

dated as (
    select
        *,
        min(occurred_at) over (partition by person_id, session_number) as started_at,
        first_value(platform) over (
            partition by person_id, session_number order by occurred_at, event_id
        ) as first_platform
    from numbered
),

gathered as (
    select
        person_id,
        started_at,
        any_value(first_platform) as first_platform,
        max(user_id) as user_id,
        max(organisation_id) as organisation_id,
        max(occurred_at) as ended_at,
        count(*) as events,
        countif(event_name in ('page_viewed', 'screen_viewed')) as views,
        count(distinct platform) as platforms
    from dated
    where occurred_on <= date_add(date(started_at), interval 1 day)
    group by person_id, started_at
)

select
    to_hex(md5(concat(person_id, '|', cast(unix_micros(started_at) as string)))) as session_id,
    person_id,
    user_id,
    organisation_id,
    first_platform,
    platforms,
    started_at,
    ended_at,
    {{ minutes_between('started_at', 'ended_at') }} as minutes,
    events,
    views,
    date(started_at) as started_on
from gathered
where {{ on_event_days('date(started_at)') }}
