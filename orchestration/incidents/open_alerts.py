"""The open alerts and the failures that wait for a retry, found by what they await and by what they are about. Pure.

A storm has thousands of each, and so do the signals of a tick: a loop over all of them for each signal takes minutes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import count
from typing import TypeVar

from orchestration.incidents import causes
from orchestration.incidents.state import Alert, Pending
from orchestration.lineage.failures import FailedUnit

Found = TypeVar("Found")


class _Ordered[Kept]:
    """A dictionary that knows the order of some of its names without a look at all of them."""

    def __init__(self) -> None:
        self._kept, self._places, self._place = dict[str, Kept](), dict[str, int](), count()

    def __getitem__(self, name: str) -> Kept:
        return self._kept[name]

    def __contains__(self, name: object) -> bool:
        return name in self._kept

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, name: str) -> Kept | None:
        return self._kept.get(name)

    def items(self) -> list[tuple[str, Kept]]:
        """Return all of them as they are now: they may be replaced and deleted in the meantime."""
        return list(self._kept.items())

    def values(self) -> Iterator[Kept]:
        return iter(self._kept.values())

    def as_dict(self) -> dict[str, Kept]:
        return dict(self._kept)

    def in_order(self, names: Iterable[str]) -> list[str]:
        """Return those of the names that are kept, in the order in which they were first put."""
        return sorted((name for name in set(names) if name in self._kept), key=self._places.__getitem__)

    def _put(self, name: str, kept: Kept) -> None:
        if name not in self._kept:
            self._places[name] = next(self._place)
        self._kept[name] = kept

    def _delete(self, name: str) -> None:
        del self._kept[name]


class OpenAlerts(_Ordered[Alert]):
    """The open alerts by name."""

    def __init__(self, alerts: Mapping[str, Alert], cause_of: Callable[[FailedUnit], str]) -> None:
        super().__init__()
        self._cause_of = cause_of
        # A token stays in the index when an alert awaits it no more: whoever finds it looks at the alert.
        self._by_token, self._by_unit = defaultdict[str, set[str]](set), defaultdict[str, set[str]](set)
        self._alone: Counter[str] | None = None
        for alert in alerts.values():
            self.put(alert, alert.missing, alert.units)

    def put(
        self,
        alert: Alert,
        tokens: Iterable[str] = (),
        units: Iterable[FailedUnit] = (),
        removed: FailedUnit | None = None,
    ) -> None:
        """Keep an alert in place of the one of its name.

        Args:
            alert: The alert.
            tokens: What it awaits that it did not await before.
            units: The units that it did not have before.
            removed: The unit that it has no more.
        """
        before = self.get(alert.name)
        self._put(alert.name, alert)
        for token in tokens:
            self._by_token[token].add(alert.name)
        for unit in units:
            self._by_unit[unit.unit].add(alert.name)
        if removed is not None:
            self._by_unit[removed.unit].discard(alert.name)
        if self._alone is not None and (before is None or before.units is not alert.units):
            self._count_if_alone(before, -1)
            self._count_if_alone(alert, 1)

    def delete(self, name: str) -> None:
        alert = self[name]
        for unit in alert.units:
            self._by_unit[unit.unit].discard(name)
        if self._alone is not None:
            self._count_if_alone(alert, -1)
        self._delete(name)

    def awaiting(self, tokens: Mapping[str, Found]) -> dict[str, dict[str, Found]]:
        """Return the names of the alerts that await some of these tokens, in order, each with those tokens and their values."""
        found = defaultdict[str, dict[str, Found]](dict)
        for token in _find_common_tokens(tokens, self._by_token):
            for name in self._by_token[token]:
                if (alert := self.get(name)) is not None and token in alert.missing:
                    found[name][token] = tokens[token]
        return {name: found[name] for name in self.in_order(found)}

    def with_unit(self, unit: str) -> list[str]:
        """Return the names of the alerts that have this unit, in order."""
        return self.in_order(self._by_unit.get(unit, ()))

    def has_unit(self, name: str, unit: str) -> bool:
        """Return whether there is an alert of this name that has this unit."""
        return name in self._by_unit.get(unit, ())

    def count_alone(self, cause: str) -> int:
        """Return how many alerts of a single unit show a cause that is known by nothing but its words."""
        if self._alone is None:
            self._alone = Counter()
            for alert in self.values():
                self._count_if_alone(alert, 1)
        return self._alone[cause]

    def _count_if_alone(self, alert: Alert | None, number: int) -> None:
        if self._alone is None or alert is None or not alert.units or alert.name != alert.units[0].unit:
            return
        if not causes.shared(alert.units[:1]):
            self._alone[self._cause_of(alert.units[0])] += number


class WaitingForRetry(_Ordered[Pending]):
    """The failures that wait for a retry, by the name of its chain."""

    def __init__(self, pending: Mapping[str, Pending]) -> None:
        super().__init__()
        self._by_token = defaultdict[str, set[tuple[str, str]]](set)
        for name, known in pending.items():
            self.put(name, known, known.units)

    def put(self, name: str, known: Pending, units: Iterable[str] = ()) -> None:
        """Keep failures in place of those of this name. `units` are those that await something that they did not before."""
        self._put(name, known)
        for unit in units:
            for token in known.missing.get(unit, ()):
                self._by_token[token].add((name, unit))

    def delete(self, name: str) -> None:
        self._delete(name)

    def awaiting(self, tokens: Mapping[str, object]) -> dict[str, set[str]]:
        """Return the names of the chains that await some of these tokens, in order, each with the units that do."""
        found = defaultdict[str, set[str]](set)
        for token in _find_common_tokens(tokens, self._by_token):
            for name, unit in self._by_token[token]:
                if (known := self.get(name)) is not None and token in known.missing.get(unit, ()):
                    found[name].add(unit)
        return {name: found[name] for name in self.in_order(found)}


def _find_common_tokens(tokens: Mapping[str, object], index: Mapping[str, object]) -> list[str]:
    return (
        [one for one in tokens if one in index]
        if len(tokens) <= len(index)
        else [one for one in index if one in tokens]
    )
