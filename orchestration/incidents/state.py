"""What the sensor remembers from tick to tick: how far it has read, which alerts are open, what waits for delivery."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, cast

from orchestration.vendors.incident_io import AlertEvent


@dataclass(frozen=True)
class OpenAlert:
    """An alert that fires. `missing` are the assets that have to be made before it is resolved, or the job `job:<name>`."""

    unit: str
    deduplication_key: str
    since: datetime
    failed_at: float
    """When it failed last, in seconds since the epoch."""
    missing: frozenset[str]
    title: str


@dataclass(frozen=True)
class Waiting:
    """An event to deliver, and how often that was tried in vain."""

    event: AlertEvent
    attempts: int = 0


@dataclass(frozen=True)
class State:
    after: int | None = None
    """The id of the last event that was read; None before the first tick."""
    handled: Mapping[str, float] = field(default_factory=dict[str, float])
    """Failed runs that were judged lately, with the times at which they ended: such a run may be met twice, and counts once."""
    open: Mapping[str, OpenAlert] = field(default_factory=dict[str, OpenAlert])
    waiting: tuple[Waiting, ...] = ()


def dumps(state: State) -> str:
    """The state as the sensor's cursor."""

    def plain(value: Any) -> Any:
        if isinstance(value, datetime):
            return value.isoformat()
        if isinstance(value, frozenset):
            return sorted(cast("frozenset[str]", value))
        raise TypeError(type(value).__name__)

    return json.dumps(asdict(state), default=plain)


def loads(cursor: str | None) -> State:
    """The state of a cursor; the first one for None. Raises ValueError for a cursor that is no state."""
    if not cursor:
        return State()
    try:
        data = json.loads(cursor)
        return State(
            after=data["after"],
            handled=data["handled"],
            open={
                unit: OpenAlert(
                    **(
                        alert
                        | {"since": datetime.fromisoformat(alert["since"]), "missing": frozenset(alert["missing"])}
                    )
                )
                for unit, alert in data["open"].items()
            },
            waiting=tuple(Waiting(AlertEvent(**item["event"]), item["attempts"]) for item in data["waiting"]),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"the cursor of incident_alerts cannot be read ({error}): reset it in the UI. It then looks back a day; "
            "alerts that are open in incident.io by then have to be resolved there by hand"
        ) from error
