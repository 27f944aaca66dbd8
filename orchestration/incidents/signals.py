"""Reads Dagster's storage for signs that data does not arrive: exactly, in bounded batches, and again over the last minutes.

Runs are read by the time at which they changed, events by their ids. On PostgreSQL ids are given before the commit, so that an event
can appear below one that was read: what was read in the last minutes is read again, and each signal has an id by which it counts once.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from itertools import batched
from typing import Any

import dagster as dg
from dagster import DagsterEventType, DagsterRunStatus, RunsFilter
from dagster._core.definitions.freshness import FreshnessState
from dagster._core.instance import RUNLESS_RUN_ID
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorTick,
    InstigatorType,
    TickStatus,
)
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from orchestration.incidents import backfills, made
from orchestration.incidents.model import Signal
from orchestration.incidents.state import Position, State
from orchestration.incidents.triage import RetryState
from orchestration.lineage import runs
from orchestration.lineage.failures import METADATA_KEY, FailedUnit, from_metadata

LOOK_BACK_SECONDS = 24 * 3600.0
"""A sensor without a cursor is new or renamed: it reads what ended within this time."""
OVERLAP_SECONDS, OVERLAP_EVENTS = 120.0, 5_000
"""How far back what was read is read again."""
UNDECIDED_SECONDS = 60.0
"""Dagster decides about a retry just after it has stored a failure; a process that dies in between never does."""
KEEP_SECONDS = 900.0
"""So long a run that ended well is remembered as judged: beyond the overlap."""
RUNS_A_TICK, EVENTS_A_TICK = 100, 2_000
RECORDS_A_TICK = 1_000
"""Of runs that have changed, most of which were judged before."""
READ_SECONDS = 15.0
"""A tick has 60 s, and one run takes at most a few to read."""
TICKS_LOOKED_AT = 5
KEYS_A_QUERY = 200

NOTICE_SECONDS = 24 * 3600.0
"""How long an alert about an unreadable record stays open. Nothing that happens later makes the record readable."""
UNREADABLE = "read:"
"""Begins the token that such an alert waits for."""
NO_STORAGE = (OperationalError, InterfaceError, PoolTimeout, OSError)
"""Errors of Dagster's storage, which say nothing about the record that was being read. The tick fails, and is repeated."""

ENDED = [DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED]
EVENTS = (
    DagsterEventType.ASSET_OBSERVATION,
    DagsterEventType.ASSET_CHECK_EVALUATION,
    DagsterEventType.FRESHNESS_STATE_CHANGE,
)


@dataclass(frozen=True)
class Heard:
    """What was read."""

    state: State
    signals: Sequence[Signal]
    """In the order of their times."""
    retries: Mapping[str, RetryState]
    """Of what waits for a retry, by its name in the state: whether it is under way."""


def listen(instance: dg.DagsterInstance, before: State, now: float, queue_minutes: float) -> Heard:
    """Everything that has happened since, of a long backlog a part. `now` is in seconds since the epoch."""
    position = before.position or _first(instance, now)
    run_of = cache(instance.get_run_by_id)
    signals: list[Signal] = []
    runs_until, all_runs, of_runs = _runs(instance, position, before.handled, now)
    signals += of_runs
    signals += _backfills(instance, position.runs_until - OVERLAP_SECONDS, now, before.handled)
    event, of_events = _events(instance, position, now, run_of)
    signals += of_events
    ticks, of_ticks = _ticks(instance, position.ticks, now)
    signals += of_ticks
    signals += _queue(instance, now, queue_minutes, before.handled)
    if before.position is None:
        signals += _late(instance)
    awaited = _awaited(before, signals)
    signals += _by_hand(instance, awaited)
    signals += _passed(instance, awaited)
    signals += _expired_notices(before, now)
    marks = (*((at, id_) for at, id_ in position.marks if at > now - 2 * OVERLAP_SECONDS), (now, event))
    # In a long backlog what was read lately is long past.
    reached = min(now, position.runs_until)
    handled = {id_: at for id_, at in before.handled.items() if at > reached - _kept(id_)}
    looking_back = before.looking_back and not all_runs
    after = replace(before, position=Position(runs_until, event, marks, ticks, looking_back), handled=handled)
    # What nobody waits for says nothing.
    told = (one for one in signals if one.failed or one.ended or awaited & one.well.keys())
    return Heard(after, sorted(told, key=lambda one: (one.at, one.ended)), _retries(instance, before, now))


def _first(instance: dg.DagsterInstance, now: float) -> Position:
    return Position(now - LOOK_BACK_SECONDS, instance.event_log_storage.get_maximum_record_id() or 0)


def _kept(id_: str) -> float:
    return KEEP_SECONDS if id_.startswith("ok:") else LOOK_BACK_SECONDS


def _awaited(before: State, signals: Iterable[Signal]) -> set[str]:
    """Everything whose recovery would change something."""
    found = {token for alert in before.alerts.values() for token in alert.missing}
    found |= {token for known in before.pending.values() for tokens in known.missing.values() for token in tokens}
    return found | {token for signal in signals for unit in signal.failed for token in signal.awaited(unit)}


# Records that cannot be read


def _isolated(read: Callable[[], Iterable[Signal]], id_: str, at: float, what: str, **of: Any) -> list[Signal]:
    """Return the signals of one record. A record that cannot be read is a signal of its own, so that the others are read.

    Args:
        read: Reads the record.
        id_: Identifies the record, so that it is reported once.
        at: When the record was written, in seconds since the epoch.
        what: Names the record in the alert's text.
        of: What is known about the record's run, as fields of the signal, and `asset_keys`.
    """
    try:
        return list(read())
    except NO_STORAGE:
        raise
    except Exception as error:
        # Any code in the instance writes records, and one of them must never stop the alerts.
        return [_unreadable(id_, at, what, error, **of)]


def of_unreadable_state(problem: str, now: float) -> Signal:
    """Return the signal of a part of the alert sensor's own state that could not be read."""
    return _unreadable(f"state:{problem}:{now}", now, "A part of the stored alerts", problem)


def _unreadable(
    id_: str, at: float, what: str, error: Exception | str, asset_keys: tuple[str, ...] = (), **of: Any
) -> Signal:
    why = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
    text = (
        f"{what} cannot be read, so that failures in it may have no alert: {why}. Look at it in Dagster. "
        f"This alert closes by itself after {NOTICE_SECONDS / 3600:.0f} hours."
    )
    name = hashlib.sha256(id_.encode()).hexdigest()[:10]
    unit = FailedUnit(f"unreadable/{name}", asset_keys, text, awaits=(f"{UNREADABLE}{name}",))
    return Signal(id=f"unreadable:{name}", at=at, failed=(unit,), kind="run", **of)


def _expired_notices(before: State, now: float) -> list[Signal]:
    expired = {
        token: now
        for alert in before.alerts.values()
        for token, at in alert.missing.items()
        if token.startswith(UNREADABLE) and now - at > NOTICE_SECONDS
    }
    return [Signal(id="", at=now, well=expired)] if expired else []


def _backfills(
    instance: dg.DagsterInstance, since: float, now: float, handled: Mapping[str, float]
) -> Iterator[Signal]:
    for backfill in backfills.broken(instance, since, now, handled):
        id_ = backfill.backfill_id
        yield from _isolated(
            lambda found=backfill: backfills.signals_of(instance, found, now),
            f"backfill:{id_}",
            backfill.backfill_end_timestamp or now,
            f"The broken backfill `{id_}`",
        )


# Runs


def _runs(
    instance: dg.DagsterInstance, position: Position, handled: Mapping[str, float], now: float
) -> tuple[float, bool, list[Signal]]:
    """Signals of the runs that have ended, until when runs have been read, and whether that is all of them."""
    began, since = time.monotonic(), position.runs_until
    oldest = min(now - LOOK_BACK_SECONDS, since - OVERLAP_SECONDS)
    found: list[Signal] = []
    read = 0
    records = _changed(instance, datetime.fromtimestamp(since - OVERLAP_SECONDS, UTC))
    for record in records:
        run, changed = record.dagster_run, _changed_at(record)
        ended_at = record.end_time or changed
        if f"run:{run.run_id}" in handled or f"ok:{run.run_id}" in handled:
            continue
        # A failure that is older was only touched lately, by a tag.
        if ended_at < oldest:
            continue
        if read >= RUNS_A_TICK or (read and time.monotonic() - began > READ_SECONDS):
            return max(since, changed), False, found
        read += 1
        found += _isolated(
            lambda ended=run, at=ended_at: _of_ended(instance, ended, at, now),
            f"run:{run.run_id}",
            ended_at,
            f"The run `{run.run_id}` of the job `{run.job_name}`",
            run_id=run.run_id,
            root_run_id=run.root_run_id or run.run_id,
            job=f"job:{run.job_name}",
        )
    if len(records) == RECORDS_A_TICK:
        return max(since, _changed_at(records[-1])), False, found
    return max(since, now), True, found


def _of_ended(instance: dg.DagsterInstance, run: dg.DagsterRun, ended_at: float, now: float) -> list[Signal]:
    outcome = runs.outcome(runs.read(instance, run.run_id, ended_at))
    if outcome.retry == "undecided" and now - ended_at < UNDECIDED_SECONDS and not _permanent(outcome):
        # The next tick finds it again.
        return []
    return _of_run(made.still_failed(instance, outcome), ended_at)


def _changed(instance: dg.DagsterInstance, after: datetime) -> Sequence[dg.RunRecord]:
    """The runs that have ended, in the order in which they changed."""
    filters = RunsFilter(statuses=ENDED, updated_after=after)
    return instance.get_run_records(filters, limit=RECORDS_A_TICK, order_by="update_timestamp", ascending=True)


def _changed_at(record: dg.RunRecord) -> float:
    return record.update_timestamp.replace(tzinfo=UTC).timestamp()


def _permanent(outcome: runs.Outcome) -> bool:
    """Nothing of it waits for a retry, whether one comes or not."""
    return bool(outcome.failed) and outcome.interruption is None and all(unit.permanent for unit in outcome.failed)


def _of_run(outcome: runs.Outcome, ended_at: float) -> list[Signal]:
    bad = bool(outcome.failed) or outcome.job not in outcome.succeeded
    whole = Signal(
        id=f"{'run' if bad else 'ok'}:{outcome.run_id}",
        at=ended_at,
        run_id=outcome.run_id,
        root_run_id=outcome.root_run_id,
        job=outcome.job,
        retried=outcome.retry == "coming",
    )
    checks = [_of_check(whole, check) for check in outcome.checks_failed]
    told = {check.unit.unit for check in outcome.checks_failed}
    failed = tuple(unit for unit in outcome.failed if unit.unit not in told)
    # One time for all of them: the last.
    failed_at = max((outcome.failed_at.get(unit.unit, ended_at) for unit in failed), default=ended_at)
    rest = replace(
        whole,
        at=ended_at if outcome.interruption else failed_at,
        failed=failed,
        well=outcome.succeeded,
        unmade=outcome.unmade,
        interruption=outcome.interruption,
        ended=True,
    )
    return [*checks, rest]


def _of_check(run: Signal, check: runs.FailedCheck) -> Signal:
    """The signal of a check that failed in a run. Its id is the same whether the event or the end of the run tells it."""
    id_ = f"check:{run.run_id}:{check.asset_key}:{check.name}:{check.at}"
    return replace(run, id=id_, at=check.at, failed=(check.unit,))


def _retries(instance: dg.DagsterInstance, before: State, now: float) -> dict[str, RetryState]:
    """Whether what waits for a retry has one under way. A retry that Dagster could not launch leaves no event, only a tag."""
    return {name: _retry(instance, known.run_id, now) for name, known in before.pending.items() if known.run_id}


def _retry(instance: dg.DagsterInstance, run_id: str, now: float) -> RetryState:
    run = instance.get_run_by_id(run_id)
    if run is None or runs.retry_of(instance, run) == "none":
        return "off"
    child = instance.get_run_record_by_id(run.tags.get("dagster/auto_retry_run_id", ""))
    if child is None:
        return "unknown"
    # One that has just ended is judged by its own end.
    ended = child.end_time if child.dagster_run.is_finished else None
    return "unknown" if ended and ended < now - 2 * OVERLAP_SECONDS else "under_way"


# Events


def _events(
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
            signals += _isolated(
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


def _late(instance: dg.DagsterInstance) -> list[Signal]:
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
    return _of_check(_in(run, entry), failed)


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


def _by_hand(instance: dg.DagsterInstance, awaited: Collection[str]) -> list[Signal]:
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


def _passed(instance: dg.DagsterInstance, awaited: Collection[str]) -> list[Signal]:
    """Checks that have passed when they were evaluated last, also before what is read of the events begins."""
    checks = [runs.check_of_token(token) for token in awaited if token.startswith(runs.CHECKS)]
    found: list[Signal] = []
    for key, record in instance.event_log_storage.get_latest_asset_check_execution_by_key(checks).items():
        if record.status == AssetCheckExecutionRecordStatus.SUCCEEDED and record.event:
            at = record.event.timestamp
            token = runs.check_token(key.asset_key.to_user_string(), key.name)
            found.append(Signal(id="", at=at, well={token: at}))
    return found


# What leaves no event


def _ticks(
    instance: dg.DagsterInstance, seen: Mapping[str, float], now: float
) -> tuple[dict[str, float], list[Signal]]:
    """Signals of sensors' and schedules' ticks, and the last tick of each that was looked at."""
    known = instance.all_instigator_state()
    states = [state for state in known if state.status != InstigatorStatus.STOPPED]
    # Who switches one off knows that it does nothing.
    off = {state.instigator_name for state in known} - {state.instigator_name for state in states}
    after, found = dict(seen), [Signal(id="", at=now, well={f"tick:{name}": now}) for name in off]
    if not states:
        return after, found
    newest = instance.get_batch_ticks([state.selector_id for state in states], limit=TICKS_LOOKED_AT)
    for state in states:
        name = state.instigator_name

        def read(one: InstigatorState = state) -> list[Signal]:
            return _of_instigator(instance, one, newest.get(one.selector_id, ()), after, now)

        found += _isolated(read, f"tick:{name}:{now // NOTICE_SECONDS}", now, f"The ticks of `{name}`")
    return after, found


def _of_instigator(
    instance: dg.DagsterInstance,
    state: InstigatorState,
    ticks: Sequence[InstigatorTick],
    after: dict[str, float],
    now: float,
) -> list[Signal]:
    """Return the signals of one sensor or schedule. `after` gets the time of its last tick that was judged."""
    name, sensor, found = state.instigator_name, state.instigator_type == InstigatorType.SENSOR, list[Signal]()
    if ticks and ticks[0].timestamp > now:
        # Of a clock that was ahead: they hide those that have come since.
        ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, before=now, limit=TICKS_LOOKED_AT)
    for tick in reversed(ticks):
        if tick.timestamp <= after.get(name, 0.0) or tick.status == TickStatus.STARTED:
            continue
        # A schedule that did not reach the code is evaluated again until it does, as the same tick, which keeps its time.
        unreached = not sensor and tick is ticks[0] and tick.status == TickStatus.FAILURE and not tick.failure_count
        if not unreached:
            after[name] = tick.timestamp
        if tick.status == TickStatus.FAILURE:
            what = "sensor" if sensor else "schedule"
            text = f"The {what} `{name}` failed: {backfills.words(tick.error)}"
            unit = FailedUnit(f"tick/{name}", (), text, awaits=(f"tick:{name}",))
            # A sensor is ticked again soon; a schedule perhaps tomorrow.
            retried = sensor or unreached
            id_ = f"tick:{name}:{tick.timestamp}"
            found.append(Signal(id=id_, at=tick.timestamp, failed=(unit,), kind="tick", retried=retried))
        else:
            at = max(tick.timestamp, tick.end_timestamp or 0.0)
            found.append(Signal(id="", at=at, well={f"tick:{name}": at}))
    return found


def _queue(instance: dg.DagsterInstance, now: float, minutes: float, handled: Mapping[str, float]) -> list[Signal]:
    """One signal for all the runs that hang in the queue: what they wait for is the same."""
    before = datetime.fromtimestamp(now - minutes * 60, UTC)
    hang = instance.get_run_records(
        RunsFilter(statuses=[DagsterRunStatus.QUEUED], created_before=before), limit=RUNS_A_TICK
    )
    if not hang:
        return [Signal(id="", at=now, well={"queue": now})]
    ids = sorted(record.dagster_run.run_id for record in hang)
    id_ = f"queue:{hashlib.sha256(','.join(ids).encode()).hexdigest()[:10]}"
    if id_ in handled:
        return []
    jobs = ", ".join(sorted({record.dagster_run.job_name for record in hang}))
    planned = {
        record.event_log_entry.dagster_event.asset_key.to_user_string()
        for run_id in ids
        for record in instance.get_records_for_run(
            run_id, of_type=DagsterEventType.ASSET_MATERIALIZATION_PLANNED
        ).records
        if record.event_log_entry.dagster_event and record.event_log_entry.dagster_event.asset_key
    }
    text = f"{len(ids)} runs wait in the queue for more than {minutes:.0f} min ({jobs}). The oldest: {hang[-1].dagster_run.run_id}."
    unit = FailedUnit("queue", tuple(sorted(planned)), text, awaits=("queue",))
    return [Signal(id=id_, at=now, failed=(unit,), kind="queue")]
