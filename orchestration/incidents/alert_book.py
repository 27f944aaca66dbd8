"""The alerts of one tick while it applies signals, and the notifications that result. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache

from orchestration.incidents import causes
from orchestration.incidents.graph_lookups import GraphLookups
from orchestration.incidents.model import Failure, Kind, Recovery, Signal
from orchestration.incidents.open_alerts import OpenAlerts, WaitingForRetry
from orchestration.incidents.state import Alert, Opening, Pending, State
from orchestration.lineage import runs
from orchestration.lineage.failures import FailedUnit
from orchestration.lineage.graph import Graph

KINDS: Mapping[str, Kind] = {"check": "check", "freshness": "freshness", "run": "run", "queue": "queue", "tick": "tick"}
"""By what a unit's name begins with; all others are assets."""
HISTORY_SECONDS = 30 * 86400.0
MOST_OPENINGS = 100

Muted = Callable[[Sequence[str]], str | None]
"""Returns the reason for which assets are muted; None where they are not."""


class AlertBook:
    """The alerts of one tick, from the state before it to the state after it."""

    def __init__(self, before: State, graph: Graph, now: float, muted: Muted) -> None:
        self._before, self._muted, self.now = before, muted, now
        self.graph = GraphLookups(graph)
        self.cause_of = cache(causes.of)
        self.alerts = OpenAlerts(before.alerts, self.cause_of)
        self.pending = WaitingForRetry(before.pending)
        self.history = dict(before.history)
        self.handled = dict(before.handled)
        self.notifications: list[Failure | Recovery] = []
        self.partly_recovered = set[str]()
        """Names of the alerts of which something has recovered, and whose `left` has to be written again."""

    def result(self) -> tuple[State, list[Failure | Recovery]]:
        since = self.now - HISTORY_SECONDS
        kept = {
            name: tuple(one for one in past if one.at > since)[-MOST_OPENINGS:] for name, past in self.history.items()
        }
        state = replace(
            self._before,
            alerts=self.alerts.as_dict(),
            pending=self.pending.as_dict(),
            handled=self.handled,
            history={name: past for name, past in kept.items() if past},
        )
        return state, self.notifications

    def remember_opening(self, name: str, opening: Opening) -> None:
        self.history[name] = (*self.history.get(name, ()), opening)

    def end_as_transient(self, name: str, known: Pending) -> None:
        """Record a failure whose retry has succeeded: no one is paged."""
        failure = self.failure_of(alert_of_waiting(name, known))
        self.remember_opening(name, Opening(known.at[name], transient=True))
        self.notifications.append(replace(failure, transient=True))
        key = failure.deduplication_key
        self.notifications.append(
            Recovery(name, failure.kind, key, "", failure.since, to_datetime(self.now), known.run_id, True)
        )

    def why_muted(self, alert: Alert) -> str | None:
        """Return why an alert is muted: by its assets, or by its own name."""
        keys = keys_of(alert)
        return (self._muted(keys) if keys else None) or self._muted([alert.name])

    def is_urgent(self, alert: Alert) -> bool:
        """Return whether an alert pages at any hour, as `Failure.urgent` says."""
        keys = keys_of(alert)
        return self.graph.is_customer_facing(keys) or bool(self._unknown_keys(alert, keys))

    def is_unknown(self, unit: FailedUnit) -> bool:
        """Return whether an asset of it is in no code location's graph. A failure without assets is judged by none."""
        return any(not self.graph.is_known(key) for key in unit.asset_keys)

    def _unknown_keys(self, alert: Alert, keys: Sequence[str]) -> tuple[str, ...]:
        return tuple(key for key in keys if not self.graph.is_known(key)) if alert.unknown else ()

    def follows(self) -> Follows:
        """Return what explains late data, of the alerts and the failures that there are now."""
        return Follows(self)

    def failure_of(self, alert: Alert) -> Failure:
        keys = keys_of(alert)
        return Failure(
            name=alert.name,
            kind=alert.kind,
            units=alert.units,
            deduplication_key=alert.deduplication_key,
            since=to_datetime(alert.since),
            last_seen=to_datetime(alert.last_seen),
            count=alert.count,
            run_id=alert.run_id,
            job=alert.job,
            consumers=self.graph.consumers(keys),
            owners=self.graph.owners(keys),
            flapping=alert.flapping,
            left=alert.left,
            unknown=self._unknown_keys(alert, keys),
            partitions=tuple(sorted({one for token in alert.missing if (one := runs.partition_of(token))})),
        )


class Follows:
    """Finds the alert, or the failure that waits for its retry, that explains why assets are late."""

    def __init__(self, book: AlertBook) -> None:
        self._book = book
        waiting = [
            alert_of_waiting(name, known)
            for known in book.pending.values() for name in known.units if known.missing[name]
        ]  # fmt: skip
        self._others = [*book.alerts.values(), *waiting]
        self._alerts = len(self._others) - len(waiting)
        self._about = dict[str, list[int]]()
        for place, other in enumerate(self._others):
            for key in keys_of(other):
                self._about.setdefault(key, []).append(place)
        self._explains = cache(self._find_whether_it_explains)

    def find(self, name: str, keys: Sequence[str]) -> str | None:
        """Return the name of what makes these assets late: a failure of theirs, or anything further up, also while it waits for a retry."""
        own = set(keys)
        upstream = self._book.graph.upstream(keys)
        places = {place for key in upstream & self._about.keys() if key not in own for place in self._about[key]}
        places |= {
            place for key in own for place in self._about.get(key, ()) if not self._others[place].lateness
        }  # fmt: skip
        for place in sorted(places):
            other = self._others[place]
            is_open = place >= self._alerts or other.name in self._book.alerts
            if other.name != name and is_open and self._explains(place):
                return other.name
        return None

    def _find_whether_it_explains(self, place: int) -> bool:
        """A muted alert notifies no one; most checks stop nothing."""
        other = self._others[place]
        if self._book.why_muted(other) is not None:
            return False
        return other.kind != "check" or any(unit.held_up for unit in other.units)


def kind_of(unit: str) -> Kind:
    return KINDS.get(unit.partition("/")[0], "asset")


def keys_of(alert: Alert) -> list[str]:
    """Return the assets that an alert is about."""
    return list(dict.fromkeys(key for unit in alert.units for key in unit.asset_keys))


def to_datetime(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def thing_of(token: str) -> str:
    """Return what is awaited, of any partition."""
    return token.partition("@")[0]


def things_of(signal: Signal, unit: FailedUnit) -> set[str]:
    return {thing_of(token) for token in signal.awaited(unit)}


def with_awaited(unit: FailedUnit, signal: Signal, tokens: Iterable[str]) -> FailedUnit:
    """Return the unit, which has recovered only when these have been made or have passed too."""
    known = signal.awaited(unit)
    present = set(known)
    more = [token for token in tokens if token not in present]
    return replace(unit, awaits=(*known, *more)) if more else unit


def signal_of_waiting(known: Pending) -> Signal:
    """Return an earlier failure as a signal. The newest of the times, so that only what was made since counts as its recovery."""
    first, last = min(known.at.values()), max(known.at.values())
    return Signal(id=f"{first:.0f}", at=last, run_id=known.run_id, job=known.job)


def alert_of_waiting(name: str, known: Pending) -> Alert:
    """Return the alert that a failure becomes if its retry fails."""
    at = known.at[name]
    return Alert(
        name=name,
        kind=kind_of(name),
        deduplication_key=f"{name}:{known.run_id or signal_of_waiting(known).id}",
        units=(known.units[name],),
        missing={},
        since=at,
        last_seen=at,
        count=known.attempts,
        run_id=known.run_id,
        job=known.job,
    )
