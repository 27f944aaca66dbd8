from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from orchestration.vendors import hex as module
from orchestration.vendors.hex import Hex, Project, Ran
from orchestration.vendors.http import VendorError
from orchestration.vendors.waiting import SyncFailed, Wait
from tests.contracts.specs import Spec
from tests.orchestration.wire import RESET, Wire, reply, wire

PROJECT = Project(id="p1", title="Churn analysis", last_published_at="2026-02-02T15:31:00Z")
NONE_YET = reply(200, {"runs": []})
GONE = reply(204, "")
PAGE = "<h1>Bad Gateway</h1>"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)


def a_run(status: str = "RUNNING", number: int = 1, began: str | None = "2026-02-02T15:31:00Z") -> dict[str, Any]:
    return {"runId": f"r{number}", "runUrl": f"https://hex/r{number}", "status": status, "startTime": began}


def started(number: int = 1) -> bytes:
    return reply(201, {"runId": f"r{number}", "runUrl": f"https://hex/r{number}"})


def waiting(seconds: float = 30, sleep: Callable[[float], None] = lambda _seconds: None) -> Wait:
    return Wait(seconds, "Raise the limit.", lambda _text: None, sleep)


def methods(server: Wire) -> list[str]:
    return [line.split()[0] for line in server.requests]


def run(server: Wire, wait: Wait | None = None) -> Ran:
    return Hex(server.url, "t").run(PROJECT, wait or waiting())


def listed(*values: Any, after: str | None = None) -> bytes:
    return reply(200, {"values": list(values), "pagination": {"after": after, "before": None}})


def test_projects_are_read_page_by_page_and_odd_ones_are_no_obstacle() -> None:
    odd = {"id": "2", "title": None, "owner": None, "categories": [{"name": "Finance"}], "new": True}
    gone = {"id": "3", "title": "Old", "archivedAt": "2026-01-01T00:00:00Z"}
    with wire(listed({"id": "1", "title": " A "}, after="x=/"), listed(odd, gone)) as server:
        found = Hex(server.url, "t").projects()
        assert [(one.id, one.name) for one in found] == [("1", "A"), ("2", "Untitled")]
        assert [line.split()[1] for line in server.requests] == [
            "/v1/projects?limit=100", "/v1/projects?limit=100&after=x%3D%2F",
        ]  # fmt: skip


def test_a_cursor_that_comes_again_ends_the_list() -> None:
    with wire(listed({"id": "1"}, after="x"), listed({"id": "2"}, after="x")) as server:
        assert [one.id for one in Hex(server.url, "t").projects()] == ["1", "2"]


def test_tables_come_once_in_hexs_own_spelling() -> None:
    with wire(listed({"tableName": "`a`.b"}, {"tableName": "a.b"}, {"tableName": "`a`.b"})) as server:
        assert Hex(server.url, "t").queried_tables("p1") == ["`a`.b", "a.b"]


def test_a_limit_on_reading_is_waited_for_where_hex_does_not_say_how_long() -> None:
    limited, slept = [reply(429, {"reason": "slow down"})] * 3, list[float]()
    with wire(*limited, listed({"tableName": "a.b"})) as server:
        assert Hex(server.url, "t", sleep=slept.append).queried_tables("p1") == ["a.b"]
    assert slept == [60] * 3


@pytest.mark.parametrize(
    "trouble", [reply(500, {}), reply(502, PAGE), reply(200, '{"runs": ['), RESET], ids=["500", "html", "half", "reset"]
)
def test_a_poll_outlives_a_fault(trouble: object) -> None:
    with wire(NONE_YET, started(), reply(200, a_run()), trouble, reply(200, a_run("COMPLETED"))) as server:
        assert run(server).run.status == "COMPLETED"
        assert methods(server) == ["GET", "POST", "GET", "GET", "GET"]


def test_what_is_published_is_run_anew_and_the_app_shows_it() -> None:
    with wire(NONE_YET, started(), reply(200, a_run("COMPLETED"))) as server:
        assert run(server).run.run_url == "https://hex/r1"
        body = json.loads(server.bodies[1])
        assert body == {"updatePublishedResults": True, "useCachedSqlResults": False}
    Spec.named("hex").validate_request("POST", "/v1/projects/{projectId}/runs", body)


@pytest.mark.parametrize(
    "lost", [RESET, reply(500, {}), reply(502, PAGE), reply(201, '{"runId": ')], ids=["reset", "500", "html", "half"]
)
def test_a_trigger_whose_answer_is_lost_is_not_sent_again_and_its_run_is_found(lost: object) -> None:
    old = a_run("COMPLETED", 1)
    both = reply(200, {"runs": [old, a_run("PENDING", 2, began=None)]})
    with wire(reply(200, {"runs": [old]}), lost, both, reply(200, a_run("COMPLETED", 2))) as server:
        assert run(server).run.run_id == "r2"
        assert methods(server) == ["GET", "POST", "GET", "GET"]
        assert all("runTriggerFilter=API" in server.requests[number] for number in (0, 2))


def test_a_run_that_is_listed_a_little_late_is_found_too() -> None:
    with wire(NONE_YET, RESET, NONE_YET, reply(200, {"runs": [a_run("RUNNING", 2)]})) as server:
        assert Hex(server.url, "t").trigger("p1").run_id == "r2"


def test_a_trigger_that_started_nothing_is_an_error() -> None:
    with wire(NONE_YET, reply(502, PAGE), NONE_YET) as server:
        with pytest.raises(VendorError, match="502: Bad Gateway"):
            run(server)
        assert methods(server).count("POST") == 1


def test_a_run_that_hex_refuses_is_not_looked_for() -> None:
    with wire(NONE_YET, reply(403, {"reason": "The token may not run it."})) as server:
        with pytest.raises(VendorError, match="may not run it") as problem:
            run(server)
        assert (methods(server), problem.value.permanent) == (["GET", "POST"], True)


def test_a_limit_on_runs_is_waited_for_and_asked_again() -> None:
    limited = reply(429, {"reason": "Too many runs"}, Retry_After="600")
    pauses: list[float] = []
    wait = waiting(3000, pauses.append)
    with wire(NONE_YET, limited, NONE_YET, started(), reply(200, a_run("COMPLETED"))) as server:
        assert run(server, wait).run.run_id == "r1"
        assert 600 in pauses


def test_a_limit_on_runs_that_lasts_longer_than_the_wait_is_an_error() -> None:
    limited = reply(429, {"reason": "Too many runs"}, Retry_After="600")
    with wire(NONE_YET, limited) as server, pytest.raises(VendorError, match="Too many runs"):
        run(server, waiting(30))


@pytest.mark.parametrize(
    ("status", "why"), [("ERRORED", "A cell"), ("KILLED", "Somebody"), ("UNABLE_TO_ALLOCATE_KERNEL", "no machine")]
)
def test_a_run_that_ends_badly_says_what_that_means_and_where_to_look(status: str, why: str) -> None:
    with wire(NONE_YET, started(), reply(200, a_run(status)), GONE) as server:
        with pytest.raises(SyncFailed, match=f"{status}.*{why}.*https://hex/r1"):
            run(server)
        assert "DELETE" not in methods(server)


def test_what_was_never_published_is_not_run() -> None:
    with wire(NONE_YET) as server:
        with pytest.raises(SyncFailed, match="never published") as problem:
            Hex(server.url, "t").run(Project(id="p1", title="Draft"), waiting())
        assert (server.requests, problem.value.permanent) == ([], True)


def test_a_run_that_takes_too_long_is_cancelled_at_hex() -> None:
    with wire(NONE_YET, started(), reply(200, a_run()), GONE) as server:
        with pytest.raises(SyncFailed, match=r"not finished within the time limit.*Run r1 was cancelled at Hex"):
            run(server, waiting(0.1))
        assert server.requests[-1].startswith("DELETE /v1/projects/p1/runs/r1 ")


class Cancelled:
    """The sleep of a step that is cancelled once its run is under way."""

    def __init__(self, after: int) -> None:
        self._left = after

    def __call__(self, _seconds: float) -> None:
        self._left -= 1
        if self._left < 0:
            raise SyncFailed("The run was cancelled.")


def test_a_step_that_is_cancelled_cancels_its_run_at_hex() -> None:
    with wire(NONE_YET, started(), reply(200, a_run()), reply(200, a_run()), GONE) as server:
        with pytest.raises(SyncFailed, match=r"The run was cancelled\. Run r1 was cancelled at Hex"):
            run(server, waiting(sleep=Cancelled(2)))
        assert methods(server) == ["GET", "POST", "GET", "GET", "DELETE"]


def test_a_step_that_is_cancelled_before_it_begins_starts_nothing() -> None:
    with wire(NONE_YET) as server:
        with pytest.raises(SyncFailed, match="cancelled"):
            run(server, waiting(sleep=Cancelled(0)))
        assert server.requests == []


@pytest.mark.parametrize("trouble", [reply(500, {}), reply(403, {"reason": "no"}), RESET], ids=["500", "403", "reset"])
def test_a_cancel_that_fails_hides_not_why(trouble: object) -> None:
    said = r"^The run was cancelled\..*could not be cancelled either"
    with wire(NONE_YET, started(), reply(200, a_run()), trouble) as server, pytest.raises(SyncFailed, match=said):
        run(server, waiting(sleep=Cancelled(1)))


def test_a_hex_that_stops_answering_is_told_to_cancel_and_the_first_error_is_told() -> None:
    said: list[str] = []
    wait = Wait(30, "", said.append, lambda _seconds: None)
    with wire(NONE_YET, started(), reply(404, {"reason": "no such run"})) as server:
        with pytest.raises(VendorError, match=r"GET .* answered 404"):
            run(server, wait)
        assert methods(server)[-1] == "DELETE"
        assert "could not be cancelled" in said[-1]
