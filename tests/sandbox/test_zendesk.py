"""Zendesk's stand-in over HTTP: its incremental exports and its errors."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from sandbox.company.tick import tick
from sandbox.services import postgres
from tests.stand_ins import Vendors, at


def export(vendors: Vendors, name: str, **query: Any) -> tuple[list[dict[str, Any]], str]:
    """What an export by cursor gives to its end, and the cursor there."""
    page = get(vendors, f"incremental/{name}/cursor.json", **query)
    found = list(page[name])
    while not page["end_of_stream"]:
        assert page["after_cursor"] in page["after_url"]
        more = query | {"cursor": page["after_cursor"]}
        page = get(vendors, f"incremental/{name}/cursor.json", **more)
        found += page[name]
    return found, page["after_cursor"]


def get(vendors: Vendors, path: str, **query: Any) -> dict[str, Any]:
    return vendors.zendesk.get(f"/api/v2/{path}", params=query).raise_for_status().json()


def ids(vendors: Vendors, table: str) -> list[int]:
    return sorted(key for (key,) in vendors.sql(f"select id from company_state.{table}"))


@pytest.mark.parametrize(("name", "table"), [("tickets", "support_tickets"), ("users", "support_users")])
def test_an_export_by_cursor_gives_everything_once_and_then_nothing(vendors, name, table):
    found, cursor = export(vendors, name, start_time=0, per_page=9)
    assert sorted(record["id"] for record in found) == ids(vendors, table)
    assert export(vendors, name, cursor=cursor) == ([], cursor)


@pytest.mark.parametrize("per_page", [1, 4, 1000])
def test_an_export_by_time_gives_everything_though_some_twice(vendors, per_page):
    seen: set[int] = set()
    page = get(vendors, "incremental/organizations.json", start_time=0, per_page=per_page)
    seen |= {record["id"] for record in page["organizations"]}
    while not page["end_of_stream"]:
        page = vendors.zendesk.get(page["next_page"]).json()
        seen |= {record["id"] for record in page["organizations"]}
    assert sorted(seen) == ids(vendors, "support_organizations")
    again = get(vendors, "incremental/organizations.json", start_time=page["end_time"])
    assert again["count"] <= 1


def test_the_desk_is_the_companys(vendors):
    organizations = {o["id"]: o for o in get(vendors, "incremental/organizations.json", start_time=0)["organizations"]}
    assert {o["external_id"] for o in organizations.values()} == {
        k for (k,) in vendors.sql("select id from organisations")
    }
    users, _ = export(vendors, "users", start_time=0)
    emails = {email for (email,) in vendors.sql("select email from users")}
    assert {u["email"] for u in users if u["role"] == "end-user"} <= emails
    assert {u["role"] for u in users if u["organization_id"] is None} == {"agent", "admin"}
    people = {u["id"]: u for u in users}
    for ticket in export(vendors, "tickets", start_time=0)[0]:
        assert people[ticket["requester_id"]]["organization_id"] == ticket["organization_id"] in organizations
        assert at(ticket["updated_at"]) >= at(ticket["created_at"])
        if ticket["status"] != "deleted":
            assert (ticket["assignee_id"] is None) == (ticket["status"] == "new")


def test_comments_come_with_the_ticket_events_when_asked_for(vendors):
    path = "incremental/ticket_events.json"
    plain = get(vendors, path, start_time=0)["ticket_events"]
    assert {child["event_type"] for event in plain for child in event["child_events"]} == {"Create", "Change"}
    events = get(vendors, path, start_time=0, include="comment_events")["ticket_events"]
    said = [child for event in events for child in event["child_events"] if child["event_type"] == "Comment"]
    assert {child["id"] for child in said} <= set(ids(vendors, "support_comments"))
    assert {child["event_type"] for child in said} == {"Comment"}
    assert {child["public"] for child in said} == {True, False}


def test_the_changes_of_a_ticket_lead_to_what_it_is(vendors):
    page = get(vendors, "incremental/ticket_events.json", start_time=0)
    events = {event["id"]: event for event in page["ticket_events"]}
    while not page["end_of_stream"]:
        page = vendors.zendesk.get(page["next_page"]).raise_for_status().json()
        events |= {event["id"]: event for event in page["ticket_events"]}
    states: dict[int, dict[str, str | None]] = {}
    for event in sorted(events.values(), key=lambda event: (event["timestamp"], event["id"])):
        state = states.setdefault(event["ticket_id"], {})
        for child in event["child_events"]:
            for field in child.keys() & {"status", "assignee_id"}:
                assert child["previous_value"] == state.get(field)
                state[field] = child[field]
    tickets = [ticket for ticket in export(vendors, "tickets", start_time=0)[0] if ticket["status"] != "deleted"]
    assert {"solved", "closed"} <= {ticket["status"] for ticket in tickets}
    for ticket in tickets:
        state = states[ticket["id"]]
        assert state["status"] == ticket["status"]
        assert state.get("assignee_id") == (None if ticket["assignee_id"] is None else str(ticket["assignee_id"]))


def test_an_hour_of_business_and_a_deletion_come_past_the_cursor(vendors):
    before, cursor = export(vendors, "tickets", start_time=0)
    result = tick(postgres.dsn(vendors.config), hours=8)
    changed, cursor = export(vendors, "tickets", cursor=cursor)
    counts = result.services["support_tickets"]
    assert counts.inserted
    assert {t["id"] for t in changed} - {t["id"] for t in before}
    assert counts.inserted <= len(changed) <= counts.inserted + counts.updated
    organizations = {
        o["id"]: o["external_id"] for o in get(vendors, "incremental/organizations.json", start_time=0)["organizations"]
    }
    assert {organizations[t["organization_id"]] for t in changed} <= result.organisations

    victim = changed[0]["id"]
    assert vendors.zendesk.delete(f"/api/v2/tickets/{victim}.json").status_code == 204
    [deleted] = export(vendors, "tickets", cursor=cursor)[0]
    assert (deleted["id"], deleted["status"]) == (victim, "deleted")
    again = vendors.zendesk.delete(f"/api/v2/tickets/{victim}.json")
    assert (again.status_code, again.json()["error"]) == (404, "RecordNotFound")


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        ("incremental/tickets/cursor.json", 400, "StartTimeMissing"),
        ("incremental/tickets/cursor.json?cursor=!!", 400, "InvalidCursor"),
        ("incremental/nothing.json", 404, "InvalidEndpoint"),
    ],
)
def test_errors_are_zendesks(vendors, path, status, error):
    answer = vendors.zendesk.get(f"/api/v2/{path}")
    assert (answer.status_code, answer.json()["error"]) == (status, error)


def test_without_a_token_nothing_is_given(vendors):
    url = f"{vendors.config.url('zendesk')}/api/v2/incremental/organizations.json?start_time=0"
    answer = httpx.get(url, auth=("fivetran@example.com", "password"))
    assert (answer.status_code, answer.json()) == (401, {"error": "Couldn't authenticate you"})


def test_it_can_be_broken(vendors):
    vendors.faults.add("zendesk", kind="truncated")
    with pytest.raises(ValueError, match=r"Unterminated|Expecting|delimiter"):
        vendors.zendesk.get("/api/v2/incremental/organizations.json", params={"start_time": 0}).json()
