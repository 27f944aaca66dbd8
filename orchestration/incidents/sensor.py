"""The sensor that turns what the event log says into alerts.

Not `run_failure_sensor`: that one moves on when its body raises, and the event is lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache

import dagster as dg
from dagster import DagsterEventType, DagsterRunStatus, RunsFilter
from dagster import _check as check
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

from orchestration.incidents import state
from orchestration.incidents.delivery import deliver
from orchestration.incidents.render import renderer
from orchestration.incidents.triage import triage
from orchestration.lineage import runs
from orchestration.lineage.graph import AUDIENCE_TAG, Asset, Audience, Graph
from orchestration.settings import settings
from orchestration.vendors.incident_io import AlertSource

INTERVAL_SECONDS = 1
"""The daemon looks every five seconds; an interval of five makes it up to ten."""
LOOK_BACK_SECONDS = 24 * 3600
"""A sensor without a cursor is new or renamed: it reads what ended within this time."""
OVERLAP_SECONDS = 2 * 3600
"""Ids of events are given before the commit, on PostgreSQL: one can appear below a cursor that has moved on. Failed runs of
this long are therefore looked at again, and `State.handled` keeps them from counting twice."""
RUNS_A_TICK = 50
READ_SECONDS, DELIVERY_SECONDS = 15.0, 20.0
"""A tick has 60 s. One run takes at most a few to read, and one call of the vendor at most 15."""

ENDED = (DagsterEventType.RUN_SUCCESS, DagsterEventType.RUN_FAILURE, DagsterEventType.RUN_CANCELED)
ENDED_STATUSES = [DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED]


@dg.sensor(
    name="incident_alerts",
    minimum_interval_seconds=INTERVAL_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Declares every failed asset as an incident, once, and resolves it when the asset is made again.",
)
def incident_alerts(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    before = state.loads(context.cursor)
    location = check.not_none(context.repository_def)
    read = read_runs(context.instance, before, lambda: graph_of(location.asset_graph))
    if read.after is None:
        return dg.SensorResult(skip_reason="Still looking back over the last day.", cursor=state.dumps(read))
    values = settings()
    source = AlertSource(
        str(values.incident_io_api_url),
        values.incident_io_alert_source_id,
        values.incident_io_alert_source_token.get_secret_value(),
    )
    done = deliver(read.waiting, source.send, DELIVERY_SECONDS)
    for event in done.sent:
        context.log.info(f"{event.status}: {event.title} ({event.deduplication_key})")
    for problem in done.problems:
        context.log.error(problem)
    cursor = state.dumps(replace(read, waiting=done.waiting))
    if done.waiting:
        text = f"{len(done.waiting)} alert events wait for delivery. {' '.join(done.problems)}"
        return dg.SensorResult(skip_reason=text, cursor=cursor)
    return dg.SensorResult(
        skip_reason=f"{len(done.sent)} alert events delivered, {len(read.open)} alerts open", cursor=cursor
    )


def read_runs(instance: dg.DagsterInstance, before: state.State, graph: Callable[[], Graph]) -> state.State:
    """Judge the runs that have ended since, oldest first; of a long backlog, `RUNS_A_TICK` of a kind each tick.

    The graph is asked for only when a run has failed: most ticks find nothing, and a large graph takes a while to walk.
    """
    now, began, graph = time.time(), time.monotonic(), cache(graph)
    after, ended = _ended(instance, before.after, now)
    render = renderer(settings().dagster_url)
    result = replace(before, after=after)
    judged: dict[str, float] = {}
    failed: set[str] = set()
    for run_id, ended_at in ended:
        # A failure that is older was only touched lately, by a tag.
        if run_id in before.handled or ended_at < now - LOOK_BACK_SECONDS:
            continue
        if judged and time.monotonic() - began > READ_SECONDS:
            # The rest is read by the next tick, which finds the same runs again and passes over these.
            return replace(result, after=before.after, handled={**before.handled, **judged})
        outcome = runs.outcome(runs.read(instance, run_id, ended_at))
        result = triage(result, outcome, graph() if outcome.failed else Graph(), render)
        judged[run_id] = ended_at
        if outcome.job not in outcome.succeeded:
            failed.add(run_id)
    # Only failed runs are met again, by the sweep; all others lie behind the cursor, except after a first look back.
    kept = judged if before.after is None else {run: judged[run] for run in failed}
    recent = {run: at for run, at in {**before.handled, **kept}.items() if at > now - LOOK_BACK_SECONDS}
    result = replace(result, handled=recent)
    return result if before.after is not None else _without_the_mended(result)


def _without_the_mended(first: state.State) -> state.State:
    """A first tick looks back: what failed and was mended before it is history, and wakes nobody."""
    live = {alert.deduplication_key for alert in first.open.values()}
    return replace(first, waiting=tuple(item for item in first.waiting if item.event.deduplication_key in live))


def graph_of(assets: AssetGraph) -> Graph:
    """The part of Dagster's asset graph that the walk to the readers needs."""
    return Graph({
        key.to_user_string(): Asset(
            key.to_user_string(),
            frozenset(parent.to_user_string() for parent in assets.get(key).parent_keys),
            tuple(assets.get(key).owners or ()),
            _audience(assets.get(key).tags.get(AUDIENCE_TAG)),
        )
        for key in assets.get_all_asset_keys()
    })  # fmt: skip


def _audience(tag: str | None) -> Audience | None:
    return "customer" if tag == "customer" else "internal" if tag else None


def _ended(instance: dg.DagsterInstance, after: int | None, now: float) -> tuple[int, list[tuple[str, float]]]:
    """The runs that have ended, oldest first, with the times; and the id up to which the event log has been read."""
    log = instance.event_log_storage
    if after is None:
        # Before the look back: what ends in between is then met twice, and counts once.
        newest = log.get_maximum_record_id() or 0
        return newest, _records(instance, ENDED_STATUSES, now - LOOK_BACK_SECONDS)
    found: dict[str, float] = {}
    newest, unread = after, float("inf")
    for kind in ENDED:
        entries = log.get_logs_for_all_runs_by_log_id(after_cursor=after, dagster_event_type=kind, limit=RUNS_A_TICK)
        found |= {entry.run_id: entry.timestamp for entry in entries.values()}
        newest = max([newest, *entries])
        if len(entries) == RUNS_A_TICK:
            unread = min(unread, max(entries))
    swept = dict(_records(instance, [DagsterRunStatus.FAILURE], now - OVERLAP_SECONDS))
    return int(min(newest, unread)), _oldest_first({**swept, **found}.items())


def _records(instance: dg.DagsterInstance, statuses: list[DagsterRunStatus], since: float) -> list[tuple[str, float]]:
    filters = RunsFilter(statuses=statuses, updated_after=datetime.fromtimestamp(since, UTC))
    records = instance.get_run_records(filters)
    return _oldest_first(
        (record.dagster_run.run_id, record.end_time or record.update_timestamp.timestamp()) for record in records
    )


def _oldest_first(runs: Iterable[tuple[str, float]]) -> list[tuple[str, float]]:
    return sorted(runs, key=lambda run: run[1])
