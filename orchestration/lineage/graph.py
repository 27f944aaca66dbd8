"""The walk from an asset to the people who read what is made of it. Pure: it knows keys and parents, not Dagster's classes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cached_property
from typing import Literal

Audience = Literal["customer", "internal"]

AUDIENCE_TAG = "dataplatform/audience"
"""The tag that makes an asset a consumer, with its audience as the value."""

OWNERS_METADATA = "dataplatform/owners"
"""The metadata that has those owners of an asset whom Dagster cannot hold as owners; commas between several."""

Key = str
"""An asset key as people write it: `insights/on_call_load`."""


@dataclass(frozen=True)
class Asset:
    key: Key
    parents: frozenset[Key] = frozenset()
    owners: tuple[str, ...] = ()
    audience: Audience | None = None
    """Who reads it; None unless it is a consumer."""
    fresh_within: timedelta | None = None
    """How old it may become by its freshness policy; None where it has none, or one that is not a time window."""
    code: str | None = None
    """The file that makes it, as a path in the repository; None where that is not known."""
    defined: bool = True
    """False where a code location only names it as a dependency: its parents, owners and other consumers are not known then."""


@dataclass(frozen=True)
class Consumer:
    """An asset at the end of the graph, which people read."""

    key: Key
    audience: Audience


@dataclass(frozen=True)
class Graph:
    assets: Mapping[Key, Asset] = field(default_factory=dict[Key, Asset])
    problems: tuple[str, ...] = ()
    """Code locations whose part of the graph could not be read, each with the reason."""

    def is_known(self, key: Key) -> bool:
        """Return whether a code location defines the asset. What an unknown asset affects is not known."""
        return key in self.assets and self.assets[key].defined

    @cached_property
    def children(self) -> Mapping[Key, set[Key]]:
        found: defaultdict[Key, set[Key]] = defaultdict(set)
        for asset in self.assets.values():
            for parent in asset.parents:
                found[parent].add(asset.key)
        return found

    def downstream(self, keys: Iterable[Key]) -> set[Key]:
        """Everything made of these assets, the assets themselves included."""
        seen: set[Key] = set()
        waiting = list(keys)
        while waiting:
            key = waiting.pop()
            if key not in seen:
                seen.add(key)
                waiting.extend(self.children.get(key, ()))
        return seen

    def upstream(self, keys: Iterable[Key]) -> set[Key]:
        """Everything that these assets are made of, the assets themselves included."""
        seen: set[Key] = set()
        waiting = list(keys)
        while waiting:
            key = waiting.pop()
            if key not in seen:
                seen.add(key)
                waiting.extend(self.assets[key].parents if key in self.assets else ())
        return seen

    def blast_radius(self, keys: Iterable[Key]) -> list[Consumer]:
        """The consumers that these assets reach: customers' first, then by name."""
        reached = (self.assets[key] for key in self.downstream(keys) if key in self.assets)
        consumers = [Consumer(asset.key, asset.audience) for asset in reached if asset.audience]
        return sorted(consumers, key=lambda consumer: (consumer.audience, consumer.key))

    def owners(self, keys: Iterable[Key]) -> list[str]:
        return sorted({owner for key in keys if key in self.assets for owner in self.assets[key].owners})


def unite_graphs(graphs: Iterable[Graph], problems: Iterable[str] = ()) -> Graph:
    """Return one graph of the graphs of several code locations.

    Where several locations have an asset, those that define it count: its parents and owners are joined, and its audience is
    `customer` if one of them says so.
    """
    graphs = tuple(graphs)
    found: dict[Key, Asset] = {}
    for graph in graphs:
        for key, asset in graph.assets.items():
            found[key] = _unite_assets(found[key], asset) if key in found else asset
    return Graph(found, tuple(dict.fromkeys([*(one for graph in graphs for one in graph.problems), *problems])))


def _unite_assets(first: Asset, second: Asset) -> Asset:
    if first.defined != second.defined:
        return first if first.defined else second
    return replace(
        first,
        parents=first.parents | second.parents,
        owners=tuple(dict.fromkeys((*first.owners, *second.owners))),
        audience="customer" if "customer" in (first.audience, second.audience) else first.audience or second.audience,
        fresh_within=first.fresh_within or second.fresh_within,
        code=first.code or second.code,
    )
