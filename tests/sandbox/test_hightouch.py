"""Hightouch's stand-in over HTTP: from a table in the warehouse into Salesforce."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.cloud import bigquery

from sandbox.config import PROJECT
from sandbox.vendors import rate_limits
from sandbox.vendors.context import VendorContext
from sandbox.vendors.hightouch import catalogue, destination
from sandbox.vendors.hightouch.catalogue import Model, Sync
from tests.on_call import running
from tests.stand_ins import Mart, Vendors, at, wait_for

SLUG = "salesforce_account_health"
NEWEST_FIRST = {"orderBy": "id", "orderDirection": "desc"}
NONE = {"addedCount": 0, "changedCount": 0, "removedCount": 0}


def counts(**changes: int) -> dict[str, int]:
    return NONE | {f"{name}Count": value for name, value in changes.items()}


def account(vendors: Vendors, organisation: str) -> dict[str, Any]:
    path = f"/services/data/v59.0/sobjects/Account/Organisation_Id__c/{organisation}"
    return vendors.salesforce.get(path).raise_for_status().json()


def test_a_first_run_upserts_every_row_and_a_second_none(vendors, organisations):
    assert vendors.hightouch.get("/api/v1/syncs/1").json()["status"] == "pending"
    mart = Mart(organisations)
    first = vendors.run()
    assert first["status"] == "success"
    assert first["querySize"] == len(organisations) > 3
    assert first["plannedRows"] == first["successfulRows"] == counts(added=len(organisations))
    assert (first["failedRows"], first["error"], first["completionRatio"]) == (NONE, None, 1.0)
    assert at(first["createdAt"]) <= at(first["startedAt"]) <= at(first["finishedAt"])
    for organisation, row in mart.rows.items():
        record = account(vendors, organisation)
        assert (record["Health_Score__c"], record["Health_Band__c"]) == (row["health_score"], "watch")
        assert (record["Incidents_28d__c"], record["Open_Tasks__c"]) == (row["incidents_28d"], 2)
        assert record["Mrr__c"] == row["mrr"]

    second = vendors.run()
    assert (second["status"], second["querySize"]) == ("success", len(organisations))
    assert second["plannedRows"] == second["successfulRows"] == NONE


def test_one_changed_row_is_one_upsert(vendors, mart, organisations):
    before = {organisation: account(vendors, organisation) for organisation in organisations}
    mart.rows[organisations[1]] |= {"health_score": 12.25, "health_band": "at_risk"}
    mart.rows[organisations[2]] |= {"unmapped": 99}
    mart.write()
    run = vendors.run()
    assert run["plannedRows"] == run["successfulRows"] == counts(changed=1)
    after = {organisation: account(vendors, organisation) for organisation in organisations}
    assert [o for o in organisations if after[o] != before[o]] == [organisations[1]]
    assert after[organisations[1]]["Health_Score__c"] == 12.25


def test_a_row_that_salesforce_rejects_is_a_warning_and_is_tried_again(vendors, mart, organisations):
    bad, good = organisations[0], organisations[1]
    mart.rows[bad] |= {"health_score": 300.0}
    mart.rows[good] |= {"health_score": 30.0}
    mart.write()
    run = vendors.run()
    assert run["status"] == "warning"
    assert run["plannedRows"] == counts(changed=2)
    assert (run["successfulRows"], run["failedRows"]) == (counts(changed=1), counts(changed=1))
    assert account(vendors, good)["Health_Score__c"] == 30.0

    again = vendors.run()
    assert (again["status"], again["plannedRows"]) == ("warning", counts(changed=1))
    mart.rows[bad] |= {"health_score": 33.0}
    mart.write()
    assert vendors.run()["successfulRows"] == counts(changed=1)
    assert account(vendors, bad)["Health_Score__c"] == 33.0
    assert vendors.run()["plannedRows"] == NONE


def test_an_organisation_without_an_account_stays_new_until_there_is_one(vendors, mart, organisations):
    mart.rows["org_nobody"] = mart.rows[organisations[0]] | {"organisation_id": "org_nobody"}
    mart.write()
    for _ in range(2):
        assert vendors.run()["failedRows"] == counts(added=1)
    record = {"Name": "Nobody", "Organisation_Id__c": "org_nobody"}
    vendors.salesforce.post("/services/data/v59.0/sobjects/Account", json=record).raise_for_status()
    assert vendors.run()["successfulRows"] == counts(added=1)


def test_rows_that_the_fault_rejects_come_through_after_it_is_mended(vendors, mart, organisations):
    for organisation in organisations:
        mart.rows[organisation] |= {"open_tasks": 7}
    mart.write()
    vendors.faults.add("hightouch", SLUG, "rejected_rows", {"count": 2})
    run = vendors.run()
    assert (run["status"], run["failedRows"]) == ("warning", counts(changed=2))
    assert run["successfulRows"] == counts(changed=len(organisations) - 2)
    vendors.faults.remove()
    run = vendors.run()
    assert (run["status"], run["successfulRows"]) == ("success", counts(changed=2))
    assert {account(vendors, organisation)["Open_Tasks__c"] for organisation in organisations} == {7}


def test_removed_rows_are_counted_once_and_stay_in_salesforce(vendors, mart, organisations):
    gone = organisations[3]
    row = mart.rows.pop(gone)
    mart.write()
    run = vendors.run()
    assert (run["status"], run["plannedRows"]) == ("success", counts(removed=1))
    assert account(vendors, gone)["Health_Score__c"] == row["health_score"]
    assert vendors.run()["plannedRows"] == NONE
    mart.rows[gone] = row
    mart.write()
    assert vendors.run()["plannedRows"] == counts(added=1)


def test_the_sync_logs_name_the_rows_and_say_why_they_were_rejected(vendors, mart, organisations):
    bad, good = organisations[0], organisations[1]
    mart.rows[bad] |= {"health_score": 101.0}
    mart.rows[good] |= {"mrr": 1.5}
    mart.write()
    run = vendors.run()
    logged = vendors.query(
        "select sync_id, model_row_id, op_type, status, failure_reason, json_value(fields, '$.Mrr__c')"
        f" from hightouch_audit.sync_changelog where sync_run_id = '{run['id']}' order by model_row_id"
    )
    reason = "FIELD_CUSTOM_VALIDATION_EXCEPTION: Health Score: a score is between 0 and 100"
    assert logged == [
        ("1", bad, "changed", "failed", reason, "0.0"),
        ("1", good, "changed", "succeeded", None, "1.5"),
    ]
    statement = (
        "select status, planned, successful, failed, finished_at from hightouch_audit.sync_runs where sync_run_id = "
    )
    assert vendors.query(f"{statement}'{run['id']}'") == [("warning", 2, 1, 1, at(run["finishedAt"]))]

    mart.rows[bad] |= {"health_score": 50.0}
    mart.write()
    vendors.run()
    idle = vendors.run()
    assert vendors.query(f"{statement}'{idle['id']}'") == []


def test_a_model_that_cannot_be_queried_fails_the_run_with_the_reason(vendors, mart):
    bigquery.Client(project=PROJECT).delete_table("sales.account_health")
    run = vendors.run()
    assert run["status"] == "failed"
    assert "account_health" in run["error"]
    assert ("completionRatio" in run, run["querySize"]) == (False, None)
    mart.write()
    assert vendors.run()["status"] == "success"


@pytest.mark.parametrize("problem", ["twice", "null"])
def test_a_primary_key_that_is_none_fails_the_run(vendors, mart, organisations, problem):
    key = organisations[0] if problem == "twice" else None
    mart.rows["other"] = mart.rows[organisations[0]] | {"organisation_id": key}
    mart.write()
    run = vendors.run()
    assert run["status"] == "failed"
    assert f"organisation_id is {key!r}" in run["error"]


def test_a_failure_fault_fails_the_run_with_its_reason(vendors, mart):
    vendors.faults.add("hightouch", SLUG, "sync_failure", {"reason": "Salesforce: the session expired"}, times=1)
    run = vendors.run()
    assert (run["status"], run["error"]) == ("failed", "Salesforce: the session expired")
    assert vendors.hightouch.get("/api/v1/syncs/1").json()["status"] == "failed"
    assert vendors.run()["status"] == "success"


@pytest.mark.long
def test_what_salesforce_did_not_answer_for_is_sent_again(vendors, mart, organisations):
    """With two batches: a proxy's page instead of an answer, then an answer that breaks off after Salesforce took the rows."""
    extra = [f"org_many_{number:03}" for number in range(250)]
    for organisation in extra:
        record = {"Name": organisation, "Organisation_Id__c": organisation}
        vendors.salesforce.post("/services/data/v59.0/sobjects/Account", json=record).raise_for_status()
        mart.rows[organisation] = mart.rows[organisations[0]] | {"organisation_id": organisation}
    mart.write()
    for kind in ("html", "truncated"):
        vendors.faults.add("salesforce", "composite", kind, times=1)
        broken = vendors.run()
        assert (broken["status"], broken["successfulRows"]) == ("failed", NONE)
        assert broken["error"]
    whole = vendors.run()
    assert whole["plannedRows"] == whole["successfulRows"] == counts(added=250)
    assert vendors.run()["plannedRows"] == NONE


def test_a_trigger_while_a_run_is_going_queues_the_next(vendors, mart):
    vendors.faults.add("salesforce", "composite", "hang", {"seconds": 2}, times=1)
    first = vendors.hightouch.post("/api/v1/syncs/1/trigger", json={"fullResync": True}).json()["id"]
    second = vendors.hightouch.post("/api/v1/syncs/1/trigger").json()["id"]
    assert isinstance(first, str)
    assert int(second) == int(first) + 1

    def shown() -> dict[str, dict[str, Any]]:
        runs = vendors.hightouch.get("/api/v1/syncs/1/runs", params={"limit": 2, **NEWEST_FIRST}).json()["data"]
        return {str(run["id"]): run for run in runs}

    wait_for(lambda: shown()[first]["status"] == "processing", 20, "the first run writes")
    assert (shown()[second]["status"], shown()[second]["startedAt"]) == ("queued", None)
    assert vendors.ran(first)["status"] == "failed", "the fault closed the connection"
    assert vendors.ran(second)["status"] == "success"
    assert at(vendors.ran(second)["startedAt"]) >= at(vendors.ran(first)["finishedAt"])


def test_killed_in_the_middle_of_a_run_it_is_interrupted_and_a_new_run_sends_the_rest(vendors, mart, organisations):
    for organisation in organisations:
        mart.rows[organisation] |= {"open_tasks": 9}
    mart.write()
    vendors.faults.add("salesforce", "composite", "hang", {"seconds": 30}, times=1)
    run = vendors.hightouch.post("/api/v1/syncs/1/trigger").json()["id"]

    wait_for(lambda: not vendors.faults.active("salesforce"), 20, "the run writes, and hangs")
    vendors.stop(signal.SIGKILL)
    vendors.start()
    assert vendors.ran(run)["status"] == "interrupted"
    assert vendors.ran(str(int(run) + 1))["successfulRows"] == counts(changed=len(organisations))


def test_an_interrupted_run_is_resumed_by_a_new_one(vendors, mart, organisations):
    mart.rows[organisations[0]] |= {"open_tasks": 31}
    mart.write()
    vendors.faults.add("hightouch", SLUG, "interrupted", times=1)
    run = vendors.run()
    assert (run["status"], run["successfulRows"]) == ("interrupted", NONE)
    assert vendors.ran(str(run["id"] + 1))["successfulRows"] == counts(changed=1)


def test_runs_are_paged_in_the_order_that_is_asked_for_and_oldest_first_by_default(vendors, mart):
    mine = [vendors.run()["id"] for _ in range(3)]
    path = "/api/v1/syncs/1/runs"
    first = vendors.hightouch.get(path, params={"limit": 2, **NEWEST_FIRST}).json()
    rest = vendors.hightouch.get(path, params={"limit": 2, "offset": 2, **NEWEST_FIRST}).json()
    assert [run["id"] for run in (*first["data"], *rest["data"])][:3] == mine[::-1]
    assert first["hasMore"]
    assert [run["id"] for run in vendors.hightouch.get(path).json()["data"]][-3:] == mine
    assert len(vendors.hightouch.get(path, params={"within": 60}).json()["data"]) >= 3


@pytest.mark.parametrize("kind", ["sources", "destinations", "models", "syncs"])
def test_what_is_there_is_listed_and_found(vendors, kind):
    listed = vendors.hightouch.get(f"/api/v1/{kind}").json()
    first, *others = listed["data"]
    assert (listed["hasMore"], first["id"], len(others)) == (False, 1, 0 if kind == "sources" else 1)
    assert vendors.hightouch.get(f"/api/v1/{kind}/1").json() == first
    assert vendors.hightouch.get(f"/api/v1/{kind}", params={"slug": first["slug"]}).json()["data"] == [first]
    assert vendors.hightouch.get(f"/api/v1/{kind}", params={"slug": "other"}).json()["data"] == []
    page = vendors.hightouch.get(f"/api/v1/{kind}", params={"limit": 1}).json()
    assert page == {"data": [first], "hasMore": bool(others)}
    assert vendors.hightouch.get(f"/api/v1/{kind}", params={"offset": 1}).json() == {"data": others, "hasMore": False}
    assert vendors.hightouch.get(f"/api/v1/{kind}/9").status_code == 404


def test_the_model_names_the_table_that_it_reads(vendors):
    models = {model["slug"]: model for model in vendors.hightouch.get("/api/v1/models").json()["data"]}
    model = models["account_health"]
    assert (model["queryType"], model["primaryKey"]) == ("dbt", "organisation_id")
    assert (model["dbt"]["schema"], model["dbt"]["name"]) == ("sales", "account_health")
    assert f"`{PROJECT}.support.support_load_by_week`" in models["weekly_support_load"]["raw"]["sql"]
    sync = vendors.hightouch.get("/api/v1/syncs", params={"slug": SLUG}).json()["data"][0]
    assert (sync["modelId"], sync["destinationId"]) == (model["id"], 1)


@pytest.mark.parametrize(
    ("method", "path", "key", "status"),
    [
        ("GET", "syncs", "wrong", 401),
        ("POST", "syncs/1/trigger", "wrong", 401),
        ("POST", "syncs/9/trigger", "local-hightouch-key", 404),
        ("GET", "syncs/9/runs", "local-hightouch-key", 404),
        ("GET", "nothing", "local-hightouch-key", 404),
        ("GET", "syncs?limit=0", "local-hightouch-key", 422),
    ],
)
def test_errors_carry_a_message(vendors, method, path, key, status):
    url = f"{vendors.config.url('hightouch')}/api/v1/{path}"
    answer = httpx.request(method, url, headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == status
    assert answer.json()["message"]


def test_every_kind_of_model_is_under_a_key_of_its_own(vendors):
    """The keys are those of the schema `Model` in Hightouch's OpenAPI file."""
    store, key = VendorContext.of(vendors.config).store, "organisation_id"
    kinds = {
        "dbt": ("sales.account_health", None),
        "dbt_cloud": ("sales.account_health", None),
        "visual": ("", 1),
        "custom": ("Contacts", None),
        "table": ("sales.account_health", None),
    }
    for number, (kind, (reads, parent)) in enumerate(kinds.items(), start=901):
        model = Model(number, kind, kind, kind, reads, key, parent)
        catalogue.add(store, [(model, Sync(number, f"of_{kind}", number, "salesforce", disabled=True))])
    try:
        models = {model["slug"]: model for model in vendors.hightouch.get("/api/v1/models").json()["data"]}
        assert models["dbt_cloud"]["dbt_cloud"] == {
            "dbtUniqueId": "model.dataplatform.account_health",
            "modelId": 902,
            "name": "account_health",
            "rawSql": "",
            "compiledSql": f"select * from `{PROJECT}.sales.account_health`",
        }
        assert models["visual"]["visual"]["parentId"] == 1
        assert models["custom"]["custom"] == {"query": "Contacts"}
        for kind in kinds:
            shown = {"raw", "table", "dbt", "dbt_cloud", "visual", "custom"} & models[kind].keys()
            assert (models[kind]["queryType"], shown) == (kind, {kind})
    finally:
        for table in ("model", "sync"):
            store.execute(f"delete from hightouch_{table} where id > 900")


def test_more_requests_than_the_limit_are_refused_without_a_word_of_when_to_come_back(vendors):
    store = VendorContext.of(vendors.config).store
    rate_limits.override(store, "hightouch", "requests", 2, 2)
    try:
        answers = [vendors.hightouch.get("/api/v1/syncs") for _ in range(3)]
        limited = answers[-1]
        assert limited.status_code == 429
        assert limited.json()["error"]
        assert "retry-after" not in limited.headers
        wait_for(lambda: vendors.hightouch.get("/api/v1/syncs").status_code == 200, 10, "the limit has passed", every=1)
    finally:
        rate_limits.reset(store)


def test_the_limit_is_hightouchs_own(vendors):
    [limit] = [one for one in rate_limits.shown(VendorContext.of(vendors.config).store) if one["vendor"] == "hightouch"]
    assert (limit["requests"], limit["seconds"]) == (200, 10)


def test_messages_to_slack_wait_for_its_limit(tmp_path: Path) -> None:
    sync = catalogue.COMPANY[1][1]
    with running(tmp_path, "slack") as slack, destination.of(slack.config, sync) as channel:
        assert [channel.write([{"text": f"week {week}"}]) for week in range(3)] == [[None]] * 3
        assert [message["text"] for message in slack.inspect("slack", "messages")] == ["week 0", "week 1", "week 2"]
