"""The units of an alert: how those that fail later join it, and how an alert with many of them stays small. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from orchestration.incidents.alert_book import thing_of, things_of
from orchestration.incidents.model import Signal
from orchestration.incidents.state import MANY_UNITS, SHORT_ERROR, Alert
from orchestration.lineage.failures import FailedUnit


class UnitPlaces:
    """The position of each unit in its alert, so that a unit can join an alert with thousands of units in constant time."""

    def __init__(self) -> None:
        self._places = dict[str, tuple[tuple[FailedUnit, ...], dict[str, int]]]()

    def join(self, alert: Alert, new: Sequence[FailedUnit]) -> tuple[FailedUnit, ...]:
        """Return the units of an alert with new ones, each of which replaces an earlier unit of its name. Many are kept short."""
        if len(alert.units) <= MANY_UNITS:
            units = {unit.unit: unit for unit in alert.units} | {unit.unit: unit for unit in new}
            return _compact(tuple(units.values()))
        # More than `MANY_UNITS` are short already: only what is new has to be shortened.
        places, units, joined = self._places_of(alert), list(alert.units), dict[int, FailedUnit]()
        for unit in new:
            place = places.setdefault(unit.unit, len(places))
            joined[place] = unit
        units += [joined[place] for place in range(len(units), len(places))]
        blocked = dict.fromkeys(joined[0].held_up if 0 in joined else units[0].held_up)
        for place, unit in sorted(joined.items()):
            blocked |= dict.fromkeys(unit.held_up)
            units[place] = replace(unit, error=unit.error[:SHORT_ERROR], held_up=())
        if 0 in joined or len(blocked) != len(units[0].held_up):
            units[0] = replace(units[0], held_up=tuple(blocked))
        result = tuple(units)
        self._places[alert.name] = (result, places)
        return result

    def _places_of(self, alert: Alert) -> dict[str, int]:
        known = self._places.get(alert.name)
        if known is None or known[0] is not alert.units:
            known = (alert.units, {unit.unit: place for place, unit in enumerate(alert.units)})
            self._places[alert.name] = known
        return known[1]


class AlertParts:
    """The tokens that only one unit of an alert awaits. `signal` gives the tokens of units that have none of their own."""

    def __init__(self, alert: Alert, signal: Signal) -> None:
        self.alert, self.signal = alert, signal
        self._units = {unit.unit: unit for unit in alert.units}
        self._awaited_by = Counter(thing for unit in alert.units for thing in things_of(signal, unit))
        self._tokens = dict[str, list[tuple[int, str]]]()
        for place, token in enumerate(alert.missing):
            self._tokens.setdefault(thing_of(token), []).append((place, token))

    def awaited_by(self, unit: str) -> list[str]:
        """Return what the alert still awaits of this unit alone."""
        own = (thing for thing in things_of(self.signal, self._units[unit]) if self._awaited_by[thing] == 1)
        return [token for _place, token in sorted(one for thing in own for one in self._tokens.get(thing, ()))]

    def take(self, unit: str) -> tuple[FailedUnit, tuple[FailedUnit, ...]]:
        """Take a unit out, with what the alert awaits of it alone; return it, and the units that are left."""
        taken = self._units.pop(unit)
        for thing in things_of(self.signal, taken):
            self._awaited_by[thing] -= 1
            if not self._awaited_by[thing]:
                self._tokens.pop(thing, None)
        return taken, tuple(self._units.values())


def _compact(units: tuple[FailedUnit, ...]) -> tuple[FailedUnit, ...]:
    """Return many units with short errors, and what they block named once."""
    if len(units) <= MANY_UNITS:
        return units
    held_up = tuple(dict.fromkeys(key for unit in units for key in unit.held_up))
    first, *others = (replace(unit, error=unit.error[:SHORT_ERROR]) for unit in units)
    return (replace(first, held_up=held_up), *(replace(unit, held_up=()) for unit in others))
