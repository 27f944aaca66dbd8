"""What customers see, computed a second time by PostgreSQL on the product's own tables: nothing here comes from dbt."""

from __future__ import annotations

from typing import Any

import pytest

# Minutes of an incident outside of working hours: all of it, less its overlap with each working day of the schedule.
WORKING = """
    select i.id, sum(extract(epoch from
            least(date_trunc('second', i.resolved_at), (d.day + s.working_hours_end * interval '1 hour') at time zone s.timezone)
            - greatest(date_trunc('second', i.declared_at), (d.day + s.working_hours_start * interval '1 hour') at time zone s.timezone)
        )) filter (where
            (d.day + s.working_hours_end * interval '1 hour') at time zone s.timezone > i.declared_at
            and (d.day + s.working_hours_start * interval '1 hour') at time zone s.timezone < i.resolved_at
        ) / 60.0 as minutes
    from incidents i
    join schedules s on s.organisation_id = i.organisation_id
    cross join lateral (
        select day::timestamp from generate_series(
            (i.declared_at at time zone s.timezone)::date, (i.resolved_at at time zone s.timezone)::date, interval '1 day'
        ) as day where extract(isodow from day) < 6
    ) d
    where i.resolved_at is not null
    group by i.id
"""

TIME_SPENT = f"""
    with working as ({WORKING}),
    work as (
        select incident_id, count(*) as people, sum(minutes_worked) as minutes from incident_participants group by 1
    ),
    incident as (
        select i.organisation_id, (i.declared_at at time zone o.timezone)::date as declared_on, i.severity, i.mitigated_at,
            i.resolved_at, coalesce(work.people, 0) as people, coalesce(work.minutes, 0) as minutes,
            floor(extract(epoch from date_trunc('second', i.mitigated_at) - date_trunc('second', i.declared_at))) / 60 as to_mitigate,
            floor(extract(epoch from date_trunc('second', i.resolved_at) - date_trunc('second', i.declared_at))) / 60 as to_resolve,
            coalesce(w.minutes, 0) as in_hours
        from incidents i
        join organisations o on o.id = i.organisation_id
        left join work on work.incident_id = i.id
        left join working w on w.id = i.id
        where i.status <> 'declined'
    )
    select organisation_id, declared_on::text, severity, count(*), count(mitigated_at), count(resolved_at), sum(people)::int,
        sum(minutes)::int, coalesce(sum(to_mitigate), 0)::float, coalesce(sum(to_resolve), 0)::float,
        coalesce(sum(to_resolve - in_hours), 0)::float, percentile_cont(0.5) within group (order by to_resolve)
    from incident group by 1, 2, 3 order by 1, 2, 3
"""
TIME_SPENT_SHOWN = """
    select organisation_id, cast(declared_on as string) as declared_on, severity, incidents_declared, incidents_mitigated,
        incidents_resolved, participants, minutes_worked, minutes_to_mitigate, minutes_to_resolve,
        out_of_hours_minutes_to_resolve, median_minutes_to_resolve
    from insights.time_spent_on_incidents_v2 order by organisation_id, declared_on, severity
"""

PAGES = """
    select e.organisation_id, p.user_id, date_trunc('month', p.paged_at at time zone o.timezone)::date::text, u.name, count(*),
        count(*) filter (where p.out_of_hours), count(p.acked_at),
        percentile_cont(0.5) within group (
            order by floor(extract(epoch from date_trunc('second', p.acked_at) - date_trunc('second', p.paged_at))) / 60
        )
    from pages p
    join escalations e on e.id = p.escalation_id
    join organisations o on o.id = e.organisation_id
    left join users u on u.id = p.user_id
    group by 1, 2, 3, 4 order by 1, 2, 3
"""
PAGES_SHOWN = """
    select organisation_id, user_id, cast(paged_month as string) as paged_month, responder_name, pages, out_of_hours_pages,
        acked_pages, median_minutes_to_ack
    from insights.pages_by_responder order by organisation_id, user_id, paged_month
"""

TASKS = """
    select t.organisation_id, date_trunc('week', t.created_at at time zone o.timezone)::date::text, count(*),
        count(*) filter (where t.status = 'done' and t.completed_at <= t.due_at),
        count(*) filter (where t.status = 'done' and t.completed_at > t.due_at),
        count(*) filter (where t.status = 'dropped'), count(*) filter (where t.status = 'open'),
        count(*) filter (where t.status = 'open' and i.severity = 'critical'),
        count(*) filter (where t.status = 'done')::float / nullif(count(*) filter (where t.status <> 'dropped'), 0)
    from post_incident_tasks t
    join organisations o on o.id = t.organisation_id
    join incidents i on i.id = t.incident_id
    where i.status <> 'declined'
    group by 1, 2 order by 1, 2
"""
TASKS_SHOWN = """
    select organisation_id, cast(created_week as string) as created_week, tasks_created, tasks_done_on_time, tasks_done_late,
        tasks_dropped, tasks_open, critical_tasks_open, completion_rate
    from insights.post_incident_task_completion order by organisation_id, created_week
"""

FIGURES = {
    "time_spent_on_incidents": (TIME_SPENT_SHOWN, TIME_SPENT),
    "pages_by_responder": (PAGES_SHOWN, PAGES),
    "post_incident_task_completion": (TASKS_SHOWN, TASKS),
}
"""What the warehouse shows, and what the product's database says, by insight."""


def assert_same_figures(shown: list[tuple[Any, ...]], wanted: list[tuple[Any, ...]]) -> None:
    """Compare row by row; where PostgreSQL has a fraction, to a millionth."""
    assert len(shown) > 50
    assert len(shown) == len(wanted)
    for row, other in zip(shown, wanted, strict=True):
        for figure, wants in zip(row, other, strict=True):
            exact = not isinstance(wants, float)
            assert figure == (wants if exact else pytest.approx(wants, abs=1e-6)), (row, other)
