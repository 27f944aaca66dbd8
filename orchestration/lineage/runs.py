"""What a finished run means: which units failed, which assets were made. Reads one run's events; decides nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import dagster as dg
from dagster import DagsterEventType
from dagster._core.definitions.data_version import DATA_VERSION_TAG
from dagster._core.storage.tags import MAX_RETRIES_TAG, RETRY_NUMBER_TAG, WILL_RETRY_TAG
from dagster._utils.tags import get_boolean_tag_value

from orchestration.lineage.failures import UNIT_KEY, FailedUnit, from_metadata

EVENTS = {
    DagsterEventType.ASSET_CHECK_EVALUATION,
    DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
    DagsterEventType.ASSET_MATERIALIZATION,
    DagsterEventType.ASSET_OBSERVATION,
    DagsterEventType.STEP_FAILURE,
    DagsterEventType.RUN_FAILURE,
    DagsterEventType.RUN_SUCCESS,
}
CHECK_FAILED = "DagsterAssetCheckFailedError"
"""What Dagster raises at the end of a step in which a blocking check failed."""

Retry = Literal["coming", "none", "undecided"]
"""Whether Dagster's daemon runs a failed run again. It decides just after it has stored the failure."""


@dataclass(frozen=True)
class StepFailure:
    step: str
    error: str
    metadata: Mapping[str, Any]
    at: float = 0.0
    """Seconds since the epoch."""


@dataclass(frozen=True)
class FailedCheck:
    asset_key: str
    name: str
    text: str
    step: str | None
    at: float
    """Seconds since the epoch."""

    @property
    def unit(self) -> FailedUnit:
        token = check_token(self.asset_key, self.name)
        return FailedUnit(f"check/{self.asset_key}/{self.name}", (self.asset_key,), self.text, awaits=(token,))


@dataclass(frozen=True)
class RunEvents:
    """A finished run, as far as incidents care. Keys as people write them."""

    run_id: str
    job: str
    ended_at: datetime
    planned: Mapping[str, str]
    """Asset key to the step that was to make it."""
    materialized: Mapping[str, float]
    """Asset key to when it was last made (or, where somebody else makes it, looked at), in seconds since the epoch."""
    step_failures: tuple[StepFailure, ...] = ()
    run_failure: str | None = None
    """The message of the run's own failure; None where it succeeded or was cancelled."""
    succeeded: bool = False
    root_run_id: str | None = None
    """The first of the runs of which this one is a retry; its own id where it is none."""
    retry: Retry = "none"
    checks_failed: tuple[FailedCheck, ...] = ()
    """Of severity error, but for those for which another unit answers."""


@dataclass(frozen=True)
class Outcome:
    """The failures of a run, and the assets that it did make well."""

    run_id: str
    job: str
    """Stands in for assets where a failure has none."""
    ended_at: datetime
    failed: tuple[FailedUnit, ...]
    succeeded: Mapping[str, float]
    """Asset key to when it was made, in seconds since the epoch; and the job itself, where the whole run succeeded."""
    root_run_id: str | None = None
    retry: Retry = "none"
    unmade: tuple[str, ...] = ()
    """What was planned and not made, and is no failed unit's own."""
    checks_failed: tuple[FailedCheck, ...] = ()


def read(instance: dg.DagsterInstance, run_id: str, ended_at: float) -> RunEvents:
    """The events of a finished run. `ended_at` is in seconds since the epoch."""
    planned: dict[str, str] = {}
    materialized: dict[str, float] = {}
    steps: list[StepFailure] = []
    run_failure: str | None = None
    succeeded = False
    checks: list[FailedCheck] = []
    for record in instance.get_records_for_run(run_id, of_type=EVENTS).records:
        entry = record.event_log_entry
        event = entry.dagster_event
        if event is None:
            continue
        if event.is_asset_materialization_planned and event.asset_key:
            planned[event.asset_key.to_user_string()] = event.step_key or ""
        elif event.asset_key and (event.is_step_materialization or _looked_at(event)):
            materialized[event.asset_key.to_user_string()] = entry.timestamp
        elif event.event_type == DagsterEventType.ASSET_CHECK_EVALUATION:
            if (failed := failed_check(event, entry.timestamp)) is not None:
                checks.append(failed)
        elif event.is_step_failure:
            steps.append(_step_failure(event, entry.timestamp))
        elif event.event_type == DagsterEventType.RUN_FAILURE:
            run_failure = event.message or entry.user_message
        elif event.event_type == DagsterEventType.RUN_SUCCESS:
            succeeded = True
    run = instance.get_run_by_id(run_id)
    return RunEvents(
        run_id=run_id,
        job=f"job:{run.job_name if run else ''}",
        ended_at=datetime.fromtimestamp(ended_at, UTC),
        planned=planned,
        materialized=materialized,
        step_failures=tuple(steps),
        run_failure=run_failure,
        succeeded=succeeded,
        root_run_id=(run.root_run_id if run else None) or run_id,
        retry=retry_of(instance, run) if run else "none",
        checks_failed=tuple(checks),
    )


def retry_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Retry:
    """Whether the daemon runs this run again, by the tag that it leaves on a failed one."""
    if run.status != dg.DagsterRunStatus.FAILURE or not instance.run_retries_enabled:
        return "none"
    decided = run.tags.get(WILL_RETRY_TAG)
    if decided is None:
        return "undecided"
    return "coming" if get_boolean_tag_value(decided) else "none"


def may_retry(run: dg.DagsterRun) -> bool:
    """Whether a run that has not ended is of a kind that is run again should it fail, and has tries left."""
    try:
        return int(run.tags.get(RETRY_NUMBER_TAG, "0")) < int(run.tags.get(MAX_RETRIES_TAG, "0"))
    except ValueError:
        return False


def check_token(asset_key: str, name: str) -> str:
    """What stands for a check among what has to be well again."""
    return f"check:{asset_key}:{name}"


def failed_check(event: dg.DagsterEvent, at: float) -> FailedCheck | None:
    """The failure that the event of a check's result tells; None where it passed, only warns, or another unit answers for it."""
    result = event.asset_check_evaluation_data
    if result.passed or result.severity != dg.AssetCheckSeverity.ERROR or UNIT_KEY in result.metadata:
        return None
    return FailedCheck(
        asset_key=result.asset_key.to_user_string(),
        name=result.check_name,
        text=check_text(result),
        step=event.step_key,
        at=at,
    )


def check_text(result: dg.AssetCheckEvaluation) -> str:
    """What a check says: its description, else its metadata."""
    metadata = ", ".join(f"{name}: {value.value}" for name, value in result.metadata.items())
    return result.description or metadata or "The check failed, and says no more."


def outcome(run: RunEvents) -> Outcome:
    """The failures of a run, and the assets that it did make well."""
    failed = [unit for unit, _step in failures(run)]
    # An asset that was made and whose check failed is not what the check's failure waits for.
    blamed = {key for unit in failed if not unit.awaits for key in unit.asset_keys}
    made = {key: at for key, at in run.materialized.items() if key not in blamed}
    if run.succeeded:
        made[run.job] = run.ended_at.timestamp()
    unmade = _unmade(key for key in run.planned if key not in run.materialized and key not in blamed)
    return Outcome(
        run.run_id, run.job, run.ended_at, tuple(failed), made, run.root_run_id, run.retry, unmade, run.checks_failed
    )


def failures(run: RunEvents) -> list[tuple[FailedUnit, StepFailure | None]]:
    """The units that failed, each with its step: as the steps report them, else by step; the whole run's rest where no step was to blame."""
    # A run that somebody cancelled has failed steps too, and is nobody's emergency.
    if run.run_failure is None:
        return []
    found: list[tuple[FailedUnit, StepFailure | None]] = []
    for step in run.step_failures:
        found += [(unit, step) for unit in _of_step(run, step)]
    return found or [(unit, None) for unit in _of_run(run)]


def _of_step(run: RunEvents, step: StepFailure) -> list[FailedUnit]:
    error = step.error
    try:
        reported = from_metadata(step.metadata)
    except ValueError as problem:
        # An alert with less detail is better than none, and than a sensor that meets this run again for ever.
        reported, error = None, f"{error} ({problem})"
    if reported is not None:
        return reported
    if CHECK_FAILED in error and (failed := [check.unit for check in run.checks_failed if check.step == step.step]):
        return failed
    missing = _unmade(key for key, maker in run.planned.items() if maker == step.step and key not in run.materialized)
    return [FailedUnit(f"step/{step.step}", missing, error)]


def _of_run(run: RunEvents) -> list[FailedUnit]:
    """A run that ended with no step to blame: its process was killed, it took too long, or it could not start."""
    missing = _unmade(key for key in run.planned if key not in run.materialized)
    if run.planned and not missing:
        return []
    # Of what was asked for and not of what is missing: a process that dies at another place each time is one outage.
    name = hashlib.sha256("\n".join([run.job, *sorted(run.planned)]).encode()).hexdigest()[:10]
    return [FailedUnit(f"run/{name}", missing, run.run_failure or "The run failed without a message.")]


def _looked_at(event: dg.DagsterEvent) -> bool:
    """Whether an observation is that of an asset which is only observed: it gives a version of the data. Others are remarks."""
    return event.is_asset_observation and DATA_VERSION_TAG in event.asset_observation_data.asset_observation.tags


def _unmade(keys: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(keys))


def _step_failure(event: dg.DagsterEvent, at: float) -> StepFailure:
    data = event.step_failure_data
    user_failure = data.user_failure_data
    metadata = {name: value.value for name, value in user_failure.metadata.items()} if user_failure else {}
    error = data.error
    # Dagster wraps what a step raised; the cause is what a person wants to read.
    while error is not None and error.cause is not None:
        error = error.cause
    text = error.message if error else (event.message or "")
    return StepFailure(event.step_key or "", " ".join(text.split()), metadata, at)
