"""Schedules and sensors as Dagster's storage has them, of a code location that nobody runs."""

from __future__ import annotations

from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import (
    ManagedGrpcPythonEnvCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, ScheduleInstigatorData
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin


def origin(name: str, location: str = "orchestration", repository: str = "__repository__") -> RemoteInstigatorOrigin:
    """Return the origin of a sensor or schedule."""
    code = ManagedGrpcPythonEnvCodeLocationOrigin(LoadableTargetOrigin(module_name="orchestration"), location)
    return RemoteInstigatorOrigin(RemoteRepositoryOrigin(code, repository), name)


HOURLY = InstigatorState(
    origin("hourly"), InstigatorType.SCHEDULE, InstigatorStatus.RUNNING, ScheduleInstigatorData("0 * * * *", 1.0)
)
"""The schedule `hourly`, switched on."""
