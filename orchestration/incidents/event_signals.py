"""Reads the event log of all runs: reports of failures, evaluations of checks, changes of freshness."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from itertools import batched

import dagster as dg
from dagster import DagsterEventType
from dagster._core.definitions.freshness import FreshnessState
from dagster._core.instance import RUNLESS_RUN_ID
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.event_log.base import EventLogStorage

from orchestration.incidents import clock_offsets, event_gaps, event_log, late_failures
from orchestration.incidents.event_log import Row
from orchestration.incidents.late_failures import FRESH
from orchestration.incidents.model import Signal
from orchestration.incidents.run_signals import LOOK_BACK_SECONDS, of_check
from orchestration.incidents.state import EndedRun, Position
from orchestration.incidents.unreadable import read_isolated, unreadable_record
from orchestration.lineage import runs
from orchestration.lineage.failures import METADATA_KEY, FailedUnit, from_metadata

ROWS_A_TICK = 20_000
"""Ids that one tick reads past, of events of all types: about 50 ms."""
EVENTS_A_TICK = 2_000
"""Events that one tick judges: about half a second. Events that appear late, and those of a sweep, have the same limit each."""
BLOCKS_A_TICK = 20
"""Blocks that one tick of a sweep counts: 100,000 ids."""
RUNS_WAITING = 1_000
"""Runs that have ended and are not judged. The event log is read no further while there are so many."""
OLD_OVERLAP_EVENTS = 5_000
"""How far an earlier version of this code read events again."""
KEYS_A_QUERY = 200

EVENTS = frozenset(
    kind.value
    for kind in (
        DagsterEventType.ASSET_OBSERVATION,
        DagsterEventType.ASSET_CHECK_EVALUATION,
        DagsterEventType.FRESHNESS_STATE_CHANGE,
    )
)
RUN_ENDS = frozenset(
    kind.value for kind in (DagsterEventType.RUN_SUCCESS, DagsterEventType.RUN_FAILURE, DagsterEventType.RUN_CANCELED)
)
KINDS = EVENTS | RUN_ENDS


@dataclass(frozen=True)
class _Found:
    """Rows that were not read before, with the times between which their events were stored; 0 where that is not known."""

    rows: Sequence[Row]
    after: float
    until: float
    late: bool = False


def start_of_log(instance: dg.DagsterInstance, now: float) -> Position:
    """Return the position of a first tick: at the end of the event log, and a day ago in the runs."""
    return Position(now - LOOK_BACK_SECONDS, instance.event_log_storage.get_maximum_record_id() or 0)


def of_events(
    instance: dg.DagsterInstance, position: Position, now: float, run_of: Callable[[str], dg.DagsterRun | None]
) -> tuple[Position, list[Signal]]:
    """Read the events that were stored since the last tick, also those with an id below the last one.

    Returns the new position, in which `ended` has the runs whose end was read, and the signals. `now` is in seconds since the epoch.
    """
    storage = instance.event_log_storage
    # A time that is yet to come was written while this machine's clock was ahead.
    position = replace(position, read_at=min(position.read_at, now), swept_at=min(position.swept_at, now))
    position = _of_earlier_version(position)
    # Gaps first: an id that is missing here and appears while the tick reads is found by the next tick.
    batches = _read_gaps(storage, position)
    appeared = [row for found in batches for row in found.rows]
    rows, at_end = _read_new_rows(storage, position)
    batches.append(_Found(rows, position.read_at, now))
    gaps = event_gaps.fill_gaps(position.gaps, (row.id for row in appeared))
    gaps += event_gaps.find_gaps(rows, position.event, position.read_at, now)
    blocks = event_gaps.count_late(position.blocks, (row.id for row in appeared if row.kind in KINDS))
    events = sum(row.kind in KINDS for row in rows)
    position = replace(
        position,
        event=rows[-1].id if rows else position.event,
        # Of a backlog, what is read next may have been stored long ago.
        read_at=now if at_end else position.read_at,
        gaps=event_gaps.keep_gaps(gaps, now),
        blocks=event_gaps.keep_blocks(event_gaps.extend_blocks(blocks, rows, events, position.event, now), now),
    )
    position = _sweep_blocks(storage, position, now, batches)
    signals: list[Signal] = []
    ended = dict(position.ended)
    for found in batches:
        for row in found.rows:
            if row.kind in RUN_ENDS and row.run_id not in ended:
                ended[row.run_id] = EndedRun(now, found.after, found.until, found.late)
        signals += _of_batch(instance, found, now, run_of)
    return replace(position, ended=ended), signals


def _of_earlier_version(position: Position) -> Position:
    """Return a position that knows gaps. Of one that does not, what was read in the last minutes is read again."""
    if not position.marks:
        return position
    oldest = min(id_ for _at, id_ in position.marks)
    return replace(position, event=max(0, oldest, position.event - OLD_OVERLAP_EVENTS), marks=())


def _read_new_rows(storage: EventLogStorage, position: Position) -> tuple[list[Row], bool]:
    """Return the rows after those that were read, as many as one tick can judge, and whether these are all."""
    rows = event_log.read_rows_after(storage, position.event, ROWS_A_TICK)
    events, ended = 0, len(position.ended)
    for place, row in enumerate(rows):
        events += row.kind in EVENTS
        ended += row.kind in RUN_ENDS
        if events > EVENTS_A_TICK or ended > RUNS_WAITING:
            return rows[:place], False
    return rows, len(rows) < ROWS_A_TICK


def _read_gaps(storage: EventLogStorage, position: Position) -> list[_Found]:
    """Return the rows that have appeared in gaps."""
    if not position.gaps:
        return []
    ranges = [(gap.first, gap.last) for gap in position.gaps]
    rows = event_log.read_rows_in(storage, ranges, EVENTS_A_TICK)[:EVENTS_A_TICK]
    within = [(gap, [row for row in rows if gap.first <= row.id <= gap.last]) for gap in position.gaps if rows]
    return [_Found(some, gap.after, gap.since, late=True) for gap, some in within if some]


def _sweep_blocks(storage: EventLogStorage, position: Position, now: float, batches: list[_Found]) -> Position:
    """Compare the number of events in each block of the last day with how many were read, and read a block that has others again.

    Adds the rows of such a block to the batches. What was judged has ids by which it counts once, for longer than a day.
    """
    if position.sweep is None:
        if now - position.swept_at < event_gaps.SWEEP_SECONDS:
            return position
        position = replace(position, swept_at=now, sweep=0, sweep_runs="")
    first = position.sweep or 0
    places = [place for place, block in enumerate(position.blocks) if block.first >= first][:BLOCKS_A_TICK]
    blocks, gaps, read, following = list(position.blocks), list(position.gaps), 0, None
    counts = event_log.count_rows(storage, KINDS, [(blocks[place].first, blocks[place].last) for place in places])
    for place, count in zip(places, counts, strict=True):
        block = blocks[place]
        if read > EVENTS_A_TICK:
            following = block.first
            break
        if count != block.events:
            rows = event_log.read_rows_of_kinds(storage, KINDS, (block.first, block.last))
            batches.append(_Found(rows, 0.0, now, late=True))
            gaps = event_gaps.fill_gaps(gaps, (row.id for row in rows))
            blocks[place] = replace(block, events=len(rows))
            read += len(rows)
    else:
        if places and places[-1] + 1 < len(blocks):
            following = blocks[places[-1] + 1].first
    return replace(position, sweep=following, blocks=tuple(blocks), gaps=tuple(gaps))


def _of_batch(
    instance: dg.DagsterInstance, found: _Found, now: float, run_of: Callable[[str], dg.DagsterRun | None]
) -> list[Signal]:
    rows = {row.id: row for row in found.rows if row.kind in EVENTS}
    signals: list[Signal] = []
    for id_, entry in event_log.read_entries(instance.event_log_storage, rows).items():
        what = _describe_event(rows[id_], entry)
        if isinstance(entry, Exception):
            signals.append(unreadable_record(f"event:{id_}", now, what, entry, run_id=rows[id_].run_id or None))
            continue
        read = read_isolated(
            lambda number=id_, one=entry: _of_event(number, one, run_of),
            f"event:{id_}",
            entry.timestamp,
            what,
            asset_keys=_asset_keys(entry),
            run_id=entry.run_id or None,
        )
        offset = clock_offsets.offset_of(entry.timestamp, found.after, found.until)
        read = [clock_offsets.shift_signal(signal, offset) for signal in read]
        if found.late:
            read = [one for signal in read for one in late_failures.with_recoveries(instance, signal, now)]
        signals += read
    return signals


def _describe_event(row: Row, entry: dg.EventLogEntry | Exception) -> str:
    assets = "" if isinstance(entry, Exception) else "".join(f" of `{key}`" for key in _asset_keys(entry))
    run = f" in the run `{row.run_id}`" if row.run_id else ""
    return f"The event {row.id} ({row.kind}){assets}{run}"


def _asset_keys(entry: dg.EventLogEntry) -> tuple[str, ...]:
    key = entry.dagster_event.asset_key if entry.dagster_event else None
    return (key.to_user_string(),) if key else ()


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
    key, token, at = change.key.to_user_string(), f"{FRESH}{change.key.to_user_string()}", change.state_change_timestamp
    if change.new_state != FreshnessState.FAIL:
        # Also where its policy was removed: no alert can wait for it then.
        return Signal(id=f"event:{id_}", at=at, well={token: at})
    return _too_late(key, at)


def _too_late(key: str, at: float) -> Signal:
    text = "It was not made in time, by its freshness policy."
    unit = FailedUnit(f"freshness/{key}", (key,), text, awaits=(f"{FRESH}{key}",))
    return Signal(id=f"{FRESH}{key}:{at}", at=at, failed=(unit,), kind="freshness", lateness=True)


def find_late_assets(instance: dg.DagsterInstance) -> list[Signal]:
    """Return signals of assets that are late when the sensor ticks for the first time: Dagster logs only changes."""
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
    return of_check(_signal_in_run(run, entry), failed)


def _of_report(
    entry: dg.EventLogEntry, event: dg.DagsterEvent, run_of: Callable[[str], dg.DagsterRun | None]
) -> Signal | None:
    """Return a failure that was reported before its run ended, or that happened outside of Dagster."""
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
    return replace(_signal_in_run(run, entry), id=id_, failed=tuple(units), kind="asset" if run else "vendor")


def _signal_in_run(run: dg.DagsterRun | None, entry: dg.EventLogEntry) -> Signal:
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
    """Return recoveries that no run produced: a sync that succeeded at the vendor, or a materialization that a person reported."""
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
