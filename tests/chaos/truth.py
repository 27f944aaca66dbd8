"""What incident.io should hold, from what was injected, beside what it does hold. Pure: it knows nothing of how alerts come to be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

SLACK = 10.0
"""Seconds by which two clocks' readings of one thing may differ: a step's own, its run's end, and the sensor's."""
SAME_SECONDS = 1.0
"""Seconds by which two records of one failure may differ."""
HICCUP_SECONDS = 240.0
"""A sensor that has failed for so long without a break is no hiccup: people have to be notified."""
UPDATE_SECONDS = 60.0
"""So long an open alert may wait before it is sent again with what has failed since."""
COMPARED_SECONDS, DELIVERED_SECONDS = 900.0, 120.0
"""Within the first, the alerts are compared with incident.io's list, twice; within the second, a notification is delivered."""
FLAPS = 3
"""From its third outage on an alert may stay open though all is well."""

Page = Literal["at once", "later", "never"]


@dataclass(frozen=True)
class Period:
    """Something was broken, and then it was not. Times are in seconds since the epoch."""

    names: tuple[str, ...]
    """The unit that failed or, where its name ends with a slash, the beginning of the name."""
    keys: frozenset[str]
    start: float
    end: float
    page: Page
    may_page: frozenset[Page] = frozenset()
    """What is as right as `page`."""
    optional: bool = False
    """It may be told as part of something else."""
    most: int = 1
    """It may be told as so many."""
    not_before: float | None = None
    """Its alert may not be resolved before: until then nothing has happened that proves a recovery."""
    stays_open: bool = False
    """Nothing makes it well, so that its alert stays open."""
    removed: bool = False
    """It ends as the asset or sensor is no longer part of the platform: its alert is resolved with that reason."""


@dataclass(frozen=True)
class Told:
    """An alert as incident.io holds it."""

    key: str
    unit: str
    assets: frozenset[str]
    start: float
    """When that which it tells began, as it says."""
    end: float | None
    """None while it is open."""
    page: Page
    pages: int
    flapping: bool
    removed: bool = False
    """It was resolved since what it is about is no longer part of the platform."""
    last_seen: tuple[float, ...] = ()
    """The times of the newest failure that each of its firing notifications reports."""
    is_cut: bool = False
    """It is about more assets than a notification names."""
    named_at: Mapping[str, float] = field(default_factory=dict[str, float])
    """For each asset, the time of the newest failure in the first notification that names it."""


@dataclass(frozen=True)
class Dropped:
    """A notification that incident.io accepted and lost. Time is in seconds since the epoch."""

    key: str
    """The alert's deduplication key, which begins with the unit."""
    at: float


@dataclass(frozen=True)
class Verdict:
    injected: int
    lost: tuple[Period, ...]
    duplicated: tuple[Told, ...]
    """Of one failure, all but the first; and alerts of what has not failed."""
    wrongly_paged: tuple[Told, ...]
    left_open: tuple[Told, ...]
    wrongly_resolved: tuple[Told, ...] = ()
    """Resolved without a proof of recovery, or with a reason that is not so. They count as lost: people took what was broken for well."""
    unfinished: tuple[str, ...] = ()
    """What could not be carried out to its end, with the reason. It counts as lost: nobody can say that it was heard."""

    @property
    def good(self) -> bool:
        bad = (self.lost, self.duplicated, self.wrongly_paged, self.left_open, self.wrongly_resolved, self.unfinished)
        return not any(bad)

    def counts(self) -> str:
        lost = len(self.lost) + len(self.wrongly_resolved) + len(self.unfinished)
        return (
            f"injected {self.injected}, lost {lost}, duplicated {len(self.duplicated)}, "
            f"wrongly paged {len(self.wrongly_paged)}, left open {len(self.left_open)}"
        )


def compare(periods: Sequence[Period], silent: int, told: Iterable[Told], dropped: Iterable[Dropped] = ()) -> Verdict:
    """Compare what was injected with what incident.io holds.

    Args:
        periods: What was broken from when to when.
        silent: How many things were injected of which nobody is to hear.
        told: The alerts.
        dropped: The notifications that incident.io lost. The alert of a period that was over soon may be missing by that.
    """
    losses = list(dropped)
    alerts = _one_for_each_key(told)
    lost, explained, duplicated = list[Period](), dict[str, list[Period]](), dict[str, Told]()
    found = [_find_alerts(period, alerts, periods) for period in periods]
    for period, fitting in zip(periods, found, strict=True):
        if not fitting and not period.optional and not _is_excused(period, losses):
            lost.append(period)
        for alert in fitting:
            explained.setdefault(alert.key, []).append(period)
    for period, fitting in zip(periods, found, strict=True):
        # Without assets nothing tells a cause's alert from that of another thing at the same time: only what fits no other counts.
        own = fitting if period.keys else [alert for alert in fitting if len(explained[alert.key]) == 1]
        duplicated |= {alert.key: alert for alert in own[period.most :]}
    unasked = [alert for alert in alerts if alert.key not in explained]
    for alert in unasked:
        duplicated[alert.key] = alert
    shared = {alert.key for fitting in found if len(fitting) > 1 for alert in fitting}
    wrong = [
        alert
        for alert in alerts
        if not _rightly_paged(alert, explained.get(alert.key, ())) and not (alert.key in shared and _was_short(alert))
    ]
    still = [
        alert
        for alert in alerts
        if alert.end is None
        and not _flaps(alert, periods)
        and not any(one.stays_open for one in explained.get(alert.key, ()))
    ]
    resolved = [alert for alert in alerts if not _rightly_resolved(alert, explained.get(alert.key, ()))]
    return Verdict(
        len(periods) + silent,
        tuple(lost),
        tuple(duplicated.values()),
        tuple(wrong),
        tuple(still),
        tuple(resolved),
    )


def _find_alerts(period: Period, alerts: Sequence[Told], periods: Sequence[Period]) -> list[Told]:
    fitting = [one for one in alerts if _is_about(one, period) and not _of_another(one, period, periods)]
    # What named the assets only after their failure was over is about a later one, where another alert is about this one.
    in_time = [one for one in fitting if not period.keys or _named_in_time(one, period)]
    return in_time or fitting or [one for one in alerts if _may_be_about(one, period)][:1]


def _named_in_time(alert: Told, period: Period) -> bool:
    return any(alert.named_at.get(key, alert.start) <= period.end + SLACK for key in period.keys & alert.assets)


def _is_excused(period: Period, dropped: Iterable[Dropped]) -> bool:
    """Whether incident.io lost the notification of a failure that had recovered before a comparison could find that out."""
    return period.end - period.start < COMPARED_SECONDS and any(
        period.start - SLACK <= one.at <= period.end + DELIVERED_SECONDS and one.key.startswith(name)
        for one in dropped
        for name in period.names
    )


def _rightly_resolved(alert: Told, periods: Sequence[Period]) -> bool:
    # Without assets nothing tells whether a cause's alert is about a period, or about another thing at the same time.
    periods = [one for one in periods if one.keys or alert.unit in one.names]
    if alert.end is None or not periods:
        return True
    if any(one.stays_open or (one.not_before is not None and alert.end < one.not_before) for one in periods):
        return False
    # One alert may tell of what was removed and of what has recovered.
    return alert.removed in {one.removed for one in periods}


def _is_about(alert: Told, period: Period) -> bool:
    at_its_time = alert.start <= period.end + SLACK and (alert.end is None or alert.end >= period.start - SLACK)
    if not _has_its_name(alert, period) or not at_its_time:
        return False
    return not period.keys or bool(period.keys & alert.assets)


def _may_be_about(alert: Told, period: Period) -> bool:
    """Return whether an alert that does not name all its assets may be about a failure.

    It may not have room for them. And one that is open already is not sent again for a failure that is over within a minute: it ends
    with the recovery of that failure.
    """
    if not period.keys or not _has_its_name(alert, period) or alert.start > period.end + SLACK:
        return False
    if alert.is_cut and any(period.start - SLACK <= at <= period.end + SLACK for at in alert.last_seen):
        return True
    if alert.end is None or alert.start > period.start or period.end - period.start > UPDATE_SECONDS:
        return False
    return abs(alert.end - period.end) < SLACK


def _of_another(alert: Told, period: Period, periods: Sequence[Period]) -> bool:
    """It began with another failure of the same, a little earlier or later, and does not report this one."""
    if alert.start < period.start and any(at > period.start - SAME_SECONDS for at in alert.last_seen):
        # It was open for the other failure still, and this one has become part of it.
        return False
    others = (
        one
        for one in periods
        if one is not period and (one.names, one.keys) == (period.names, period.keys) and _is_about(alert, one)
    )
    return any(abs(one.start - alert.start) < abs(period.start - alert.start) for one in others)


def _rightly_paged(alert: Told, periods: Sequence[Period]) -> bool:
    if not periods:
        return alert.pages == 0
    right = {page for period in periods for page in (period.page, *period.may_page)}
    return alert.page in right and alert.pages == (0 if alert.page == "never" else 1)


def _was_short(alert: Told) -> bool:
    """Return whether an alert ended before it could page anyone. The failure before it may be part of another alert."""
    return (
        alert.page == "never"
        and alert.pages == 0
        and alert.end is not None
        and alert.end - alert.start < HICCUP_SECONDS
    )


def _flaps(alert: Told, periods: Sequence[Period]) -> bool:
    return alert.flapping and sum(_has_its_name(alert, one) for one in periods) >= FLAPS


def _has_its_name(alert: Told, period: Period) -> bool:
    return any(alert.unit == name or (name.endswith("/") and alert.unit.startswith(name)) for name in period.names)


def _one_for_each_key(told: Iterable[Told]) -> list[Told]:
    """In the order of their beginnings. What has become customer-facing was told anew by design, under the key with `:customer`: that
    one counts, from the beginning of the other."""
    alerts = {alert.key: alert for alert in sorted(told, key=lambda one: one.start)}
    return [alert for key, alert in alerts.items() if f"{key}:customer" not in alerts]
