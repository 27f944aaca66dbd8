"""What incident.io answers, read from a real socket: pages, and answers that are not as documented."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
import stamina

from orchestration.vendors.http import VendorError
from orchestration.vendors.incident_io import Incident, IncidentIo
from orchestration.vendors.incident_io_presence import Heartbeat, Schedules
from tests.orchestration.wire import reply, wire

SINCE = datetime(2026, 11, 24, 3, tzinfo=UTC)
ALERT = {
    "id": "01A", "title": "t", "status": "firing", "deduplication_key": "k", "alert_source_id": "01S",
    "attributes": [
        {"attribute": {"name": "Unit"}, "value": {"literal": "fivetran/product"}},
        {"attribute": {"name": "Team"}, "array_value": [{"label": "Data"}]},
    ],
    "created_at": "2026-11-24T03:00:00Z", "updated_at": "2026-11-24T03:00:00Z",
}  # fmt: skip
INCIDENT = {
    "id": "01I", "reference": "INC-1", "name": "n", "incident_status": {"category": "closed", "name": "Closed"},
    "created_at": "2026-11-24T03:00:00Z", "updated_at": "2026-11-24T03:00:00Z",
}  # fmt: skip


def page(name: str, *items: dict[str, Any], after: str | None = None) -> bytes:
    return reply(200, {name: list(items), "pagination_meta": {"page_size": 50} | ({"after": after} if after else {})})


def test_every_page_is_read_with_the_filters() -> None:
    with wire(page("alerts", ALERT, after="01A"), page("alerts", ALERT | {"id": "01B"})) as server:
        found = IncidentIo(server.url, "key").alerts("01S", SINCE)
    assert [alert.id for alert in found] == ["01A", "01B"]
    assert (found[0].attribute("unit"), found[0].attribute("team"), found[0].attribute("owner")) == (
        "fivetran/product", None, None,
    )  # fmt: skip
    first, second = server.requests
    assert "alert_source%5Bone_of%5D=01S&updated_at%5Bgte%5D=2026-11-24T03%3A00%3A00%2B00%3A00" in first
    assert "after" not in first
    assert second.split()[1].endswith("&after=01A")


def test_a_page_that_promises_another_and_is_empty_is_the_last() -> None:
    with wire(page("incidents", after="01Z")) as server:
        assert IncidentIo(server.url, "key").incidents(SINCE) == []


def test_escalations_are_asked_for_a_few_incidents_at_a_time() -> None:
    with wire(page("escalations")) as server:
        assert IncidentIo(server.url, "key").escalations_of([f"01I{n:02}" for n in range(21)]) == []
    assert [line.count("incident%5Bone_of%5D") for line in server.requests] == [20, 1]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ([], "no JSON object"),
        ({"alerts": None}, "without `alerts`"),
        ({"error": "<b>no</b>"}, "without `alerts`: {'error': ' no '}"),
        ({"alerts": [{"id": "01A"}]}, "title: Field required"),
        ({"alerts": [ALERT | {"created_at": "soon"}]}, "created_at: Input should be a valid datetime"),
        ({"alerts": ["x"]}, "as it is not documented"),
    ],
)
def test_an_answer_that_is_not_as_documented_is_named(answer: object, words: str) -> None:
    with wire(reply(200, answer)) as server, pytest.raises(VendorError) as caught:
        IncidentIo(server.url, "key").alerts("01S", None)
    assert str(caught.value).startswith("incident.io: GET v2/alerts answered ")
    assert words in str(caught.value)


def test_a_limit_on_the_rate_is_waited_for() -> None:
    limited = reply(429, {"errors": []}, Retry_After="0")
    with wire(limited, page("incidents", INCIDENT)) as server, stamina.set_testing(True, attempts=3):
        [incident] = IncidentIo(server.url, "key").incidents(SINCE)
    assert incident.reference == "INC-1"


def test_timestamps_and_fields_are_found_by_their_names() -> None:
    incident = Incident.model_validate(
        INCIDENT
        | {
            "incident_timestamp_values": [
                {"incident_timestamp": {"name": "Reported at"}, "value": {"value": "2026-11-24T03:00:00Z"}},
                {"incident_timestamp": {"name": "Resolved at"}, "value": {}},
                {"incident_timestamp": {"name": "Fixed at"}, "value": {"value": "2026-11-24T04:00:00Z"}},
                {"incident_timestamp": {"name": "Closed at"}},
            ],
            "custom_field_entries": [
                {"custom_field": {"name": "Team"}, "values": [{"value_catalog_entry": {"id": "1", "name": "Data"}}]},
                {"custom_field": {"name": "Cause"}, "values": [{"value_option": {"id": "2", "value": "Expired key"}}]},
                {"custom_field": {"name": "Link"}, "values": [{"value_link": "https://x"}]},
            ],
        }
    )
    assert incident.moment("reported") == SINCE
    assert incident.moment("resolved", "fixed", "closed") == datetime(2026, 11, 24, 4, tzinfo=UTC)
    assert incident.moment("closed") is None
    assert [incident.field(name) for name in ("cause", "team", "link", "none")] == ["Expired key", "Data", None, None]


@pytest.mark.parametrize(
    "moment",
    [
        lambda at: at.isoformat().replace("+00:00", "Z"),
        lambda at: format_datetime(at, usegmt=True).replace("GMT", "UTC"),
    ],
    ids=["timestamp", "older date"],
)
def test_a_limit_that_only_the_body_tells_is_waited_for(moment: Callable[[datetime], str]) -> None:
    at = moment(datetime.now(UTC) + timedelta(seconds=3))
    with wire(reply(429, {"rate_limit": {"retry_after": at}}), reply(200, {"incidents": []})) as server:
        began = time.monotonic()
        assert IncidentIo(server.url, "key").incidents(SINCE) == []
        assert 1 <= time.monotonic() - began < 10


def test_a_sensor_does_not_wait_for_a_long_limit() -> None:
    limited = reply(429, {}, Retry_After="30")
    with wire(limited) as server:
        began = time.monotonic()
        for ask in (Schedules(server.url, "key").find, lambda _name: Heartbeat(server.url, "id", "token").ping()):
            with pytest.raises(VendorError, match="answered 429") as caught:
                ask("Data")
            assert caught.value.retry_after == 30
        assert time.monotonic() - began < 5
        assert len(server.requests) == 2
