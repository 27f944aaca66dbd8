"""Reads the runs that have ended, and those that hang in the queue."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import dagster as dg
from dagster import DagsterEventType, DagsterRunStatus, RunsFilter

from orchestration.incidents import made
from orchestration.incidents.deadline import Deadline
from orchestration.incidents.model import Signal
from orchestration.incidents.state import Position, State
from orchestration.incidents.triage import RetryState
from orchestration.incidents.unreadable import isolated
from orchestration.lineage import runs
from orchestration.lineage.failures import FailedUnit

LOOK_BACK_SECONDS = 24 * 3600.0
"""A sensor without a cursor is new or renamed: it reads what ended within this time."""
OVERLAP_SECONDS = 120.0
"""How far back what was read is read again."""
UNDECIDED_SECONDS = 60.0
"""Dagster decides about a retry just after it has stored a failure; a process that dies in between never does."""
RUNS_A_TICK = 100
RECORDS_A_TICK = 1_000
"""Of runs that have changed, most of which were judged before."""
READ_SECONDS = 15.0
"""A tick has 60 s, and one run takes at most a few to read."""

ENDED = [DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED]


def of_runs(
    instance: dg.DagsterInstance,
    position: Position,
    handled: Mapping[str, float],
    now: float,
    deadline: Deadline | None = None,
) -> tuple[float, bool, list[Signal]]:
    """Signals of the runs that have ended, until when runs have been read, and whether that is all of them."""
    limit = deadline.share(READ_SECONDS) if deadline else Deadline.within(READ_SECONDS)
    since = position.runs_until
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
        if read >= RUNS_A_TICK or (read and limit.passed()):
            return max(since, changed), False, found
        read += 1
        found += isolated(
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
    checks = [of_check(whole, check) for check in outcome.checks_failed]
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


def retries(instance: dg.DagsterInstance, before: State, now: float) -> dict[str, RetryState]:
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
