"""The settings of the incident.io stand-in: each answer against the SDK's model of it, and where alerts go by them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestration.on_call.config import FILE
from sandbox.services import vendors
from sandbox.vendors.incident_io.contract import mismatches
from tests.on_call import OnCall, running
from tests.stand_ins import wait_for

SOURCE, HEARTBEAT = "01LOCALALERTSOURCE00000000", "01LOCALALERTSOURCE00000001"
LISTS = {
    "/v2/alert_attributes": ("AlertAttributesListResultV2", "AlertAttributesShowResultV2"),
    "/v2/alert_sources": ("AlertSourcesListResultV2", "AlertSourcesShowResultV2"),
    "/v3/alert_routes": ("AlertRoutesListResultV3", "AlertRoutesShowResultV3"),
    "/v2/escalation_paths": ("EscalationsListPathsResultV2", "EscalationsShowPathResultV2"),
    "/v2/schedules": ("SchedulesListResultV2", "SchedulesShowResultV2"),
    "/v2/schedule_sync_targets": ("ScheduleSyncTargetsListResultV2", "ScheduleSyncTargetsShowResultV2"),
    "/v2/schedules/01LOCALSCHEDULE00000000002/sync_rules": (
        "SchedulesListScheduleSyncRulesResultV2", "SchedulesShowScheduleSyncRuleResultV2",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def on_call(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnCall]:
    with running(tmp_path_factory.mktemp("settings"), "incident_io") as started:
        yield started


@pytest.fixture
def api(on_call: OnCall) -> Iterator[httpx.Client]:
    with client(on_call) as opened:
        yield opened


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    return request.node.nodeid


def client(on_call: OnCall) -> httpx.Client:
    headers = {"Authorization": "Bearer local-incident_io-key"}
    return httpx.Client(base_url=on_call.config.url("incident_io"), headers=headers, timeout=20)


def send(on_call: OnCall, key: str, status: str = "firing", title: str = "broken", **metadata: Any) -> None:
    body = {"title": title, "status": status, "deduplication_key": key, "metadata": metadata}
    headers = {"Authorization": "Bearer local-alert-source-token"}
    url = f"{on_call.config.url('incident_io')}/v2/alert_events/http/{SOURCE}"
    httpx.post(url, json=body, headers=headers, timeout=20).raise_for_status()


def alert(api: httpx.Client, key: str) -> dict[str, Any]:
    [found] = api.get("/v2/alerts", params={"deduplication_key[is]": key}).json()["alerts"]
    return found


def incidents(api: httpx.Client, key: str) -> list[dict[str, Any]]:
    linked = api.get("/v2/incident_alerts", params={"alert_id": alert(api, key)["id"]}).json()["incident_alerts"]
    return [api.get(f"/v2/incidents/{link['incident']['id']}").json()["incident"] for link in linked]


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


@pytest.mark.parametrize(("url", "models"), LISTS.items(), ids=LISTS)
def test_every_answer_is_as_the_sdk_has_it(api: httpx.Client, url: str, models: tuple[str, str]) -> None:
    listed = api.get(url).raise_for_status().json()
    assert mismatches(models[0], listed) == []
    [items] = [value for name, value in listed.items() if name != "pagination_meta"]
    assert items
    for item in items:
        assert mismatches(models[1], api.get(f"{url}/{item['id']}").raise_for_status().json()) == []


@pytest.mark.parametrize(
    ("url", "model"),
    [
        ("/v2/users", "UsersListResultV2"),
        ("/v1/severities", "SeveritiesListResultV1"),
        ("/v2/custom_fields", "CustomFieldsListResultV2"),
        ("/v2/alerts", "AlertsListResultV2"),
        ("/v2/incidents", "IncidentsListResultV2"),
        ("/v2/escalations", "EscalationsListResultV2"),
    ],
)
def test_what_is_not_a_setting_is_as_the_sdk_has_it_too(
    on_call: OnCall, api: httpx.Client, url: str, model: str, key: str
) -> None:
    send(on_call, key, unit="dbt/sales")
    assert mismatches(model, api.get(url).raise_for_status().json()) == []


def test_what_incident_io_would_refuse_is_refused_by_field(api: httpx.Client) -> None:
    path = api.get("/v2/escalation_paths").json()["escalation_paths"][0]
    good = {"name": "New", "path": path["path"]}
    level = path["path"][0]["level"]
    changes = {
        "path": {"name": "New"},
        "colour": good | {"colour": "red"},
        "path/0/type": good | {"path": [{"id": "x", "type": "jump"}]},
        "path/0/level/time_to_ack_seconds": good
        | {"path": [{"id": "x", "type": "level", "level": level | {"time_to_ack_seconds": "900"}}]},
        "path/level/targets": good
        | {"path": [{"id": "x", "type": "level", "level": level | {"targets": [level["targets"][0] | {"id": "01X"}]}}]},
    }
    for field, body in changes.items():
        answer = api.post("/v2/escalation_paths", json=body)
        assert (answer.status_code, answer.json()["errors"][0]["source"]["field"]) == (422, field)
        assert mismatches("ErrorResponse", answer.json()) == []
    assert len(api.get("/v2/escalation_paths").json()["escalation_paths"]) == 2


def test_a_route_is_changed_from_its_newest_version_only(api: httpx.Client) -> None:
    [slim, *_] = api.get("/v3/alert_routes").json()["alert_routes"]
    route = api.get(f"/v3/alert_routes/{slim['id']}").json()["alert_route"]
    answer = api.put(f"/v3/alert_routes/{slim['id']}", json=_written(route) | {"version": route["version"]})
    assert (answer.status_code, answer.json()["type"]) == (409, "conflict")


def _written(route: dict[str, Any]) -> dict[str, Any]:
    content = {name: value for name, value in route.items() if name not in {"id", "created_at", "updated_at"}}
    conditions = [
        condition | {"operation": condition["operation"]["value"], "subject": condition["subject"]["reference"]}
        for condition in route["condition_groups"][0]["conditions"]
    ]
    return content | {"condition_groups": [{"conditions": conditions}]}


def test_what_is_in_use_is_not_deleted(api: httpx.Client) -> None:
    for url in ("/v2/schedules/01LOCALSCHEDULE00000000001", f"/v2/alert_sources/{SOURCE}"):
        answer = api.delete(url)
        assert answer.status_code == 422
        assert "in use by" in answer.json()["errors"][0]["message"]


def test_lists_are_paged(api: httpx.Client) -> None:
    first = api.get("/v3/alert_routes", params={"page_size": 2}).json()
    rest = api.get("/v3/alert_routes", params={"page_size": 2, "after": first["pagination_meta"]["after"]}).json()
    assert (len(first["alert_routes"]), len(rest["alert_routes"])) == (2, 2)
    assert "after" not in rest["pagination_meta"]


@pytest.mark.parametrize(
    ("failed", "paged"),
    [
        pytest.param("2026-11-22T03:00:00+00:00", "2026-11-23T09:00:00+00:00", id="winter"),
        pytest.param("2026-07-05T03:00:00+01:00", "2026-07-06T09:00:00+01:00", id="summer"),
        # The Sundays on which London's clocks change, an hour or two before 03:00.
        pytest.param("2026-03-29T03:00:00+01:00", "2026-03-30T09:00:00+01:00", id="clocks go forward"),
        pytest.param("2026-10-25T03:00:00+00:00", "2026-10-26T09:00:00+00:00", id="clocks go back"),
    ],
)
def test_on_a_sunday_at_three_only_customers_wake_somebody(on_call: OnCall, key: str, failed: str, paged: str) -> None:
    on_call.clock(failed)
    send(on_call, f"{key}/internal", customer_facing=False, transient=False)
    send(on_call, f"{key}/customers", customer_facing=True, transient=False)
    [waits], [woken] = on_call.pages(f"{key}/internal"), on_call.pages(f"{key}/customers")
    assert (waits["state"], waits["schedule"], moment(waits["due_at"])) == ("pending", "Data responder", moment(paged))
    assert (woken["state"], woken["schedule"], woken["channel"]) == ("sent", "Engineers", "phone")
    assert abs((moment(woken["sent_at"]) - moment(failed)).total_seconds()) < 30
    on_call.clock(paged)
    [sent] = on_call.pages(f"{key}/internal")
    assert (sent["state"], moment(sent["sent_at"])) == ("sent", moment(paged))


def test_a_transient_failure_is_an_incident_and_pages_nobody(on_call: OnCall, api: httpx.Client, key: str) -> None:
    on_call.clock("2026-11-24T12:00:00+00:00")
    # Whoever would have been hurt: nobody was.
    send(on_call, key, transient=True, customer_facing=True)
    send(on_call, key, "resolved", transient=True, customer_facing=True)
    assert on_call.pages(key) == []
    [incident] = incidents(api, key)
    assert (incident["incident_status"]["category"], incident["severity"]["name"]) == ("closed", "Minor")
    attributes = {one["attribute"]["name"]: one["value"]["literal"] for one in alert(api, key)["attributes"]}
    assert attributes["transient"] == "true"


def test_a_repeated_firing_changes_the_alert_and_creates_nothing(on_call: OnCall, api: httpx.Client, key: str) -> None:
    on_call.clock("2026-11-21T03:00:00+00:00")
    send(on_call, key, unit="dbt/sales", flapping=False)
    before, page = alert(api, key), on_call.pages(key)
    send(on_call, key, title="broken again", unit="dbt/sales", flapping=True, customer_facing=True)
    after = alert(api, key)
    assert (after["id"], after["created_at"], after["title"]) == (before["id"], before["created_at"], "broken again")
    attributes = {one["attribute"]["name"]: one["value"]["literal"] for one in after["attributes"]}
    assert (attributes["flapping"], attributes["customer_facing"]) == ("true", "true")
    # Where it goes was decided when it opened.
    assert [one["id"] for one in on_call.pages(key)] == [one["id"] for one in page]
    assert len(incidents(api, key)) == 1

    send(on_call, key, "resolved")
    assert alert(api, key)["status"] == "resolved"
    assert [one["incident_status"]["category"] for one in incidents(api, key)] == ["closed"]
    assert [one["state"] for one in on_call.pages(key)] == ["cancelled"]


def test_a_page_that_comes_due_while_nobody_is_on_call_reaches_nobody(
    on_call: OnCall, api: httpx.Client, key: str
) -> None:
    [path] = [
        one for one in api.get("/v2/escalation_paths").json()["escalation_paths"] if one["name"] == "data-responder"
    ]
    at_once = {"name": key, "path": path["path"][1:]}
    made = api.post("/v2/escalation_paths", json=at_once).raise_for_status().json()["escalation_path"]
    on_call.clock("2026-11-21T03:00:00+00:00")
    body = {"idempotency_key": key, "title": key, "escalation_path_id": made["id"]}
    escalation = api.post("/v2/escalations", json=body).raise_for_status().json()["escalation"]
    assert escalation["events"] == []
    [page] = [one for one in on_call.inspect("incident_io", "pages") if one["title"] == key]
    assert (page["state"], page["user"], page["sent_at"]) == ("nobody", None, None)
    api.delete(f"/v2/escalation_paths/{made['id']}").raise_for_status()
    assert api.get("/v2/escalations").status_code == 200


def test_an_event_without_metadata_is_an_internal_failure(on_call: OnCall, key: str) -> None:
    on_call.clock("2026-11-24T12:00:00+00:00")
    send(on_call, key)
    assert [page["path"] for page in on_call.pages(key)] == ["data-responder"]


def test_the_zone_of_the_schedule_decides_and_not_londons(tmp_path: Path) -> None:
    file = tmp_path / "on_call.yaml"
    file.write_text(FILE.read_text().replace("Europe/London", "America/New_York"))
    with running(tmp_path / "sandbox", "incident_io", configured=False) as there:
        there.configure(file)
        for failed, paged in (
            ("2026-03-08T03:00:00-04:00", "2026-03-09T09:00:00-04:00"),
            ("2026-11-01T03:00:00-05:00", "2026-11-02T09:00:00-05:00"),
        ):
            there.clock(failed)
            send(there, failed)
            [page] = there.pages(failed)
            assert (page["state"], moment(page["due_at"])) == ("pending", moment(paged))


def test_the_routes_decide_and_nothing_else(tmp_path: Path, key: str) -> None:
    with running(tmp_path / "sandbox", "incident_io", configured=False) as there, client(there) as api:
        answer = api.post(f"/v2/alert_events/http/{SOURCE}", json={})
        assert answer.status_code == 401, "there is no alert source yet"
        there.configure()
        for route in api.get("/v3/alert_routes").json()["alert_routes"]:
            api.delete(f"/v3/alert_routes/{route['id']}").raise_for_status()
        send(there, key, customer_facing=True)
        assert (alert(api, key)["status"], incidents(api, key), there.pages(key)) == ("firing", [], [])
        there.configure()
        send(there, f"{key}/later", customer_facing=True)
        assert [page["state"] for page in there.pages(f"{key}/later")] == ["sent"]


def ping(on_call: OnCall, source: str = HEARTBEAT, token: str = "local-alert-source-token-1") -> int:
    url = f"{on_call.config.url('incident_io')}/v2/heartbeat/{source}/ping"
    return httpx.post(url, headers={"Authorization": f"Bearer {token}"}, timeout=20).status_code


@pytest.mark.long
def test_a_heartbeat_that_stays_away_raises_an_alert_and_a_ping_ends_it(tmp_path: Path) -> None:
    with running(tmp_path / "sandbox", "incident_io") as there, client(there) as api:
        [beat] = there.inspect("incident_io", "heartbeat")
        assert (beat["id"], beat["name"], beat["state"]) == (HEARTBEAT, "Data platform daemon", "waiting")
        source = api.get(f"/v2/alert_sources/{HEARTBEAT}").json()["alert_source"]
        quick = {"heartbeat_options": {"interval_seconds": 1, "grace_period_seconds": 1}}
        body = {"name": source["name"], "template": source["template"] | _unlabelled(source["template"])} | quick
        api.put(f"/v2/alert_sources/{HEARTBEAT}", json=body).raise_for_status()

        # Nobody has begun to ping: nothing is missed.
        there.clock("2026-11-22T03:00:00+00:00")
        time.sleep(2.5)
        assert there.inspect("incident_io", "pages") == []

        assert ping(there) == 204
        # The on-call clock jumps, and no time has passed.
        there.clock("2026-11-29T03:00:00+00:00")
        assert [one["state"] for one in there.inspect("incident_io", "heartbeat")] == ["healthy"]
        wait_for(lambda: there.inspect("incident_io", "pages"), 10, "an engineer is paged")
        [page] = there.inspect("incident_io", "pages")
        assert (page["state"], page["schedule"], page["title"]) == (
            "sent", "Engineers", "Heartbeat missed: Data platform daemon",
        )  # fmt: skip
        assert [one["state"] for one in there.inspect("incident_io", "heartbeat")] == ["failing"]
        time.sleep(1)
        assert len(there.inspect("incident_io", "pages")) == 1
        assert there.inspect("incident_io", "events") == [], "no event has arrived"

        assert ping(there) == 204
        assert [one["status"] for one in api.get("/v2/alerts").json()["alerts"]] == ["resolved"]
        [state] = there.inspect("incident_io", "heartbeat")
        assert (state["state"], state["pings"], state["alert_id"]) == ("healthy", 2, None)


def _unlabelled(template: dict[str, Any]) -> dict[str, Any]:
    attributes = [
        one | {"binding": one["binding"] | {"value": {"literal": one["binding"]["value"]["literal"]}}}
        for one in template["attributes"]
    ]
    texts = {name: {"literal": template[name]["literal"]} for name in ("title", "description")}
    return {"attributes": attributes} | texts


def test_a_ping_needs_the_heartbeats_own_token(on_call: OnCall) -> None:
    assert ping(on_call, token="local-alert-source-token") == 401
    assert ping(on_call, source=SOURCE) == 404
    assert httpx.get(
        f"{on_call.config.url('incident_io')}/v2/heartbeat/{HEARTBEAT}/ping", params={"token": "wrong"}
    ).status_code == 401  # fmt: skip


def test_sandbox_up_furnishes_it_by_the_platforms_own_command(tmp_path: Path, key: str) -> None:
    with running(tmp_path / "sandbox", "incident_io", configured=False) as there:
        vendors.furnish(there.config)
        assert there.configure() == (), "nothing is left to do"
        vendors.furnish(there.config)
        send(there, key, customer_facing=True)
        assert [page["schedule"] for page in there.pages(key)] == ["Engineers"]
        there.end()
        with pytest.raises(vendors.FurnishingError, match="could not connect"):
            vendors.furnish(there.config)
