from __future__ import annotations

import pytest

from orchestration.lineage.graph import Asset, Consumer, Graph


def graph(*assets: Asset) -> Graph:
    return Graph({asset.key: asset for asset in assets})


STAGES = graph(
    Asset("raw/incidents", owners=("data@example.com",)),
    Asset("raw/account"),
    Asset("insights/time", frozenset({"raw/incidents"})),
    Asset("sales/health", frozenset({"raw/incidents", "raw/account"}), owners=("sales@example.com",)),
    Asset("explo/time", frozenset({"insights/time"}), audience="customer"),
    Asset("explo/load", frozenset({"insights/time"}), audience="customer"),
    Asset("omni/health", frozenset({"sales/health"}), audience="internal"),
    Asset("hightouch/health", frozenset({"sales/health"}), audience="internal"),
)


@pytest.mark.parametrize(
    ("keys", "hurt"),
    [
        (["raw/account"], ["hightouch/health", "omni/health"]),
        (["raw/incidents"], ["explo/load", "explo/time", "hightouch/health", "omni/health"]),
        (["insights/time", "sales/health"], ["explo/load", "explo/time", "hightouch/health", "omni/health"]),
        (["explo/load"], ["explo/load"]),
        (["nobody/knows"], []),
        ([], []),
    ],
)
def test_the_blast_radius_is_every_consumer_downstream_customers_first(keys: list[str], hurt: list[str]) -> None:
    assert [consumer.key for consumer in STAGES.blast_radius(keys)] == hurt


def test_consumers_keep_their_audience() -> None:
    assert STAGES.blast_radius(["insights/time"])[0] == Consumer("explo/load", "customer")


def test_a_consumer_is_counted_once_however_many_ways_lead_to_it() -> None:
    diamond = graph(
        Asset("a"),
        Asset("b", frozenset("a")),
        Asset("c", frozenset("a")),
        Asset("d", frozenset("bc"), audience="internal"),
    )
    assert diamond.blast_radius(["a", "b"]) == [Consumer("d", "internal")]


def test_the_walk_ends_on_a_circle() -> None:
    assert graph(Asset("a", frozenset("b")), Asset("b", frozenset("a"))).downstream(["a"]) == {"a", "b"}


def test_owners_are_those_of_the_failed_assets() -> None:
    assert STAGES.owners(["raw/incidents", "sales/health", "raw/account"]) == ["data@example.com", "sales@example.com"]
