"""Hightouch's stand-in under Dagster's own integration, of which only the address is changed: a constant of its module."""

from __future__ import annotations

import dagster as dg
import pytest
from dagster_hightouch import ConfigurableHightouchResource, HightouchSyncComponent, resources

from tests.stand_ins import Mart, Vendors


@pytest.fixture
def hightouch(vendors: Vendors, monkeypatch: pytest.MonkeyPatch) -> ConfigurableHightouchResource:
    monkeypatch.setattr(resources, "HIGHTOUCH_API_BASE", f"{vendors.config.url('hightouch')}/api/v1/")
    return ConfigurableHightouchResource(
        api_key="local-hightouch-key", request_max_retries=0, poll_interval=0.1, poll_timeout=60
    )


def test_a_sync_is_triggered_and_polled_to_its_end(hightouch: ConfigurableHightouchResource, mart: Mart):
    for row in list(mart.rows.values())[:2]:
        row["open_tasks"] = 71
    mart.write()
    output = hightouch.sync_and_poll("1")
    assert output.sync_run_details["status"] == "success"
    assert output.sync_run_details["successfulRows"]["changedCount"] == 2
    assert output.sync_run_details["querySize"] == len(mart.rows)
    assert output.sync_details["slug"] == "salesforce_account_health"
    assert output.destination_details["slug"] == "salesforce"


def test_a_sync_that_fails_is_a_failure_with_the_reason(
    hightouch: ConfigurableHightouchResource, mart: Mart, vendors: Vendors
):
    vendors.faults.add("hightouch", "salesforce_account_health", "sync_failure", {"reason": "Token expired."}, times=1)
    with pytest.raises(dg.Failure, match=r"failed with status: failed and error: {2}Token expired\."):
        hightouch.sync_and_poll("1")


def test_rejected_rows_are_a_warning_that_fails_only_where_it_is_told_to(
    hightouch: ConfigurableHightouchResource, mart: Mart, vendors: Vendors
):
    vendors.faults.add("hightouch", "salesforce_account_health", "rejected_rows", {"count": 1}, times=1)
    for row in list(mart.rows.values())[:2]:
        row["open_tasks"] = 72
    mart.write()
    assert hightouch.sync_and_poll("1").sync_run_details["failedRows"]["changedCount"] == 1


def test_the_component_materializes_its_asset(hightouch: ConfigurableHightouchResource, mart: Mart):
    component = HightouchSyncComponent(sync_id="1", asset=dg.AssetSpec(["hightouch", "salesforce_account_health"]))
    assets = [*(component.build_defs(None).assets or [])]
    result = dg.materialize(assets, resources={"hightouch": hightouch})
    [made] = [event.materialization for event in result.all_events if event.is_step_materialization]
    assert (made.metadata["completion_ratio"].value, made.metadata["total_failed_rows"].value) == (1.0, 0)
