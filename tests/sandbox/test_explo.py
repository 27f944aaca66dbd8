"""Explo's stand-in over HTTP."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from sandbox.vendors import rate_limits
from sandbox.vendors.context import VendorContext
from sandbox.vendors.control.recent import targets
from sandbox.vendors.explo import content
from sandbox.vendors.explo.catalogue import DASHBOARDS, without_filter
from sandbox.vendors.store import Store

MARTS = ["insights.a", "insights.b", "core.c"]


def create(client: httpx.Client, **body: object) -> dict:
    return client.post("/api/create_customer/", json=body).raise_for_status().json()


def test_a_customer_is_made_once_however_often_it_is_asked_for(vendors):
    first = create(vendors.explo, provided_id="org_1", name="Acme", properties={"plan": "pro"})
    assert (first["success"], first["new_customer"], first["customer"]["computed_properties"]) == (
        1,
        True,
        {"plan": "pro"},
    )
    again = create(vendors.explo, provided_id="org_1", name="Another name")
    assert (again["new_customer"], again["customer"]) == (False, first["customer"])
    with ThreadPoolExecutor(8) as pool:
        new = [
            made["new_customer"]
            for made in pool.map(lambda _: create(vendors.explo, provided_id="org_2", name="Globex"), range(8))
        ]
    assert sorted(new) == [False] * 7 + [True]


def test_a_customer_is_got_and_updated_by_its_id(vendors):
    create(vendors.explo, provided_id="org_3", name="Initech", group_tags=["sales"])
    changed = vendors.explo.post("/api/update_customer/", json={"provided_id": "org_3", "name": "Initrode"})
    assert (changed.json()["customer"]["name"], changed.json()["customer"]["group_tags"]) == ("Initrode", ["sales"])
    got = vendors.explo.post("/api/get_customer/", json={"provided_id": "org_3"}).json()
    assert got == {"success": 1, "customer": changed.json()["customer"]}
    for path in ("get", "update"):
        assert vendors.explo.post(f"/api/{path}_customer/", json={"provided_id": "nobody"}).status_code == 404
    refused = vendors.explo.post("/api/create_customer/", json={"name": "No id"})
    assert (refused.status_code, refused.json()["message"]) == (400, "provided_id is required.")


def test_customers_are_paged(vendors):
    for number in range(5):
        create(vendors.explo, provided_id=f"paged_{number}", name="Paged")
    first = vendors.explo.get("/v2/api/customers/", params={"pageSize": 2, "page": 1}).json()
    total = first["total_count"]
    assert (total >= 5, len(first["results"]["customers"])) == (True, 2)
    pages = [
        vendors.explo.get("/v2/api/customers/", params={"pageSize": 2, "page": page}).json()
        for page in range(1, total + 2)
    ]
    seen = [customer["provided_id"] for page in pages for customer in page["results"]["customers"]]
    assert (len(seen), len(set(seen))) == (total, total)


@pytest.mark.parametrize("path", ["/api/dashboard", "/v2/api/customers", "/api/dashboard/vcjTgL2wdX"])
def test_a_path_without_its_last_slash_is_refused_as_explo_documents(vendors, path):
    assert vendors.explo.get(path).status_code == 405
    assert vendors.explo.get(f"{path}/").status_code == 200
    assert vendors.explo.post("/api/create_customer", json={}).status_code == 405
    assert vendors.explo.get("/api/nothing/").status_code == 404


def test_a_wrong_token_sees_nothing(vendors):
    for headers in ({}, {"Explo-Authorization": "Token wrong"}, {"Authorization": "Token local-explo-token"}):
        assert httpx.get(f"{vendors.config.url('explo')}/api/dashboard/", headers=headers).status_code == 401


def test_the_companys_dashboards_have_their_datasets(vendors):
    listed = vendors.explo.get("/api/dashboard/").json()["dashboards"]
    assert [one["name"] for one in listed][:3] == [one.name for one in DASHBOARDS]
    for one in DASHBOARDS:
        datasets = vendors.explo.get(f"/api/dashboard/{one.embed_id}/").json()["datasets"]
        assert [dataset["name"] for dataset in datasets] == [dataset.name for dataset in one.datasets]
    assert vendors.explo.get("/api/dashboard/nothing/").status_code == 404


def test_the_first_dataset_loses_its_filter_while_the_fault_is_on(vendors):
    def queries() -> list[str]:
        return [one["query"] for one in vendors.explo.get("/api/dashboard/JQvCTLT76V/").json()["datasets"]]

    before = queries()
    assert [query.count("{{customer_id}}") for query in before] == [1, 2]
    fault = vendors.faults.add("explo", "on_call_load")
    assert fault.kind == "tenant_filter_removed"
    assert [query.count("{{customer_id}}") for query in queries()] == [0, 2]
    assert queries()[0] == before[0].replace("organisation_id = {{customer_id}}", "true")
    vendors.faults.remove("explo")
    assert queries() == before


@pytest.mark.parametrize(
    "written", ["a.organisation_id = {{ customer_id }}", "'{{customer_id.raw()}}' = `organisation_id`", "organisation_id={{user_group_id}}"]
)  # fmt: skip
def test_a_filter_is_found_however_it_is_written(written):
    assert without_filter(f"select 1 from t where {written} and b = 2") == "select 1 from t where true and b = 2"


def test_any_number_of_dashboards_can_be_added_the_same_for_a_seed(vendors, tmp_path):
    store = VendorContext.of(vendors.config).store
    truth = content.add_dashboards(store, 40, MARTS, seed=1)
    assert len(truth) == 40
    assert {table for read in truth.values() for table in read} == {"insights.a", "insights.b"}
    listed = {one["embed_id"]: one["name"] for one in vendors.explo.get("/api/dashboard/").json()["dashboards"]}
    assert truth.keys() < listed.keys()
    assert len({listed[embed_id] for embed_id in truth}) < 40
    assert len(targets(store, "explo")) == len(set(targets(store, "explo"))) == 43
    other = Store(tmp_path / "other.sqlite")
    content.prepare(other)
    assert content.add_dashboards(other, 40, MARTS, seed=1) == truth
    assert content.add_dashboards(other, 40, MARTS, seed=2).keys().isdisjoint(truth)


def test_more_requests_than_the_limit_are_refused(vendors):
    store = VendorContext.of(vendors.config).store
    [limit] = [one for one in rate_limits.shown(store) if one["vendor"] == "explo"]
    assert (limit["requests"], limit["seconds"]) == (180, 60)
    rate_limits.override(store, "explo", "requests", 1)
    try:
        answers = [vendors.explo.get("/api/dashboard/") for _ in range(2)]
        assert answers[-1].status_code == 429
        assert "retry-after" not in answers[-1].headers
        assert answers[-1].json()["message"]
    finally:
        rate_limits.reset(store)
