"""What a finished run means: which units failed, which assets were made. Reads one run's events; decides nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from dagster import DagsterEventType

from orchestration.lineage.failures import FailedUnit, from_metadata

EVENTS = {
    DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
    DagsterEventType.ASSET_MATERIALIZATION,
    DagsterEventType.STEP_FAILURE,
    DagsterEventType.RUN_FAILURE,
}


@dataclass(frozen=True)
class StepFailure:
    step: str
    error: str
    metadata: Mapping[str, Any]


@dataclass(frozen=True)
class RunEvents:
    """A finished run, as far as incidents care. Keys as people write them."""

    run_id: str
    ended_at: datetime
    planned: Mapping[str, str]
    """Asset key to the step that was to make it."""
    materialized: frozenset[str]
    step_failures: tuple[StepFailure, ...] = ()
    run_failure: str | None = None
    """The message of the run's own failure; None where it succeeded or was cancelled."""


@dataclass(frozen=True)
class Outcome:
    """The failures of a run, and the assets that it did make well."""

    run_id: str
    ended_at: datetime
    failed: tuple[FailedUnit, ...]
    succeeded: frozenset[str]


def read(instance: dg.DagsterInstance, run_id: str, ended_at: float) -> RunEvents:
    """The events of a finished run. `ended_at` is in seconds since the epoch."""
    planned: dict[str, str] = {}
    materialized: set[str] = set()
    steps: list[StepFailure] = []
    run_failure: str | None = None
    for record in instance.get_records_for_run(run_id, of_type=EVENTS).records:
        entry = record.event_log_entry
        event = entry.dagster_event
        if event is None:
            continue
        if event.is_asset_materialization_planned and event.asset_key:
            planned[event.asset_key.to_user_string()] = event.step_key or ""
        elif event.is_step_materialization and event.asset_key:
            materialized.add(event.asset_key.to_user_string())
        elif event.is_step_failure:
            steps.append(_step_failure(event))
        elif event.event_type == DagsterEventType.RUN_FAILURE:
            run_failure = event.message or entry.user_message
    return RunEvents(
        run_id, datetime.fromtimestamp(ended_at, UTC), planned, frozenset(materialized), tuple(steps), run_failure
    )


def outcome(run: RunEvents) -> Outcome:
    """The units that failed: as the steps report them, else by step; the whole run's rest where no step was to blame."""
    failed: list[FailedUnit] = []
    # A run that somebody cancelled has failed steps too, and is nobody's emergency.
    if run.run_failure is not None:
        failed = [unit for step in run.step_failures for unit in _of_step(run, step)] or _of_run(run)
    blamed = {key for unit in failed for key in unit.asset_keys}
    return Outcome(run.run_id, run.ended_at, tuple(failed), run.materialized - blamed)


def _of_step(run: RunEvents, step: StepFailure) -> list[FailedUnit]:
    reported = from_metadata(step.metadata)
    if reported is not None:
        return reported
    missing = _unmade(key for key, maker in run.planned.items() if maker == step.step and key not in run.materialized)
    return [FailedUnit(f"step/{step.step}", missing, step.error)]


def _of_run(run: RunEvents) -> list[FailedUnit]:
    """A run that ended with no step to blame: its process was killed, it took too long, or it could not start."""
    missing = _unmade(key for key in run.planned if key not in run.materialized)
    if not missing:
        return []
    name = hashlib.sha256("\n".join(missing).encode()).hexdigest()[:10]
    return [FailedUnit(f"run/{name}", missing, run.run_failure or "The run failed without a message.")]


def _unmade(keys: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(keys))


def _step_failure(event: dg.DagsterEvent) -> StepFailure:
    data = event.step_failure_data
    user_failure = data.user_failure_data
    metadata = {name: value.value for name, value in user_failure.metadata.items()} if user_failure else {}
    error = data.error
    # Dagster wraps what a step raised; the cause is what a person wants to read.
    while error is not None and error.cause is not None:
        error = error.cause
    text = error.message if error else (event.message or "")
    return StepFailure(event.step_key or "", " ".join(text.split()), metadata)
