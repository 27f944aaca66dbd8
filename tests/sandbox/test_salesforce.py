"""Salesforce's stand-in, spoken to by `simple-salesforce`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
import requests
from requests.adapters import HTTPAdapter
from simple_salesforce import Salesforce
from simple_salesforce.exceptions import (
    SalesforceExpiredSession,
    SalesforceMalformedRequest,
    SalesforceResourceNotFound,
)

from tests.stand_ins import Vendors, at

KEY = "Organisation_Id__c"


class PlainHttp(HTTPAdapter):
    """simple-salesforce always writes https; the stand-in on loopback has no certificate."""

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        assert request.url is not None
        request.url = request.url.replace("https://", "http://", 1)
        return super().send(request, *args, **options)


def client(vendors: Vendors, token: str) -> Salesforce:
    session = requests.Session()
    session.mount("https://", PlainHttp())
    return Salesforce(instance_url=vendors.config.url("salesforce"), session_id=token, session=session)


@pytest.fixture(scope="module")
def org(vendors: Vendors) -> Salesforce:
    return client(vendors, "local-salesforce-token")


@pytest.fixture(scope="module")
def organisation(org: Salesforce) -> str:
    """The id of an organisation that has an account."""
    return org.query(f"SELECT {KEY} FROM Account WHERE {KEY} != null ORDER BY {KEY} LIMIT 1")["records"][0][KEY]


def account(org: Any, organisation: str) -> dict[str, Any]:
    return org.Account.get_by_custom_id(KEY, organisation)


def test_the_accounts_are_those_of_the_company(org, vendors):
    known = {key for (key,) in vendors.sql("select id from organisations")}
    records = org.query_all(f"SELECT Id, Name, {KEY} FROM Account")["records"]
    assert {r[KEY] for r in records if r[KEY]} < known | {None}
    assert any(r[KEY] is None for r in records), "prospects have no organisation"
    assert org.query("SELECT COUNT() FROM Account")["totalSize"] == len(records)


def test_an_upsert_updates_by_external_id_and_moves_the_modstamp(org, organisation):
    before = account(org, organisation)
    assert org.Account.upsert(f"{KEY}/{organisation}", {"Health_Score__c": 71.5, "Health_Band__c": "healthy"}) == 200
    after = account(org, organisation)
    assert (after["Health_Score__c"], after["Health_Band__c"]) == (71.5, "healthy")
    assert after["Id"] == before["Id"]
    assert at(after["SystemModstamp"]) > at(before["SystemModstamp"])
    assert after["CreatedDate"] == before["CreatedDate"]


def test_an_upsert_creates_what_is_not_there(org):
    assert org.Account.upsert(f"{KEY}/org_new", {"Name": "New"}) == 201
    created = account(org, "org_new")
    assert (created["Name"], created[KEY], len(created["Id"])) == ("New", "org_new", 18)
    org.Account.update(created["Id"], {"Industry": "Retail"})
    assert org.Account.get(created["Id"])["Industry"] == "Retail"


def test_two_upserts_at_once_make_one_record(org, vendors):
    with ThreadPoolExecutor(8) as pool:
        path = f"/services/data/v59.0/sobjects/Account/{KEY}/org_twice"
        codes = list(pool.map(lambda _: vendors.salesforce.patch(path, json={"Name": "Once"}).status_code, range(8)))
    assert sorted(codes) == [200] * 7 + [201]
    assert org.query(f"SELECT COUNT() FROM Account WHERE {KEY} = 'org_twice'")["totalSize"] == 1


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"Health_Score__c": 120}, "FIELD_CUSTOM_VALIDATION_EXCEPTION"),
        ({"Health_Score__c": "high"}, "INVALID_TYPE_ON_FIELD_IN_RECORD"),
        ({"Mood__c": "good"}, "INVALID_FIELD"),
        ({"SystemModstamp": "2026-01-01T00:00:00.000Z"}, "INVALID_FIELD"),
    ],
)
def test_what_the_org_does_not_take_is_refused_and_nothing_changes(org, organisation, values, code):
    before = account(org, organisation)
    with pytest.raises(SalesforceMalformedRequest) as refused:
        org.Account.upsert(f"{KEY}/{organisation}", values | {"Industry": "Other"})
    assert refused.value.content[0]["errorCode"] == code
    assert account(org, organisation) == before


def test_a_new_record_needs_a_name(org):
    with pytest.raises(SalesforceMalformedRequest, match="REQUIRED_FIELD_MISSING"):
        org.Account.upsert(f"{KEY}/org_nameless", {"Mrr__c": 1})


def test_in_a_collection_each_record_succeeds_or_fails_by_itself(vendors, org, organisation):
    records = [
        {"attributes": {"type": "Account"}, KEY: organisation, "Mrr__c": 12.5},
        {"attributes": {"type": "Account"}, KEY: "org_nobody", "Mrr__c": 1},
        {"attributes": {"type": "Account"}, "Mrr__c": 1},
    ]
    path = f"/services/data/v59.0/composite/sobjects/Account/{KEY}"
    good, nameless, keyless = vendors.salesforce.patch(path, json={"allOrNone": False, "records": records}).json()
    assert (good["success"], good["created"]) == (True, False)
    assert nameless["errors"][0]["statusCode"] == "REQUIRED_FIELD_MISSING"
    assert keyless["errors"][0]["statusCode"] == "MISSING_ARGUMENT"
    assert account(org, organisation)["Mrr__c"] == 12.5
    too_many = vendors.salesforce.patch(path, json={"records": records * 67})
    assert (too_many.status_code, too_many.json()[0]["errorCode"]) == (400, "LIMIT_EXCEEDED")


def test_conditions(org):
    for number, name in enumerate(["O'Neil 2026-01-05", "Plain"]):
        org.Opportunity.create({"Name": name, "CloseDate": f"2027-02-0{number + 1}", "StageName": "Proposal"})

    def names(condition: str) -> list[str]:
        query = f"SELECT Name FROM Opportunity WHERE CloseDate > 2027-01-01 AND {condition} ORDER BY Name"
        return [record["Name"] for record in org.query(query)["records"]]

    assert names("CloseDate = 2027-02-02") == ["Plain"]
    assert names(r"Name = 'O\'Neil 2026-01-05'") == ["O'Neil 2026-01-05"]
    assert names("Name LIKE 'plain%'") == ["Plain"]
    assert names("Name != 'Plain' AND Amount = null AND IsDeleted = false") == ["O'Neil 2026-01-05"]
    assert names("Amount != 3 AND StageName IN ('Proposal', 'Other')") == ["O'Neil 2026-01-05", "Plain"]


def test_times_compare_as_times(org, organisation):
    org.Account.upsert(f"{KEY}/{organisation}", {"Mrr__c": 3})
    stamp = at(account(org, organisation)["SystemModstamp"])

    def count(condition: str) -> int:
        return org.query(f"SELECT COUNT() FROM Account WHERE {KEY} = '{organisation}' AND {condition}")["totalSize"]

    whole = stamp.replace(microsecond=0)
    assert count(f"SystemModstamp >= {whole:%Y-%m-%dT%H:%M:%SZ}") == 1
    assert count(f"SystemModstamp >= {whole:%Y-%m-%dT%H:%M:%S+01:00}") == 1
    assert count(f"SystemModstamp > {stamp:%Y-%m-%dT%H:%M:%S}.{stamp.microsecond // 1000:03}Z") == 0


def test_long_answers_are_paged(org, vendors):
    prospects = [{"attributes": {"type": "Account"}, KEY: f"page_{n}", "Name": f"Paged {n}"} for n in range(4100)]
    path = f"/services/data/v59.0/composite/sobjects/Account/{KEY}"
    for start in range(0, len(prospects), 200):
        vendors.salesforce.patch(path, json={"records": prospects[start : start + 200]}).raise_for_status()
    query = f"SELECT {KEY} FROM Account WHERE {KEY} LIKE 'page_%'"
    first = org.query(query)
    assert (first["totalSize"], first["done"], len(first["records"])) == (4100, False, 2000)
    everything = org.query_all(query)["records"]
    assert sorted(record[KEY] for record in everything) == sorted(p[KEY] for p in prospects)


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("SELECT Mood__c FROM Account", "INVALID_FIELD"),
        ("SELECT Id FROM Account WHERE Mood__c = 1", "INVALID_FIELD"),
        ("SELECT Id FROM Lead", "INVALID_TYPE"),
        ("SELECT * FROM Account", "MALFORMED_QUERY"),
        ("SELECT COUNT(Id) FROM Account", "MALFORMED_QUERY"),
        ("SELECT Id FROM Account GROUP BY Id", "MALFORMED_QUERY"),
        ("SELECT Id, (SELECT Id FROM Opportunities) FROM Account", "MALFORMED_QUERY"),
        ("SELECT Id FROM Account, User", "MALFORMED_QUERY"),
        ("SELECT FROM WHERE", "MALFORMED_QUERY"),
        ("SELECT Id FROM Account WHERE Name = 'open", "MALFORMED_QUERY"),
        ("DELETE FROM Account", "MALFORMED_QUERY"),
    ],
)
def test_queries_that_are_refused(org, query, code):
    with pytest.raises(SalesforceMalformedRequest) as refused:
        org.query(query)
    assert refused.value.content[0]["errorCode"] == code


def test_describe_names_the_external_id(org):
    fields = {field["name"]: field for field in org.Account.describe()["fields"]}
    assert [name for name, field in fields.items() if field["externalId"]] == [KEY]
    assert fields["Mrr__c"]["type"] == "double"


def test_users_are_never_deleted(org):
    fields = {
        name: {field["name"] for field in getattr(org, name).describe()["fields"]} for name in ("User", "Account")
    }
    assert {name for name, found in fields.items() if "IsDeleted" in found} == {"Account"}
    assert org.query("SELECT Id, SystemModstamp FROM User")["totalSize"] > 0


def test_other_errors(org, vendors):
    with pytest.raises(SalesforceExpiredSession):
        client(vendors, "wrong").query("SELECT Id FROM User")
    with pytest.raises(SalesforceResourceNotFound):
        org.Account.get("001000000000000AAA")
    with pytest.raises(SalesforceResourceNotFound):
        org.Lead.describe()
    nothing = httpx.get(f"{vendors.config.url('salesforce')}/nothing")
    assert (nothing.status_code, nothing.json()[0]["errorCode"]) == (404, "NOT_FOUND")
    malformed = vendors.salesforce.post("/services/data/v59.0/sobjects/Account", content="{")
    assert (malformed.status_code, malformed.json()[0]["errorCode"]) == (400, "JSON_PARSER_ERROR")


def test_the_records_outlive_the_process(org, vendors, organisation):
    org.Account.upsert(f"{KEY}/{organisation}", {"Mrr__c": 77})
    vendors.stop()
    vendors.start()
    assert account(org, organisation)["Mrr__c"] == 77
