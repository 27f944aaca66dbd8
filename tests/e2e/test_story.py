"""The story of the README, on real processes: code server, daemon, webserver, warehouse, PostgreSQL and the vendors' stand-ins.

The tests share one platform and run in the order in which they stand.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
import pytest

from sandbox import dagster_api
from tests.e2e.conftest import Platform, wait_for

NIGHT, MORNING = "2026-11-24T03:00:00+00:00", "2026-11-24T09:00:05+00:00"
EXPLO = ["explo/on_call_load", "explo/post_incident_follow_through", "explo/time_spent_on_incidents"]
HIGHTOUCH = "hightouch/salesforce_account_health"


@pytest.fixture(autouse=True)
def mended(platform: Platform) -> Iterator[None]:
    yield
    platform.sandbox("mend")
    platform.sandbox("clock", "reset")


def test_the_demo_materializes_the_whole_graph_and_says_what_moved(platform: Platform) -> None:
    assets = platform.assets()
    materializable = [asset for asset in assets.values() if asset.materializable]
    assert len(materializable) == 40
    assert [asset.key for asset in materializable if asset.materialized_at is None] == []
    assert sorted(key for key in assets if key.startswith(("explo/", "omni/"))) == [*EXPLO, "omni/account_health"]
    for line in (
        r"ingestion +15 +[1-9][\d,]+ +\d",
        r"transformation +24 +[1-9][\d,]+ +\d",
        r"activation +1 +[1-9]\d* +\d",
    ):
        assert re.search(line, platform.demo), line
    assert platform.config.url("dagster") in platform.demo
    assert platform.config.url("control") in platform.demo


def test_a_second_demo_does_no_work_twice(platform: Platform) -> None:
    before = {key: asset.materialized_at for key, asset in platform.assets().items()}
    assert "nothing to do" in platform.sandbox("demo")
    assert {key: asset.materialized_at for key, asset in platform.assets().items()} == before


def test_schedule_and_sensors_are_switched_on(platform: Platform) -> None:
    assert dagster_api.switched_on(platform.config) == {
        "hourly_ingest": True,
        "downstream": True,
        "incident_alerts": True,
    }


def test_an_hour_later_only_what_changed_moves_all_the_way_to_salesforce(platform: Platform) -> None:
    ticked = platform.sandbox("tick")
    changed = set(re.findall(r"org_\d+", ticked.splitlines()[-1]))
    began = datetime.now(UTC)
    _, status = platform.ingest()
    assert status == "SUCCESS"
    assets = platform.assets()
    counts = {m[0]: sum(map(int, m[1:])) for m in re.findall(r"^ (\w+) +(\d+) +(\d+) +(\d+) *$", ticked, re.MULTILINE)}
    assert sum(counts.values()) > 0
    for table, count in counts.items():
        assert assets[f"product_public/{table}"].numbers["rows_moved"] == count, table

    def sent() -> bool:
        return (platform.assets()[HIGHTOUCH].materialized_at or 0) > began.timestamp()

    wait_for(sent, 180, "dbt and Hightouch follow the sync by themselves")
    written = _accounts_written_since(platform, began)
    assert written
    assert written <= changed
    assert platform.assets()[HIGHTOUCH].numbers["rows_synced"] == len(written)


def test_a_customer_facing_failure_pages_an_engineer_at_night_and_its_recovery_resolves_it(platform: Platform) -> None:
    platform.sandbox("clock", "set", NIGHT)
    known = len(platform.pages())
    platform.sandbox("break", "fivetran", "product")
    _, status = platform.ingest()
    failed_at = time.monotonic()
    assert status == "FAILURE"
    [page] = wait_for(lambda: platform.pages()[known:], 15, "an engineer is paged")
    assert time.monotonic() - failed_at < 15
    assert (page["state"], page["schedule"]) == ("sent", "Engineers")
    assert page["user"]
    assert [c["key"] for c in page["metadata"]["consumers"] if c["audience"] == "customer"] == EXPLO
    assert "password authentication failed" in page["metadata"]["error"]
    event = platform.alert_events()[-1]
    assert event["title"] == "Fivetran sync of `product` failed: 3 customer dashboards hurt"
    assert all(f"`{name}`" in event["description"] for name in EXPLO)
    [incident] = platform.incidents(**{"status_category[one_of]": "live"})
    assert incident["name"] == event["title"]

    platform.sandbox("mend", "fivetran", "product")
    _, status = platform.ingest()
    assert status == "SUCCESS"
    wait_for(lambda: not platform.incidents(**{"status_category[one_of]": "live"}), 15, "the incident is closed")
    assert platform.alert_events()[-1]["status"] == "resolved"


def test_an_internal_failure_at_night_pages_nobody_until_nine(platform: Platform) -> None:
    platform.sandbox("clock", "set", NIGHT)
    known = len(platform.pages())
    platform.sandbox("break", "fivetran", "salesforce")
    _, status = platform.ingest()
    assert status == "FAILURE"
    [page] = wait_for(lambda: platform.pages()[known:], 15, "a page waits")
    assert (page["state"], page["schedule"], page["sent_at"]) == ("pending", "Data responder", None)
    assert page["due_at"].startswith("2026-11-24T09:00:00")
    assert len(platform.incidents(**{"status_category[one_of]": "live"})) == 1
    platform.sandbox("clock", "set", MORNING)
    assert platform.pages()[-1]["state"] == "sent"
    platform.sandbox("mend", "fivetran", "salesforce")
    platform.ingest()
    wait_for(lambda: not platform.incidents(**{"status_category[one_of]": "live"}), 15, "the incident is closed")


def test_with_incident_io_down_the_alert_arrives_once_after_it_is_back(platform: Platform) -> None:
    known = len(platform.pages())
    platform.sandbox("break", "incident_io", "--fault", "refused")
    platform.sandbox("break", "fivetran", "product")
    platform.ingest()
    time.sleep(12)  # two ticks of the sensor
    platform.sandbox("mend")
    wait_for(lambda: len(platform.pages()) > known, 30, "the alert arrives")
    time.sleep(12)
    assert len(platform.pages()) == known + 1
    assert platform.ingest()[1] == "SUCCESS"
    wait_for(lambda: platform.alert_events()[-1]["status"] == "resolved", 15, "the alert is resolved")


def test_a_daemon_killed_between_event_and_delivery_loses_nothing_and_repeats_nothing(platform: Platform) -> None:
    known = len(platform.pages())
    platform.sandbox("break", "incident_io", "--fault", "hang", "--param", "seconds=60")
    platform.sandbox("break", "fivetran", "product")
    platform.ingest()
    time.sleep(7)  # the sensor has read the failure by now, and waits for incident.io's answer
    platform.supervisor().stop("daemon", kill=True)
    assert len(platform.pages()) == known
    platform.sandbox("mend")
    platform.sandbox("up")
    wait_for(lambda: len(platform.pages()) > known, 60, "the alert arrives")
    time.sleep(12)
    assert len(platform.pages()) == known + 1
    assert platform.ingest()[1] == "SUCCESS"
    wait_for(lambda: platform.alert_events()[-1]["status"] == "resolved", 15, "the alert is resolved")


def _accounts_written_since(platform: Platform, moment: datetime) -> set[str]:
    query = f"SELECT Organisation_Id__c FROM Account WHERE SystemModstamp > {moment:%Y-%m-%dT%H:%M:%S}.000Z"
    url = f"{platform.config.url('salesforce')}/services/data/v59.0/query"
    headers = {"Authorization": "Bearer local-salesforce-token"}
    answer = httpx.get(url, params={"q": query}, headers=headers, timeout=10).raise_for_status().json()
    return {record["Organisation_Id__c"] for record in answer["records"]}
