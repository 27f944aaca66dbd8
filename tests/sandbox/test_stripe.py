"""Stripe's stand-in over HTTP: its lists, its events, and its errors."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from sandbox.company.history import PRICES
from sandbox.company.tick import tick
from sandbox.services import postgres
from tests.stand_ins import Vendors

KEY = "rk_test_local_stripe"


def listed(vendors: Vendors, path: str, **query: Any) -> list[dict[str, Any]]:
    """Every object of a list, page by page."""
    found: list[dict[str, Any]] = []
    page = get(vendors, path, **query)
    found += page["data"]
    while page["has_more"]:
        page = get(vendors, path, starting_after=found[-1]["id"], **query)
        found += page["data"]
    return found


def get(vendors: Vendors, path: str, **query: Any) -> dict[str, Any]:
    return vendors.stripe.get(f"/v1/{path}", params=query).raise_for_status().json()


def test_every_object_comes_once_newest_first(vendors):
    for path, table in (("customers", "billing_customers"), ("invoices", "billing_invoices")):
        found = listed(vendors, path, limit=7)
        assert sorted(o["id"] for o in found) == sorted(
            k for (k,) in vendors.sql(f"select id from company_state.{table}")
        )
        assert [o["created"] for o in found] == sorted((o["created"] for o in found), reverse=True)
    assert len(get(vendors, "invoices")["data"]) == 10


def test_a_page_back_gives_what_came_before(vendors):
    first = get(vendors, "invoices", limit=5)["data"]
    second = get(vendors, "invoices", limit=3, starting_after=first[4]["id"])["data"]
    back = get(vendors, "invoices", limit=5, ending_before=second[0]["id"])
    assert [o["id"] for o in back["data"]] == [o["id"] for o in first]


def test_lists_are_cut_by_time_and_by_owner(vendors):
    everything = listed(vendors, "invoices", limit=100)
    middle = everything[len(everything) // 2]
    since = listed(vendors, "invoices", limit=100, **{"created[gte]": middle["created"]})
    assert {o["id"] for o in since} == {o["id"] for o in everything if o["created"] >= middle["created"]}
    own = listed(vendors, "invoices", limit=100, customer=middle["customer"], status="paid")
    assert {o["id"] for o in own} == {
        o["id"] for o in everything if o["customer"] == middle["customer"] and o["status"] == "paid"
    }


def test_cancelled_subscriptions_come_only_when_asked_for(vendors):
    table = "company_state.billing_subscriptions"
    [(key, status)] = vendors.sql(f"select id, status from {table} order by id limit 1")
    vendors.sql(f"update {table} set status = 'canceled' where id = '{key}'")
    try:
        usual, everything, cancelled = (
            {o["id"]: o["status"] for o in listed(vendors, "subscriptions", limit=100, **query)}
            for query in ({}, {"status": "all"}, {"status": "canceled"})
        )
        assert set(cancelled.values()) == {"canceled"}
        assert usual.keys() == everything.keys() - cancelled.keys()
    finally:
        vendors.sql(f"update {table} set status = '{status}' where id = '{key}'")


def test_the_newest_subscription_agrees_with_the_product(vendors):
    product = {
        row[0]: row[1:]
        for row in vendors.sql("select organisation_id, seats, plan, status, mrr_cents from subscriptions")
    }
    customers = {o["id"]: o["metadata"]["organisation_id"] for o in listed(vendors, "customers", limit=100)}
    newest: dict[str, dict[str, Any]] = {}
    for subscription in listed(vendors, "subscriptions", limit=100, status="all"):
        newest.setdefault(customers[subscription["customer"]], subscription)
    assert newest.keys() == product.keys()
    for organisation, subscription in newest.items():
        seats, plan, status, mrr = product[organisation]
        [item] = subscription["items"]["data"]
        assert (item["quantity"], item["price"]["lookup_key"]) == (seats, plan)
        assert subscription["status"] == {"cancelled": "canceled"}.get(status, status)
        assert mrr == (0 if status == "trialing" else item["quantity"] * item["price"]["unit_amount"])
        [invoice] = get(vendors, "invoices", subscription=subscription["id"], limit=1)["data"]
        assert invoice["lines"]["data"][0]["period"]["end"] == item["current_period_end"]
        assert invoice["parent"]["subscription_details"]["subscription"] == subscription["id"]


def test_every_item_has_a_listed_price(vendors):
    prices = {price["id"]: price for price in listed(vendors, "prices", limit=2)}
    assert {price["nickname"]: price["unit_amount"] for price in prices.values()} == PRICES
    for subscription in listed(vendors, "subscriptions", limit=100, status="all"):
        for item in subscription["items"]["data"]:
            assert item["price"] == prices[item["price"]["id"]]
            assert get(vendors, f"prices/{item['price']['id']}") == item["price"]


def test_events_tell_what_an_hour_changed(vendors):
    last = get(vendors, "events", limit=1)["data"][0]
    before = {o["id"]: o for o in listed(vendors, "subscriptions", limit=100, status="all")}
    result = tick(postgres.dsn(vendors.config), hours=12)
    told = [e for e in listed(vendors, "events", **{"created[gte]": last["created"]}) if e["id"] != last["id"]]
    after = {o["id"]: o for o in listed(vendors, "subscriptions", limit=100, status="all")}
    changed = {key for key in after if after[key] != before.get(key)}
    assert changed
    assert {e["data"]["object"]["id"] for e in told if e["type"] == "customer.subscription.updated"} >= changed
    assert {after[key]["metadata"]["organisation_id"] for key in changed} <= result.organisations
    assert all(e["data"]["object"] == after[e["data"]["object"]["id"]] for e in told if "subscription" in e["type"])


@pytest.mark.parametrize(
    ("path", "status", "param", "code"),
    [
        ("customers/cus_none", 404, "id", "resource_missing"),
        ("customers?starting_after=cus_none", 400, "starting_after", "resource_missing"),
        ("customers?limit=101", 400, "limit", "parameter_invalid_integer"),
        ("customers?limit=many", 400, "limit", "parameter_invalid_integer"),
        ("invoices?mood=good", 400, "mood", "parameter_unknown"),
        ("invoices?created[since]=1", 400, "created[since]", "parameter_unknown"),
        ("nothing", 404, None, None),
    ],
)
def test_errors_are_stripes(vendors, path, status, param, code):
    answer = vendors.stripe.get(f"/v1/{path}")
    error = answer.json()["error"]
    assert (answer.status_code, error.get("param"), error.get("code")) == (status, param, code)
    assert error["type"] == "invalid_request_error"
    assert error["message"]


def test_the_key_is_a_bearer_token_or_a_user_name(vendors):
    url = f"{vendors.config.url('stripe')}/v1/customers"
    assert httpx.get(url, auth=(KEY, "")).status_code == 200
    for headers in ({}, {"Authorization": "Bearer sk_wrong"}, {"Authorization": "Basic ???"}):
        answer = httpx.get(url, headers=headers)
        assert (answer.status_code, answer.json()["error"]["type"]) == (401, "invalid_request_error")


def test_it_can_be_broken(vendors):
    vendors.faults.add("stripe", "invoices", "http_429")
    assert vendors.stripe.get("/v1/invoices").status_code == 429
    assert vendors.stripe.get("/v1/customers").status_code == 200
