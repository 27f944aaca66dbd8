"""The story of the README, on real processes: code server, daemon, webserver, warehouse, PostgreSQL and the vendors' stand-ins.

The tests share one platform and run in the order in which they stand.
"""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest
from playwright.sync_api import Page

from sandbox import dagster_api
from sandbox.env_file import environment
from sandbox.services import postgres
from tests.dbt.project import Dbt
from tests.e2e.conftest import EXPLO, Platform
from tests.e2e.figures import FIGURES, assert_same_figures

# The first one starts the platform, and everything waits for runs.
pytestmark = pytest.mark.timeout(1200)

SOURCES = {
    "product_public": (12, "Fivetran"),
    "salesforce": (4, "Fivetran"),
    "stripe": (5, "Fivetran"),
    "zendesk": (5, "Fivetran"),
    "website": (6, "Segment"),
    "web_app": (6, "Segment"),
    "mobile": (6, "Segment"),
    "product_events": (5, "the product's publisher"),
    "dataplatform": (3, "Dagster"),
}


def test_the_demo_materializes_the_whole_graph_and_says_what_moved(platform: Platform) -> None:
    assets = platform.assets()
    materializable = [asset for asset in assets.values() if asset.materializable]
    assert len(materializable) == 131
    assert [asset.key for asset in materializable if asset.made_at is None] == []
    assert [asset.key for asset in assets.values() if asset.observable and asset.made_at is None] == []
    assert sorted(key for key in assets if key.startswith("explo/")) == ["explo/customers", *EXPLO]
    for line in (
        r"ingestion +31 +[1-9][\d,]+ +\d",
        r"transformation +93 +[1-9][\d,]+ +\d",
        r"activation +2 +[1-9]\d* +\d",
        r"analytics +3 +[1-9]\d* +\d",
        *(rf"{source} +{tables} +[1-9][\d,]* +{who}" for source, (tables, who) in SOURCES.items()),
    ):
        assert re.search(line, platform.demo), line
    assert platform.config.url("dagster") in platform.demo
    assert platform.config.url("control") in platform.demo


def test_nothing_that_the_demo_checked_fails_or_warns(platform: Platform) -> None:
    found = {
        f"{key}: {name}": evaluation
        for key in platform.assets()
        for name, evaluation in dagster_api.checks(platform.config, key).items()
        if evaluation
    }
    assert len(found) > 300
    # A fifth of the company has so few rows a day that a day is unusual by chance now and then, depending on the hour of the demo.
    by_chance = {name for name, one in found.items() if name.endswith(": volume") and one["severity"] == "WARN"}
    wrong = [name for name, evaluation in found.items() if not evaluation["success"]]
    assert len(wrong) <= 2
    assert set(wrong) <= by_chance


@pytest.mark.parametrize("insight", FIGURES)
def test_every_figure_that_customers_see_agrees_with_sql_on_the_product_database(
    platform: Platform, insight: str
) -> None:
    shown, expected = FIGURES[insight]
    with psycopg.connect(postgres.dsn(platform.config)) as connection:
        wanted = connection.execute(expected.encode()).fetchall()
    assert_same_figures(platform.query(shown), wanted)


def test_dbts_unit_tests_pass(platform: Platform, tmp_path: Path) -> None:
    done = Dbt(tmp_path, environment(platform.config)).run("test", "--select", "test_type:unit")
    assert done.returncode == 0, done.stdout
    assert re.search(r"Done\. PASS=[1-9]\d+ WARN=0 ERROR=0 SKIP=0", done.stdout)


def test_a_second_demo_does_no_work_twice(platform: Platform) -> None:
    before = dagster_api.launched_by_hand(platform.config)
    assert len(before) == 1
    assert "nothing to do" in platform.sandbox("demo")
    assert dagster_api.launched_by_hand(platform.config) == before


def test_schedule_and_sensors_are_switched_on(platform: Platform) -> None:
    assert platform.switched_on == {
        "hourly_ingest": True,
        "hourly_export_history": True,
        "downstream": True,
        "incident_alerts": True,
        "alert_reconciliation": True,
        "data_responder_rota": True,
        "heartbeat": True,
        "daily_warnings_digest": True,
        "fivetran_syncs": True,
        "hightouch_syncs": True,
        "hourly_refresh_state": True,
        "hourly_explo_tenants": True,
        "rebuilt_explo_tenants": True,
        "omni_schema": True,
        "deployed": True,
    }


def test_the_whole_lineage_is_one_graph_in_the_ui(platform: Platform, page: Page) -> None:
    page.goto(f"{platform.config.url('dagster')}/asset-groups")
    for group in (
        "ingestion",
        "staging",
        "intermediate",
        "core",
        "insights",
        "product",
        "finance",
        "analytics",
        "activation",
    ):
        page.wait_for_selector(f"text=/^{group}$/", timeout=60_000)
    page.goto(
        f"{platform.config.url('dagster')}/assets/explo/on_call_load?view=lineage&lineageScope=upstream&lineageDepth=5"
    )
    for name in ("on_call_load", "pages_by_responder", "stg_product__pages", "escalations"):
        page.wait_for_selector(f"text=/^{name}$/", timeout=60_000)
    # An open page asks Dagster for news all the time.
    page.goto("about:blank")
