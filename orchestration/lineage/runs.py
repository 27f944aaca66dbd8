"""What a finished run means: which units failed, which assets were made. Reads one run's events; decides nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

import dagster as dg
from dagster import DagsterEventType
from dagster._core.definitions.data_version import DATA_VERSION_TAG
from dagster._core.events import JobFailureData, RunFailureReason
from dagster._core.storage.tags import MAX_RETRIES_TAG, RETRY_NUMBER_TAG, RUN_FAILURE_REASON_TAG, WILL_RETRY_TAG
from dagster._utils.tags import get_boolean_tag_value
from dagster_shared.error import SerializableErrorInfo

from orchestration.core.causes import Cause
from orchestration.core.redaction import redact
from orchestration.lineage.dagster_errors import dagster_cause
from orchestration.lineage.failures import METADATA_KEY, UNIT_KEY, FailedUnit, from_metadata

OF_THE_RUN = {
    DagsterEventType.RUN_CANCELED,
    DagsterEventType.RUN_CANCELING,
    DagsterEventType.RUN_FAILURE,
    DagsterEventType.RUN_SUCCESS,
}
EVENTS = OF_THE_RUN | {
    DagsterEventType.ASSET_CHECK_EVALUATION,
    DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED,
    DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
    DagsterEventType.ASSET_MATERIALIZATION,
    DagsterEventType.ASSET_OBSERVATION,
    DagsterEventType.STEP_FAILURE,
    DagsterEventType.STEP_SUCCESS,
}
MOST_PARTITIONS = 400
"""Of one asset in one run, whose recovery is awaited one by one: a year of days."""
UNEXPLAINED = "marked as failed from outside the execution context"
"""Dagster's words for a run that it could not start or whose process has died, where the reason is in another event."""
TOO_LONG = "exceeding maximum runtime"
"""Dagster's words when it cancels a run that takes too long. It calls the run a failure only afterwards, and not if the run has ended first."""
NO_MESSAGE = "The run failed without a message."
CHECKS = "check:"
STEPS = "step:"
IMPLICIT_JOBS = "__"
"""Begins the name of the job in which Dagster runs assets that no job was named for: any assets, in any run of it."""
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
class Report:
    """A failure that a step told before its end, in an observation."""

    unit: FailedUnit
    step: str
    at: float
    """Seconds since the epoch."""


@dataclass(frozen=True)
class Failed:
    """A failed unit of a run, with the step in which it failed where it did in one."""

    unit: FailedUnit
    step: str | None
    at: float
    """Seconds since the epoch: when the step told it, else the step's end; the run's end where no step did."""


@dataclass(frozen=True)
class FailedCheck:
    asset_key: str
    name: str
    text: str
    step: str | None
    at: float
    """Seconds since the epoch."""
    answered: bool = False
    """Another unit answers for it, which its step reports at its end."""

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
    """The message of the run's own failure; None where it succeeded or somebody cancelled it."""
    succeeded: bool = False
    root_run_id: str | None = None
    """The first of the runs of which this one is a retry; its own id where it is none."""
    retry: Retry = "none"
    checks_failed: tuple[FailedCheck, ...] = ()
    """Of severity error."""
    checks_planned: Mapping[str, tuple[tuple[str, str], ...]] = field(
        default_factory=dict[str, tuple[tuple[str, str], ...]]
    )
    """Step to the checks that it was to evaluate, each an asset key and the check's name."""
    checked: frozenset[tuple[str, str]] = frozenset()
    """The checks that were evaluated, whatever they found."""
    reported: tuple[Report, ...] = ()
    partitions: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """Asset key to the partitions that were to be made of it; nothing of assets without partitions."""
    interrupted: bool = False
    """It ended by something else than a step that failed: its process died, it took too long, it could not start."""
    location: str = ""
    """The name of the code location that the run is of; empty for a run that was not launched from one."""
    steps_succeeded: Mapping[str, float] = field(default_factory=dict[str, float])
    """Step key to when the step succeeded, in seconds since the epoch."""
    selected: tuple[str, ...] = ()
    """The assets that were selected, of a run of some assets. Those that are only observed are not `planned`."""
    cause: Cause | None = None
    """The failure of Dagster itself by which the run failed while no step did."""


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
    interruption: FailedUnit | None = None
    """Of a run that was interrupted after a step had failed: all that was not made. Some of it the failed step may have held up."""
    failed_at: Mapping[str, float] = field(default_factory=dict[str, float])
    """A failed unit's name to when it failed, in seconds since the epoch."""
    checks_failed: tuple[FailedCheck, ...] = ()
    """But for those for which a failed unit answers."""


def read(instance: dg.DagsterInstance, run_id: str, ended_at: float) -> RunEvents:
    """The events of a finished run. `ended_at` is in seconds since the epoch."""
    planned: dict[str, str] = {}
    materialized: dict[str, float] = {}
    steps: list[StepFailure] = []
    said: dict[DagsterEventType, str] = {}
    checks: list[FailedCheck] = []
    checks_planned: dict[str, tuple[tuple[str, str], ...]] = {}
    checked: set[tuple[str, str]] = set()
    reported: list[Report] = []
    partitions: dict[str, tuple[str, ...]] = {}
    succeeded: dict[str, float] = {}
    run_error: SerializableErrorInfo | None = None
    for record in instance.get_records_for_run(run_id, of_type=EVENTS).records:
        entry = record.event_log_entry
        event = entry.dagster_event
        if event is None:
            continue
        if event.is_asset_materialization_planned and event.asset_key:
            key = event.asset_key.to_user_string()
            planned[key] = event.step_key or ""
            partitions[key] = _partitions(event.asset_materialization_planned_data)
        elif event.event_type == DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED:
            check = event.asset_check_planned_data
            step = event.step_key or ""
            named = (check.asset_key.to_user_string(), check.check_name)
            checks_planned[step] = (*checks_planned.get(step, ()), named)
        elif event.asset_key and (event.is_step_materialization or _looked_at(event)):
            materialized |= dict.fromkeys(_tokens(event.asset_key, event.partition), entry.timestamp)
        elif event.is_asset_observation:
            reported += _reports(event, entry.timestamp)
        elif event.event_type == DagsterEventType.ASSET_CHECK_EVALUATION:
            result = event.asset_check_evaluation_data
            checked.add((result.asset_key.to_user_string(), result.check_name))
            if (failed := failed_check(event, entry.timestamp)) is not None:
                checks.append(failed)
        elif event.is_step_failure:
            steps.append(_step_failure(event, entry.timestamp))
        elif event.is_step_success:
            succeeded[event.step_key or ""] = entry.timestamp
        elif event.event_type in OF_THE_RUN:
            run_error = _run_error(event) or run_error
            said[event.event_type] = event.message or entry.user_message
    run = instance.get_run_by_id(run_id)
    too_long = DagsterEventType.RUN_CANCELED in said and TOO_LONG in said.get(DagsterEventType.RUN_CANCELING, "")
    run_failure = _run_failure(said, run, too_long=too_long)
    interrupted = run is not None and run_failure is not None and _interrupted(run, steps)
    if run_failure and UNEXPLAINED in run_failure and (error := _engine_error(instance, run_id)) is not None:
        run_failure, run_error = _root_message(error), error
    return RunEvents(
        run_id=run_id,
        job=f"job:{run.job_name if run else ''}",
        ended_at=datetime.fromtimestamp(ended_at, UTC),
        planned=planned,
        materialized=materialized,
        step_failures=tuple(steps),
        run_failure=run_failure,
        succeeded=DagsterEventType.RUN_SUCCESS in said,
        root_run_id=(run.root_run_id if run else None) or run_id,
        retry=retry_of(instance, run, too_long=too_long) if run else "none",
        checks_failed=tuple(checks),
        checks_planned=checks_planned,
        checked=frozenset(checked),
        reported=tuple(reported),
        partitions={key: some for key, some in partitions.items() if some},
        interrupted=interrupted,
        location=_location(run),
        steps_succeeded=succeeded,
        selected=tuple(sorted(key.to_user_string() for key in (run.asset_selection if run else None) or ())),
        cause=dagster_cause(run_error),
    )


def steps_succeeded(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dict[str, float]:
    """Return when the steps of a run succeeded, in seconds since the epoch, by the tokens that stand for them."""
    found: dict[str, float] = {}
    for record in instance.get_records_for_run(run.run_id, of_type=DagsterEventType.STEP_SUCCESS).records:
        event = record.event_log_entry.dagster_event
        step = (event.step_key if event else None) or ""
        # Which of the two it is of is not known here: one of them is awaited.
        for location in (_location(run), ""):
            for job in (run.job_name, ""):
                found[step_token(location, job, step)] = record.event_log_entry.timestamp
    return found


def _run_error(event: dg.DagsterEvent) -> SerializableErrorInfo | None:
    data = event.event_specific_data
    return data.error if isinstance(data, JobFailureData) else None


def _location(run: dg.DagsterRun | None) -> str:
    return run.remote_job_origin.location_name if run is not None and run.remote_job_origin is not None else ""


def _run_failure(said: Mapping[DagsterEventType, str], run: dg.DagsterRun | None, *, too_long: bool) -> str | None:
    """Return the message of the run's own failure. It may be empty or lost, and the run has failed all the same."""
    if DagsterEventType.RUN_FAILURE in said or (run is not None and run.status == dg.DagsterRunStatus.FAILURE):
        return said.get(DagsterEventType.RUN_FAILURE) or NO_MESSAGE
    return said[DagsterEventType.RUN_CANCELING] if too_long else None


def _tokens(key: dg.AssetKey, partition: str | None) -> list[str]:
    """What is well again when an asset, or a partition of it, is made."""
    asset = key.to_user_string()
    return [asset] if partition is None else [asset, partition_token(asset, partition)]


def _partitions(planned: Any) -> tuple[str, ...]:
    """The partitions that an asset was to be made of, the newest of very many."""
    if planned.partition is not None:
        return (planned.partition,)
    if planned.partitions_subset is None:
        return ()
    return tuple(planned.partitions_subset.get_partition_keys())[-MOST_PARTITIONS:]


def _interrupted(run: dg.DagsterRun, steps: list[StepFailure]) -> bool:
    """By the tag that Dagster leaves on a run that failed; one whose process was killed has none."""
    return run.tags.get(RUN_FAILURE_REASON_TAG) != RunFailureReason.STEP_FAILURE.value or not steps


def _engine_error(instance: dg.DagsterInstance, run_id: str) -> SerializableErrorInfo | None:
    """Return why a run could not start or go on: Dagster stores that before the failure, in an event of its own."""
    found: SerializableErrorInfo | None = None
    for record in instance.get_records_for_run(run_id, of_type=DagsterEventType.ENGINE_EVENT).records:
        event = record.event_log_entry.dagster_event
        found = (event.engine_event_data.error if event else None) or found
    return found


def _root_message(error: SerializableErrorInfo) -> str:
    while error.cause is not None:
        error = error.cause
    return redact(error.message).strip()


def retry_of(instance: dg.DagsterInstance, run: dg.DagsterRun, *, too_long: bool = False) -> Retry:
    """Whether the daemon runs this run again, by the tag that it leaves on a failed one. `too_long`: Dagster has cancelled it for that."""
    if too_long and run.status == dg.DagsterRunStatus.CANCELED:
        # It is about to be called a failure.
        return "undecided"
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


def partition_token(asset_key: str, partition: str) -> str:
    """What stands for a partition of an asset among what has to be well again."""
    return f"{asset_key}@{partition}"


def partition_of(token: str) -> str:
    """The partition that such a token stands for; nothing where it stands for something else."""
    asset, _, partition = token.partition("@")
    return "" if ":" in asset else partition


def check_token(asset_key: str, name: str) -> str:
    """What stands for a check among what has to be well again."""
    return f"{CHECKS}{asset_key}:{name}"


def step_token(location: str, job: str, step: str) -> str:
    """Return what stands for a step among what has to succeed.

    Args:
        location: The code location's name; empty for any.
        job: The job as `job:<name>`; empty for any, since the step of an asset definition is the same in every job.
        step: The step's key.
    """
    # `@` stands before a partition in tokens.
    return f"{STEPS}{location}:{job.removeprefix('job:')}:{step}".replace("@", "_")


def check_of_token(token: str) -> dg.AssetCheckKey:
    """The check that such a token stands for."""
    asset, _, name = token.removeprefix(CHECKS).rpartition(":")
    return dg.AssetCheckKey(dg.AssetKey.from_user_string(asset), name)


def failed_check(event: dg.DagsterEvent, at: float) -> FailedCheck | None:
    """The failure that the event of a check's result tells; None where it passed or only warns."""
    result = event.asset_check_evaluation_data
    if result.passed or result.severity != dg.AssetCheckSeverity.ERROR:
        return None
    return FailedCheck(
        asset_key=result.asset_key.to_user_string(),
        name=result.check_name,
        text=check_text(result),
        step=event.step_key,
        at=at,
        answered=UNIT_KEY in result.metadata,
    )


def check_text(result: dg.AssetCheckEvaluation) -> str:
    """What a check says: its description, else its metadata."""
    metadata = ", ".join(f"{name}: {value.value!r}" for name, value in result.metadata.items())
    return result.description or metadata or "The check failed, and says no more."


def outcome(run: RunEvents) -> Outcome:
    """The failures of a run, and the assets that it did make well."""
    found = [replace(one, unit=_awaiting_step(run, one)) for one in failures(run)]
    failed = [one.unit for one in found]
    interruption = None
    if failed and run.interrupted and (run.step_failures or run.reported):
        interruption = next(iter(_of_run(run, {})), None)
        failed += _of_checks(run, failed)
    # An asset that was made and whose check failed is not what the check's failure waits for.
    blamed = {key for unit in failed if not unit.awaits for key in unit.asset_keys}
    made = {token: at for token, at in run.materialized.items() if token.partition("@")[0] not in blamed}
    if run.succeeded:
        made[run.job] = run.ended_at.timestamp()
    for step, at in run.steps_succeeded.items():
        made |= dict.fromkeys(_step_tokens(run, step), at)
    unmade = _unmade(key for key in run.planned if key not in run.materialized and key not in blamed)
    return Outcome(
        run_id=run.run_id,
        job=run.job,
        ended_at=run.ended_at,
        failed=tuple(_of_partitions(unit, run.partitions) for unit in failed),
        succeeded=made,
        root_run_id=run.root_run_id,
        retry=run.retry,
        unmade=unmade,
        interruption=interruption and _of_partitions(interruption, run.partitions),
        failed_at={one.unit.unit: one.at for one in found},
        checks_failed=_unanswered(run),
    )


def _awaiting_step(run: RunEvents, failed: Failed) -> FailedUnit:
    """Return a unit without assets as one that has recovered when the step in which it failed succeeds again.

    A whole run of the job says nothing of it: that may be a run of other assets.
    """
    unit = failed.unit
    if failed.step is None or unit.awaits or unit.asset_keys:
        return unit
    job = "" if _has_assets(run, failed.step) else run.job
    return replace(unit, awaits=(step_token(run.location, job, failed.step),))


def _has_assets(run: RunEvents, step: str) -> bool:
    """Return whether a step makes, observes or checks assets. Assets that are only observed are not planned; their job is one of assets."""
    planned = step in run.planned.values() or step in run.checks_planned
    return planned or run.job.removeprefix("job:").startswith(IMPLICIT_JOBS)


def _step_tokens(run: RunEvents, step: str) -> set[str]:
    """Return all that a success of a step is a recovery of: also of a run that did not say which code location it is of."""
    jobs = {run.job, ""} if _has_assets(run, step) else {run.job}
    return {step_token(location, job, step) for location in (run.location, "") for job in jobs}


def _of_partitions(unit: FailedUnit, partitions: Mapping[str, tuple[str, ...]]) -> FailedUnit:
    """A unit that is well when the partitions that failed are made: today's says nothing of those of a failed backfill."""
    if unit.awaits or not any(key in partitions for key in unit.asset_keys):
        return unit
    return replace(unit, awaits=awaited(unit.asset_keys, partitions))


def awaited(keys: Iterable[str], partitions: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """What stands for assets among what has to be well again: themselves, or the partitions of them that are named."""
    tokens = ((key, partitions.get(key)) for key in keys)
    return tuple(
        token for key, some in tokens for token in ((partition_token(key, one) for one in some) if some else (key,))
    )


def failures(run: RunEvents) -> list[Failed]:
    """The units that failed: as the steps report them, else by step; the whole run's rest where no step was to blame."""
    # A run that somebody cancelled has failed steps too, and is nobody's emergency.
    if run.run_failure is None:
        return []
    # A model is told anew with each of its tests: the last counts.
    told = {report.unit.unit: report.at for report in run.reported}
    found = [
        Failed(unit, step.step, told.get(unit.unit, step.at))
        for step in run.step_failures
        for unit in _of_step(run, step)
    ]
    found += [Failed(unit, step, told[unit.unit]) for unit, step in _told_before(run)]
    return found or [Failed(unit, None, run.ended_at.timestamp()) for unit in _of_run(run, _unchecked(run))]


def _of_step(run: RunEvents, step: StepFailure) -> list[FailedUnit]:
    error = step.error
    try:
        reported = from_metadata(step.metadata)
    except ValueError as problem:
        # An alert with less detail is better than none, and than a sensor that meets this run again for ever.
        reported, error = None, f"{error} ({problem})"
    if reported is not None:
        return reported
    if CHECK_FAILED in error and (failed := [check.unit for check in _unanswered(run) if check.step == step.step]):
        return failed
    own = _unmade(key for key, maker in run.planned.items() if maker == step.step)
    missing = tuple(key for key in own if key not in run.materialized)
    # A step that had made everything, and failed then, has to run again all the same.
    if own:
        return [FailedUnit(f"step/{step.step}", missing or own, error)]
    checks = run.checks_planned.get(step.step, ())
    awaits = tuple(check_token(key, name) for key, name in checks)
    return [FailedUnit(f"step/{step.step}", _unmade({key for key, _name in checks}), error, awaits=awaits)]


def _told_before(run: RunEvents) -> list[tuple[FailedUnit, str]]:
    """With its step, what the steps told before their end of which there is no report: their process was killed, or they broke."""
    accounted, found = _accounted(run), dict[str, tuple[FailedUnit, str]]()
    for report in run.reported:
        if report.step in accounted:
            continue
        unit = report.unit
        if unit.unit in found:
            known, _step = found[unit.unit]
            errors = dict.fromkeys([*known.error.splitlines(), *unit.error.splitlines()])
            unit = replace(unit, error="\n".join(errors), permanent=unit.permanent and known.permanent)
        found[unit.unit] = unit, report.step
    return list(found.values())


def _accounted(run: RunEvents) -> set[str]:
    """The steps that failed with a report of all that failed in them."""
    return {step.step for step in run.step_failures if METADATA_KEY in step.metadata}


def _unanswered(run: RunEvents) -> tuple[FailedCheck, ...]:
    """The failed checks for which no failed unit answers: also where the step that was to report one did not get as far."""
    accounted, told = _accounted(run), {key for unit, _step in _told_before(run) for key in unit.asset_keys}

    def lost(check: FailedCheck) -> bool:
        return run.run_failure is not None and check.step not in accounted and check.asset_key not in told

    return tuple(check for check in run.checks_failed if not check.answered or lost(check))


def _unchecked(run: RunEvents) -> dict[str, tuple[str, ...]]:
    """Asset to the tokens of its checks that were planned and not evaluated. One that was not made is checked when it is.

    A step that failed says why it did not get as far as its checks.
    """
    failed, found = {step.step for step in run.step_failures}, dict[str, tuple[str, ...]]()
    for step, checks in run.checks_planned.items():
        for key, name in checks:
            made = key not in run.planned or key in run.materialized
            if made and step not in failed and (key, name) not in run.checked:
                found[key] = (*found.get(key, ()), check_token(key, name))
    return dict(sorted(found.items()))


def _of_run(run: RunEvents, unchecked: Mapping[str, tuple[str, ...]]) -> list[FailedUnit]:
    """What a run has not made or checked that ended with no step to blame: its process was killed, it took too long, or it could not start."""
    # What is only observed is planned nowhere.
    wanted = run.planned if run.planned or run.checks_planned else dict.fromkeys(run.selected, "")
    missing = _unmade(key for key in wanted if key not in run.materialized)
    if (wanted or run.checks_planned) and not missing and not unchecked:
        return []
    checks = tuple(token for tokens in unchecked.values() for token in tokens)
    awaits = (*awaited(missing, run.partitions), *checks) if checks else ()
    keys = _unmade({*missing, *unchecked})
    return [FailedUnit(f"run/{_asked_for(run)}", keys, _reason(run), awaits=awaits, cause=run.cause)]


def _of_checks(run: RunEvents, failed: Iterable[FailedUnit]) -> list[FailedUnit]:
    """The checks that a run did not evaluate that was interrupted after something had failed, other than those of what failed."""
    own = {key for unit in failed for key in unit.asset_keys}
    unchecked = {key: tokens for key, tokens in _unchecked(run).items() if key not in own}
    awaits = tuple(token for tokens in unchecked.values() for token in tokens)
    if not awaits:
        return []
    return [FailedUnit(f"check/run/{_asked_for(run)}", tuple(unchecked), _reason(run), awaits=awaits, cause=run.cause)]


def _asked_for(run: RunEvents) -> str:
    """A short name of what a run was to make, and not of what is missing: a process that dies at another place each time is one outage."""
    asked = (
        run.planned
        or set(run.selected)
        or {check_token(*check) for checks in run.checks_planned.values() for check in checks}
    )
    return hashlib.sha256("\n".join([run.job, *sorted(asked)]).encode()).hexdigest()[:10]


def _reason(run: RunEvents) -> str:
    return run.run_failure or NO_MESSAGE


def _reports(event: dg.DagsterEvent, at: float) -> list[Report]:
    metadata = event.asset_observation_data.asset_observation.metadata
    if METADATA_KEY not in metadata:
        return []
    try:
        units = from_metadata({METADATA_KEY: metadata[METADATA_KEY].value}) or []
    except ValueError:
        # What it was about is missing from what was made.
        return []
    return [Report(unit, event.step_key or "", at) for unit in units]


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
    return StepFailure(event.step_key or "", redact(text).strip(), metadata, at)
