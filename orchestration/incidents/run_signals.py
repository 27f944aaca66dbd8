"""Reads the runs that have ended, and those that hang in the queue."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import batched

import dagster as dg
from dagster import DagsterEventType, DagsterRunStatus, RunsFilter

from orchestration.incidents import clock_offsets, late_failures, made
from orchestration.incidents.deadline import Deadline
from orchestration.incidents.model import Signal
from orchestration.incidents.state import EndedRun, Position, State
from orchestration.incidents.triage import RetryState
from orchestration.incidents.unreadable import read_isolated
from orchestration.lineage import runs
from orchestration.lineage.failures import FailedUnit

LOOK_BACK_SECONDS = 24 * 3600.0
"""A sensor without a cursor is new or renamed: it reads what ended within this time."""
OVERLAP_SECONDS = 120.0
"""By how much a time may be off before a clock counts as wrong, and how long what has just ended may take to be read."""
LOOK_BACK_OVERLAP_SECONDS = 1.0
"""Runs that changed at the same time may be on two pages."""
UNDECIDED_SECONDS = 60.0
"""Dagster decides about a retry just after it has stored a failure; a process that dies in between never does."""
RUNS_A_TICK = 100
RUNS_A_QUERY = 500
RECORDS_A_TICK = 1_000
"""Most runs that one query returns."""
UNENDED_SECONDS = 3600.0
"""Dagster stores a run's last event before it marks the run as ended. If that takes longer, the run is not waited for."""
READ_SECONDS = 15.0
"""A tick has 60 s, and one run takes at most a few to read."""

ENDED = [DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED]


@dataclass(frozen=True)
class EndedRuns:
    """The runs that one tick has judged, and those that are left."""

    signals: list[Signal]
    left: Mapping[str, EndedRun]
    """Runs that have ended and are to be judged by the next ticks."""
    runs_until: float
    """Until when the first look back has read runs, by the time at which they changed."""
    looked_back: bool
    """The first look back is over."""
    sweep_runs: str | None


def of_runs(
    instance: dg.DagsterInstance,
    position: Position,
    handled: Mapping[str, float],
    now: float,
    deadline: Deadline | None = None,
    *,
    look_back: bool,
) -> EndedRuns:
    """Judge runs that have ended: those of which `position.ended` knows from the event log, and those that it may have missed.

    The event log is read by id, so that clocks do not matter. Runs that ended before the sensor began are found by the time at which
    they changed. Every few minutes all runs of the last day that have ended are compared with what was judged.
    """
    ended, oldest = dict(position.ended), now - LOOK_BACK_SECONDS
    runs_until, reached_end, sweep_runs = now, True, position.sweep_runs
    if look_back:
        oldest, runs_until, reached_end = min(oldest, position.runs_until), position.runs_until, False
        # In the order in which they ended, so that a page waits until the one before it is judged.
        if len(ended) < RUNS_A_TICK:
            records = _read_changed_runs(instance, datetime.fromtimestamp(runs_until - LOOK_BACK_OVERLAP_SECONDS, UTC))
            ended |= {run: EndedRun(now) for record in records if (run := record.dagster_run.run_id) not in ended}
            reached_end = len(records) < RECORDS_A_TICK
            runs_until = now if reached_end else min(now, max(runs_until, _changed_at(records[-1])))
    elif sweep_runs is not None and len(ended) < RUNS_A_TICK:
        records = _read_runs_of_last_day(instance, sweep_runs, now)
        ended |= {
            run: EndedRun(now, late=True) for record in records if (run := record.dagster_run.run_id) not in ended
        }
        sweep_runs = records[-1].dagster_run.run_id if len(records) == RECORDS_A_TICK else None
    signals, left, all_judged = _judge_runs(instance, ended, handled, oldest, now, deadline)
    return EndedRuns(signals, left, runs_until, reached_end and all_judged, sweep_runs)


def _judge_runs(
    instance: dg.DagsterInstance,
    ended: Mapping[str, EndedRun],
    handled: Mapping[str, float],
    oldest: float,
    now: float,
    deadline: Deadline | None,
) -> tuple[list[Signal], dict[str, EndedRun], bool]:
    """Return the signals of as many runs as there is time for, the runs that are left, and whether there was time for all.

    Runs that ended before `oldest` are dropped where the event log does not say when they did.
    """
    limit = deadline.share(READ_SECONDS) if deadline else Deadline.within(READ_SECONDS)
    read, signals = 0, list[Signal]()
    left = {run: known for run, known in ended.items() if f"run:{run}" not in handled and f"ok:{run}" not in handled}
    for run_ids in batched(list(left), RUNS_A_QUERY, strict=False):
        found = instance.get_run_records(RunsFilter(run_ids=run_ids))
        records = {record.dagster_run.run_id: record for record in found}
        for run_id in run_ids:
            known, record = left[run_id], records.get(run_id)
            if record is None or now - known.noticed_at > UNENDED_SECONDS:
                # The run was deleted, or the process that stored the event died before it could mark the run as ended.
                del left[run_id]
                continue
            if record.dagster_run.status not in ENDED:
                continue
            at = _ended_at(record)
            if not known.until and at + _clock_offset(record, known, now) < oldest:
                del left[run_id]
                continue
            if read >= RUNS_A_TICK or (read and limit.passed()):
                return signals, left, False
            read += 1
            if (of_run := _of_record(instance, record, known, now)) is not None:
                signals += of_run
                del left[run_id]
    return signals, left, True


def _of_record(instance: dg.DagsterInstance, record: dg.RunRecord, known: EndedRun, now: float) -> list[Signal] | None:
    """Return the signals of a run; None where Dagster has not decided yet whether it is tried again."""
    run, at, undecided = record.dagster_run, _ended_at(record), False

    def read() -> list[Signal]:
        nonlocal undecided
        found = _of_ended(instance, run, at, _clock_offset(record, known, now), now, late=known.late)
        undecided = found is None
        return found or []

    found = read_isolated(
        read,
        f"run:{run.run_id}",
        at,
        f"The run `{run.run_id}` of the job `{run.job_name}`",
        run_id=run.run_id,
        root_run_id=run.root_run_id or run.run_id,
        job=f"job:{run.job_name}",
    )
    return None if undecided else found


def _of_ended(
    instance: dg.DagsterInstance, run: dg.DagsterRun, at: float, offset: float, now: float, *, late: bool
) -> list[Signal] | None:
    outcome = runs.outcome(runs.read(instance, run.run_id, at))
    ended_at = at + offset
    if outcome.retry == "undecided" and now - ended_at < UNDECIDED_SECONDS and not _is_permanent(outcome):
        return None
    outcome = clock_offsets.shift_failures(outcome, offset)
    outcome = made.still_failed(instance, replace(outcome, ended_at=datetime.fromtimestamp(ended_at, UTC)))
    signals = _of_run(outcome, ended_at, offset)
    return [each for one in signals for each in late_failures.with_recoveries(instance, one, now)] if late else signals


def _ended_at(record: dg.RunRecord) -> float:
    """Return when a run ended, by the clock of the machine that ran it."""
    return record.end_time or _changed_at(record)


def _clock_offset(record: dg.RunRecord, known: EndedRun, now: float) -> float:
    created_at = record.create_timestamp.replace(tzinfo=UTC).timestamp()
    return clock_offsets.offset_of_run(created_at, record.start_time, _ended_at(record), known.after, known.until, now)


def _read_changed_runs(instance: dg.DagsterInstance, after: datetime) -> Sequence[dg.RunRecord]:
    """The runs that have ended, in the order in which they changed."""
    filters = RunsFilter(statuses=ENDED, updated_after=after)
    return instance.get_run_records(filters, limit=RECORDS_A_TICK, order_by="update_timestamp", ascending=True)


def _read_runs_of_last_day(instance: dg.DagsterInstance, after_run: str, now: float) -> Sequence[dg.RunRecord]:
    """The runs that were created in the last day and have ended, in the order of their creation, after one of them."""
    filters = RunsFilter(statuses=ENDED, created_after=datetime.fromtimestamp(now - LOOK_BACK_SECONDS, UTC))
    return instance.get_run_records(filters, limit=RECORDS_A_TICK, cursor=after_run or None, ascending=True)


def _changed_at(record: dg.RunRecord) -> float:
    return record.update_timestamp.replace(tzinfo=UTC).timestamp()


def _is_permanent(outcome: runs.Outcome) -> bool:
    """Nothing of it waits for a retry, whether one comes or not."""
    return bool(outcome.failed) and outcome.interruption is None and all(unit.permanent for unit in outcome.failed)


def _of_run(outcome: runs.Outcome, ended_at: float, offset: float = 0.0) -> list[Signal]:
    bad = bool(outcome.failed) or outcome.job not in outcome.succeeded
    whole = Signal(
        id=f"{'run' if bad else 'ok'}:{outcome.run_id}",
        at=ended_at,
        run_id=outcome.run_id,
        root_run_id=outcome.root_run_id,
        job=outcome.job,
        retried=outcome.retry == "coming",
    )
    checks = [clock_offsets.shift_signal(of_check(whole, check), offset) for check in outcome.checks_failed]
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


def of_check(run: Signal, check: runs.FailedCheck) -> Signal:
    """The signal of a check that failed in a run. Its id is the same whether the event or the end of the run tells it."""
    id_ = f"check:{run.run_id}:{check.asset_key}:{check.name}:{check.at}"
    return replace(run, id=id_, at=check.at, failed=(check.unit,))


def find_retries(instance: dg.DagsterInstance, before: State, now: float) -> dict[str, RetryState]:
    """Return the state of the retry that each pending failure waits for. A retry that Dagster could not launch leaves only a tag."""
    return {
        name: _state_of_retry(instance, known.run_id, now) for name, known in before.pending.items() if known.run_id
    }


def _state_of_retry(instance: dg.DagsterInstance, run_id: str, now: float) -> RetryState:
    run = instance.get_run_by_id(run_id)
    if run is None or runs.retry_of(instance, run) == "none":
        return "off"
    child = instance.get_run_record_by_id(run.tags.get("dagster/auto_retry_run_id", ""))
    if child is None:
        return "unknown"
    # One that has just ended is judged by its own end.
    ended = child.end_time if child.dagster_run.is_finished else None
    return "unknown" if ended and ended < now - 2 * OVERLAP_SECONDS else "under_way"


def of_queue(instance: dg.DagsterInstance, now: float, minutes: float, handled: Mapping[str, float]) -> list[Signal]:
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
