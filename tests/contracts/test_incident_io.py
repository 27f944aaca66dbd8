"""incident.io's list of alerts: the emulator's answers and our requests against incident.io's official SDK, which is generated from its
OpenAPI file; and against that file itself, where `VENDOR_SPECS` has it as incident_io.json.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from incident_io.api.alerts_v2 import alerts_v2_list
from incident_io.models import AlertsV2ListAlertSource, AlertsV2ListDeduplicationKey, AlertsV2ListStatus, AlertV2Status

from orchestration.vendors.incident_io import AlertEvent, AlertSource
from orchestration.vendors.incident_io_alerts import PAGE, AlertList
from sandbox.vendors.incident_io.contract import mismatches
from tests.contracts.specs import Spec
from tests.on_call import OnCall, running
from tests.orchestration.wire import reply, wire

SOURCE = "01LOCALALERTSOURCE00000000"
LISTS = {
    "all": {},
    "one page of several": {"page_size": 2},
    "the page after it": {"page_size": 2, "after": None},
    "those that fire": {"status[one_of]": "firing", "alert_source[one_of]": SOURCE},
    "one key": {"deduplication_key[is]": "contract/1"},
    "no such key": {"deduplication_key[is]": "contract/none", "alert_source[one_of]": SOURCE},
    "since a day": {"created_at[gte]": "2026-01-01"},
}


@pytest.fixture(scope="module")
def on_call(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnCall]:
    with running(tmp_path_factory.mktemp("incident-io"), "incident_io") as started:
        source = AlertSource(started.config.url("incident_io"), SOURCE, "local-alert-source-token")
        for number in range(5):
            source.send(AlertEvent(f"contract/{number}", "firing", "t", "d", "http://127.0.0.1/runs/1", {"unit": "u"}))
        source.send(AlertEvent("contract/0", "resolved", "t", "", "", {}))
        yield started


def listed(on_call: OnCall, filters: dict[str, Any]) -> httpx.Response:
    headers = {"Authorization": "Bearer local-incident_io-key"}
    with httpx.Client(base_url=on_call.config.url("incident_io"), headers=headers, timeout=20) as api:
        if "after" in filters:
            first = api.get("/v2/alerts", params={"page_size": filters["page_size"]}).json()
            filters = filters | {"after": first["pagination_meta"]["after"]}
        return api.get("/v2/alerts", params=filters)


@pytest.mark.parametrize("filters", LISTS.values(), ids=LISTS.keys())
def test_the_list_is_answered_as_the_sdk_has_it(on_call: OnCall, filters: dict[str, Any]) -> None:
    answer = listed(on_call, filters)
    assert answer.status_code == 200
    assert mismatches("AlertsListResultV2", answer.json()) == []


@pytest.mark.parametrize("filters", LISTS.values(), ids=LISTS.keys())
def test_the_list_is_answered_as_the_openapi_file_says(on_call: OnCall, filters: dict[str, Any]) -> None:
    Spec.named("incident_io").check("GET", "/v2/alerts", listed(on_call, filters))


def test_the_requests_are_those_of_the_sdk() -> None:
    source = AlertsV2ListAlertSource.from_dict({"one_of": ["01S"]})
    firing = AlertsV2ListStatus.from_dict({"one_of": [AlertV2Status.FIRING.value]})
    key = AlertsV2ListDeduplicationKey.from_dict({"is": ["a key / with & signs"]})
    build = alerts_v2_list._get_kwargs  # pyright: ignore[reportPrivateUsage]
    expected = [
        build(page_size=PAGE, alert_source=source, status=firing),
        build(page_size=PAGE, alert_source=source, status=firing, after="01A"),
        build(page_size=PAGE, alert_source=source, deduplication_key=key),
    ]
    more = {"alerts": [{}], "pagination_meta": {"after": "01A"}}
    with wire(reply(200, more), reply(200, {"alerts": []})) as server:
        alert_list = AlertList(server.url, "key", "01S")
        alert_list.read_firing_keys(5, time.monotonic() + 20)
        alert_list.has_alert("a key / with & signs")
    for line, request in zip(server.requests, expected, strict=True):
        sent = urlsplit(line.split()[1])
        of_sdk = httpx.Request(request["method"], f"http://x{request['url']}", params=request["params"])
        assert sent.path == of_sdk.url.path
        assert sorted(parse_qsl(sent.query)) == sorted(of_sdk.url.params.multi_items())


@pytest.mark.parametrize(
    "filters",
    [
        {"page_size": 51},
        {"page_size": 0},
        {"status": "firing"},
        {"deduplication_key[one_of]": "x"},
        {"colour[is]": "red"},
    ],
)
def test_what_the_list_does_not_take_is_refused(on_call: OnCall, filters: dict[str, Any]) -> None:
    answer = listed(on_call, filters)
    assert answer.status_code == 422
    assert answer.json()["errors"]


def test_events_that_are_dropped_are_answered_like_all_others(on_call: OnCall) -> None:
    from sandbox.vendors.context import VendorContext

    faults = VendorContext.of(on_call.config).faults
    faults.add("incident_io", "contract/lost", "drops", {"status": "firing"})
    source = AlertSource(on_call.config.url("incident_io"), SOURCE, "local-alert-source-token")
    try:
        for key, status in (("contract/lost", "firing"), ("contract/4", "resolved"), ("contract/kept", "firing")):
            source.send(AlertEvent(key, status, "t", "", "", {}))  # pyright: ignore[reportArgumentType]
    finally:
        faults.remove()
    assert [one["deduplication_key"] for one in on_call.inspect("incident_io", "dropped")] == ["contract/lost"]
    assert listed(on_call, {"deduplication_key[is]": "contract/lost"}).json()["alerts"] == []
    [kept] = listed(on_call, {"deduplication_key[is]": "contract/kept"}).json()["alerts"]
    assert kept["status"] == "firing"
