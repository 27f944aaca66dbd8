"""What incidents are about, as plain data: a failure with all that its alert says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from orchestration.lineage.failures import FailedUnit
from orchestration.lineage.graph import Consumer

Kind = Literal["asset", "check", "freshness", "run", "queue", "tick", "vendor"]
"""How data failed to arrive: an asset was not made, a check failed, data is late, a run ended with no step to blame or did not start or a backfill broke,
a run hangs in the queue, a sensor or schedule fails, a sync failed at the vendor that nobody here asked for."""

UNREADABLE_UNIT = "unreadable"
"""Begins the name of a unit that stands for a record which cannot be read."""


@dataclass(frozen=True)
class Signal:
    """What one event of Dagster's storage says: what failed by it, and what is well again. Times are in seconds since the epoch."""

    id: str
    """The same whenever the same event is read: `run:<id>`, `event:<id>`, `tick:<name>:<time>`."""
    at: float
    failed: tuple[FailedUnit, ...] = ()
    well: Mapping[str, float] = field(default_factory=dict[str, float])
    """What was made or has passed, and when."""
    kind: Kind = "asset"
    run_id: str | None = None
    root_run_id: str | None = None
    job: str | None = None
    retried: bool = False
    """Dagster tries it again by itself."""
    lateness: bool = False
    """It says that data is late or missing, as it also is where something above has failed."""
    unmade: tuple[str, ...] = ()
    """What was planned beside, and not made."""
    interruption: FailedUnit | None = None
    """Of a run that was interrupted after something had failed: all that was not made by its end, whether or not that held it up."""
    ended: bool = False
    """It is about a whole run that has ended."""
    removed: Mapping[str, str] = field(default_factory=dict[str, str])
    """Tokens that can never recover, each with the reason, such as `the asset a/b is no longer part of the platform`."""

    def awaited(self, unit: FailedUnit) -> tuple[str, ...]:
        """What has to be made or to pass before a unit is well: a whole run of the job where it has nothing of its own."""
        return unit.awaits or unit.asset_keys or (self.job or unit.unit,)


@dataclass(frozen=True)
class Staleness:
    """How old the data is that a consumer shows."""

    consumer: Consumer
    since: datetime | None
    """The newest data that it has; None where that is not known."""
    late: timedelta | None
    """Beyond the freshness policy of what it reads; None where it is in time, or there is no policy."""


@dataclass(frozen=True)
class Background:
    """What a responder wants to know beside the error. Of the last 30 days: `failures` and, among them, `transients`."""

    last_success: datetime | None = None
    changes: tuple[str, ...] = ()
    """What changed since then: commits to the model, schema changes at the source."""
    failures: int = 0
    transients: int = 0
    stale: tuple[Staleness, ...] = ()
    problems: tuple[str, ...] = ()
    """What could not be found out, and why."""


@dataclass(frozen=True)
class Failure:
    """One cause, with everything that failed by it."""

    name: str
    """The lasting name of the cause: a unit such as `dbt/insights/on_call_load`, or `cause/<what>` where several failed by one."""
    kind: Kind
    units: tuple[FailedUnit, ...]
    deduplication_key: str
    since: datetime
    last_seen: datetime
    count: int = 1
    """How often it has failed since."""
    run_id: str | None = None
    job: str | None = None
    consumers: tuple[Consumer, ...] = ()
    owners: tuple[str, ...] = ()
    background: Background = field(default_factory=Background)
    flapping: bool = False
    transient: bool = False
    """It failed, and an automatic retry has succeeded: recorded, and nobody is paged."""
    left: tuple[str, ...] = ()
    """After a partial recovery: what is still not made."""
    partitions: tuple[str, ...] = ()
    """Of assets that have any: those that failed, in their order."""
    unknown: tuple[str, ...] = ()
    """Assets that no readable code location defines, so that it is not known whom they affect."""

    @property
    def customer_facing(self) -> bool:
        return any(consumer.audience == "customer" for consumer in self.consumers)

    @property
    def urgent(self) -> bool:
        """Return whether people are paged at any hour: customers are affected, or that cannot be excluded."""
        return self.customer_facing or bool(self.unknown)

    @property
    def asset_keys(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(key for unit in self.units for key in unit.asset_keys))

    @property
    def held_up(self) -> tuple[str, ...]:
        """What was planned after it and not tried."""
        own = set(self.asset_keys)
        return tuple(dict.fromkeys(key for unit in self.units for key in unit.held_up if key not in own))


@dataclass(frozen=True)
class Recovery:
    """An alert that is over."""

    name: str
    kind: Kind
    deduplication_key: str
    title: str
    """That with which it was declared."""
    since: datetime
    at: datetime
    run_id: str | None = None
    """The run in which the last of it was made again; None where no run did it."""
    transient: bool = False
    reason: str = ""
    """The reason for which the alert ended without a recovery: the awaited definition was removed. Empty for a recovery."""
