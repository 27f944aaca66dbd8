from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from orchestration.incidents.render import renderer
from orchestration.incidents.state import State
from orchestration.incidents.triage import triage
from orchestration.lineage.failures import FailedUnit
from orchestration.lineage.graph import Asset, Graph
from orchestration.lineage.runs import Outcome

GRAPH = Graph({
    asset.key: asset
    for asset in (
        Asset("raw/incidents", owners=("data@example.com",)),
        Asset("raw/users"),
        Asset("salesforce/account"),
        Asset("insights/time", frozenset({"raw/incidents"})),
        Asset("explo/time", frozenset({"insights/time"}), audience="customer"),
        Asset("omni/health", frozenset({"salesforce/account"}), audience="internal"),
    )
})  # fmt: skip
RENDER = renderer("https://dagster.example.com")
START = datetime(2026, 11, 23, 3, tzinfo=UTC)
PRODUCT = FailedUnit(
    "fivetran/product", ("raw/incidents", "raw/users"), "password refused", "https://fivetran.example.com"
)
SALES = FailedUnit("fivetran/salesforce", ("salesforce/account",), "quota")


def run(number: int, *failed: FailedUnit, succeeded: tuple[str, ...] = ()) -> Outcome:
    ended_at = START + timedelta(hours=number)
    return Outcome(f"run{number}", "job:ingest", ended_at, failed, dict.fromkeys(succeeded, ended_at.timestamp() - 1))


def story(*runs: Outcome) -> State:
    state = State()
    for outcome in runs:
        state = triage(state, outcome, GRAPH, RENDER)
    return state


def told(state: State) -> list[tuple[str, str]]:
    return [(item.event.status, item.event.deduplication_key) for item in state.waiting]


def test_a_failure_fires_and_the_next_success_resolves_it() -> None:
    state = story(run(0, PRODUCT), run(1, succeeded=("raw/incidents", "raw/users")))
    assert told(state) == [("firing", "fivetran/product:run0"), ("resolved", "fivetran/product:run0")]
    assert state.open == {}


def test_a_unit_that_keeps_failing_is_one_alert_since_its_first_failure() -> None:
    state = story(run(0, PRODUCT), run(1, PRODUCT), run(2, PRODUCT))
    assert told(state) == [("firing", "fivetran/product:run0")]
    assert state.open["fivetran/product"].since == START


def test_a_later_outage_of_the_same_unit_is_another_alert() -> None:
    well = run(1, succeeded=PRODUCT.asset_keys)
    assert told(story(run(0, PRODUCT), well, run(2, PRODUCT)))[-1] == ("firing", "fivetran/product:run2")


def test_it_is_resolved_only_when_every_asset_was_made_again() -> None:
    half = story(run(0, PRODUCT), run(1, succeeded=("raw/users",)))
    assert told(half) == [("firing", "fivetran/product:run0")]
    whole = triage(half, run(2, succeeded=("raw/incidents",)), GRAPH, RENDER)
    assert told(whole)[-1] == ("resolved", "fivetran/product:run0")


def test_a_relapse_wants_every_asset_again() -> None:
    state = story(
        run(0, PRODUCT), run(1, succeeded=("raw/users",)), run(2, PRODUCT), run(3, succeeded=("raw/incidents",))
    )
    assert told(state) == [("firing", "fivetran/product:run0")]


def test_another_units_success_resolves_nothing() -> None:
    assert told(story(run(0, PRODUCT, SALES), run(1, PRODUCT, succeeded=("salesforce/account",)))) == [
        ("firing", "fivetran/product:run0"),
        ("firing", "fivetran/salesforce:run0"),
        ("resolved", "fivetran/salesforce:run0"),
    ]


def test_the_same_run_read_twice_from_the_same_state_gives_the_same_events() -> None:
    assert told(story(run(0, PRODUCT))) == told(story(run(0, PRODUCT)))


def test_an_asset_that_a_long_run_made_before_the_failure_is_no_recovery() -> None:
    failed = run(1, PRODUCT)
    before = dict.fromkeys(PRODUCT.asset_keys, failed.ended_at.timestamp() - 60)
    long = replace(run(2), succeeded=before)
    assert told(story(failed, long)) == [("firing", "fivetran/product:run1")]


def test_a_failure_without_assets_is_resolved_by_a_whole_run_of_its_job_and_by_no_other() -> None:
    unit = FailedUnit("step/notify", (), "no")
    other = replace(run(1, SALES), succeeded={"raw/users": START.timestamp() + 3600})
    assert "step/notify" in story(run(0, unit), other).open
    well = replace(run(2), succeeded={"job:ingest": START.timestamp() + 7200})
    assert told(story(run(0, unit), other, well))[-1] == ("resolved", "step/notify:run0")


def test_what_the_page_says() -> None:
    [item] = story(
        run(0, FailedUnit("fivetran/product", PRODUCT.asset_keys, "password refused", "https://f", ("x/held",)))
    ).waiting
    event = item.event
    assert event.title == "Fivetran sync of `product` failed: 1 customer dashboard hurt"
    assert event.source_url == "https://dagster.example.com/runs/run0"
    for words in (
        "**Error**: password refused",
        "**Since**: 2026-11-23 03:00 UTC",
        "**Customers see old data in**: `explo/time`",
        "**Internal readers**: none",
        "**Not made**: `raw/incidents`, `raw/users`, `x/held`",
        "**Owner**: data@example.com",
        "[the run](https://dagster.example.com/runs/run0) · [the vendor](https://f)",
    ):
        assert words in event.description
    assert event.metadata["customer_facing"] is True
    assert event.metadata["consumers"] == [{"key": "explo/time", "audience": "customer"}]


def test_an_internal_failure_says_that_customers_are_not_affected() -> None:
    [item] = story(run(0, SALES)).waiting
    assert item.event.title == "Fivetran sync of `salesforce` failed"
    assert "**Customers**: not affected" in item.event.description
    assert item.event.metadata["customer_facing"] is False


def test_long_texts_are_cut() -> None:
    unit = FailedUnit("dbt/a/b", tuple(f"a/{n:03}" for n in range(200)), "e" * 100_000)
    [item] = story(run(0, unit)).waiting
    assert len(item.event.description) < 3000
    assert "and 180 more" in item.event.description
    assert len(item.event.metadata["assets"]) == 50
