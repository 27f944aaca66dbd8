"""The incident.io stand-in, spoken to by incident.io's own SDK."""

# Of the SDK each answer may be an error and each field unset, by type: a test that meets one fails there.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import itertools
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from incident_io import AuthenticatedClient
from incident_io.api.alert_events_v2 import alert_events_v2_create_http
from incident_io.api.alert_routes_v3 import alert_routes_v3_list
from incident_io.api.alert_sources_v2 import alert_sources_v2_list
from incident_io.api.alerts_v2 import alerts_v2_list, alerts_v2_list_incident_alerts, alerts_v2_show
from incident_io.api.escalations_v2 import (
    escalations_v2_create,
    escalations_v2_list,
    escalations_v2_list_paths,
    escalations_v2_respond_escalation,
    escalations_v2_show,
)
from incident_io.api.incidents_v2 import incidents_v2_list, incidents_v2_show
from incident_io.api.schedules_v2 import schedules_v2_list, schedules_v2_list_schedule_entries, schedules_v2_show
from incident_io.models import (
    AlertEventsCreateHTTPPayloadV2,
    AlertEventsCreateHTTPResultV2,
    AlertsV2ListAlertSource,
    AlertsV2ListCreatedAt,
    AlertsV2ListDeduplicationKey,
    AlertsV2ListStatus,
    AlertV2,
    ErrorResponse,
    EscalationsCreatePayloadV2,
    EscalationsRespondEscalationPayloadV2,
    EscalationsV2ListAlert,
    EscalationV2,
    IncidentsV2ListStatusCategory,
    IncidentV2,
)

from sandbox.vendors import rate_limits
from sandbox.vendors.context import VendorContext
from tests.on_call import OnCall, running

SOURCE = "01LOCALALERTSOURCE00000000"
ENGINEERS = {"Ada Brandt", "Kofi Mensah", "Lena Novak", "Sam Whitfield"}
DATA_RESPONDERS = {"Priya Nair", "Jonas Weber", "Maeve Doyle"}
# In winter London's wall clock is UTC; 2026-11-21 is a Saturday.
SATURDAY_NIGHT, MONDAY_OPENING = "2026-11-21T03:00:00+00:00", "2026-11-23T09:00:00+00:00"
TUESDAY_NOON = "2026-11-24T12:00:00+00:00"


@pytest.fixture(scope="module")
def on_call(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnCall]:
    with running(tmp_path_factory.mktemp("incident-io"), "incident_io") as started:
        yield started


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    """A deduplication key of the test's own."""
    return request.node.nodeid


def _client(on_call: OnCall, token: str) -> AuthenticatedClient:
    return AuthenticatedClient(base_url=on_call.config.url("incident_io"), token=token, timeout=httpx.Timeout(20))


@pytest.fixture
def api(on_call: OnCall) -> Iterator[AuthenticatedClient]:
    with _client(on_call, "local-incident_io-key") as client:
        yield client


@pytest.fixture
def source(on_call: OnCall) -> Iterator[AuthenticatedClient]:
    with _client(on_call, "local-alert-source-token") as client:
        yield client


def send(source: AuthenticatedClient, key: str, status: str = "firing", **more: Any) -> Any:
    metadata = {"customer_facing": more.pop("customer_facing", False), "owner": "ada", "asset": "insights/pages"}
    body = {"title": "insights/pages failed", "status": status, "deduplication_key": key, "metadata": metadata}
    payload = AlertEventsCreateHTTPPayloadV2.from_dict(body | more)
    answer = alert_events_v2_create_http.sync(SOURCE, client=source, body=payload)
    assert isinstance(answer, AlertEventsCreateHTTPResultV2), answer
    return answer


def alerts(api: AuthenticatedClient, key: str) -> list[AlertV2]:
    """The key's alerts, newest first."""
    wanted = AlertsV2ListDeduplicationKey.from_dict({"is": [key]})
    return alerts_v2_list.sync(client=api, deduplication_key=wanted).alerts


def escalations(api: AuthenticatedClient, key: str) -> list[EscalationV2]:
    wanted = EscalationsV2ListAlert.from_dict({"one_of": [alert.id for alert in alerts(api, key)]})
    return escalations_v2_list.sync(client=api, alert=wanted).escalations


def incidents(api: AuthenticatedClient, key: str) -> list[IncidentV2]:
    """The incidents that the key's alerts opened, newest first."""
    opened = {alert.id for alert in alerts(api, key)}
    found = incidents_v2_list.sync(client=api, page_size=500).incidents
    return [incident for incident in found if incident.creator.alert.id in opened]


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def test_a_firing_alert_becomes_one_incident_however_often_it_is_sent(on_call, api, source, key) -> None:
    on_call.clock(TUESDAY_NOON)
    answer = send(source, key, description="first", source_url="http://127.0.0.1:3000/runs/1")
    assert (answer.deduplication_key, answer.status) == (key, "success")
    [before] = alerts(api, key)
    send(source, key, title="insights/pages failed again", description="second")
    send(source, key, title="insights/pages failed again", description="third")

    [alert] = alerts(api, key)
    assert (alert.id, alert.created_at, alert.status) == (before.id, before.created_at, "firing")
    assert (alert.title, alert.description) == ("insights/pages failed again", "third")
    assert alert.updated_at > before.updated_at
    attributes = {entry.attribute.name: entry.value.literal for entry in alert.attributes}
    # What the source's template reads from the metadata, and no more.
    assert attributes == {
        "customer_facing": "false",
        "urgent": "false",
        "transient": "false",
        "flapping": "false",
        "owner": "ada",
    }
    [incident] = incidents(api, key)
    assert incident.incident_status.category == "live"
    assert len(escalations(api, key)) == len(on_call.pages(key)) == 1
    assert [event["description"] for event in on_call.events(key)] == ["first", "second", "third"]
    assert on_call.events(key)[0]["source_url"] == "http://127.0.0.1:3000/runs/1"


def test_a_resolved_alert_that_fires_again_is_a_new_incident(on_call, api, source, key) -> None:
    on_call.clock(TUESDAY_NOON)
    send(source, key)
    on_call.clock("2026-11-24T13:00:00+00:00")
    send(source, key, "resolved")
    [closed] = incidents(api, key)
    assert closed.incident_status.category == "closed"
    assert closed.duration_metrics[0].status == "success"
    assert closed.duration_metrics[0].value_seconds == pytest.approx(3600, abs=30)
    [alert] = alerts(api, key)
    assert alert.status == "resolved"
    assert alert.resolved_at == alert.updated_at
    assert [escalation.status for escalation in escalations(api, key)] == ["resolved"]

    send(source, key)
    assert [a.status for a in alerts(api, key)] == ["firing", "resolved"]
    live, still_closed = incidents(api, key)
    assert still_closed.id == closed.id
    assert (live.incident_status.category, still_closed.incident_status.category) == ("live", "closed")
    assert int(live.reference.removeprefix("INC-")) > int(closed.reference.removeprefix("INC-"))
    assert [page["state"] for page in on_call.pages(key)] == ["sent", "sent"]
    assert [event["status"] for event in on_call.events(key)] == ["firing", "resolved", "firing"]


def test_resolving_what_never_fired_is_accepted_and_opens_nothing(on_call, api, source, key) -> None:
    send(source, key, "resolved")
    assert alerts(api, key) == []
    assert on_call.pages(key) == []
    assert [event["status"] for event in on_call.events(key)] == ["resolved"]


def test_a_customer_facing_failure_pages_an_engineer_at_night(on_call, api, source, key) -> None:
    on_call.clock(SATURDAY_NIGHT)
    send(source, key, customer_facing=True)
    [page] = on_call.pages(key)
    assert (page["state"], page["schedule"], page["path"]) == ("sent", "Engineers", "customer-facing")
    assert page["user"] in ENGINEERS
    assert (moment(page["sent_at"]) - moment(SATURDAY_NIGHT)).total_seconds() == pytest.approx(0, abs=30)
    assert page["incident"] == incidents(api, key)[0].reference
    assert page["alert_id"] == alerts(api, key)[0].id
    assert page["metadata"]["customer_facing"] is True
    [escalation] = escalations(api, key)
    assert escalation.status == "triggered"
    assert [event.event for event in escalation.events] == ["triggered", "notified_users"]
    assert escalation.events[1].users[0].name == page["user"]


@pytest.mark.parametrize(
    ("failed", "paged"),
    [
        pytest.param(SATURDAY_NIGHT, MONDAY_OPENING, id="Saturday night"),
        pytest.param("2026-11-20T17:00:00+00:00", MONDAY_OPENING, id="Friday at closing"),
        pytest.param("2026-11-23T08:59:00+00:00", MONDAY_OPENING, id="Monday before opening"),
        pytest.param("2026-11-23T18:00:00+00:00", "2026-11-24T09:00:00+00:00", id="Monday evening"),
        pytest.param("2026-03-27T18:00:00+00:00", "2026-03-30T08:00:00+00:00", id="clocks go forward on Sunday"),
        pytest.param("2026-10-23T17:00:00+00:00", "2026-10-26T09:00:00+00:00", id="clocks go back on Sunday"),
        pytest.param("2026-07-01T07:30:00+00:00", "2026-07-01T08:00:00+00:00", id="summer morning"),
    ],
)
def test_an_internal_failure_waits_for_the_working_hours_in_london(on_call, api, source, key, failed, paged) -> None:
    on_call.clock(failed)
    send(source, key)
    [page] = on_call.pages(key)
    assert (page["state"], page["user"], page["sent_at"]) == ("pending", None, None)
    assert (page["schedule"], page["path"]) == ("Data responder", "data-responder")
    assert moment(page["due_at"]) == moment(paged)
    assert [escalation.status for escalation in escalations(api, key)] == ["pending"]
    assert [incident.incident_status.category for incident in incidents(api, key)] == ["live"]

    on_call.clock(paged)
    [sent] = on_call.pages(key)
    assert (sent["id"], sent["state"]) == (page["id"], "sent")
    assert moment(sent["sent_at"]) == moment(paged)
    assert sent["user"] in DATA_RESPONDERS
    assert [escalation.status for escalation in escalations(api, key)] == ["triggered"]


@pytest.mark.parametrize("at", ["2026-11-23T09:00:00+00:00", "2026-11-20T16:59:00+00:00", "2026-07-01T08:00:00+00:00"])
def test_an_internal_failure_in_working_hours_pages_at_once(on_call, source, key, at) -> None:
    on_call.clock(at)
    send(source, key)
    [page] = on_call.pages(key)
    assert page["state"] == "sent"
    assert page["user"] in DATA_RESPONDERS


def test_a_failure_that_recovers_in_time_wakes_nobody(on_call, api, source, key) -> None:
    on_call.clock(SATURDAY_NIGHT)
    send(source, key)
    send(source, key, "resolved")
    on_call.clock(TUESDAY_NOON)
    [page] = on_call.pages(key)
    assert (page["state"], page["user"], page["sent_at"]) == ("cancelled", None, None)
    [escalation] = escalations(api, key)
    assert escalation.status == "cancelled"
    assert [event.event for event in escalation.events] == ["cancelled"]


def test_an_hour_that_passed_unseen_paged_who_was_on_call_then(on_call, api, source, key) -> None:
    on_call.clock(SATURDAY_NIGHT)
    send(source, key)
    # Nobody looks before the resolution, a week and another person's rotation later.
    on_call.clock("2026-12-01T12:00:00+00:00")
    send(source, key, "resolved")
    [page] = on_call.pages(key)
    assert (page["state"], moment(page["sent_at"])) == ("sent", moment(MONDAY_OPENING))
    on_call.clock("2026-11-23T10:00:00+00:00")
    listed = {schedule.name: schedule for schedule in schedules_v2_list.sync(client=api).schedules}
    assert page["user"] == listed["Data responder"].current_shifts[0].user.name


def acknowledge(api: AuthenticatedClient, escalation: str, response: str = "ack") -> int:
    body = EscalationsRespondEscalationPayloadV2.from_dict({"response": response})
    return escalations_v2_respond_escalation.sync_detailed(escalation, client=api, body=body).status_code


def test_an_acknowledged_escalation_says_when_and_pages_nobody_else(on_call, api, source, key) -> None:
    on_call.clock(SATURDAY_NIGHT)
    send(source, key)
    [escalation] = escalations(api, key)
    assert acknowledge(api, escalation.id, "snooze") == 422
    assert acknowledge(api, escalation.id) == acknowledge(api, escalation.id) == 200
    on_call.clock(MONDAY_OPENING)
    assert [page["state"] for page in on_call.pages(key)] == ["cancelled"]
    [acked] = escalations(api, key)
    assert (acked.status, [event.event for event in acked.events]) == ("acked", ["acked"])
    assert abs((acked.events[0].occurred_at - moment(SATURDAY_NIGHT)).total_seconds()) < 30
    send(source, key, "resolved")
    [ended] = escalations(api, key)
    assert (ended.status, [event.event for event in ended.events]) == ("resolved", ["acked", "resolved"])
    assert acknowledge(api, ended.id) == 422
    assert acknowledge(api, "01NONE") == 404


def test_an_incident_has_its_alert_its_times_and_its_cause(on_call, api, source, key) -> None:
    on_call.clock(TUESDAY_NOON)
    send(source, key, metadata={"unit": "fivetran/product"})
    [alert], [live] = alerts(api, key), incidents(api, key)
    [link] = alerts_v2_list_incident_alerts.sync(client=api, alert_id=alert.id).incident_alerts
    assert (link.alert.id, link.incident.id) == (alert.id, live.id)
    [same] = alerts_v2_list_incident_alerts.sync(client=api, incident_id=live.id).incident_alerts
    assert same == link
    [cause] = live.custom_field_entries
    assert (cause.custom_field.name, cause.values[0].value_text) == ("Cause", "fivetran/product")
    on_call.clock("2026-11-24T13:00:00+00:00")
    send(source, key, "resolved")

    def times(incident: IncidentV2) -> dict[str, datetime | None]:
        return {
            t.incident_timestamp.name: t.value.value if t.value else None for t in incident.incident_timestamp_values
        }

    [closed] = incidents(api, key)
    assert times(live) == {"Reported": live.created_at, "Resolved": None}
    assert times(closed) == {"Reported": live.created_at, "Resolved": closed.updated_at}


def test_alerts_are_filtered_by_their_source(api, source, key) -> None:
    send(source, key)
    for one, found in ((SOURCE, True), ("01ANOTHERSOURCE", False)):
        wanted = AlertsV2ListAlertSource.from_dict({"one_of": [one]})
        assert bool(alerts_v2_list.sync(client=api, alert_source=wanted).alerts) == found


def test_events_at_the_same_moment_make_one_incident(on_call, api, source, key) -> None:
    keys, together = [f"{key}-{n}" for n in range(12)], 8
    ready = threading.Barrier(together)

    def fire(_thread: int) -> None:
        for one in keys:
            ready.wait(timeout=30)
            send(source, one)

    with ThreadPoolExecutor(together) as pool:
        list(pool.map(fire, range(together)))
    pages = on_call.inspect("incident_io", "pages")
    for one in keys:
        assert len(alerts(api, one)) == len([page for page in pages if page["deduplication_key"] == one]) == 1
        assert len(on_call.events(one)) == together
    incident = [page["incident"] for page in pages if page["deduplication_key"] in keys]
    assert len(set(incident)) == len(keys)


def test_a_killed_server_comes_back_with_its_alerts_and_waiting_pages(on_call, api, source, key) -> None:
    on_call.clock(SATURDAY_NIGHT)
    send(source, key)
    before = on_call.pages(key), on_call.events(key)
    on_call.end(signal.SIGKILL)
    on_call.start()
    assert (on_call.pages(key), on_call.events(key)) == before
    send(source, key)
    assert len(incidents(api, key)) == 1
    on_call.clock(MONDAY_OPENING)
    assert [page["state"] for page in on_call.pages(key)] == ["sent"]


def test_wrong_tokens_are_refused(on_call, source, api) -> None:
    payload = AlertEventsCreateHTTPPayloadV2.from_dict(
        {"title": "x", "status": "firing", "deduplication_key": "refused"}
    )
    # Each token opens its own door only.
    for client in (api, _client(on_call, "wrong")):
        answer = alert_events_v2_create_http.sync(SOURCE, client=client, body=payload)
        assert isinstance(answer, ErrorResponse)
        assert (answer.status, answer.type_) == (401, "authentication_error")
    answer = incidents_v2_list.sync(client=source)
    assert isinstance(answer, ErrorResponse)
    assert answer.status == 401
    answer = alert_events_v2_create_http.sync("01ANOTHERSOURCE", client=source, body=payload)
    assert isinstance(answer, ErrorResponse)
    assert (answer.status, answer.type_) == (404, "not_found")
    assert on_call.events("refused") == []


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"title": None}, "title"),
        ({"title": ""}, "title"),
        ({"status": "broken"}, "status"),
        ({"status": None}, "status"),
        ({"deduplication_key": None}, "deduplication_key"),
        ({"metadata": ["a", "list"]}, "metadata"),
        ({"source_url": 7}, "source_url"),
    ],
)
def test_a_bad_event_is_refused_by_field(on_call, source, change, field) -> None:
    body = {"title": "x", "status": "firing", "deduplication_key": "bad"} | change
    sent = {name: value for name, value in body.items() if value is not None}
    answer = source.get_httpx_client().post(f"/v2/alert_events/http/{SOURCE}", json=sent)
    assert answer.status_code == 422
    error = ErrorResponse.from_dict(answer.json())
    assert error.type_ == "validation_error"
    assert [problem.source.field for problem in error.errors] == [field]
    assert on_call.events("bad") == []


@pytest.mark.parametrize("body", [b"{", b"", b"[]", b'"text"'])
def test_a_body_that_is_no_object_is_refused(source, body) -> None:
    url = f"/v2/alert_events/http/{SOURCE}"
    answer = source.get_httpx_client().post(url, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in {400, 422}
    assert ErrorResponse.from_dict(answer.json()).status == answer.status_code


def test_alerts_are_filtered_and_paged(on_call, api, source, key) -> None:
    keys = [f"{key}-{n}" for n in range(5)]
    on_call.clock("2030-01-07T12:00:00+00:00")
    for one in keys:
        send(source, one)
    send(source, keys[0], "resolved")
    since = AlertsV2ListCreatedAt.from_dict({"gte": ["2030-01-01"]})
    firing = AlertsV2ListStatus.from_dict({"one_of": ["firing"]})
    seen, after, sizes = [], {}, []
    while True:
        page = alerts_v2_list.sync(client=api, page_size=2, created_at=since, **after)
        seen += [alert.deduplication_key for alert in page.alerts]
        sizes.append(len(page.alerts))
        if not page.pagination_meta.after:
            break
        after = {"after": page.pagination_meta.after}
    assert (seen, sizes) == (list(reversed(keys)), [2, 2, 1])
    found = alerts_v2_list.sync(client=api, created_at=since, status=firing).alerts
    assert {alert.deduplication_key for alert in found} == set(keys[1:])
    later = AlertsV2ListCreatedAt.from_dict({"gte": ["2031-01-01T00:00:00Z"]})
    assert alerts_v2_list.sync(client=api, created_at=later).alerts == []
    assert alerts_v2_show.sync(found[0].id, client=api).alert == found[0]


@pytest.mark.parametrize(
    "query", ["page_size=0", "page_size=51", "page_size=x", "created_at[gte]=today", "colour[is]=red", "status[like]=f"]
)
def test_a_list_refuses_what_it_does_not_understand(api, query) -> None:
    answer = api.get_httpx_client().get(f"/v2/alerts?{query}")
    assert answer.status_code == 422
    assert ErrorResponse.from_dict(answer.json()).type_ == "validation_error"


def test_incidents_are_filtered_by_status_and_paged(api, source, key) -> None:
    for n in range(3):
        send(source, f"{key}-{n}")
        send(source, f"{key}-{n}", "resolved")
    send(source, key)
    live = IncidentsV2ListStatusCategory.from_dict({"one_of": ["live"]})
    closed = IncidentsV2ListStatusCategory.from_dict({"one_of": ["closed"]})
    [newest, *_] = incidents_v2_list.sync(client=api, status_category=live).incidents
    assert newest.id == incidents(api, key)[0].id
    first = incidents_v2_list.sync(client=api, status_category=closed, page_size=2)
    rest = incidents_v2_list.sync(client=api, status_category=closed, page_size=500, after=first.pagination_meta.after)
    found = [*first.incidents, *rest.incidents]
    assert len(found) == len({incident.id for incident in found}) == first.pagination_meta.total_record_count
    assert {incident.incident_status.category for incident in found} == {"closed"}
    assert incidents_v2_show.sync(newest.id, client=api).incident == newest
    missing = incidents_v2_show.sync("01NONE", client=api)
    assert isinstance(missing, ErrorResponse)
    assert missing.status == 404


def test_schedules_say_who_is_on_call(on_call, api) -> None:
    on_call.clock(SATURDAY_NIGHT)
    by_name = {schedule.name: schedule for schedule in schedules_v2_list.sync(client=api).schedules}
    assert set(by_name) == {"Engineers", "Data responder"}
    engineer, responder = by_name["Engineers"], by_name["Data responder"]
    [shift] = engineer.current_shifts
    assert shift.start_at <= moment(SATURDAY_NIGHT) < shift.end_at
    assert shift.user.name in ENGINEERS
    assert shift.user.email
    assert shift.user.slack_user_id
    assert responder.current_shifts == []
    assert responder.next_shifts[0].start_at == moment(MONDAY_OPENING)

    on_call.clock(MONDAY_OPENING)
    [now_on] = schedules_v2_show.sync(responder.id, client=api).schedule.current_shifts
    assert now_on.user == responder.next_shifts[0].user
    assert isinstance(schedules_v2_show.sync("01NONE", client=api), ErrorResponse)


def test_schedule_entries_cover_the_window(on_call, api) -> None:
    by_name = {schedule.name: schedule for schedule in schedules_v2_list.sync(client=api).schedules}

    def final(name: str, start: str, end: str) -> list[Any]:
        answer = schedules_v2_list_schedule_entries.sync(
            client=api, schedule_id=by_name[name].id, entry_window_start=start, entry_window_end=moment(end)
        )
        return answer.schedule_entries.final

    weeks = final("Engineers", "2026-11-01T00:00:00Z", "2026-11-30T00:00:00Z")
    assert all(one.end_at == two.start_at for one, two in itertools.pairwise(weeks))
    assert weeks[0].start_at <= moment("2026-11-01T00:00:00Z")
    assert weeks[-1].end_at >= moment("2026-11-30T00:00:00Z")
    assert {entry.user.name for entry in weeks} == ENGINEERS
    # The week of the change to summer time: 9:00 in London is 9:00 UTC before it and 8:00 UTC after.
    days = final("Data responder", "2026-03-27T00:00:00Z", "2026-03-31T00:00:00Z")
    assert [entry.start_at for entry in days] == [moment("2026-03-27T09:00:00Z"), moment("2026-03-30T08:00:00Z")]
    assert [entry.end_at for entry in days] == [moment("2026-03-27T17:00:00Z"), moment("2026-03-30T16:00:00Z")]
    assert days[0].user != days[1].user


def test_the_settings_parse(api, source) -> None:
    paths = {path.name: path for path in escalations_v2_list_paths.sync(client=api).escalation_paths}
    assert set(paths) == {"customer-facing", "data-responder"}
    assert [node.type_ for node in paths["data-responder"].path] == ["delay", "level"]
    [hours] = paths["data-responder"].working_hours
    assert (hours.timezone, len(hours.weekday_intervals)) == ("Europe/London", 5)
    sources = alert_sources_v2_list.sync(client=api).alert_sources
    assert [(found.id, found.secret_token, found.source_type) for found in sources] == [
        (SOURCE, "local-alert-source-token", "http"),
        ("01LOCALALERTSOURCE00000001", "local-alert-source-token-1", "heartbeat"),
    ]
    assert [route.enabled for route in alert_routes_v3_list.sync(client=api).alert_routes] == [True] * 4


def test_an_escalation_by_hand_happens_once(on_call, api, key) -> None:
    on_call.clock(SATURDAY_NIGHT)
    paths = {path.name: path.id for path in escalations_v2_list_paths.sync(client=api).escalation_paths}
    body = {"idempotency_key": key, "title": f"help: {key}", "escalation_path_id": paths["customer-facing"]}
    made = [
        escalations_v2_create.sync(client=api, body=EscalationsCreatePayloadV2.from_dict(body)).escalation
        for _ in range(2)
    ]
    assert made[0] == made[1]
    assert made[0].status == "triggered"
    assert escalations_v2_show.sync(made[0].id, client=api).escalation == made[0]
    [page] = [page for page in on_call.inspect("incident_io", "pages") if page["title"] == f"help: {key}"]
    assert page["state"] == "sent"

    person = made[0].events[1].users[0]
    straight = {"idempotency_key": f"{key}-2", "title": "you", "user_ids": [person.id]}
    paged = escalations_v2_create.sync(client=api, body=EscalationsCreatePayloadV2.from_dict(straight)).escalation
    assert paged.events[1].users == [person]

    for wrong in ({"user_ids": [person.id]}, {"escalation_path_id": "01NONE"}, {"escalation_path_id": None}):
        refused = {k: v for k, v in (body | {"idempotency_key": "no"} | wrong).items() if v is not None}
        answer = escalations_v2_create.sync(client=api, body=EscalationsCreatePayloadV2.from_dict(refused))
        assert isinstance(answer, ErrorResponse), wrong


def test_an_unknown_address_answers_as_incident_io_does(api) -> None:
    answer = api.get_httpx_client().get("/v2/nothing")
    assert answer.status_code == 404
    assert ErrorResponse.from_dict(answer.json()).type_ == "not_found"


def test_the_limits_are_those_that_incident_io_documents(on_call: OnCall) -> None:
    shown = rate_limits.shown(VendorContext.of(on_call.config).store)
    limits = {one["name"]: (one["requests"], one["seconds"], one["burst"]) for one in shown}
    assert limits == {"alert_events": (120, 60, 120), "api_requests": (1200, 60, 1200)}


@pytest.fixture
def low_limits(on_call: OnCall) -> Iterator[None]:
    store = VendorContext.of(on_call.config).store
    rate_limits.override(store, "incident_io", "alert_events", 6, burst=2)
    rate_limits.override(store, "incident_io", "api_requests", 6, burst=2)
    yield
    rate_limits.reset(store)


def test_an_alert_source_over_its_limit_is_told_when_to_come_again(low_limits, source, key, on_call) -> None:
    before = datetime.now(UTC)
    body = {"title": "insights/pages failed", "status": "firing", "deduplication_key": key, "metadata": {}}
    payload = AlertEventsCreateHTTPPayloadV2.from_dict(body)
    answers = [alert_events_v2_create_http.sync_detailed(SOURCE, client=source, body=payload) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [202, 202, 429]
    limit = answers[2].parsed.rate_limit
    assert (limit.name, limit.limit, limit.remaining) == ("alert_events", 6, 0)
    assert 1 <= int(answers[2].headers["retry-after"]) <= 10
    assert 0 < (datetime.fromisoformat(limit.retry_after) - before).total_seconds() < 12
    assert len(on_call.events(key)) == 2


def test_an_api_key_over_its_limit_is_told_when_to_come_again(low_limits, api) -> None:
    answers = [alerts_v2_list.sync_detailed(client=api) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert isinstance(answers[2].parsed, ErrorResponse)
