"""Events on their way to the marts, days that are built again, and a source that changes under the models.

The tests go on with the platform of the story, and run in the order in which they stand.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from segment.analytics import Client

from product_events.publisher import Publisher
from sandbox import dagster_api
from sandbox.config import PROJECT
from sandbox.env_file import environment
from sandbox.services.bigquery import client
from sandbox.vendors.segment.sources import write_key
from tests.e2e.conftest import Platform, wait_for

# The first one starts the platform, and everything waits for runs.
pytestmark = [pytest.mark.timeout(1200), pytest.mark.long]

MARTS = {
    "intermediate/int_activity_daily": "occurred_on",
    "product/daily_active_users": "occurred_on",
    "product/events_by_day": "occurred_on",
    "product/sessions": "started_on",
}


@pytest.fixture
def published(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Publisher:
    for name, value in environment(platform.config).items():
        monkeypatch.setenv(name, value)
    return Publisher(PROJECT, "product_events", spool_dir=platform.config.root / "test-events")


def test_what_the_official_clients_send_is_in_the_product_marts_to_the_row(
    platform: Platform, published: Publisher
) -> None:
    [(user, organisation)] = platform.query("select id, organisation_id from product_public.users order by id limit 1")
    before = _of_today(platform)
    app = Client(write_key("web_app"), host=platform.config.url("segment"), sync_mode=True)
    for number in [*range(9), 2, 5, 5]:  # three deliveries of two messages are repeated
        properties = {"feature": "runbooks", "organisation_id": organisation}
        app.track(user, "Feature Used", properties, message_id=f"e2e-feature-{number}")
    phone = Client(write_key("mobile"), host=platform.config.url("segment"), sync_mode=True)
    for number in range(4):
        phone.screen(user, None, "On-call", {"organisation_id": organisation}, message_id=f"e2e-screen-{number}")
    httpx.post(f"{platform.config.url('segment')}/_inspect/load", timeout=60).raise_for_status()
    with published as publisher:
        for number in [*range(6), 0]:
            properties = {"command": "/incident", "channel_kind": "public", "duration_ms": 12, "succeeded": True}
            publisher.publish(
                "slack_command_invoked", 1, properties, organisation_id=organisation, user_id=user,
                event_id=f"e2e-slack-{number}",
            )  # fmt: skip
    now = datetime.now(UTC).isoformat()
    event = {
        "event_version": 1,
        "occurred_at": now,
        "received_at": now,
        "organisation_id": organisation,
        "user_id": user,
    }
    rows = [{**event, "event_id": f"e2e-insight-{n}", "insight": "on_call_load", "load_ms": 400} for n in (1, 2, 2)]
    assert client(platform.config).insert_rows_json("product_events.insight_viewed", rows) == []

    assert platform.ingest() == "SUCCESS"
    sent = {"feature_used": 9, "screen_viewed": 4, "slack_command_invoked": 6, "insight_viewed": 2}
    wait_for(lambda: _of_today(platform) - before == Counter(sent), 900, f"{sent} more events are in the mart", every=2)
    known = "select count(*) from intermediate.int_activity where event_id like 'e2e-%'"
    assert platform.query(known) == [(sum(sent.values()),)]


def test_a_malformed_event_is_kept_with_the_reason_and_warned_of(platform: Platform, published: Publisher) -> None:
    with published as publisher:
        slow = {"command": "/incident", "channel_kind": "public", "duration_ms": "slow", "succeeded": True}
        publisher.publish("slack_command_invoked", 1, slow, organisation_id="org_0001", event_id="e2e-malformed")
    [(name, reason)] = platform.query(
        "select event_name, reason from product_events.dead_letters where event_id = 'e2e-malformed'"
    )
    assert name == "slack_command_invoked"
    assert "duration_ms" in reason
    assert platform.query("select 1 from product_events.slack_command_invoked where event_id = 'e2e-malformed'") == []
    assert platform.ingest() == "SUCCESS"
    found = dagster_api.checks(platform.config, "product_events/dead_letters")["nothing_rejected"]
    assert found is not None
    assert (found["success"], found["severity"]) == (False, "WARN")


def test_a_backfill_of_seven_days_rebuilds_these_and_no_others_the_same_each_time(platform: Platform) -> None:
    today = datetime.now(UTC).date()
    days = [(today - timedelta(days=n)).isoformat() for n in range(20, 13, -1)]
    lost, outside = days[3], (today - timedelta(days=10)).isoformat()
    with platform.still():
        before = _tables(platform)
        for key, column in MARTS.items():
            table = key.replace("/", ".")
            platform.query(f"delete from {table} where {column} in (date '{lost}', date '{outside}')")

        [run] = dagster_api.backfill(platform.config, [*MARTS], days)
        first = _tables(platform)
        for key, rows in before.items():
            expected = [row for row in rows if row[0] != outside]
            assert len(expected) < len(rows), f"{key} had nothing to lose on {outside}"
            assert any(row[0] == lost for row in rows), f"{key} had nothing to lose on {lost}"
            assert first[key] == expected, key
        made = dagster_api.partitions_made(platform.config, run)
        assert made == dict.fromkeys(MARTS, days)

        assert len(dagster_api.backfill(platform.config, [*MARTS], days)) == 1
        assert _tables(platform) == first
        dagster_api.backfill(platform.config, [*MARTS], [outside])
        assert _tables(platform) == before


def test_a_type_that_changes_at_the_source_is_told_with_the_models_at_risk_before_one_fails(platform: Platform) -> None:
    change = "drop constraint incident_participants_minutes_worked_check, alter column minutes_worked type text"
    platform.sandbox("sql", f"alter table incident_participants {change}")
    assert platform.ingest() == "SUCCESS"
    found = dagster_api.checks(platform.config, "product_public/incident_participants")["schema"]
    assert found is not None
    assert (found["success"], found["severity"]) == (False, "WARN")
    text = f"{found['description']} {found['metadataEntries']}"
    for part in ("minutes_worked", "staging/stg_product__incident_participants", "insights/time_spent_on_incidents_v2"):
        assert part in text
    failed = wait_for(
        lambda: [page for page in platform.pages() if "dbt/" in page["metadata"]["unit"]], 300, "a model fails on it"
    )
    assert all(
        datetime.fromisoformat(page["metadata"]["failed_at"]).timestamp() > found["timestamp"] for page in failed
    )


def _of_today(platform: Platform) -> Counter[str]:
    """Events of today, by name, in the mart."""
    rows = platform.query(
        "select event_name, sum(events) from product.events_by_day where occurred_on = current_date() group by event_name"
    )
    return Counter(dict(rows))


def _tables(platform: Platform) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of the marts, as text, with its day first."""
    return {
        key: sorted(
            platform.query(f"select cast({column} as string), to_json_string(t) from {key.replace('/', '.')} as t")
        )
        for key, column in MARTS.items()
    }
