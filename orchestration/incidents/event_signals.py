"""Reads the event log of all runs: reports of failures, evaluations of checks, changes of freshness."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from itertools import batched

import dagster as dg
from dagster import DagsterEventType
from dagster._core.definitions.freshness import FreshnessState
from dagster._core.instance import RUNLESS_RUN_ID
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from orchestration.incidents.model import Signal
from orchestration.incidents.run_signals import OVERLAP_SECONDS, of_check
from orchestration.incidents.state import Position
from orchestration.incidents.unreadable import isolated
from orchestration.lineage import runs
from orchestration.lineage.failures import METADATA_KEY, FailedUnit, from_metadata

OVERLAP_EVENTS = 5_000
"""How far back what was read is read again, beside `OVERLAP_SECONDS`."""
EVENTS_A_TICK = 2_000
KEYS_A_QUERY = 200

EVENTS = (
    DagsterEventType.ASSET_OBSERVATION,
    DagsterEventType.ASSET_CHECK_EVALUATION,
    DagsterEventType.FRESHNESS_STATE_CHANGE,
)


def of_events(
    instance: dg.DagsterInstance, position: Position, now: float, run_of: Callable[[str], dg.DagsterRun | None]
) -> tuple[int, list[Signal]]:
    """Signals of single events, and the id up to which they have been read."""
    old = [id_ for at, id_ in position.marks if at <= now - OVERLAP_SECONDS]
    oldest = max(old, default=min((id_ for _at, id_ in position.marks), default=position.event))
    after = max(oldest, position.event - OVERLAP_EVENTS)
    entries: dict[int, dg.EventLogEntry] = {}
    unfinished: list[int] = []
    for kind in EVENTS:
        page, last = _of_kind(instance, kind, after)
        entries |= page
        if last is not None:
            unfinished.append(last)
    # Of a backlog no kind is read further than the others: the position is one for all.
    newest = min(unfinished, default=max([position.event, *entries]))
    signals: list[Signal] = []
    for id_, entry in sorted(entries.items()):
        if id_ <= newest:
            signals += isolated(
                lambda number=id_, one=entry: _of_event(number, one, run_of),
                f"event:{id_}",
                entry.timestamp,
                _described(id_, entry),
                asset_keys=_asset_keys(entry),
                run_id=entry.run_id or None,
            )
    return newest, signals


def _described(id_: int, entry: dg.EventLogEntry) -> str:
    kind = entry.dagster_event.event_type_value if entry.dagster_event else "event"
    assets = "".join(f" of `{key}`" for key in _asset_keys(entry))
    run = f" in the run `{entry.run_id}`" if entry.run_id else ""
    return f"The event {id_} ({kind}){assets}{run}"


def _asset_keys(entry: dg.EventLogEntry) -> tuple[str, ...]:
    key = entry.dagster_event.asset_key if entry.dagster_event else None
    return (key.to_user_string(),) if key else ()


def _of_kind(
    instance: dg.DagsterInstance, kind: DagsterEventType, after: int
) -> tuple[dict[int, dg.EventLogEntry], int | None]:
    """The events of a kind after an id, and the last of them where there may be more. Dagster wants to be asked for one kind at a time."""
    found: dict[int, dg.EventLogEntry] = {}
    for _page in range(1 + OVERLAP_EVENTS // EVENTS_A_TICK):
        entries = instance.event_log_storage.get_logs_for_all_runs_by_log_id(
            after_cursor=max([after, *found]), dagster_event_type=kind, limit=EVENTS_A_TICK
        )
        found |= entries
        if len(entries) < EVENTS_A_TICK:
            return found, None
    return found, max(found)


def _of_event(id_: int, entry: dg.EventLogEntry, run_of: Callable[[str], dg.DagsterRun | None]) -> list[Signal]:
    event = entry.dagster_event
    if event is None:
        return []
    if event.event_type == DagsterEventType.FRESHNESS_STATE_CHANGE:
        return [_of_freshness(id_, event)]
    evaluation = event.event_type == DagsterEventType.ASSET_CHECK_EVALUATION
    signal = _of_evaluation(entry, event, run_of) if evaluation else _of_report(entry, event, run_of)
    return [signal] if signal else []


def _of_freshness(id_: int, event: dg.DagsterEvent) -> Signal:
    change = event.asset_freshness_state_change_data
    key, token, at = change.key.to_user_string(), f"fresh:{change.key.to_user_string()}", change.state_change_timestamp
    if change.new_state != FreshnessState.FAIL:
        # Also where it has no policy any more: nobody waits for it then.
        return Signal(id=f"event:{id_}", at=at, well={token: at})
    return _too_late(key, at)


def _too_late(key: str, at: float) -> Signal:
    text = "It was not made in time, by its freshness policy."
    unit = FailedUnit(f"freshness/{key}", (key,), text, awaits=(f"fresh:{key}",))
    return Signal(id=f"fresh:{key}:{at}", at=at, failed=(unit,), kind="freshness", lateness=True)


def late(instance: dg.DagsterInstance) -> list[Signal]:
    """What is late already when the sensor ticks for the first time: Dagster tells changes only."""
    found: list[Signal] = []
    for keys in batched(instance.all_asset_keys(), KEYS_A_QUERY, strict=False):
        for key, record in instance.event_log_storage.get_freshness_state_records(keys).items():
            if record.freshness_state == FreshnessState.FAIL:
                found.append(_too_late(key.to_user_string(), record.updated_at.timestamp()))
    return found


def _of_evaluation(
    entry: dg.EventLogEntry, event: dg.DagsterEvent, run_of: Callable[[str], dg.DagsterRun | None]
) -> Signal | None:
    result = event.asset_check_evaluation_data
    key = result.asset_key.to_user_string()
    if result.passed or result.severity == dg.AssetCheckSeverity.WARN:
        return Signal(id="", at=entry.timestamp, well={runs.check_token(key, result.check_name): entry.timestamp})
    failed = runs.failed_check(event, entry.timestamp)
    run = run_of(entry.run_id) if entry.run_id else None
    if failed is None or failed.answered or (run is not None and runs.may_retry(run)):
        # The end of the run says whether it is tried again, and whether the unit that answers for it was reported.
        return None
    return of_check(_in(run, entry), failed)


def _of_report(
    entry: dg.EventLogEntry, event: dg.DagsterEvent, run_of: Callable[[str], dg.DagsterRun | None]
) -> Signal | None:
    """A failure that is told before its run has ended, or that happened outside of Dagster."""
    metadata = event.asset_observation_data.asset_observation.metadata
    if METADATA_KEY not in metadata:
        return None
    units = from_metadata({METADATA_KEY: metadata[METADATA_KEY].value}) or []
    run = run_of(entry.run_id) if entry.run_id else None
    if run is not None and runs.may_retry(run):
        units = [unit for unit in units if unit.permanent]
    if not units:
        return None
    names = ",".join(unit.unit for unit in units)
    id_ = f"report:{entry.run_id}:{names}:{entry.timestamp}"
    return replace(_in(run, entry), id=id_, failed=tuple(units), kind="asset" if run else "vendor")


def _in(run: dg.DagsterRun | None, entry: dg.EventLogEntry) -> Signal:
    """A signal with the run in which an event happened, if it did in one."""
    if run is None:
        return Signal(id="", at=entry.timestamp)
    return Signal(
        id="",
        at=entry.timestamp,
        run_id=run.run_id,
        root_run_id=run.root_run_id or run.run_id,
        job=f"job:{run.job_name}",
    )


def reported_by_hand(instance: dg.DagsterInstance, awaited: Collection[str]) -> list[Signal]:
    """What was reported as made by no run: a sync that succeeded at the vendor, or a person who has mended something."""
    assets = {token.partition("@")[0] for token in awaited}
    keys = [dg.AssetKey.from_user_string(asset) for asset in assets if ":" not in asset]
    if not keys:
        return []
    found: list[Signal] = []
    for key, entry in instance.event_log_storage.get_latest_materialization_events(keys).items():
        if entry is not None and entry.run_id == RUNLESS_RUN_ID:
            token, partition = key.to_user_string(), entry.dagster_event and entry.dagster_event.partition
            well = {token: entry.timestamp}
            if partition is not None:
                well[runs.partition_token(token, partition)] = entry.timestamp
            found.append(Signal(id="", at=entry.timestamp, well=well))
    return found


def passed_checks(instance: dg.DagsterInstance, awaited: Collection[str]) -> list[Signal]:
    """Checks that have passed when they were evaluated last, also before what is read of the events begins."""
    checks = [runs.check_of_token(token) for token in awaited if token.startswith(runs.CHECKS)]
    found: list[Signal] = []
    for key, record in instance.event_log_storage.get_latest_asset_check_execution_by_key(checks).items():
        if record.status == AssetCheckExecutionRecordStatus.SUCCEEDED and record.event:
            at = record.event.timestamp
            token = runs.check_token(key.asset_key.to_user_string(), key.name)
            found.append(Signal(id="", at=at, well={token: at}))
    return found
