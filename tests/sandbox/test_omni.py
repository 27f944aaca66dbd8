"""Omni's stand-in over HTTP."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any

import httpx
import pytest
import yaml
from google.cloud import bigquery

from sandbox.config import PROJECT, REPOSITORY
from sandbox.vendors import rate_limits
from sandbox.vendors.context import VendorContext
from sandbox.vendors.omni import state
from sandbox.vendors.omni.catalogue import DOCUMENTS, SCHEMA_MODEL, SHARED_MODEL
from sandbox.vendors.omni.content import LEFT, add_documents
from sandbox.vendors.store import Store
from tests.contracts.specs import Spec
from tests.stand_ins import Vendors, wait_for

TABLES = ["sales.account_health", "core.organisations", "core.incidents"]
MARTS = REPOSITORY / "dbt_project" / "models" / "marts"


@pytest.fixture(scope="module")
def store(vendors: Vendors) -> Store:
    found = VendorContext.of(vendors.config).store
    rate_limits.override(found, "omni", "requests", 100_000)
    return found


@pytest.fixture(scope="module")
def added(store: Store) -> dict[str, list[str]]:
    return add_documents(store, 120, TABLES, seed=3)


def get(vendors: Vendors, path: str, **params: Any) -> Any:
    return vendors.omni.get(path, params=params).raise_for_status().json()


def documents(vendors: Vendors, **params: Any) -> list[dict[str, Any]]:
    found, cursor = list[dict[str, Any]](), None
    while True:
        page = get(vendors, "/api/v1/documents", **params, **({"cursor": cursor} if cursor else {}))
        found += page["records"]
        cursor = page["pageInfo"]["nextCursor"]
        if not cursor:
            return found


def test_the_companys_documents_refer_to_columns_that_the_marts_have():
    columns = {
        f"{file.parent.name}__{model['name']}": {column["name"] for column in model.get("columns", [])}
        for file in MARTS.glob("*/_*__models.yml")
        for model in yaml.safe_load(file.read_text())["models"]
    }
    for document in DOCUMENTS:
        for view, field in state.fields(document.queries):
            assert field == state.COUNT or field in columns[view], (document.name, view, field)


def test_each_document_is_an_exposures_and_has_its_owner():
    exposures = yaml.safe_load((MARTS / "_exposures.yml").read_text())["exposures"]
    declared = {(one["label"], one["owner"]["email"]) for one in exposures if one["config"]["meta"]["vendor"] == "omni"}
    assert {(document.name, document.owner) for document in DOCUMENTS} == declared


def test_without_the_key_nothing_is_told(vendors, store):
    for path in ("/api/v1/documents", "/api/v1/models", "/api/scim/v2/Users"):
        answer = httpx.get(vendors.config.url("omni") + path, headers={"Authorization": "Bearer another"})
        assert (answer.status_code, answer.json()) == (401, {"detail": "Unauthorized", "status": 401})


def test_documents_come_in_pages_and_deleted_ones_only_where_they_are_asked_for(vendors, store, added):
    listed = documents(vendors, pageSize=25)
    assert len({one["identifier"] for one in listed}) == len(listed)
    assert {one["identifier"] for one in listed} >= added.keys() | {document.identifier for document in DOCUMENTS}
    assert not any(one["deleted"] for one in listed)
    everything = documents(vendors, pageSize=100, include="includeDeleted,labels,_count")
    gone = [one for one in everything if one["deleted"]]
    assert gone
    assert len(everything) == len(listed) + len(gone)
    first = get(vendors, "/api/v1/documents", pageSize=25)["pageInfo"]
    assert (first["hasNextPage"], first["pageSize"], first["totalRecords"]) == (True, 25, len(listed))
    assert vendors.omni.get("/api/v1/documents", params={"cursor": "nonsense"}).status_code == 400
    assert vendors.omni.get("/api/v1/documents", params={"pageSize": 0}).status_code == 400


def test_generated_documents_are_as_odd_as_people_make_them_and_the_same_for_a_seed(vendors, store, added):
    listed = documents(vendors, pageSize=100, include="labels")
    names = [one["name"] for one in listed]
    assert len(set(names)) < len(names)
    assert any(one["updatedAt"] is None for one in listed)
    assert any(one["folder"] is None for one in listed)
    assert any("!" in label for one in listed for label in one["labels"])
    users = {user["id"] for user in get(vendors, "/api/scim/v2/Users")["Resources"]}
    assert {one["owner"]["name"] for one in listed if one["owner"]["id"] not in users} == {LEFT}
    assert add_documents(store, 120, TABLES, seed=3) == added
    assert len(documents(vendors, pageSize=100)) == len(listed)


def test_a_document_without_queries_is_answered_with_404(vendors, store, added):
    def status(identifier: str) -> int:
        return vendors.omni.get(f"/api/v1/documents/{identifier}/queries").status_code

    known = [document.identifier for document in DOCUMENTS]
    silent = {one["identifier"] for one in documents(vendors)} - added.keys() - set(known)
    assert silent
    assert {status(identifier) for identifier in silent} == {404}
    assert {status(identifier) for identifier in [*known, *list(added)[:20]]} == {200}


def test_more_requests_than_the_limit_are_answered_with_429(vendors, store):
    rate_limits.override(store, "omni", "requests", 1)
    try:
        answers = [vendors.omni.get("/api/v1/models") for _ in range(2)]
        assert answers[-1].status_code == 429
        assert "retry-after" not in answers[-1].headers
        assert answers[-1].json() == {"detail": "Too Many Requests", "status": 429}
    finally:
        rate_limits.override(store, "omni", "requests", 100_000)
    assert vendors.omni.get("/api/v1/models").status_code == 200
    [limit] = [one for one in rate_limits.shown(store) if one["vendor"] == "omni"]
    assert (limit["documented"]["requests"], limit["documented"]["seconds"]) == (60, 60)


@pytest.mark.parametrize(
    ("fault", "branch", "status"),
    [
        (None, None, 200),
        (None, "one", 400),
        ("branch_required", None, 400),
        ("branch_required", "one", 200),
        ("not_connection_admin", None, 403),
    ],
)
def test_a_refresh_takes_a_branch_only_where_branch_based_refresh_is_on(vendors, fault, branch, status):
    vendors.faults.add("omni", kind="job_failure")  # so that the model stays as it is
    if fault:
        vendors.faults.add("omni", kind=fault)
    params = {"branch_id": str(uuid.uuid4())} if branch else {}
    answer = vendors.omni.post(f"/api/v1/models/{SCHEMA_MODEL}/refresh", params=params)
    assert answer.status_code == status
    Spec.named("omni").check("POST", "/api/v1/models/{modelId}/refresh", answer)
    if status == 200:
        job = f"/api/v1/jobs/{answer.json()['jobId']}/status"
        wait_for(lambda: vendors.omni.get(job).json()["status"] == "FAILED", 30, "the refresh ends")


def test_models_are_of_two_kinds(vendors, store):
    assert [one["id"] for one in get(vendors, "/api/v1/models")["records"]] == [SCHEMA_MODEL, SHARED_MODEL]
    [schema] = get(vendors, "/api/v1/models", modelKind="SCHEMA")["records"]
    assert schema["id"] == SCHEMA_MODEL


def refreshed(vendors: Vendors) -> str:
    job = vendors.omni.post(f"/api/v1/models/{SCHEMA_MODEL}/refresh").raise_for_status().json()
    assert (job["modelId"], job["status"]) == (SCHEMA_MODEL, "running")

    def ended() -> str | None:
        status = get(vendors, f"/api/v1/jobs/{job['jobId']}/status")["status"]
        return status if status != "IN_PROGRESS" else None

    return wait_for(ended, 60, "the refresh ends") or ""


def broken(vendors: Vendors, name: str) -> list[str]:
    found = get(
        vendors, f"/api/v1/models/{SHARED_MODEL}/content-validator", content_filter_mode="WITH_ISSUES"
    )["content"]  # fmt: skip
    return [
        issue
        for one in found
        if one["name"] == name
        for query in one["queries_and_issues"]
        for issue in query["issues"]
    ]


def test_a_refresh_reads_the_warehouses_columns(vendors, store):
    client = bigquery.Client(project=PROJECT)
    client.create_dataset("sales", exists_ok=True)
    names = {
        field
        for document in DOCUMENTS
        for view, field in state.fields(document.queries)
        if view == "sales__account_health" and field != state.COUNT
    }
    table = bigquery.Table(f"{PROJECT}.sales.account_health", [bigquery.SchemaField(name, "STRING") for name in names])
    client.create_table(table)
    assert broken(vendors, "Account health") == []
    assert refreshed(vendors) == "COMPLETED"
    assert broken(vendors, "Account health") == []
    assert "View 'sales__pipeline' not found in model" in broken(vendors, "Sales pipeline")
    client.delete_table(table)
    table = bigquery.Table(table.reference, [bigquery.SchemaField(name, "STRING") for name in names - {"mrr"}])
    client.create_table(table)
    assert refreshed(vendors) == "COMPLETED"
    assert broken(vendors, "Account health") == ["Field 'sales__account_health.mrr' not found in model"]
    vendors.faults.add("omni", times=1)
    assert refreshed(vendors) == "FAILED"
    assert vendors.omni.post(f"/api/v1/models/{SHARED_MODEL}/refresh").status_code == 400
    assert vendors.omni.post("/api/v1/models/none/refresh").status_code == 404


def test_every_answer_is_as_the_spec_says(vendors, store, added):
    spec = Spec.named("omni")
    omni = vendors.omni
    include = {"include": "_count,labels,includeDeleted", "pageSize": 100}
    page = spec.check("GET", "/api/v1/documents", omni.get("/api/v1/documents", params=include))
    assert len(page["records"]) == 100
    queries = "/api/v1/documents/{identifier}/queries"
    for identifier in [DOCUMENTS[0].identifier, *list(added)[:30]]:
        spec.check("GET", queries, omni.get(f"/api/v1/documents/{identifier}/queries"))
    spec.check("GET", "/api/v1/models", omni.get("/api/v1/models"))
    spec.check("GET", "/api/scim/v2/Users", omni.get("/api/scim/v2/Users"))
    answer = omni.post(f"/api/v1/models/{SCHEMA_MODEL}/refresh")
    job = spec.check("POST", "/api/v1/models/{modelId}/refresh", answer)["jobId"]
    spec.check("GET", "/api/v1/jobs/{jobId}/status", omni.get(f"/api/v1/jobs/{job}/status"))
    wait_for(lambda: get(vendors, f"/api/v1/jobs/{job}/status")["status"] != "IN_PROGRESS", 60, "the refresh ends")
    spec.check("GET", "/api/v1/jobs/{jobId}/status", omni.get(f"/api/v1/jobs/{job}/status"))
    validator = omni.get(f"/api/v1/models/{SHARED_MODEL}/content-validator")
    spec.check("GET", "/api/v1/models/{modelId}/content-validator", validator)


def test_dagsters_own_client_reads_the_companys_documents(vendors, store):
    workspace = pytest.importorskip("dagster_omni.workspace")
    known = [document.identifier for document in DOCUMENTS]
    # It breaks on a document without a time, and on a query without a table: what is read here is the company's own, which has both.
    rows = store.execute(
        f"update omni_document set deleted = 1 where identifier not in ({', '.join('?' * len(known))}) and deleted = 0"
        " returning identifier", known,
    )  # fmt: skip
    try:
        client = workspace.OmniWorkspace(base_url=vendors.config.url("omni"), api_key="local-omni-key", base_delay=0.1)
        began = time.monotonic()
        found = asyncio.run(client.fetch_omni_state())
        print(f"dagster-omni read {len(found.documents)} documents in {time.monotonic() - began:.1f} s")
    finally:
        for row in rows:
            store.execute("update omni_document set deleted = 0 where identifier = ?", (row["identifier"],))
    read = {document.name: {query.query_config.table for query in document.queries} for document in found.documents}
    assert read == {document.name: {query.table for query in document.queries} for document in DOCUMENTS}
    for document in found.documents:
        assert found.get_user(document.owner.id).primary_email.endswith("@example.com")
