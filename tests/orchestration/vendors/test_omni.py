from __future__ import annotations

from typing import Any

import pytest
import stamina

from orchestration.vendors.http import VendorError
from orchestration.vendors.omni import WINDOW_SECONDS, Omni
from orchestration.vendors.omni_payloads import Broken, Document, Model, Query
from orchestration.vendors.waiting import SyncFailed, Wait
from tests.orchestration.wire import RESET, refused_port, reply, wire

MODEL = Model(id="m1", name="Warehouse", model_kind="SCHEMA", connection_id="c1")
STARTED = reply(200, {"jobId": "j1", "modelId": "m1", "status": "running"})


def status(name: str) -> bytes:
    return reply(200, {"job_id": "j1", "job_type": "REFRESH_SCHEMA", "status": name})


def page(*records: Any, cursor: str | None = None) -> bytes:
    info = {"hasNextPage": cursor is not None, "nextCursor": cursor, "pageSize": 100, "totalRecords": 9}
    return reply(200, {"pageInfo": info, "records": list(records)})


def document(**given: Any) -> dict[str, Any]:
    whole = {
        "connectionId": "c1", "deleted": False, "folder": None, "hasDashboard": True, "identifier": "a1", "name": "A",
        "owner": {"id": "u1", "name": "Ada"}, "scope": "organization", "type": "document", "updatedAt": "2026-01-01T00:00:00Z",
        "url": "https://acme.omniapp.co/dashboards/a1",
    }  # fmt: skip
    return whole | given


def client(url: str, sleeps: list[float] | None = None) -> Omni:
    return Omni(url, "k", sleep=(sleeps if sleeps is not None else []).append)


def waiting(seconds: float = 30) -> tuple[Wait, list[str], list[float]]:
    """A wait that takes no time, what it says, and how long it would have slept."""
    said: list[str] = []
    slept: list[float] = []
    return Wait(seconds, "Raise the limit.", said.append, slept.append), said, slept


def test_all_pages_are_read_and_a_document_that_is_on_two_of_them_counts_once() -> None:
    with wire(page(document(), cursor="next/1="), page(document(), document(identifier="b2"))) as server:
        assert [one.identifier for one in client(server.url).documents()] == ["a1", "b2"]
        assert [line.split()[1] for line in server.requests] == [
            "/api/v1/documents?pageSize=100",
            "/api/v1/documents?pageSize=100&cursor=next%2F1%3D",
        ]


def test_a_cursor_that_leads_nowhere_ends_the_reading() -> None:
    with wire(page(document(), cursor="x")) as server:
        assert len(client(server.url).documents()) == 1
        assert len(server.requests) == 2


@pytest.mark.parametrize(
    "given",
    [
        {"updatedAt": None},
        {"folder": {"name": "In Progress"}, "labels": [{"name": "é!"}, "b c", None]},
        {"owner": None},
        {"owner": {}},
        {"name": None},
        {"name": "📈 a/b 'c' \"d\"\n"},
        {"connectionId": None, "url": None, "hasDashboard": None, "somethingNew": [1]},
    ],
)
def test_an_odd_document_is_taken_as_it_is(given: dict[str, Any]) -> None:
    with wire(page(document(**given))) as server:
        [found] = client(server.url).documents()
        assert (found.identifier, bool(found.title)) == ("a1", True)


def test_a_document_with_next_to_nothing_is_taken_and_a_deleted_one_is_not() -> None:
    with wire(page({"identifier": "bare"}, document(identifier="gone", deleted=True))) as server:
        assert client(server.url).documents() == [Document(identifier="bare")]
        assert Document(identifier="bare", name="  ").title == "Untitled"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (page({"name": "no identifier"}), "not as documented"),
        (reply(200, {"pageInfo": {}}), "no list `records`"),
        (reply(200, []), "which is no object"),
        (reply(401, {"detail": "Unauthorized", "status": 401}), "Unauthorized"),
        (reply(403, "<h1>Forbidden</h1>"), "403: Forbidden"),
    ],
)
def test_what_is_not_as_documented_is_an_error_that_says_so(answer: bytes, says: str) -> None:
    with wire(answer) as server, pytest.raises(VendorError, match=says):
        client(server.url).documents()


@pytest.mark.parametrize(
    "fault",
    [
        RESET,
        reply(429, {"detail": "Too Many Requests"}, Retry_After="0"),
        reply(500, {"detail": "oops"}),
        reply(502, "<html><h1>Bad Gateway</h1></html>"),
        reply(200, '{"records": [{"identi'),
    ],
    ids=["reset", "429", "500", "html", "truncated"],
)
def test_a_request_that_failed_in_passing_is_made_again(fault: Any) -> None:
    with wire(fault, page(document())) as server:
        assert len(client(server.url).documents()) == 1
        assert len(server.requests) == 2


def test_a_refused_connection_is_an_error_that_names_omni() -> None:
    with (
        stamina.set_testing(True),
        pytest.raises(VendorError, match=r"Omni: GET http://127.0.0.1:.* could not connect") as caught,
    ):
        client(f"http://127.0.0.1:{refused_port()}").documents()
    assert not caught.value.started


def test_a_limit_without_a_time_has_its_minute_waited_for() -> None:
    slept: list[float] = []
    busy = reply(429, {"detail": "Too Many Requests"})
    with wire(busy, page(document())) as server:
        assert len(client(server.url, slept).documents()) == 1
    assert slept == [WINDOW_SECONDS]


@pytest.mark.parametrize(
    ("status", "branch", "remedy"),
    [
        (400, None, "Add `m1: <id of the branch>` to `branch_of` of OmniDocuments"),
        (400, "b1", "names the branch b1 for it, but Omni takes one only where branch-based schema refresh is on"),
        (403, None, "The owner of OMNI_API_KEY needs the role of connection admin in Omni."),
    ],
)
def test_a_refresh_that_is_refused_names_the_setting_or_the_role(status: int, branch: str | None, remedy: str) -> None:
    with wire(reply(status, {"detail": "Omni's own words", "status": status})) as server:
        with pytest.raises(SyncFailed) as caught:
            client(server.url).refresh(MODEL, waiting()[0], branch)
        assert len(server.requests) == 1
    assert remedy in str(caught.value)
    assert str(caught.value).endswith(f"answered {status}: Omni's own words")
    assert caught.value.permanent


def test_a_branch_is_sent_with_the_refresh() -> None:
    with wire(STARTED, status("COMPLETED")) as server:
        client(server.url).refresh(MODEL, waiting()[0], "b1")
        assert server.requests[0].startswith("POST /api/v1/models/m1/refresh?branch_id=b1 ")


def test_queries_say_which_views_they_read() -> None:
    queries = [
        {"id": "1", "name": "Plain", "query": {"table": "sales__pipeline", "fields": ["sales__pipeline.amount"]}},
        {"id": "2", "name": "Joined", "query": {"table": "a__b", "fields": ["a__b.x[date]", "c__d.y", "calc_1", 7, None]}},
        {"id": "3", "name": "SQL", "query": {"userEditedSQL": "select 1 from x.y"}},
        {"id": "4", "name": "Odd", "query": {"table": ["a"], "fields": "b", "userEditedSQL": " "}},
        {"id": "5", "query": None},
        {"id": "6", "name": None, "query": "?"},
        "?",
    ]  # fmt: skip
    with wire(reply(200, {"queries": queries})) as server:
        assert client(server.url).queries("a/b c") == [
            Query(name="Plain", views=["sales__pipeline"]),
            Query(name="Joined", views=["a__b", "c__d"]),
            Query(name="SQL", sql="select 1 from x.y"),
            Query(name="Odd"),
            Query(name="unnamed"),
            Query(name="unnamed"),
        ]
        assert server.requests[0].split()[1] == "/api/v1/documents/a%2Fb%20c/queries"


def test_a_document_without_queries_is_answered_with_404() -> None:
    with wire(reply(404, {"detail": "Not Found"})) as server:
        assert client(server.url).queries("a1") == []


def test_users_are_read_by_their_place_in_the_list() -> None:
    users = [{"id": f"u{n}", "userName": f"u{n}@example.com"} for n in range(3)] + [{"id": "u3"}]
    first = reply(200, {"Resources": users[:2], "totalResults": 4})
    second = reply(200, {"Resources": users[2:], "totalResults": 4})
    with wire(first, second) as server:
        assert client(server.url).emails() == {f"u{n}": f"u{n}@example.com" for n in range(3)}
        assert server.requests[1].split()[1] == "/api/scim/v2/Users?count=100&startIndex=3"


def test_a_refresh_is_waited_for() -> None:
    wait, said, _slept = waiting()
    with wire(STARTED, status("IN_PROGRESS"), status("COMPLETED")) as server:
        client(server.url).refresh(MODEL, wait)
        assert [line.split()[:2] for line in server.requests] == [
            ["POST", "/api/v1/models/m1/refresh"],
            ["GET", "/api/v1/jobs/j1/status"],
            ["GET", "/api/v1/jobs/j1/status"],
        ]
    assert said == ["Warehouse: refresh j1 IN_PROGRESS", "Warehouse: refresh j1 COMPLETED"]


def test_a_refresh_that_fails_says_where_the_reason_is() -> None:
    with wire(STARTED, status("FAILED")) as server, pytest.raises(SyncFailed, match=r"job j1.*the connection's page"):
        client(server.url).refresh(MODEL, waiting()[0])


def test_a_refresh_that_takes_too_long_says_what_to_do() -> None:
    with (
        wire(STARTED, status("IN_PROGRESS")) as server,
        pytest.raises(SyncFailed, match=r"time limit.*Raise the limit"),
    ):
        client(server.url).refresh(MODEL, waiting(0)[0])


@pytest.mark.parametrize("lost", [RESET, reply(502, "<h1>Bad Gateway</h1>")], ids=["reset", "502"])
def test_a_refresh_whose_answer_is_lost_is_started_once_more_and_no_oftener(lost: Any) -> None:
    wait, said, _slept = waiting()
    with wire(lost, STARTED, status("COMPLETED")) as server:
        client(server.url).refresh(MODEL, wait)
        assert sum(line.startswith("POST") for line in server.requests) == 2
    assert "starting it once more" in said[0]
    with wire(lost) as server:
        with pytest.raises(VendorError):
            client(server.url).refresh(MODEL, waiting()[0])
        assert sum(line.startswith("POST") for line in server.requests) == 2


def validated(**given: Any) -> dict[str, Any]:
    return {
        "identifier": "d1",
        "name": "D",
        "type": "Published",
        "queries_and_issues": [],
        "dashboard_filter_issues": [],
    } | given


@pytest.mark.parametrize(
    ("given", "issues"),
    [
        ({"queries_and_issues": [{"query_name": "Q", "issues": ["Field 'a.b' not found in model"]}]}, ["Q: Field 'a.b' not found in model"]),
        ({"queries_and_issues": [{"issues": [{"message": "gone"}]}, {"query_name": "R", "issues": None}, None]}, ["a query: gone"]),
        ({"dashboard_filter_issues": ["Field 'a.c' not found in model"]}, ["a filter: Field 'a.c' not found in model"]),
        ({"document_error": "cannot be parsed"}, ["document_error: cannot be parsed"]),
        ({"errors": []}, []),
        ({"type": "draft", "dashboard_filter_issues": ["x"]}, []),
    ],
)  # fmt: skip
def test_broken_documents_are_told_in_omnis_words(given: dict[str, Any], issues: list[str]) -> None:
    with wire(reply(200, {"model_id": "m1", "branch": None, "content": [validated(**given), validated()]})) as server:
        expected = [Broken(identifier="d1", name="D", issues=issues)] if issues else []
        assert client(server.url).broken(MODEL) == expected
        assert "content_filter_mode=WITH_ISSUES" in server.requests[0]
