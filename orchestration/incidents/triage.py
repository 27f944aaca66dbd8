"""From signals to alerts: what opens, what belongs to an open one, what waits, and what is over. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from orchestration.incidents import causes
from orchestration.incidents.alert_book import (
    AlertBook,
    Muted,
    keys_of,
    kind_of,
    signal_of_waiting,
    thing_of,
    with_awaited,
)
from orchestration.incidents.alert_units import AlertParts, UnitPlaces
from orchestration.incidents.model import Failure, Recovery, Signal
from orchestration.incidents.settling import Settling
from orchestration.incidents.state import MANY_UNITS, Alert, Opening, Pending, State
from orchestration.lineage.failures import FailedUnit
from orchestration.lineage.graph import Graph

RETRY_SECONDS = 900.0
"""A retry that has not begun or ended by then is no longer waited for; one that is under way, the sensor waits for longer."""
TICK_SECONDS = 150.0
"""A sensor's tick that fails is followed by another within this time: one that then works was a hiccup.

Most sensors tick once a minute: these are two intervals, the rounds of the daemon in between, and a tick. One interval was a race
with the next tick.
"""
YOUNG_SECONDS = 90.0
"""So long what is late is not told: Dagster looks at one asset after the other, and what it follows from may be the next."""
PATIENCE_SECONDS = 3600.0
"""A failure by which what customers see has been late for so long waits no longer for its retry than this: nobody knows of either."""
FLAPS, FLAP_SECONDS = 3, 6 * 3600.0
"""What opens for the third time within six hours flaps: it stays open until it has been well for an hour."""
MOST_REASONS = 3
"""Most reasons that the resolution of an alert names where awaited definitions were removed."""
MOST_BLOCKED = 50
"""Assets that each of many units of one signal names as blocked: with all of them, 2,000 units would name millions."""

RetryState = Literal["under_way", "off", "unknown"]


@dataclass(frozen=True)
class Entry:
    """A unit that failed, with the signal that says so."""

    unit: FailedUnit
    signal: Signal
    at: float
    count: int = 1


def triage(
    before: State,
    signals: Iterable[Signal],
    graph: Graph,
    now: float,
    muted: Muted,
    retries: Mapping[str, RetryState] | None = None,
) -> tuple[State, list[Failure | Recovery]]:
    """The state after these signals, which are in the order of their times, and what has to be told, in order.

    A unit that fails again while its alert is open stays one alert. The alert's deduplication key has the run or the event of the
    first failure: the same signals, read twice, give the same key, and a later outage of the same unit gives another.
    `retries` says of pending failures whether their retry is under way, or will not come.
    """
    signals = list(signals)
    fresh = [unit for signal in signals if signal.id not in before.handled for unit in signal.failed]
    book = AlertBook(before, graph, now, muted)
    tick = Triage(book, set(causes.shared(fresh).values()))
    for signal in signals:
        tick.apply_signal(signal)
    tick.end_removed(signals)
    tick.give_up(retries or {})
    Settling(book).settle()
    return book.result()


class Triage:
    """Applies the signals of a tick to its alerts. `shared` are the causes that several units of all these signals share."""

    def __init__(self, book: AlertBook, shared: Collection[str]) -> None:
        self._book, self._shared = book, shared
        self._alerts, self._pending, self._graph = book.alerts, book.pending, book.graph
        self._places, self._parts = UnitPlaces(), dict[str, AlertParts]()

    def apply_signal(self, signal: Signal) -> None:
        if signal.id in self._book.handled:
            return
        if signal.failed or signal.ended:
            self._book.handled[signal.id] = self._book.now
        self._apply_recoveries(signal)
        self._apply_removals(signal)
        entries = [Entry(self._parted(unit, signal), signal, signal.at) for unit in self._with_unmade(signal)]
        if signal.ended:
            entries = self._after_retry(signal, entries)
        waiting, fired = list[Entry](), list[Entry]()
        for one in entries:
            waits = signal.retried and not one.unit.permanent and self._home_of(one.unit) is None
            (waiting if waits else fired).append(one)
        if waiting:
            self._wait(signal, waiting)
        self._fire(fired)

    def _with_unmade(self, signal: Signal) -> list[FailedUnit]:
        """The units of a signal, each with what it held up of all that was not made; and what nothing that failed explains."""
        unmade = dict.fromkeys(signal.unmade)
        units = [self._with_held_up(unit, unmade) for unit in signal.failed]
        explained = {key for unit in units for key in (*unit.asset_keys, *unit.held_up)}
        left = tuple(key for key in signal.unmade if key not in explained)
        if len(units) > MANY_UNITS:
            units = [replace(unit, held_up=unit.held_up[:MOST_BLOCKED]) for unit in units]
        if signal.interruption is not None:
            lost = set(left)
            keys = tuple(key for key in signal.interruption.asset_keys if key in lost)
            awaits = tuple(token for token in signal.interruption.awaits if thing_of(token) in lost)
            return [*units, replace(signal.interruption, asset_keys=keys, awaits=awaits)] if keys else units
        if not left:
            return units
        # A step that fails stops all that follows it, also what is made of what it did make. Of many units, the first names it.
        stopped = units if len(units) <= MANY_UNITS else units[:1]
        return [*(replace(unit, held_up=(*unit.held_up, *left)) for unit in stopped), *units[len(stopped) :]]

    def _with_held_up(self, unit: FailedUnit, unmade: Mapping[str, None]) -> FailedUnit:
        below = self._graph.downstream(unit.asset_keys) if unmade else set[str]()
        if len(below) < len(unmade):
            found = below & unmade.keys()
            blocked = [key for key in unmade if key in found] if len(found) > 1 else list(found)
        else:
            blocked = [key for key in unmade if key in below]
        held_up = dict.fromkeys([*unit.held_up, *blocked])
        named = tuple(key for key in held_up if key not in unit.asset_keys)
        return unit if named == unit.held_up else replace(unit, held_up=named)

    # What waits for a retry

    def _wait(self, signal: Signal, entries: Sequence[Entry]) -> None:
        name = _chain(signal)
        known = self._pending.get(name) or Pending({}, {}, {}, 0, None, None, self._book.now + TICK_SECONDS)
        units = {entry.unit.unit: entry.unit for entry in entries}
        after = replace(
            known,
            units={**known.units, **units},
            missing={**known.missing, **{unit: signal.awaited(one) for unit, one in units.items()}},
            at={**dict.fromkeys(units, signal.at), **known.at},
            # A run of which several signals tell has failed once.
            attempts=known.attempts + (signal.run_id is None or signal.run_id != known.run_id),
            run_id=signal.run_id,
            job=signal.job,
            # A run has a retry of its own, which may take its time; a tick that fails is given one more chance.
            until=known.until if signal.run_id is None else self._book.now + RETRY_SECONDS,
        )
        self._pending.put(name, after, units)

    def _after_retry(self, signal: Signal, entries: list[Entry]) -> list[Entry]:
        """What the end of a run means for the failures that waited for it: those that are well were transient, the others failed."""
        known = self._pending.get(_chain(signal))
        if known is None or signal.run_id == known.run_id or signal.retried:
            return entries
        self._pending.delete(_chain(signal))
        # A run that dies is named by what it was to make, and its retry makes less.
        whole = next((name for name in known.units if name.startswith("run/")), None)
        found = {
            whole if whole and entry.unit.unit.startswith("run/") else entry.unit.unit: entry for entry in entries
        }  # fmt: skip
        earlier = signal_of_waiting(known) if known.units else signal
        for name, unit in known.units.items():
            if (again := found.get(name)) is not None:
                failed = with_awaited(replace(again.unit, unit=name), signal, known.missing[name])
                found[name] = replace(again, unit=failed, at=known.at[name], count=known.attempts + 1)
            elif known.missing[name]:
                found[name] = Entry(unit, earlier, known.at[name], known.attempts)
            else:
                self._book.end_as_transient(name, known)
        return list(found.values())

    def give_up(self, retries: Mapping[str, RetryState]) -> None:
        """Failures whose retry does not come are failures, and so are those for whose retry customers cannot wait."""
        now = self._book.now
        urgent = self._urgent() if len(self._pending) else set[str]()
        for name, known in self._pending.items():
            state = retries.get(name, "unknown")
            waits = state == "under_way" or (state == "unknown" and known.until > now)
            if waits and not any(one in urgent and now - at >= PATIENCE_SECONDS for one, at in known.at.items()):
                continue
            self._pending.delete(name)
            for unit in known.units:
                if not known.missing[unit]:
                    self._book.end_as_transient(unit, known)
            earlier = signal_of_waiting(known)
            self._fire([
                Entry(unit, earlier, known.at[one], known.attempts)
                for one, unit in known.units.items() if known.missing[one]
            ])  # fmt: skip

    def _urgent(self) -> set[str]:
        """What has made customers' data late for long, which is not told because of it."""
        old = (one for one in self._alerts.values() if self._book.now - one.since >= PATIENCE_SECONDS)
        late = (one for one in old if one.lateness and not one.told and self._book.why_muted(one) is None)
        affected = [one for one in late if self._book.is_urgent(one)]
        if not affected:
            return set()
        follows = self._book.follows()
        return {cause for one in affected if (cause := follows.find(one.name, keys_of(one)))}

    # What opens

    def _home_of(self, unit: FailedUnit) -> str | None:
        """Return the name of the alert that a unit is part of: its own, or that of the cause that it shows."""
        if unit.unit in self._alerts:
            return unit.unit
        cause = self._book.cause_of(unit)
        if self._alerts.has_unit(cause, unit.unit):
            return cause
        return next((name for name in self._alerts.with_unit(unit.unit) if not causes.is_disproved(name, unit)), None)

    def _parted(self, unit: FailedUnit, signal: Signal) -> FailedUnit:
        """A unit that fails anew, out of the alerts of causes that it does not show any more, with what they still awaited of it.

        Else it would keep them open for as long as it fails, and who fails by such a cause then would wake nobody.
        """
        for name in self._alerts.with_unit(unit.unit):
            if name in {unit.unit, self._book.cause_of(unit)} or not causes.is_disproved(name, unit):
                continue
            alert = self._alerts[name]
            parts = self._parts_of(alert, signal)
            taken = parts.awaited_by(unit.unit)
            if not taken:
                continue
            unit = with_awaited(unit, signal, taken)
            before, others = parts.take(unit.unit)
            if not others and not alert.told:
                self._alerts.delete(name)
                continue
            missing = dict(alert.missing)
            for token in taken:
                del missing[token]
            # One that flaps stays open, and says what it was about.
            after = replace(alert, units=others or alert.units, missing=missing, changed=True)
            self._alerts.put(after, removed=before if others else None)
            self._book.partly_recovered.add(name)
            if others:
                parts.alert = after
        return unit

    def _parts_of(self, alert: Alert, signal: Signal) -> AlertParts:
        known = self._parts.get(alert.name)
        if known is None or known.alert is not alert or known.signal.job != signal.job:
            known = self._parts[alert.name] = AlertParts(alert, signal)
        return known

    def _fire(self, entries: Sequence[Entry]) -> None:
        """Each of them belongs to the alert that it is part of, to that of a cause that it shares, or to a new one."""
        homes = {entry.unit.unit: name for entry in entries if (name := self._home_of(entry.unit))}
        homes |= self._causes_of([entry.unit for entry in entries if entry.unit.unit not in homes])
        together: dict[str, list[Entry]] = {}
        for entry in entries:
            together.setdefault(homes.get(entry.unit.unit, entry.unit.unit), []).append(entry)
        for name, found in together.items():
            alert = self._alerts.get(name)
            others = found if alert is not None else found[1:]
            alert = alert or self._opened(name, found[0])
            if others:
                self._join_alert(alert, others)

    def _causes_of(self, new: Sequence[FailedUnit]) -> dict[str, str]:
        """Of units without an alert, the cause that each shares: with one another, with all that is heard now, or with open alerts."""
        known = {unit.unit for unit in new if causes.shared([unit])}
        words = {unit.unit: self._book.cause_of(unit) for unit in new if unit.unit not in known}
        alike = Counter(words.values())
        return {
            unit.unit: cause
            for unit in new
            if (cause := self._book.cause_of(unit)) in self._shared
            or cause in self._alerts
            or causes.shared([unit])
            or alike[cause] + self._alerts.count_alone(cause) >= causes.SAME_WORDS
        }

    def _join_alert(self, alert: Alert, entries: Sequence[Entry]) -> None:
        tokens = dict[str, float]()
        for entry in entries:
            tokens |= dict.fromkeys(entry.signal.awaited(entry.unit), entry.signal.at)
        last = entries[-1].signal
        # A run that is heard of twice (while it runs, and at its end) has failed once.
        others = {entry.signal.run_id or entry.signal.id for entry in entries} - {alert.run_id}
        units = [entry.unit for entry in entries]
        known = {unit.unit for unit in alert.units}
        after = replace(
            alert,
            units=self._places.join(alert, units),
            # A failure that is read late does not move the time back by which a newer one of the same can recover.
            missing={**alert.missing, **{token: max(at, alert.missing.get(token, at)) for token, at in tokens.items()}},
            since=min([alert.since, *(entry.at for entry in entries)]),
            last_seen=max(alert.last_seen, last.at),
            count=alert.count + len(others),
            run_id=last.run_id or alert.run_id,
            job=last.job or alert.job,
            well_since=None,
            changed=True,
            left=(),
            removed="",
            # A unit that fails again was judged when it failed first, and its asset may be removed by now.
            unknown=alert.unknown or any(self._book.is_unknown(unit) for unit in units if unit.unit not in known),
        )
        self._alerts.put(after, tokens, units)
        self._book.partly_recovered.discard(alert.name)

    def _opened(self, name: str, entry: Entry) -> Alert:
        signal, at, book = entry.signal, entry.at, self._book
        past = [one.at for one in book.history.get(name, ()) if one.at > at - FLAP_SECONDS]
        book.remember_opening(name, Opening(at))
        kind = kind_of(entry.unit.unit) if signal.kind == "asset" else signal.kind
        alert = Alert(
            name=name,
            kind=kind,
            deduplication_key=f"{name}:{signal.run_id or signal.id}",
            units=(entry.unit,),
            missing=dict.fromkeys(signal.awaited(entry.unit), signal.at),
            since=at,
            last_seen=max(at, signal.at),
            count=entry.count,
            run_id=signal.run_id,
            job=signal.job,
            flapping=len(past) + 1 >= FLAPS,
            lateness=signal.lateness,
            not_before=book.now + YOUNG_SECONDS if kind == "freshness" else 0.0,
            unknown=book.is_unknown(entry.unit),
        )
        self._alerts.put(alert, alert.missing, alert.units)
        self._book.partly_recovered.discard(name)
        return alert

    # What has recovered, or is removed

    def _apply_recoveries(self, signal: Signal) -> None:
        for name, tokens in self._alerts.awaiting(signal.well).items():
            alert = self._alerts[name]
            missing = dict(alert.missing)
            for token, at in tokens.items():
                if at > missing[token]:
                    del missing[token]
            if len(missing) == len(alert.missing):
                continue
            self._alerts.put(replace(alert, missing=missing, changed=True, run_id=signal.run_id or alert.run_id))
            self._book.partly_recovered.add(name)
        for name, units in self._pending.awaiting(signal.well).items():
            known = self._pending[name]
            left = {
                unit: tuple(token for token in known.missing[unit] if signal.well.get(token, 0) <= known.at[unit])
                for unit in units
            }
            known = replace(known, missing={**known.missing, **left})
            self._pending.put(name, known)
            if known.run_id is None and not any(known.missing.values()):
                # A sensor's next tick is the retry of the one that failed.
                for unit in known.units:
                    self._book.end_as_transient(unit, known)
                self._pending.delete(name)

    def _apply_removals(self, signal: Signal) -> None:
        """Await no longer what can never recover. An alert that awaited nothing else ends, and a failure that waits for a retry is dropped."""
        for name, reasons in self._alerts.awaiting(signal.removed).items():
            alert = self._alerts[name]
            missing = {token: at for token, at in alert.missing.items() if token not in reasons}
            removed = "" if missing else _joined_reasons(reasons.values())
            self._alerts.put(replace(alert, missing=missing, changed=True, removed=removed))
            self._book.partly_recovered.add(name)
        for name, units in self._pending.awaiting(signal.removed).items():
            known = self._pending[name]
            left = {
                unit: tuple(token for token in known.missing[unit] if token not in signal.removed) for unit in units
            }
            ended = {unit for unit, tokens in left.items() if not tokens}
            after = replace(
                known,
                units={unit: one for unit, one in known.units.items() if unit not in ended},
                missing={unit: left.get(unit, one) for unit, one in known.missing.items() if unit not in ended},
                at={unit: at for unit, at in known.at.items() if unit not in ended},
            )
            if after.units:
                self._pending.put(name, after)
            else:
                self._pending.delete(name)

    def end_removed(self, signals: Iterable[Signal]) -> None:
        """End the alerts that flap and await nothing, where all that they were about was removed: it does not come back."""
        removed = {token: why for signal in signals for token, why in signal.removed.items()}
        if not removed:
            return
        for alert in list(self._alerts.values()):
            if alert.flapping and not alert.missing and not alert.removed:
                about = Signal(id="", at=0.0, job=alert.job)
                tokens = {token for unit in alert.units for token in about.awaited(unit)}
                if tokens <= removed.keys():
                    self._alerts.put(
                        replace(alert, removed=_joined_reasons(removed[token] for token in sorted(tokens)))
                    )


def _chain(signal: Signal) -> str:
    """What the tries of one thing have in common: the first run of a chain of retries, or the sensor."""
    return signal.root_run_id or signal.failed[0].unit


def _joined_reasons(reasons: Iterable[str]) -> str:
    found = list(dict.fromkeys(reasons))
    more = f"; and {len(found) - MOST_REASONS} more reasons" if len(found) > MOST_REASONS else ""
    return "; ".join(found[:MOST_REASONS]) + more
