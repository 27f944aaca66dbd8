"""Those who read: found while the platform runs, and told of when a customer may see another's rows. With the platform of the story."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox import dagster_api
from sandbox.env_file import environment
from tests.e2e.conftest import Platform, wait_for

pytestmark = [pytest.mark.timeout(1200), pytest.mark.long]

PROGRAM = Path(sys.executable).with_name("dataplatform")
DASHBOARD = "explo/on_call_load"


def run(platform: Platform, job: str) -> str:
    """Run a job; return its final status."""
    status = ""
    for status, _events in dagster_api.follow(  # noqa: B007
        platform.config, dagster_api.launch(platform.config, job=job), timeout=240
    ):
        pass
    return status


def test_what_is_added_at_a_vendor_is_in_the_graph_after_the_refresh_and_nobody_restarts_anything(
    platform: Platform,
) -> None:
    before = platform.assets()
    truth = json.loads(platform.sandbox("content", "--omni", "3", "--hightouch", "2", "--seed", "7", "--json"))
    # By hand first: the states are then as the hourly job would have them, and the code location is not.
    subprocess.run([str(PROGRAM), "refresh"], env=os.environ | environment(platform.config), check=True)
    assert run(platform, "refresh_state") == "SUCCESS"
    new = wait_for(lambda: platform.assets().keys() - before.keys(), 120, "the code location is loaded anew")
    assert {f"hightouch/{slug}" for slug in truth["hightouch"]} <= new
    assert sum(key.startswith("omni/") for key in new) == len(truth["omni"])
    read = dagster_api.checks(platform.config, "lineage/state")["read"]
    assert read is not None
    assert read["success"]


def test_a_dashboard_that_shows_a_customer_the_rows_of_another_pages_an_engineer_at_night(platform: Platform) -> None:
    platform.sandbox("clock", "set", "2026-11-24T03:00:00+00:00")
    known = len(platform.pages())
    assert run(platform, "explo_tenants") == "SUCCESS"
    assert len(platform.pages()) == known
    platform.sandbox("break", "explo", DASHBOARD.split("/")[1])
    assert run(platform, "explo_tenants") == "SUCCESS"
    pages = wait_for(lambda: platform.pages()[known:], 60, "somebody is paged")
    assert [(page["metadata"]["unit"], page["state"], page["schedule"]) for page in pages] == [
        (f"check/{DASHBOARD}/tenants", "sent", "Engineers")
    ]
    event = next(e for e in platform.alert_events() if e["deduplication_key"] == pages[0]["deduplication_key"])
    assert "1 customer dashboard hurt" in event["title"]
    platform.sandbox("mend")
    assert run(platform, "explo_tenants") == "SUCCESS"
    wait_for(lambda: not [one for one in platform.open_incidents() if DASHBOARD in one["name"]], 60, "it is closed")
