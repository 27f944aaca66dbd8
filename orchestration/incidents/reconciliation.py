"""Finds alert events that incident.io has lost, by comparing the open and resolved alerts with incident.io's list. Pure.

incident.io answers 202 before it has processed an event, so an event that it accepted can still be lost. Two cases are repaired:

- An alert is open here, and incident.io has no alert of its deduplication key: the alert is sent again.
- An alert was resolved here in the last day, and still fires in incident.io: it is resolved again.

An open alert that a person has resolved in incident.io stays resolved there: a firing event would open a new alert and page again.
Only deduplication keys that this platform has sent are touched. A firing event for a key whose alert fires changes that alert and
pages no one ("only one alert will be created", `deduplication_key` of AlertV2, https://docs.incident.io/api-reference/alerts-v2).

A single comparison proves nothing: an event may be on its way, or incident.io may still process it. So the same difference has to
be seen twice, `CONFIRM_SECONDS` apart, both times with no event of the alert in the outbox.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from orchestration.incidents.model import Failure, Recovery
from orchestration.incidents.outbox import Waiting
from orchestration.incidents.state import Alert, State

CONFIRM_SECONDS = 240.0
"""Two comparisons have to be this far apart. incident.io documents no time for processing an event: minutes are generous."""
SUSPECT_SECONDS = 1800.0
"""After a longer pause between two comparisons, a difference has to be confirmed again."""
REQUEST_SECONDS = 600.0
"""An older request is not carried out: the next comparison makes a new one."""
AHEAD_SECONDS = 60.0
"""How far a request's time may be ahead of this machine's clock."""
RESOLVED_SECONDS, MOST_RESOLVED = 86400.0, 1000
"""How long, and how many, resolved alerts are remembered. The newest are kept."""
MOST_REPEATED = 50
"""Most events that one comparison asks for: an alert source takes 120 a minute, and new alerts need them too."""
MOST_LOOK_UPS = 100
"""Most open alerts that one comparison looks up by their keys, a request each. An API key has 1,200 requests a minute."""


@dataclass(frozen=True)
class Situation:
    """The alerts as the alert sensor has stored them, and the names of those that are muted now."""

    alerts: Mapping[str, Alert]
    waiting: Sequence[Waiting]
    resolved: Mapping[str, Recovery]
    muted: Collection[str] = ()

    @property
    def waiting_keys(self) -> set[str]:
        """The deduplication keys that have an event in the outbox."""
        return {item.key for item in self.waiting}

    @property
    def notified(self) -> dict[str, Alert]:
        """The open alerts that incident.io has to have by now, by deduplication key."""
        waiting = self.waiting_keys
        return {
            alert.deduplication_key: alert
            for alert in self.alerts.values()
            if alert.told and alert.deduplication_key not in waiting and alert.name not in self.muted
        }

    @property
    def ended(self) -> set[str]:
        """The deduplication keys that must not fire in incident.io any more."""
        is_open = {alert.deduplication_key for alert in self.alerts.values()}
        return self.resolved.keys() - is_open - self.waiting_keys


@dataclass(frozen=True)
class Listing:
    """The alerts of incident.io, by deduplication key. A key that is in none of the sets was not looked up."""

    firing: Collection[str]
    complete: bool = True
    """`firing` has every alert that fires."""
    found: Collection[str] = ()
    """Looked up by key and found, firing or resolved."""
    absent: Collection[str] = ()
    """Looked up by key and not found."""


@dataclass(frozen=True)
class Comparison:
    """The result of a comparison, which is stored for the next one and for the alert sensor. Times are in seconds since the epoch."""

    at: float = 0.0
    known: tuple[str, ...] = ()
    """Keys of open alerts that incident.io has. It deletes no alert, so they need not be looked up again."""
    missing: Mapping[str, float] = field(default_factory=dict[str, float])
    """Keys of open alerts that incident.io does not have, with the time at which this was seen first."""
    unresolved: Mapping[str, float] = field(default_factory=dict[str, float])
    """Keys of resolved alerts that fire in incident.io, with the time at which this was seen first."""
    send_again: tuple[str, ...] = ()
    resolve_again: tuple[str, ...] = ()


def keys_to_look_up(situation: Situation, before: Comparison, firing: Collection[str]) -> list[str]:
    """Return the keys of open alerts that have to be looked up one by one, at most `MOST_LOOK_UPS`.

    First those that were missing in the last comparison, then customer-facing alerts, then the oldest.
    """
    unknown = {key: alert for key, alert in situation.notified.items() if key not in firing and key not in before.known}
    order = sorted(
        unknown, key=lambda key: (key not in before.missing, not unknown[key].customer_facing, unknown[key].since)
    )
    return order[:MOST_LOOK_UPS]


def compare_alerts(situation: Situation, before: Comparison, listing: Listing, now: float) -> Comparison:
    """Return the differences between the alerts here and incident.io's, and the events to send again.

    Args:
        situation: The alerts here, as they were before `listing` was read.
        before: The comparison before this one.
        listing: What incident.io has.
        now: Seconds since the epoch.
    """
    if not 0 <= now - before.at <= SUSPECT_SECONDS:
        before = replace(before, missing={}, unresolved={})
    notified, ended = situation.notified, situation.ended
    is_open = {alert.deduplication_key for alert in situation.alerts.values()}
    has = {*before.known, *listing.firing, *listing.found}
    missing = _first_seen(
        [key for key in notified if key in listing.absent and key not in has],
        {key: at for key, at in before.missing.items() if key in notified and key not in has},
        now,
    )
    unresolved = _first_seen(
        [key for key in ended if key in listing.firing],
        {} if listing.complete else {key: at for key, at in before.unresolved.items() if key in ended},
        now,
        before.unresolved,
    )
    lost = [key for key, at in missing.items() if key in listing.absent and now - at >= CONFIRM_SECONDS]
    lost.sort(key=lambda key: (not notified[key].customer_facing, missing[key], notified[key].since))
    open_there = [key for key, at in unresolved.items() if key in listing.firing and now - at >= CONFIRM_SECONDS]
    open_there.sort(key=lambda key: (unresolved[key], situation.resolved[key].at))
    send_again = tuple(lost[:MOST_REPEATED])
    resolve_again = tuple(open_there[: MOST_REPEATED - len(send_again)])
    return Comparison(
        at=now,
        known=tuple(sorted(has & is_open)),
        # What is sent again has time to arrive before it counts as missing again.
        missing={key: at for key, at in missing.items() if key not in send_again},
        unresolved={key: at for key, at in unresolved.items() if key not in resolve_again},
        send_again=send_again,
        resolve_again=resolve_again,
    )


def _first_seen(
    seen: Sequence[str], kept: Mapping[str, float], now: float, before: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Return what is `seen` now and what is `kept` from before, with the time at which each was seen first."""
    earlier = kept if before is None else before
    return {**kept, **{key: min(earlier.get(key, now), now) for key in seen}}


def carry_out(state: State, comparison: Comparison, now: float) -> tuple[State, list[Recovery]]:
    """Return the alert sensor's state with the alerts to send again marked as changed, and the recoveries to send again.

    A request is carried out once. What has changed since the comparison is left out: an alert that is resolved or has an event in
    the outbox, and a resolved alert that is open again. `now` is in seconds since the epoch.
    """
    if comparison.at == state.reconciled or not -AHEAD_SECONDS <= now - comparison.at <= REQUEST_SECONDS:
        return state, []
    waiting = {item.key for item in state.waiting}
    # The engine notifies again of an alert that has changed since its last notification, with the same deduplication key.
    alerts = {
        name: replace(alert, changed=True, updated=0.0)
        if alert.told and alert.deduplication_key in comparison.send_again and alert.deduplication_key not in waiting
        else alert
        for name, alert in state.alerts.items()
    }
    ended = Situation(state.alerts, state.waiting, state.resolved).ended
    recoveries = [state.resolved[key] for key in comparison.resolve_again if key in ended]
    return replace(state, alerts=alerts, reconciled=comparison.at), recoveries


def remember_resolved(
    before: Mapping[str, Recovery], notifications: Sequence[Failure | Recovery], now: float
) -> Mapping[str, Recovery]:
    """Return the resolved alerts of the last day by deduplication key, with those that are notified of now.

    `now` is in seconds since the epoch. Alerts that are open again are left out.
    """
    after = dict(before)
    for item in notifications:
        after.pop(item.deduplication_key, None)
        if isinstance(item, Recovery):
            after[item.deduplication_key] = item
    oldest = now - RESOLVED_SECONDS
    kept = {key: item for key, item in after.items() if item.at.timestamp() > oldest}
    return dict(list(kept.items())[-MOST_RESOLVED:])
