"""From outcomes of runs to alerts: what opens, what is mended, and who is hurt. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from orchestration.incidents.state import OpenAlert, State, Waiting
from orchestration.lineage.failures import FailedUnit
from orchestration.lineage.graph import Consumer, Graph
from orchestration.lineage.runs import Outcome
from orchestration.vendors.incident_io import AlertEvent


@dataclass(frozen=True)
class Failure:
    """A failed unit with all that its alert says."""

    unit: FailedUnit
    deduplication_key: str
    since: datetime
    run_id: str
    consumers: tuple[Consumer, ...]
    owners: tuple[str, ...]

    @property
    def customer_facing(self) -> bool:
        return any(consumer.audience == "customer" for consumer in self.consumers)


@dataclass(frozen=True)
class Renderer:
    """How alerts are worded."""

    firing: Callable[[Failure], AlertEvent]
    resolved: Callable[[OpenAlert, Outcome], AlertEvent]


def triage(state: State, outcome: Outcome, graph: Graph, render: Renderer) -> State:
    """The state after a run: newly failed units have an open alert and an event that waits for delivery; open alerts whose
    assets have all been made since are closed, with an event that says so.

    A unit that fails again while its alert is open stays one alert. Its deduplication key has the run that failed first: the
    same run, read twice, gives the same key, and a later outage of the same unit gives another.
    """
    alerts, waiting = dict(state.open), list(state.waiting)
    failing = {unit.unit for unit in outcome.failed}
    for name, alert in list(alerts.items()):
        if name in failing:
            continue
        # Only what was made after the failure counts: a long run may end late with an asset that it made before.
        made = {key for key, at in outcome.succeeded.items() if at > alert.failed_at}
        left = alert.missing - made
        if left:
            alerts[name] = replace(alert, missing=left)
            continue
        del alerts[name]
        waiting.append(Waiting(render.resolved(alert, outcome)))
    for unit in outcome.failed:
        known = alerts.get(unit.unit)
        if known is not None:
            failed_at = max(known.failed_at, outcome.ended_at.timestamp())
            alerts[unit.unit] = replace(known, missing=known.missing | _awaited(unit, outcome), failed_at=failed_at)
            continue
        event = render.firing(_failure(unit, outcome, graph))
        alerts[unit.unit] = OpenAlert(
            unit=unit.unit,
            deduplication_key=event.deduplication_key,
            since=outcome.ended_at,
            failed_at=outcome.ended_at.timestamp(),
            missing=_awaited(unit, outcome),
            title=event.title,
        )
        waiting.append(Waiting(event))
    return replace(state, open=alerts, waiting=tuple(waiting))


def _awaited(unit: FailedUnit, outcome: Outcome) -> frozenset[str]:
    """What has to be made before the unit is well again: its assets, or a whole run of the job where it has none."""
    return frozenset(unit.asset_keys or (outcome.job,))


def _failure(unit: FailedUnit, outcome: Outcome, graph: Graph) -> Failure:
    return Failure(
        unit=unit,
        deduplication_key=f"{unit.unit}:{outcome.run_id}",
        since=outcome.ended_at,
        run_id=outcome.run_id,
        consumers=tuple(graph.blast_radius(unit.asset_keys)),
        owners=tuple(graph.owners(unit.asset_keys)),
    )
