"""The alert sensor's state: how far it has read, what is wrong, what waits for a retry, what waits for delivery."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import ConfigDict, TypeAdapter, ValidationError

from orchestration.incidents.model import Kind, Recovery
from orchestration.incidents.outbox import Waiting
from orchestration.incidents.pacing import Pace
from orchestration.lineage.failures import FailedUnit

MANY_UNITS, SHORT_ERROR = 20, 200
"""Of an alert with many units, the errors are kept short: the whole state is written at every tick."""


@dataclass(frozen=True)
class Gap:
    """A range of event ids that did not exist when the log was read past them. Times are in seconds since the epoch.

    PostgreSQL assigns an id before the commit: its event may appear later, or never, if the transaction was rolled back.
    """

    first: int
    last: int
    """Included, as is `first`."""
    after: float
    """When the log was read before: the ids were assigned after that. 0 if that is not known."""
    since: float
    """When the log was read past them: the ids were assigned before that."""


@dataclass(frozen=True)
class Block:
    """A range of event ids that were read. Times are in seconds since the epoch."""

    first: int
    last: int
    """Included, as is `first`."""
    events: int
    """How many events in it were read, of the types that matter here."""
    since: float
    """When the first of them was read."""


@dataclass(frozen=True)
class EndedRun:
    """A run of which the event log says that it has ended, and which is not judged yet. Times are in seconds since the epoch."""

    noticed_at: float
    after: float = 0.0
    """The event was stored after this; 0 if that is not known."""
    until: float = 0.0
    """The event was stored before this; 0 if that is not known."""
    late: bool = False
    """The event appeared below events that had been read."""


@dataclass(frozen=True)
class Position:
    """How far storage has been read. Times are in seconds since the epoch, by the clock of the machine of the sensor."""

    runs_until: float
    """Until when backfills have been judged, and in the first look back runs, too."""
    event: int
    """The id up to which the event log has been read, but for `gaps`."""
    marks: tuple[tuple[float, int], ...] = ()
    """Written by an earlier version: when the log had been read up to which id, in the last minutes."""
    ticks: Mapping[str, float] = field(default_factory=dict[str, float])
    """Of each sensor and schedule, the time of the last tick that was judged."""
    looking_back: bool = False
    """It was the first tick, or the next ones while what was before it is read: nobody is told of what is mended by now."""
    read_at: float = 0.0
    """When the event log was read to its end last; 0 before the first time."""
    gaps: tuple[Gap, ...] = ()
    """Those of the last hour, in the order of their ids."""
    blocks: tuple[Block, ...] = ()
    """All ids that were read in the last day, in their order."""
    swept_at: float = 0.0
    """When the last sweep of the event log and of the runs began."""
    sweep: int | None = None
    """The id from which the sweep of the event log goes on; None if none is under way."""
    sweep_runs: str | None = None
    """The run after which the sweep of the runs goes on, empty for its beginning; None if none is under way."""
    ended: Mapping[str, EndedRun] = field(default_factory=dict[str, EndedRun])
    """By run id, in the order of the events."""


@dataclass(frozen=True)
class Alert:
    """Something that is wrong. Times are in seconds since the epoch.

    `told` is false while nobody was told, for the reason in `held`: its assets are muted, it follows from another alert, or it is so
    young that it may prove to.
    """

    name: str
    kind: Kind
    deduplication_key: str
    units: tuple[FailedUnit, ...]
    missing: Mapping[str, float]
    """What has to be made or pass before it is over, each with the time at which it failed last."""
    since: float
    last_seen: float
    count: int = 1
    run_id: str | None = None
    job: str | None = None
    told: bool = False
    held: str = ""
    not_before: float = 0.0
    """Nobody is told earlier."""
    customer_facing: bool = False
    """It was sent as urgent: customers are affected, or that could not be excluded."""
    unknown: bool = False
    """An asset of it was in no readable code location when it failed. One that is removed later was known."""
    flapping: bool = False
    lateness: bool = False
    """It says that data is late: where something above is wrong, that is why."""
    well_since: float | None = None
    """Of one that flaps: nothing is missing any more since then."""
    updated: float = 0.0
    """When incident.io was told of its state last."""
    changed: bool = False
    """Since then."""
    left: tuple[str, ...] = ()
    """After a partial recovery: the assets and checks that are still missing."""
    title: str = ""
    removed: str = ""
    """Why nothing is awaited any more although nothing recovered: it is no longer part of the platform."""


@dataclass(frozen=True)
class Pending:
    """Failures that are no alert yet, because what failed is tried again by itself. Times are in seconds since the epoch."""

    units: Mapping[str, FailedUnit]
    missing: Mapping[str, tuple[str, ...]]
    """What each unit still waits for."""
    at: Mapping[str, float]
    """When each unit failed first."""
    attempts: int
    run_id: str | None
    """The run whose retry is awaited."""
    job: str | None
    until: float
    """If nothing is known by then, they are alerts."""


@dataclass(frozen=True)
class Opening:
    at: float
    transient: bool = False


@dataclass(frozen=True)
class State:
    __pydantic_config__ = ConfigDict(extra="forbid")

    position: Position | None = None
    """None before the first tick."""
    handled: Mapping[str, float] = field(default_factory=dict[str, float])
    """What was judged lately (runs and events, by id), and when: it may be read twice, and counts once."""
    alerts: Mapping[str, Alert] = field(default_factory=dict[str, Alert])
    pending: Mapping[str, Pending] = field(default_factory=dict[str, Pending])
    """By the first run of a chain of retries, or by `tick/<name>`."""
    history: Mapping[str, tuple[Opening, ...]] = field(default_factory=dict[str, tuple[Opening, ...]])
    """When each cause failed in the last 30 days."""
    waiting: tuple[Waiting, ...] = ()
    pace: Pace = field(default_factory=Pace)
    """How many alert events incident.io was sent lately."""
    resolved: Mapping[str, Recovery] = field(default_factory=dict[str, Recovery])
    """The notified recoveries of the last day, by deduplication key."""
    reconciled: float = 0.0
    """The time of the last comparison with incident.io whose requests were carried out, in seconds since the epoch."""

    @property
    def looking_back(self) -> bool:
        """The next tick reads what was before the first one."""
        return self.position is None or self.position.looking_back


STATE = TypeAdapter(State)


def loads(cursor: str) -> State:
    """Return the state that an earlier version of this code kept as the sensor's cursor. Raises ValueError for a text that is no state."""
    try:
        return STATE.validate_json(cursor)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc'])) or 'all of it'}: {first['msg']}") from None
