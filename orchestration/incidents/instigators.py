"""Names sensors and schedules in alerts. Several code locations can have a sensor of one name, and each is an alert of its own."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

import dagster as dg
from dagster._core.scheduler.instigation import InstigatorState, InstigatorTick, TickStatus

LOCATION = "orchestration"
"""The code location of this repository: `code_location_name` in pyproject.toml. Its sensors and schedules are named without it."""
REPOSITORY = "__repository__"
"""The name that Dagster gives the repository of a `Definitions` object (SINGLETON_REPOSITORY_NAME)."""
TICK_UNIT, TICK_TOKEN = "tick/", "tick:"
INTERRUPTED_SECONDS = 5


@dataclass(frozen=True)
class Instigator:
    """A sensor or a schedule, as Dagster selects it."""

    name: str
    location: str = LOCATION
    repository: str = REPOSITORY

    @property
    def label(self) -> str:
        """The code location, with the repository where it is not the only one: the form that Dagster's UI has in its addresses."""
        return self.location if self.repository == REPOSITORY else f"{self.repository}@{self.location}"

    @property
    def is_local(self) -> bool:
        return (self.location, self.repository) == (LOCATION, REPOSITORY)

    @property
    def full_name(self) -> str:
        """`<name>`, of another code location `<location>/<name>`."""
        return self.name if self.is_local else f"{self.label}/{self.name}"

    @property
    def unit(self) -> str:
        return TICK_UNIT + self.full_name

    @property
    def token(self) -> str:
        """The token that an alert about its ticks awaits. `@` begins a partition in tokens of assets, so it is encoded."""
        return TICK_TOKEN + self.full_name.replace("%", "%25").replace("@", "%40")

    @property
    def url_path(self) -> str:
        """The part of its page's address in Dagster's UI that names its code location."""
        return quote(self.label, safe="@")


def of_state(state: InstigatorState) -> Instigator:
    origin = state.origin.repository_origin
    return Instigator(state.instigator_name, origin.code_location_origin.location_name, origin.repository_name)


def of_context(context: dg.SensorEvaluationContext) -> Instigator | None:
    """Return the sensor that is evaluated; None where that is not known, as outside of a code server."""
    origin, repository = context.code_location_origin, context.repository_name
    if origin is None or repository is None:
        return None
    return Instigator(context.sensor_name, origin.location_name, repository)


def was_interrupted(tick: InstigatorTick, following: InstigatorTick | None, now: float) -> bool:
    """Return whether a sensor's tick ended with its daemon, or may have: it shows neither that the sensor works nor that it fails.

    Dagster marks such a tick as skipped, without a reason, after the next one has got its time (`_get_evaluation_tick` in
    dagster/_daemon/sensor.py, "Moving dangling STARTED tick", 1.13). A sensor that returns nothing leaves the same mark, but ends
    before the next tick begins. Dagster writes the next tick a moment after that mark: until INTERRUPTED_SECONDS have passed, a tick
    that none follows may be either. `now` is in seconds since the epoch.
    """
    if not is_unexplained_skip(tick):
        return False
    ended = tick.end_timestamp or tick.timestamp
    return ended >= following.timestamp if following else now - INTERRUPTED_SECONDS < ended <= now


def is_unexplained_skip(tick: InstigatorTick) -> bool:
    """Return whether a tick was skipped without a reason: its sensor returned nothing, or its daemon died in the middle of it."""
    return tick.status == TickStatus.SKIPPED and not tick.skip_reason


def of_unit(unit: str) -> Instigator:
    """Return the sensor or schedule that an alert of this name (`tick/...`) is about. The names of both have no slash."""
    label, _, name = unit.removeprefix(TICK_UNIT).rpartition("/")
    if not label:
        return Instigator(name)
    repository, at, location = label.partition("@")
    return Instigator(name, location, repository) if at else Instigator(name, label)


def of_token(token: str) -> Instigator:
    return of_unit(TICK_UNIT + token.removeprefix(TICK_TOKEN).replace("%40", "@").replace("%25", "%"))


def short_token(name: str) -> str:
    """Return the token that earlier versions gave a sensor of any code location; now one of this code location has it."""
    return TICK_TOKEN + name


def short_unit(unit: str) -> str:
    """Return an alert's name without the code location, if it is of a sensor or schedule; any other as it is."""
    return TICK_UNIT + of_unit(unit).name if unit.startswith(TICK_UNIT) else unit
