"""Answers about the asset graph, each found once a tick: a storm asks the same of thousands of alerts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

from orchestration.lineage.graph import Consumer, Graph


class GraphLookups:
    """The graph of one tick, with what was asked of it. The sets that it returns must not be changed."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._downstream = dict[tuple[str, ...], set[str]]()
        self._upstream = dict[tuple[str, ...], set[str]]()

    def is_known(self, key: str) -> bool:
        """Return whether a code location defines the asset."""
        return self._graph.is_known(key)

    def downstream(self, keys: Iterable[str]) -> set[str]:
        """Return everything made of these assets, the assets themselves included."""
        asked = tuple(keys)
        if asked not in self._downstream:
            self._downstream[asked] = self._graph.downstream(asked)
        return self._downstream[asked]

    def upstream(self, keys: Iterable[str]) -> set[str]:
        """Return everything that these assets are made of, the assets themselves included."""
        asked = tuple(keys)
        if asked not in self._upstream:
            self._upstream[asked] = self._graph.upstream(asked)
        return self._upstream[asked]

    def consumers(self, keys: Sequence[str]) -> tuple[Consumer, ...]:
        """Return the consumers that these assets reach: customers' first, then by name."""
        return tuple(self._graph.blast_radius(keys))

    def owners(self, keys: Sequence[str]) -> tuple[str, ...]:
        return tuple(self._graph.owners(keys))

    def is_customer_facing(self, keys: Iterable[str]) -> bool:
        """Return whether one of the consumers that these assets reach has the audience `customer`, as `Failure.customer_facing` says.

        One walk answers it for all alerts of a tick, where `consumers` takes one for each.
        """
        return not self._reaching_customers.isdisjoint(keys)

    @cached_property
    def _reaching_customers(self) -> set[str]:
        return self._graph.upstream(key for key, asset in self._graph.assets.items() if asset.audience == "customer")
