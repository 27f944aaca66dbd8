"""From signals to alerts: what opens, what belongs to an open one, what waits, and what is over. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from typing import Literal

from orchestration.incidents import causes
from orchestration.incidents.model import Failure, Kind, Recovery, Signal
from orchestration.incidents.state import MANY_UNITS, SHORT_ERROR, Alert, Opening, Pending, State
from orchestration.lineage import runs
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
AFTERMATH_SECONDS = 900.0
"""So long what is late may take to be made once what it followed from is mended."""
PATIENCE_SECONDS = 3600.0
"""A failure by which what customers see has been late for so long waits no longer for its retry than this: nobody knows of either."""
UPDATE_SECONDS = 60.0
"""An alert that goes on changing is told anew at most this often."""
FLAPS, FLAP_SECONDS, WELL_SECONDS = 3, 6 * 3600.0, 3600.0
"""What opens for the third time within six hours flaps: it stays open until it has been well for an hour."""
OPENED_A_TICK = 200
"""Most alerts that one tick announces. incident.io takes 120 events a minute, and a tick has a minute for everything."""
HISTORY_SECONDS = 30 * 86400.0
MOST_OPENINGS = 100

KINDS: Mapping[str, Kind] = {"check": "check", "freshness": "freshness", "run": "run", "queue": "queue", "tick": "tick"}
"""By what a unit's name begins with; all others are assets."""

RetryState = Literal["under_way", "off", "unknown"]
Muted = Callable[[Sequence[str]], str | None]
"""Why assets are muted; None where they are not."""


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
    room = Triage(before, graph, now, muted, set(causes.shared(fresh).values()))
    for signal in signals:
        room.hear(signal)
    room.give_up(retries or {})
    room.settle()
    return room.result()


class Triage:
    """The alerts while signals are heard."""

    def __init__(self, before: State, graph: Graph, now: float, muted: Muted, shared: Collection[str]) -> None:
        self._before, self._graph, self._now, self._muted, self._shared = before, graph, now, muted, shared
        self._alerts = dict(before.alerts)
        self._pending = dict(before.pending)
        self._history = dict(before.history)
        self._handled = dict(before.handled)
        self._told: list[Failure | Recovery] = []
        self._cause_of = cache(causes.of)

    def result(self) -> tuple[State, list[Failure | Recovery]]:
        since = self._now - HISTORY_SECONDS
        kept = {
            name: tuple(one for one in past if one.at > since)[-MOST_OPENINGS:] for name, past in self._history.items()
        }
        state = replace(
            self._before,
            alerts=self._alerts,
            pending=self._pending,
            handled=self._handled,
            history={name: past for name, past in kept.items() if past},
        )  # fmt: skip
        return state, self._told

    def hear(self, signal: Signal) -> None:
        if signal.id in self._handled:
            return
        if signal.failed or signal.ended:
            self._handled[signal.id] = signal.at
        self._mend(signal)
        entries = [Entry(self._parted(unit, signal), signal, signal.at) for unit in self._with_unmade(signal)]
        if signal.ended:
            entries = self._after_retry(signal, entries)
        waits = [one for one in entries if signal.retried and not one.unit.permanent and not self._alert_of(one.unit)]
        if waits:
            self._wait(signal, waits)
        self._fire([entry for entry in entries if entry not in waits])

    def _with_unmade(self, signal: Signal) -> list[FailedUnit]:
        """The units of a signal, each with what it held up of all that was not made; and what nothing that failed explains."""
        units = [self._with_held_up(unit, signal.unmade) for unit in signal.failed]
        explained = {key for unit in units for key in (*unit.asset_keys, *unit.held_up)}
        left = tuple(key for key in signal.unmade if key not in explained)
        if signal.interruption is not None:
            lost = set(left)
            keys = tuple(key for key in signal.interruption.asset_keys if key in lost)
            awaits = tuple(token for token in signal.interruption.awaits if _thing(token) in lost)
            return [*units, replace(signal.interruption, asset_keys=keys, awaits=awaits)] if keys else units
        # A step that fails stops all that follows it, also what is made of what it did make.
        return [replace(unit, held_up=(*unit.held_up, *left)) for unit in units]

    def _with_held_up(self, unit: FailedUnit, unmade: Collection[str]) -> FailedUnit:
        below = self._graph.downstream(unit.asset_keys) if unmade else set[str]()
        held_up = dict.fromkeys([*unit.held_up, *(key for key in unmade if key in below)])
        return replace(unit, held_up=tuple(key for key in held_up if key not in unit.asset_keys))

    # What waits for a retry

    def _wait(self, signal: Signal, entries: Sequence[Entry]) -> None:
        name = _chain(signal)
        known = self._pending.get(name) or Pending({}, {}, {}, 0, None, None, self._now + TICK_SECONDS)
        units = {entry.unit.unit: entry.unit for entry in entries}
        self._pending[name] = replace(
            known,
            units={**known.units, **units},
            missing={**known.missing, **{unit: signal.awaited(one) for unit, one in units.items()}},
            at={**dict.fromkeys(units, signal.at), **known.at},
            # A run of which several signals tell has failed once.
            attempts=known.attempts + (signal.run_id is None or signal.run_id != known.run_id),
            run_id=signal.run_id,
            job=signal.job,
            # A run has a retry of its own, which may take its time; a tick that fails is given one more chance.
            until=known.until if signal.run_id is None else self._now + RETRY_SECONDS,
        )

    def _after_retry(self, signal: Signal, entries: list[Entry]) -> list[Entry]:
        """What the end of a run means for the failures that waited for it: those that are well were transient, the others failed."""
        known = self._pending.get(_chain(signal))
        if known is None or signal.run_id == known.run_id or signal.retried:
            return entries
        del self._pending[_chain(signal)]
        found = {_same(entry.unit.unit, known): entry for entry in entries}
        for name, unit in known.units.items():
            if (again := found.get(name)) is not None:
                failed = _awaiting(replace(again.unit, unit=name), signal, known.missing[name])
                found[name] = replace(again, unit=failed, at=known.at[name], count=known.attempts + 1)
            elif known.missing[name]:
                found[name] = Entry(unit, _signal_of(known), known.at[name], known.attempts)
            else:
                self._transient(name, known)
        return list(found.values())

    def _transient(self, name: str, known: Pending) -> None:
        failure = self._failure(_alert_of_waiting(name, known))
        self._remember(name, Opening(known.at[name], transient=True))
        self._told.append(replace(failure, transient=True))
        key = failure.deduplication_key
        self._told.append(Recovery(name, failure.kind, key, "", failure.since, _moment(self._now), known.run_id, True))

    def give_up(self, retries: Mapping[str, RetryState]) -> None:
        """Failures whose retry does not come are failures, and so are those for whose retry customers cannot wait."""
        urgent = self._urgent()
        for name, known in list(self._pending.items()):
            state = retries.get(name, "unknown")
            waits = state == "under_way" or (state == "unknown" and known.until > self._now)
            if waits and not any(one in urgent and self._now - at >= PATIENCE_SECONDS for one, at in known.at.items()):
                continue
            del self._pending[name]
            for unit in known.units:
                if not known.missing[unit]:
                    self._transient(unit, known)
            self._fire([
                Entry(unit, _signal_of(known), known.at[one], known.attempts)
                for one, unit in known.units.items() if known.missing[one]
            ])  # fmt: skip

    def _urgent(self) -> set[str]:
        """What has made customers' data late for long, which is not told because of it."""
        old = (one for one in self._alerts.values() if self._now - one.since >= PATIENCE_SECONDS)
        late = [one for one in old if one.lateness and not one.told and self._why_muted(one) is None]
        hurt = [one for one in late if self._failure(one).urgent]
        return {cause for one in hurt if (cause := self._follows(one.name, keys_of(one)))}

    # What opens

    def _alert_of(self, unit: FailedUnit) -> Alert | None:
        """The alert that a unit is part of: its own, or that of the cause that it shows."""
        own = self._alerts.get(unit.unit)
        if own is not None:
            return own
        cause = self._alerts.get(self._cause_of(unit))
        return cause if cause and any(one.unit == unit.unit for one in cause.units) else None

    def _parted(self, unit: FailedUnit, signal: Signal) -> FailedUnit:
        """A unit that fails anew, out of the alerts of causes that it does not show any more, with what they still awaited of it.

        Else it would keep them open for as long as it fails, and who fails by such a cause then would wake nobody.
        """
        for name, alert in list(self._alerts.items()):
            before = next((one for one in alert.units if one.unit == unit.unit), None)
            if before is None or name in (unit.unit, self._cause_of(unit)):
                continue
            others = tuple(one for one in alert.units if one is not before)
            own = _things(signal, before) - {thing for one in others for thing in _things(signal, one)}
            taken = [token for token in alert.missing if _thing(token) in own]
            if not taken:
                continue
            unit = _awaiting(unit, signal, taken)
            if not others and not alert.told:
                del self._alerts[name]
                continue
            missing = {token: at for token, at in alert.missing.items() if token not in taken}
            # One that flaps stays open, and says what it was about.
            units, left = others or alert.units, tuple(sorted(missing))
            self._alerts[name] = replace(alert, units=units, missing=missing, changed=True, left=left)
        return unit

    def _fire(self, entries: Sequence[Entry]) -> None:
        """Each of them belongs to the alert that it is part of, to that of a cause that it shares, or to a new one."""
        homes = {entry.unit.unit: alert.name for entry in entries if (alert := self._alert_of(entry.unit))}
        new = [entry.unit for entry in entries if entry.unit.unit not in homes]
        homes |= self._causes_of(new)
        together: dict[str, list[Entry]] = {}
        for entry in entries:
            together.setdefault(homes.get(entry.unit.unit, entry.unit.unit), []).append(entry)
        for name, found in together.items():
            known = self._alerts.get(name)
            alert = self._opened(name, found[0]) if known is None else known
            others = found[1:] if known is None else found
            self._alerts[name] = self._joined(alert, others) if others else alert

    def _causes_of(self, new: Sequence[FailedUnit]) -> dict[str, str]:
        """Of units without an alert, the cause that each shares: with one another, with all that is heard now, or with open alerts."""
        if not new:
            return {}
        alone = [alert.units[0] for alert in self._alerts.values() if alert.name == alert.units[0].unit]
        wide = {*self._shared, *causes.shared([*alone, *new]).values(), *self._alerts}
        return {unit.unit: cause for unit in new if (cause := self._cause_of(unit)) in wide}

    def _joined(self, alert: Alert, entries: Sequence[Entry]) -> Alert:
        units = {unit.unit: unit for unit in alert.units} | {entry.unit.unit: entry.unit for entry in entries}
        known = {unit.unit for unit in alert.units}
        missing = dict(alert.missing)
        for entry in entries:
            missing |= dict.fromkeys(entry.signal.awaited(entry.unit), entry.signal.at)
        last = entries[-1].signal
        # A run that is heard of twice (while it runs, and at its end) has failed once.
        others = {entry.signal.run_id or entry.signal.id for entry in entries} - {alert.run_id}
        return replace(
            alert,
            units=_compact(tuple(units.values())),
            missing=missing,
            since=min([alert.since, *(entry.at for entry in entries)]),
            last_seen=max(alert.last_seen, last.at),
            count=alert.count + len(others),
            run_id=last.run_id or alert.run_id,
            job=last.job or alert.job,
            well_since=None,
            changed=True,
            left=(),
            # One that fails again was judged when it failed first, and may be removed by now.
            unknown=alert.unknown or any(self._is_unknown(one.unit) for one in entries if one.unit.unit not in known),
        )

    def _is_unknown(self, unit: FailedUnit) -> bool:
        """Return whether an asset of it is in no code location's graph. A failure without assets is judged by none."""
        return any(not self._graph.is_known(key) for key in unit.asset_keys)

    def _opened(self, name: str, entry: Entry) -> Alert:
        signal, at = entry.signal, entry.at
        past = [one.at for one in self._history.get(name, ()) if one.at > at - FLAP_SECONDS]
        self._remember(name, Opening(at))
        kind = kind_of(entry.unit.unit) if signal.kind == "asset" else signal.kind
        return Alert(
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
            not_before=self._now + YOUNG_SECONDS if kind == "freshness" else 0.0,
            unknown=self._is_unknown(entry.unit),
        )

    def _remember(self, name: str, opening: Opening) -> None:
        self._history[name] = (*self._history.get(name, ()), opening)

    # What is well again

    def _mend(self, signal: Signal) -> None:
        for name, alert in list(self._alerts.items()):
            left = {token: at for token, at in alert.missing.items() if signal.well.get(token, 0) <= at}
            if len(left) == len(alert.missing):
                continue
            self._alerts[name] = replace(
                alert, missing=left, changed=True, left=tuple(sorted(left)), run_id=signal.run_id or alert.run_id
            )
        for name, known in list(self._pending.items()):
            missing = {
                unit: tuple(token for token in tokens if signal.well.get(token, 0) <= known.at[unit])
                for unit, tokens in known.missing.items()
            }
            self._pending[name] = replace(known, missing=missing)
            if known.run_id is None and not any(missing.values()):
                # A sensor's next tick is the retry of the one that failed.
                for unit in known.units:
                    self._transient(unit, known)
                del self._pending[name]

    # What is told

    def settle(self) -> None:
        """Close what is over, and tell what is new or has changed."""
        for name, alert in list(self._alerts.items()):
            if not alert.missing:
                self._well(name, alert)
        new: list[tuple[Failure, Alert]] = []
        for name, alert in list(self._alerts.items()):
            if alert.told:
                self._update(name, alert)
            elif (held := self._held(alert)) is not None:
                self._alerts[name] = held
            else:
                new.append((self._failure(alert), alert))
        # A tick has a minute. What is left goes out with the next ticks, which incident.io's limit on events would delay anyway.
        new.sort(key=lambda one: (not one[0].urgent, one[1].since))
        for place, (failure, alert) in enumerate(new):
            in_turn = place < OPENED_A_TICK
            self._alerts[alert.name] = (
                self._tell(alert, failure) if in_turn else replace(alert, held="waits for its turn")
            )

    def _well(self, name: str, alert: Alert) -> None:
        if alert.flapping and alert.told:
            since = alert.well_since or self._now
            if self._now - since < WELL_SECONDS:
                self._alerts[name] = replace(
                    alert, well_since=since, changed=alert.changed and alert.well_since is None
                )
                return
        del self._alerts[name]
        if not alert.told:
            if self._held(alert) is not None:
                return
            # It failed and was mended between two looks: that is an incident too.
            alert = self._tell(alert)
        self._told.append(self._recovery(alert))

    def _held(self, alert: Alert) -> Alert | None:
        """The alert while nobody is told of it; None where somebody has to be."""
        keys = keys_of(alert)
        if (why := self._why_muted(alert)) is not None:
            return replace(alert, held=why)
        if alert.lateness and (cause := self._follows(alert.name, keys)) is not None:
            return replace(alert, held=f"follows from {cause}", not_before=self._now + AFTERMATH_SECONDS)
        return replace(alert, held="young") if self._now < alert.not_before else None

    def _why_muted(self, alert: Alert) -> str | None:
        """By its assets, or by its own name."""
        keys = keys_of(alert)
        return (self._muted(keys) if keys else None) or self._muted([alert.name])

    def _follows(self, name: str, keys: Sequence[str]) -> str | None:
        """What else is wrong, and makes these assets late: a failure of theirs, or anything further up, also while it waits for a retry."""
        own = set(keys)
        above = self._graph.upstream(keys) - own
        for other in (*self._alerts.values(), *self._waiting()):
            of_other = set(keys_of(other))
            late = of_other & above or (of_other & own and not other.lateness)
            if other.name != name and late and self._holds_up(other):
                return other.name
        return None

    def _waiting(self) -> list[Alert]:
        """What waits for a retry and is not well, as the alerts that it becomes if the retry fails."""
        return [
            _alert_of_waiting(name, known)
            for known in self._pending.values() for name in known.units if known.missing[name]
        ]  # fmt: skip

    def _holds_up(self, alert: Alert) -> bool:
        """Whether an alert tells why data below it is late. One that is muted tells nobody; most checks stop nothing."""
        if self._why_muted(alert) is not None:
            return False
        return alert.kind != "check" or any(unit.held_up for unit in alert.units)

    def _tell(self, alert: Alert, failure: Failure | None = None) -> Alert:
        failure = failure or self._failure(alert)
        self._told.append(failure)
        return replace(alert, told=True, held="", changed=False, updated=self._now, customer_facing=failure.urgent)

    def _update(self, name: str, alert: Alert) -> None:
        if not alert.changed or self._why_muted(alert) is not None:
            return
        failure = self._failure(alert)
        if failure.urgent and not alert.customer_facing:
            # incident.io decides who is paged when an alert opens, so that customers' being hurt needs one of its own.
            self._told.append(self._recovery(alert))
            self._alerts[name] = self._tell(replace(alert, deduplication_key=f"{alert.deduplication_key}:customer"))
            return
        if self._now - alert.updated >= UPDATE_SECONDS:
            self._told.append(failure)
            self._alerts[name] = replace(alert, changed=False, updated=self._now)

    def _recovery(self, alert: Alert) -> Recovery:
        since, now = _moment(alert.since), _moment(self._now)
        return Recovery(alert.name, alert.kind, alert.deduplication_key, alert.title, since, now, alert.run_id)

    def _failure(self, alert: Alert) -> Failure:
        keys = keys_of(alert)
        return Failure(
            name=alert.name,
            kind=alert.kind,
            units=alert.units,
            deduplication_key=alert.deduplication_key,
            since=_moment(alert.since),
            last_seen=_moment(alert.last_seen),
            count=alert.count,
            run_id=alert.run_id,
            job=alert.job,
            consumers=tuple(self._graph.blast_radius(keys)),
            owners=tuple(self._graph.owners(keys)),
            flapping=alert.flapping,
            left=alert.left,
            unknown=tuple(key for key in keys if not self._graph.is_known(key)) if alert.unknown else (),
            partitions=tuple(sorted({one for token in alert.missing if (one := runs.partition_of(token))})),
        )


def kind_of(unit: str) -> Kind:
    return KINDS.get(unit.partition("/")[0], "asset")


def keys_of(alert: Alert) -> list[str]:
    """The assets that an alert is about."""
    return list(dict.fromkeys(key for unit in alert.units for key in unit.asset_keys))


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _chain(signal: Signal) -> str:
    """What the tries of one thing have in common: the first run of a chain of retries, or the sensor."""
    return signal.root_run_id or signal.failed[0].unit


def _thing(token: str) -> str:
    """What is awaited, of any partition."""
    return token.partition("@")[0]


def _things(signal: Signal, unit: FailedUnit) -> set[str]:
    return {_thing(token) for token in signal.awaited(unit)}


def _awaiting(unit: FailedUnit, signal: Signal, tokens: Iterable[str]) -> FailedUnit:
    """The unit, which is well only when these have been made or have passed too."""
    known = signal.awaited(unit)
    more = [token for token in tokens if token not in known]
    return replace(unit, awaits=(*known, *more)) if more else unit


def _same(unit: str, known: Pending) -> str:
    """The name under which a unit waited. A run that dies is named by what it was to make, and its retry makes less."""
    earlier = next((name for name in known.units if name.startswith("run/")), unit)
    return earlier if unit.startswith("run/") else unit


def _signal_of(known: Pending) -> Signal:
    """A failure that was heard earlier. The newest of the times, so that only what was made since counts as its recovery."""
    first, last = min(known.at.values()), max(known.at.values())
    return Signal(id=f"{first:.0f}", at=last, run_id=known.run_id, job=known.job)


def _alert_of_waiting(name: str, known: Pending) -> Alert:
    at = known.at[name]
    return Alert(
        name=name,
        kind=kind_of(name),
        deduplication_key=f"{name}:{known.run_id or _signal_of(known).id}",
        units=(known.units[name],),
        missing={},
        since=at,
        last_seen=at,
        count=known.attempts,
        run_id=known.run_id,
        job=known.job,
    )


def _compact(units: tuple[FailedUnit, ...]) -> tuple[FailedUnit, ...]:
    """Many units with short errors, and what they hold up named once."""
    if len(units) <= MANY_UNITS:
        return units
    held_up = tuple(dict.fromkeys(key for unit in units for key in unit.held_up))
    first, *others = (replace(unit, error=unit.error[:SHORT_ERROR]) for unit in units)
    return (replace(first, held_up=held_up), *(replace(unit, held_up=()) for unit in others))
