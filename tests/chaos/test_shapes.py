"""A project of every shape, built by a real platform on the warehouse's stand-in: it loads, all of it is built, and one broken model is
one alert."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from dagster import DagsterEventType, DagsterRunStatus

from sandbox.config import PROJECT
from sandbox.services.bigquery import client
from sandbox.stack import stack
from tests.chaos import shapes
from tests.chaos.platform import Platform, running, wait_for

pytestmark = pytest.mark.long

BUILT = {
    "raw/raw_customers", "raw/countries", "shop/stg_customers", "shop/customers", "shop/grossen_tabelle_61bb", "shop/ticket_notes", "shop/ticket-notes_2eec",
    "shop/target_report", "shop/sheet_only", "shop/hourly", "shop/fresh", "shop/by_day", "shop/days", "shop/dim_v1", "shop/dim_v2",
    "snapshots/customers_snapshot", "package/packaged",
}  # fmt: skip


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    root = tmp_path_factory.mktemp("shapes")
    shapes.write(root / "shapes")
    shapes.parse(root / "shapes", root / "state" / "dbt", {"GOOGLE_CLOUD_PROJECT": PROJECT, "DBT_TARGET": "prod"})
    with running(root, "tests.chaos.shapes_location") as started:
        warehouse = stack(started.config, with_platform=False, only=("warehouse",))
        try:
            warehouse.up(lambda _done: None)
            client(started.config).create_dataset("sheet")
            land_targets(started)
            yield started
        finally:
            warehouse.down(lambda _name: None)


def land_targets(platform: Platform, column: str = "target") -> None:
    """Write the table that stands for a sheet."""
    client(platform.config).query_and_wait(f"create or replace table sheet.targets as select 5 as {column}")


def materialized(platform: Platform, run_id: str) -> list[str]:
    """Return the assets that a run has built, each as often as it was."""
    records = platform.instance.get_records_for_run(run_id, of_type=DagsterEventType.ASSET_MATERIALIZATION).records
    events = [event for record in records if (event := record.event_log_entry.dagster_event)]
    return sorted(event.asset_key.to_user_string() for event in events if event.asset_key)


@pytest.mark.timeout(900)
def test_the_whole_graph_is_built_with_seeds_before_the_models_that_read_them_as_sources(platform: Platform) -> None:
    run = platform.run(job="build", seconds=400)

    assert run.status == DagsterRunStatus.SUCCESS
    built = materialized(platform, run.run_id)
    assert {*built} == BUILT
    assert len(built) == len({*built})
    rows = client(platform.config).query_and_wait("select name, title from shop.customers order by id")
    assert [tuple(row.values()) for row in rows] == [("Ada", "Britain"), ("Grace", "States")]
    assert platform.alerts() == []


@pytest.mark.timeout(900)
def test_a_broken_model_is_one_alert_that_names_what_is_affected(platform: Platform) -> None:
    land_targets(platform, column="renamed")
    run = platform.run(["shop/sheet_only", "shop/target_report", "shop/customers"], seconds=400)
    assert run.status == DagsterRunStatus.FAILURE

    [alert] = wait_for(platform.alerts, 60, "the alert opens")
    assert alert.first["assets"] == ["shop/sheet_only"]
    assert alert.unit == "dbt/shop/sheet_only"

    land_targets(platform)
    platform.run(["shop/sheet_only"], seconds=400)
    wait_for(lambda: not any(one.open for one in platform.alerts()), 60, "it is resolved")


@pytest.mark.timeout(900)
def test_a_seed_that_fails_blocks_what_reads_its_table_as_a_source(platform: Platform) -> None:
    before = {one.key for one in platform.alerts()}
    seed = platform.config.root / "shapes" / "seeds" / "raw_customers.csv"
    rows = seed.read_text()
    seed.write_text("id,name,country\n1,Ada,gb,more,values\n")
    try:
        run = platform.run(job="build", seconds=400)
    finally:
        seed.write_text(rows)

    assert run.status == DagsterRunStatus.FAILURE
    [alert] = wait_for(lambda: [one for one in platform.alerts() if one.key not in before], 60, "the alert opens")
    assert alert.unit == "dbt/raw/raw_customers"
    assert {"shop/stg_customers", "shop/customers", "shop/target_report"} <= {*alert.last["held_up"]}
    assert "shop/fresh" in materialized(platform, run.run_id)
    assert "shop/stg_customers" not in materialized(platform, run.run_id)
    # Customers read what is below: the audience of `board` is misspelled, and counts as `customer`.
    assert alert.last["customer_facing"] is True
