"""Hex's stand-in over HTTP, and whether it answers as Hex's own spec has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from google.cloud import bigquery

from sandbox.config import PROJECT
from sandbox.vendors import rate_limits
from sandbox.vendors.context import VendorContext
from sandbox.vendors.hex.catalogue import PROJECTS
from sandbox.vendors.hex.content import add_projects
from tests.contracts.specs import Spec
from tests.stand_ins import Vendors, fill, wait_for

PATH = "/api/v1/projects"
CHURN, REVIEW = PROJECTS
ONE, RUNS, RUN = "/v1/projects/{projectId}", "/v1/projects/{projectId}/runs", "/v1/projects/{projectId}/runs/{runId}"
Check = Callable[[str, str, httpx.Response], Any]


@pytest.fixture(scope="module")
def spec() -> Spec:
    return Spec.named("hex")


@pytest.fixture(scope="module")
def marts(vendors: Vendors) -> None:
    """Each table that the company's projects query, with one row."""
    fill({table.reads for project in PROJECTS for table in project.tables if table.reads})


def triggered(vendors: Vendors, project: str, **body: Any) -> str:
    return vendors.hex.post(f"{PATH}/{project}/runs", json=body).raise_for_status().json()["runId"]


def run(vendors: Vendors, project: str, run_id: str) -> dict[str, Any]:
    return vendors.hex.get(f"{PATH}/{project}/runs/{run_id}").raise_for_status().json()


def ended(vendors: Vendors, project: str, run_id: str) -> dict[str, Any]:
    wait_for(lambda: run(vendors, project, run_id)["endTime"], 30, "the run ends")
    return run(vendors, project, run_id)


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer other"}, {"Authorization": "local-hex-token"}])
def test_nobody_gets_in_without_the_token(vendors, headers):
    answer = httpx.get(vendors.config.url("hex") + PATH, headers=headers)
    assert (answer.status_code, "token" in answer.json()["reason"]) == (401, True)


def test_projects_are_listed_as_the_spec_has_it(vendors, spec):
    page = spec.check("GET", "/v1/projects", vendors.hex.get(PATH))
    found = {project["id"]: project for project in page["values"]}
    assert found[CHURN.id]["title"] == "Churn analysis"
    assert found[REVIEW.id]["categories"][0]["name"] == "Run when its data lands"
    assert spec.check("GET", ONE, vendors.hex.get(f"{PATH}/{CHURN.id}")) == found[CHURN.id]


def test_queried_tables_are_listed_as_the_spec_has_it(vendors, spec):
    answer = vendors.hex.get(f"{PATH}/{CHURN.id}/queriedTables", params={"limit": 2})
    first = spec.check("GET", f"{ONE}/queriedTables", answer)
    names = [table["tableName"] for table in first["values"]]
    assert names == ["`local-dev.finance.mrr_movements`", "`local-dev.snapshots.stripe_subscriptions_history`"]
    more = {"limit": 100, "after": first["pagination"]["after"]}
    rest = spec.check("GET", f"{ONE}/queriedTables", vendors.hex.get(f"{PATH}/{CHURN.id}/queriedTables", params=more))
    assert [table["tableName"] for table in rest["values"]][1:] == ["core.incidents", "support.tickets"]
    assert rest["pagination"]["after"] is None


def test_pages_have_every_project_once_and_archived_ones_only_where_asked(vendors, spec):
    store = VendorContext.of(vendors.config).store
    truth = add_projects(store, 120, ["core.incidents", "sales.pipeline", "support.tickets"], seed=1)
    assert add_projects(store, 120, ["core.incidents", "sales.pipeline", "support.tickets"], seed=1) == truth

    def listed(**params: Any) -> list[str]:
        ids: list[str] = []
        while True:
            page = spec.check("GET", "/v1/projects", vendors.hex.get(PATH, params=params))
            ids += [project["id"] for project in page["values"]]
            if not (after := page["pagination"]["after"]):
                return ids
            params["after"] = after

    alive = listed(limit=7)
    assert len(alive) == len(set(alive)) == len(truth) + 2
    assert set(alive) == set(truth) | {CHURN.id, REVIEW.id}
    assert len(listed(limit=100, includeArchived=True, includeTrashed=True)) == 122
    assert listed(categories=["Run when its data lands"]) == [REVIEW.id]
    assert listed(ownerEmail="finance@example.com") == [CHURN.id]


@pytest.mark.parametrize(
    ("path", "params", "status"),
    [
        ("", {"limit": 101}, 422),
        ("", {"after": "bm9uZQ=="}, 400),
        ("/8f562e53-d0ba-4340-8d38-f916f2693666", {}, 404),
        ("/x", {}, 422),
    ],
)
def test_what_cannot_be_answered_is_refused_with_a_reason(vendors, path, params, status):
    answer = vendors.hex.get(PATH + path, params=params)
    assert (answer.status_code, bool(answer.json()["reason"])) == (status, True)


def test_a_run_queries_the_warehouse_and_completes(vendors, marts, spec):
    body = {"updatePublishedResults": True, "useCachedSqlResults": False}
    spec.validate_request("POST", RUNS, body)
    started = spec.check("POST", RUNS, vendors.hex.post(f"{PATH}/{REVIEW.id}/runs", json=body))
    first = spec.check("GET", RUN, vendors.hex.get(f"{PATH}/{REVIEW.id}/runs/{started['runId']}"))
    assert (first["status"], first["startTime"], first["elapsedTime"]) == ("PENDING", None, None)
    ended(vendors, REVIEW.id, started["runId"])
    last = spec.check("GET", RUN, vendors.hex.get(f"{PATH}/{REVIEW.id}/runs/{started['runId']}"))
    assert (last["status"], last["runTrigger"], last["elapsedTime"] > 0) == ("COMPLETED", "API", True)
    project = vendors.hex.get(f"{PATH}/{REVIEW.id}").json()
    wait_for(
        lambda: vendors.hex.get(f"{PATH}/{REVIEW.id}").json()["analytics"]["publishedResultsUpdatedAt"] >= last["endTime"],
        5, "the published app has the results",
    )  # fmt: skip
    assert project["lastEditedAt"] == REVIEW.edited_at
    assert httpx.get(last["runUrl"]).status_code == 200


def test_a_run_whose_table_is_not_there_is_errored(vendors, marts, spec):
    warehouse = bigquery.Client(project=PROJECT)
    warehouse.delete_table("support.tickets")
    run_id = triggered(vendors, CHURN.id)
    assert ended(vendors, CHURN.id, run_id)["status"] == "ERRORED"
    warehouse.load_table_from_json([{"id": 1}], "support.tickets").result()
    assert ended(vendors, CHURN.id, triggered(vendors, CHURN.id))["status"] == "COMPLETED"
    listed = spec.check("GET", RUNS, vendors.hex.get(f"{PATH}/{CHURN.id}/runs", params={"statusFilter": "ERRORED"}))
    assert [run["runId"] for run in listed["runs"]] == [run_id]


def test_runs_are_listed_newest_first_by_page_and_by_trigger(vendors, marts, spec):
    newest = triggered(vendors, CHURN.id)
    first = spec.check("GET", RUNS, vendors.hex.get(f"{PATH}/{CHURN.id}/runs", params={"limit": 1}))
    assert [run["runId"] for run in first["runs"]] == [newest]
    following = spec.check("GET", RUNS, vendors.hex.get(first["nextPage"]))
    assert following["runs"][0]["runId"] != newest
    scheduled = vendors.hex.get(f"{PATH}/{CHURN.id}/runs", params={"runTriggerFilter": "SCHEDULED"}).json()
    assert scheduled["runs"] == []
    ended(vendors, CHURN.id, newest)


def test_a_run_is_killed(vendors, marts, spec):
    vendors.faults.add("hex", "churn_analysis", "slow_run", {"seconds": 60})
    run_id = triggered(vendors, CHURN.id)
    wait_for(lambda: run(vendors, CHURN.id, run_id)["status"] == "RUNNING", 10, "the run begins")
    spec.check("DELETE", RUN, vendors.hex.delete(f"{PATH}/{CHURN.id}/runs/{run_id}"))
    assert run(vendors, CHURN.id, run_id)["status"] == "KILLED"
    spec.check("DELETE", RUN, vendors.hex.delete(f"{PATH}/{CHURN.id}/runs/{run_id}"))


def test_a_fault_fails_the_runs_of_its_project_only(vendors, marts):
    vendors.faults.add("hex", "churn_analysis", times=1)
    failing, fine = triggered(vendors, CHURN.id), triggered(vendors, REVIEW.id)
    assert ended(vendors, CHURN.id, failing)["status"] == "ERRORED"
    assert ended(vendors, REVIEW.id, fine)["status"] == "COMPLETED"


@pytest.mark.parametrize(
    ("body", "status"),
    [({"force": True}, 422), ({"inputParams": {"a": 1}, "updatePublishedResults": True}, 400), ({"dryRun": "maybe"}, 422)],
)  # fmt: skip
def test_a_run_that_may_not_be_is_refused(vendors, spec, body, status):
    answer = vendors.hex.post(f"{PATH}/{CHURN.id}/runs", json=body)
    assert answer.status_code == status
    spec.check("POST", RUNS, answer)


def test_more_runs_than_twenty_in_a_minute_are_refused_until_later(vendors, spec):
    vendors.stop()
    vendors.start()
    answers = [vendors.hex.post(f"{PATH}/{CHURN.id}/runs", json={"dryRun": True}) for _ in range(21)]
    assert [answer.status_code for answer in answers] == [201] * 20 + [429]
    spec.check("POST", RUNS, answers[0])
    assert "retry-after" not in answers[-1].headers
    assert "20 requests in 60 seconds" in answers[-1].json()["reason"]
    assert vendors.hex.get(f"{PATH}/{CHURN.id}/runs").status_code == 200


def test_one_project_may_be_asked_for_thirty_times_a_minute_and_the_list_as_often_as_one_likes(vendors, spec):
    limits = {one["name"]: one for one in rate_limits.shown(VendorContext.of(vendors.config).store)}
    assert (limits["requests_minute"]["requests"], limits["requests_hour"]["requests"]) == (30, 1800)
    vendors.stop()
    vendors.start()
    for path, last in ((f"{PATH}/{CHURN.id}", 429), (PATH, 200)):
        answers = [vendors.hex.get(path).status_code for _ in range(31)]
        assert answers == [200] * 30 + [last]


def test_a_run_that_is_under_way_when_hex_is_killed_has_an_end(vendors, marts):
    vendors.stop()
    vendors.start()
    vendors.faults.add("hex", CHURN.id, "slow_run", {"seconds": 60})
    run_id = triggered(vendors, CHURN.id)
    vendors.stop(9)
    vendors.start()
    assert run(vendors, CHURN.id, run_id)["status"] == "KILLED"
