"""The end of a tick's triage: which alerts end, which are notified now, and which wait. Pure."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

from orchestration.incidents.alert_book import AlertBook, Follows, keys_of, to_datetime
from orchestration.incidents.model import Failure, Recovery
from orchestration.incidents.state import Alert

AFTERMATH_SECONDS = 900.0
"""Time in which late assets may recover after the failure that explained their lateness has recovered."""
UPDATE_SECONDS = 60.0
"""Shortest time between two updates of an alert that keeps changing."""
WELL_SECONDS = 3600.0
"""An alert that flaps stays open until nothing of it has failed for so long."""
OPENED_A_TICK = 60
"""Most alerts that one tick opens or updates.

incident.io accepts 120 events a minute, and a tick follows the one before within seconds: more would only wait for delivery, with a
text that grows old. Those that customers are affected by come first.
"""
RESOLVED_A_TICK = 500
"""Most alerts that one tick resolves."""
IN_TURN = "waits for its turn"


class Settling:
    """Ends, opens and updates the alerts of a book whose signals have all been applied."""

    def __init__(self, book: AlertBook) -> None:
        self._book, self._alerts = book, book.alerts

    def settle(self) -> None:
        """Close the alerts that are over, and notify of those that are new or have changed, in the order of their urgency."""
        for name in self._book.partly_recovered:
            if (alert := self._alerts.get(name)) is not None:
                self._alerts.put(replace(alert, left=tuple(sorted(alert.missing))))
        self._end_alerts()
        new, changed = list[Alert](), list[Alert]()
        for alert in list(self._alerts.values()):
            if alert.told:
                if alert.changed and self._book.why_muted(alert) is None:
                    changed.append(alert)
            elif (held := self._hold_back(alert)) is not None:
                if held != alert:
                    self._alerts.put(held)
            else:
                new.append(alert)
        self._notify_in_turn(new, changed)

    def _end_alerts(self) -> None:
        resolved = 0
        for name, alert in self._alerts.items():
            if alert.missing:
                continue
            # What is over and was notified can wait for the next tick; more than so many at once are a storm's end.
            if alert.told and resolved >= RESOLVED_A_TICK:
                continue
            resolved += self._resolve_alert(name, alert)

    def _resolve_alert(self, name: str, alert: Alert) -> bool:
        """End an alert that awaits nothing, unless it flaps; return whether people are notified of it."""
        if alert.flapping and alert.told and not alert.removed:
            since = alert.well_since or self._book.now
            if self._book.now - since < WELL_SECONDS:
                changed = alert.changed and alert.well_since is None
                self._alerts.put(replace(alert, well_since=since, changed=changed))
                return False
        self._alerts.delete(name)
        if not alert.told:
            # No one was notified of it, and what is no longer part of the platform has not recovered either.
            if alert.removed or self._hold_back(alert) is not None:
                return False
            # It failed and recovered between two ticks: that is an incident, too.
            alert = self._mark_notified(alert)
        self._book.notifications.append(self._recovery_of(alert))
        return True

    def _notify_in_turn(self, new: list[Alert], changed: list[Alert]) -> None:
        """Open and update alerts: those that customers are affected by first, then the oldest, as many as one tick may."""
        urgent = {alert.name: self._book.is_urgent(alert) for alert in (*new, *changed)}
        due, opening = list[Alert](), {alert.name for alert in new}
        for alert in changed:
            # incident.io decides who is paged when an alert opens: an alert that customers are affected by now needs one of its own.
            if urgent[alert.name] and not alert.customer_facing:
                new.append(alert)
                opening.add(alert.name)
            elif self._book.now - alert.updated >= UPDATE_SECONDS:
                due.append(alert)
        turns = [(not urgent[alert.name], False, alert.since, alert) for alert in new]
        turns += [(not urgent[alert.name], True, alert.updated, alert) for alert in due]
        turns.sort(key=lambda turn: turn[:3])
        turned = {alert.name for *_rank, alert in turns[:OPENED_A_TICK]}
        for alert in due:
            if alert.name in turned:
                self._book.notifications.append(self._book.failure_of(alert))
                self._alerts.put(replace(alert, changed=False, updated=self._book.now))
        for *_rank, alert in turns:
            if alert.name not in turned:
                self._alerts.put(alert if alert.told else replace(alert, held=IN_TURN))
            elif alert.name in opening:
                self._open_alert(alert)

    def _open_alert(self, alert: Alert) -> None:
        if alert.told:
            self._book.notifications.append(self._recovery_of(alert))
            alert = replace(alert, deduplication_key=f"{alert.deduplication_key}:customer")
        self._alerts.put(self._mark_notified(alert))

    def _mark_notified(self, alert: Alert) -> Alert:
        failure: Failure = self._book.failure_of(alert)
        self._book.notifications.append(failure)
        return replace(alert, told=True, held="", changed=False, updated=self._book.now, customer_facing=failure.urgent)

    def _hold_back(self, alert: Alert) -> Alert | None:
        """Return the alert as long as no one is notified of it; None where people have to be."""
        now = self._book.now
        if (why := self._book.why_muted(alert)) is not None:
            return replace(alert, held=why)
        if alert.lateness and (cause := self._lateness_causes.find(alert.name, keys_of(alert))) is not None:
            return replace(alert, held=f"follows from {cause}", not_before=now + AFTERMATH_SECONDS)
        return replace(alert, held="young") if now < alert.not_before else None

    @cached_property
    def _lateness_causes(self) -> Follows:
        return self._book.follows()

    def _recovery_of(self, alert: Alert) -> Recovery:
        return Recovery(
            name=alert.name,
            kind=alert.kind,
            deduplication_key=alert.deduplication_key,
            title=alert.title,
            since=to_datetime(alert.since),
            at=to_datetime(self._book.now),
            run_id=None if alert.removed else alert.run_id,
            reason=alert.removed,
        )
