"""Those who read are found while the platform runs. With the platform of the story."""

from __future__ import annotations

import json

import pytest

from sandbox import dagster_api
from tests.e2e.conftest import Platform, wait_for

pytestmark = [pytest.mark.timeout(1200), pytest.mark.long]


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
    assert run(platform, "refresh_state") == "SUCCESS"
    new = wait_for(lambda: platform.assets().keys() - before.keys(), 120, "the code location is loaded anew")
    assert {f"hightouch/{slug}" for slug in truth["hightouch"]} <= new
    assert sum(key.startswith("omni/") for key in new) == len(truth["omni"])
    read = dagster_api.checks(platform.config, "lineage/state")["read"]
    assert read is not None
    assert read["success"]
