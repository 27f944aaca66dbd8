"""Where vendors and exposures disagree."""

from __future__ import annotations

from dataclasses import replace

import dagster as dg
import pytest

from orchestration.lineage.consumers import Consumer, Exposure, reads, reconcile, unite
from orchestration.lineage.graph import Audience

LOAD, PAGES, SPENT = (dg.AssetKey(["insights", name]) for name in ("load", "pages", "spent"))
KEY = dg.AssetKey(["explo", "on_call_load"])
DASHBOARD = Consumer(KEY, "On-call load", (LOAD, PAGES))
EXPOSURE = Exposure("explo_on_call_load", "models/e.yml", KEY, (LOAD, PAGES), "customer")
VENDORS = {"explo"}
KNOWN = {LOAD, PAGES, SPENT}


def found(consumers: list[Consumer], exposures: list[Exposure], known: set[dg.AssetKey] = KNOWN) -> list[str]:
    findings = reconcile(consumers, exposures, VENDORS, known)
    return [f"{finding.kind} {finding.key}: {finding.why}" for finding in findings]


def test_where_they_agree_there_is_nothing_to_say() -> None:
    assert found([DASHBOARD], [EXPOSURE]) == []


def test_an_exposure_whose_dashboard_is_gone_is_named_with_its_file() -> None:
    [line] = found([], [EXPOSURE])
    assert line.startswith(
        "gone explo/on_call_load: explo has no `on_call_load`, which the exposure `explo_on_call_load` in models/e.yml declares."
    )


@pytest.mark.parametrize("audiences", [("customer", "internal"), ("internal", "customer")])
def test_two_exposures_of_one_dashboard_are_one_that_customers_see(audiences: tuple[Audience, Audience]) -> None:
    first = replace(EXPOSURE, audience=audiences[0], reads=(LOAD,))
    second = Exposure("on_call_load_again", "models/f.yml", KEY, (PAGES,), audiences[1])
    [united] = unite([first, second]).values()
    assert (united.audience, united.reads) == ("customer", (LOAD, PAGES))
    [line] = found([DASHBOARD], [first, second])
    assert line == (
        "repeated explo/on_call_load: `explo_on_call_load` in models/e.yml and `on_call_load_again` in models/f.yml declare the same "
        "consumer. They count as one, with the audience `customer`. Keep one of them, or correct the slug."
    )


def test_of_a_vendor_that_was_not_read_no_exposure_is_gone() -> None:
    elsewhere = replace(EXPOSURE, key=dg.AssetKey(["tableau", "on_call_load"]))
    assert found([DASHBOARD], [EXPOSURE, elsewhere]) == []


def test_a_dashboard_that_nobody_has_declared_is_listed_and_nothing_is_wrong() -> None:
    [finding] = reconcile([DASHBOARD], [], VENDORS, KNOWN)
    assert (finding.kind, finding.key, finding.wrong) == ("undeclared", "explo/on_call_load", False)


@pytest.mark.parametrize(
    ("consumer", "why"),
    [
        (replace(DASHBOARD, reads=(LOAD,), unknown=("dataset 2: no SQL",)), "dataset 2: no SQL"),
        (
            replace(DASHBOARD, reads=(LOAD, dg.AssetKey(["old", "t"]))),
            "It reads old/t, which nothing in the graph makes.",
        ),
        (replace(DASHBOARD, reads=()), "Its vendor reports no table that it reads."),
    ],
)
def test_what_cannot_be_joined_is_listed_with_the_reason(consumer: Consumer, why: str) -> None:
    assert f"unjoined explo/on_call_load: {why}" in found([consumer], [])


def test_an_exposure_that_declares_other_tables_than_are_read_is_wrong_in_both_directions() -> None:
    lines = found([DASHBOARD], [replace(EXPOSURE, reads=(LOAD, SPENT))])
    assert lines == [
        "different explo/on_call_load: It reads insights/pages, which the exposure `explo_on_call_load` does not declare.",
        "different explo/on_call_load: The exposure `explo_on_call_load` declares insights/spent, which it does not read.",
    ]


def test_what_is_declared_is_upstream_only_where_not_all_that_is_read_is_known() -> None:
    declared = replace(EXPOSURE, reads=(SPENT,))
    assert reads(DASHBOARD, declared) == (LOAD, PAGES)
    assert reads(replace(DASHBOARD, unknown=("a dataset without SQL",)), declared) == (LOAD, PAGES, SPENT)
    assert reads(replace(DASHBOARD, reads=()), declared) == (SPENT,)
    assert reads(DASHBOARD, None) == (LOAD, PAGES)
