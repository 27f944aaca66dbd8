"""What moves and what fails on the platform of the story: an hour of business, and a night on call. Last of the stories, since production goes on
building for minutes after it."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page

from tests.e2e.conftest import EXPLO, Platform, wait_for

pytestmark = pytest.mark.timeout(1200)

NIGHT, MORNING = "2026-11-24T03:00:00+00:00", "2026-11-24T09:00:05+00:00"
BROKEN = ("fivetran/product", "fivetran/salesforce")
HIGHTOUCH = "hightouch/salesforce_account_health"


@pytest.mark.long
def test_an_hour_later_only_what_changed_moves_all_the_way_to_salesforce(platform: Platform) -> None:
    # What other tests have had happen is behind us then.
    _an_hour(platform)
    ticked, began = _an_hour(platform)
    changed = set(re.findall(r"org_\d+", ticked))
    assets = platform.assets()
    counts = {m[0]: sum(map(int, m[1:])) for m in re.findall(r"^ (\w+) +(\d+) +(\d+) +(\d+) *$", ticked, re.MULTILINE)}
    assert sum(counts.values()) > 0
    for table, count in counts.items():
        assert assets[f"product_public/{table}"].numbers["rows_moved"] == count, table
    written = _accounts_written_since(platform, began)
    assert written
    assert written <= changed
    assert platform.assets()[HIGHTOUCH].numbers["rows_synced"] == len(written)


def test_at_night_a_customer_facing_failure_pages_an_engineer_and_an_internal_one_nobody_until_nine(
    platform: Platform, page: Page
) -> None:
    known = len(platform.pages())
    platform.sandbox("clock", "set", NIGHT)
    platform.sandbox("break", "fivetran", "product")
    platform.sandbox("break", "fivetran", "salesforce")
    assert platform.ingest() == "FAILURE"
    failed_at = time.monotonic()
    pages = wait_for(lambda: by_unit(platform.pages()[known:]), 60, "both failures have a page")
    print(f"paged {time.monotonic() - failed_at:.1f} s after the run ended")

    product = pages["fivetran/product"]
    assert (product["state"], product["schedule"]) == ("sent", "Engineers")
    assert product["user"]
    assert [c["key"] for c in product["metadata"]["consumers"] if c["audience"] == "customer"] == EXPLO
    assert "password authentication failed" in product["metadata"]["error"]
    event = next(e for e in platform.alert_events() if e["deduplication_key"] == product["deduplication_key"])
    assert event["title"] == "Fivetran sync of `product` failed: 3 customer dashboards hurt"
    assert all(f"`{name}`" in event["description"] for name in EXPLO)

    salesforce = pages["fivetran/salesforce"]
    assert (salesforce["state"], salesforce["schedule"], salesforce["sent_at"]) == ("pending", "Data responder", None)
    assert salesforce["due_at"].startswith("2026-11-24T09:00:00")
    opened = platform.open_incidents()
    assert sorted(incident["name"] for incident in opened) == [
        "Fivetran sync of `product` failed: 3 customer dashboards hurt",
        "Fivetran sync of `salesforce` failed",
    ]

    page.goto(platform.config.url("control"))
    shown = page.inner_text("body")
    for text in ("broken_credentials", event["title"], "Fivetran sync of `salesforce` failed", product["user"]):
        assert text in shown

    platform.sandbox("clock", "set", MORNING)
    assert by_unit(platform.pages()[known:])["fivetran/salesforce"]["state"] == "sent"

    platform.sandbox("mend")
    assert platform.ingest() == "SUCCESS"
    ours = {incident["id"] for incident in opened}
    wait_for(
        lambda: not ours & {incident["id"] for incident in platform.open_incidents()}, 180, "both incidents are closed"
    )
    page.goto(platform.config.url("control"))
    assert "broken_credentials" not in page.inner_text("body")


def _an_hour(platform: Platform) -> tuple[str, datetime]:
    """Let an hour pass for the company, and wait until it has arrived in Salesforce; return what happened, and when that was."""
    ticked, began = platform.sandbox("tick"), datetime.now(UTC)
    assert platform.ingest() == "SUCCESS"

    def sent() -> bool:
        return (platform.assets()[HIGHTOUCH].made_at or 0) > began.timestamp()

    wait_for(sent, 600, "dbt and Hightouch follow the sync by themselves", every=5)
    return ticked, began


def by_unit(pages: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The pages of the two connections; nothing while one is missing."""
    found = {page["metadata"]["unit"]: page for page in pages if page["metadata"]["unit"] in BROKEN}
    return found if len(found) == len(BROKEN) else {}


def _accounts_written_since(platform: Platform, moment: datetime) -> set[str]:
    query = f"SELECT Organisation_Id__c FROM Account WHERE SystemModstamp > {moment:%Y-%m-%dT%H:%M:%S}.000Z"
    url = f"{platform.config.url('salesforce')}/services/data/v59.0/query"
    headers = {"Authorization": "Bearer local-salesforce-token"}
    answer = httpx.get(url, params={"q": query}, headers=headers, timeout=10).raise_for_status().json()
    return {record["Organisation_Id__c"] for record in answer["records"]}
