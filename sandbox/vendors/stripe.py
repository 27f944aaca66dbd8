"""Stripe's REST API, as far as a connector reads it: customers, subscriptions, prices, invoices, and the events that tell what changed.

Its shapes are those of API version 2025-03-31.basil, in which a subscription's items have the billing period, and an invoice names its
subscription in `parent` (docs.stripe.com/changelog/basil). Read only. Written from Stripe's API reference; unlike there, an event shows its
object as it is now, and `expand` is not understood.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import psycopg
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from sandbox.company import billing, office
from sandbox.services import postgres
from sandbox.vendors.context import VendorContext

KEY = "rk_test_local_stripe"
VERSION = "2025-03-31.basil"
DEFAULT_LIMIT, MOST = 10, 100
PAGING = {"limit", "starting_after", "ending_before", "created"}
COMPARISONS = {"gte": ">=", "gt": ">", "lte": "<=", "lt": "<"}

Row = dict[str, Any]


class StripeError(Exception):
    def __init__(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        given = {"code": code, "message": message, "param": param, "type": "invalid_request_error"}
        self.status, self.body = status, {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class Resource:
    """A list of objects: the table that holds them, the columns that a query may name, and how a row is shown."""

    name: str
    table: str
    show: Callable[[office.Connection, Row], Row]
    filters: dict[str, str] = field(default_factory=dict)
    order: str = "created_at, id"


def build(context: VendorContext) -> FastAPI:
    dsn = postgres.dsn(context.config)
    with office.opened(dsn) as connection:
        office.prepare(connection)
    app = FastAPI(title="Stripe", openapi_url=None)
    router = APIRouter(dependencies=[Depends(_authorise)])
    for path, resource in RESOURCES.items():
        _serve(router, dsn, path, resource)
    app.include_router(router, prefix="/v1")

    @app.exception_handler(StripeError)
    def failed(_request: Request, error: StripeError) -> JSONResponse:
        return JSONResponse({"error": error.body}, error.status)

    @app.exception_handler(HTTPException)
    def unknown(request: Request, error: HTTPException) -> JSONResponse:
        message = f"Unrecognized request URL ({request.method}: {request.url.path})."
        return JSONResponse({"error": {"message": message, "type": "invalid_request_error"}}, error.status_code)

    @app.exception_handler(psycopg.Error)
    def broken(_request: Request, _error: psycopg.Error) -> JSONResponse:
        message = "Sorry! There was an error while talking to one of our backends."
        return JSONResponse({"error": {"message": message, "type": "api_error"}}, 500)

    return app


def _authorise(request: Request) -> None:
    """The key is a bearer token, or the user name of basic authentication."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            given = base64.b64decode(given).decode().partition(":")[0]
        except (binascii.Error, UnicodeDecodeError):
            given = ""
    if not given:
        raise StripeError(
            401, "You did not provide an API key. You need to provide your API key in the Authorization header."
        )
    if given != KEY:
        raise StripeError(401, f"Invalid API Key provided: {given[:8]}{'*' * 8}{given[-4:]}")


def _serve(router: APIRouter, dsn: str, path: str, resource: Resource) -> None:
    def listed(request: Request) -> Row:
        with office.opened(dsn) as connection:
            return _page(connection, resource, request)

    def one(key: str) -> Row:
        with office.opened(dsn) as connection:
            return resource.show(connection, _find(connection, resource, key, "id", 404))

    router.add_api_route(f"/{path}", listed)
    router.add_api_route(f"/{path}/{{key}}", one)


def _page(connection: office.Connection, resource: Resource, request: Request) -> Row:
    """A page, newest first; `ending_before` gives the page just before an object."""
    query = dict(request.query_params)
    conditions, values = _conditions(resource, query)
    limit = _integer(query.get("limit", str(DEFAULT_LIMIT)), "limit")
    if not 1 <= limit <= MOST:
        problem = "at least 1" if limit < 1 else f"less than or equal to {MOST}"
        raise StripeError(400, f"This value must be {problem}.", code="parameter_invalid_integer", param="limit")
    backwards = "ending_before" in query
    for name, sign in (("starting_after", "<"), ("ending_before", ">")):
        if name in query:
            _find(connection, resource, query[name], name, 400)
            conditions.append(
                f"({resource.order}) {sign} (select {resource.order} from {resource.table} where id = %s)"
            )
            values.append(query[name])
    direction = "asc" if backwards else "desc"
    order = ", ".join(f"{column} {direction}" for column in resource.order.split(", "))
    where = f"where {' and '.join(conditions)}" if conditions else ""
    statement = f"select * from {resource.table} {where} order by {order} limit {limit + 1}"
    rows = connection.execute(statement.encode(), values).fetchall()
    shown = [resource.show(connection, row) for row in rows[:limit]]
    data = list(reversed(shown)) if backwards else shown
    return {"object": "list", "url": request.url.path, "has_more": len(rows) > limit, "data": data}


def _conditions(resource: Resource, query: dict[str, str]) -> tuple[list[str], list[Any]]:
    conditions: list[str] = []
    values: list[Any] = []
    for name, value in query.items():
        base, _, comparison = name.removesuffix("]").partition("[")
        if base not in PAGING and base not in resource.filters:
            raise StripeError(400, f"Received unknown parameter: {base}", code="parameter_unknown", param=base)
        if base == "created":
            if comparison not in {*COMPARISONS, ""}:
                raise StripeError(400, f"Received unknown parameter: {name}", code="parameter_unknown", param=name)
            conditions.append(f"created_at {COMPARISONS.get(comparison, '=')} %s")
            values.append(datetime.fromtimestamp(_integer(value, name), UTC))
        elif base in resource.filters and not (resource.name == "subscription" and value == "all"):
            conditions.append(f"{resource.filters[base]} = %s")
            values.append(value)
    # Without a status, Stripe leaves cancelled subscriptions out.
    if resource.name == "subscription" and "status" not in query:
        conditions.append("status <> 'canceled'")
    return conditions, values


def _find(connection: office.Connection, resource: Resource, key: str, param: str, status: int) -> Row:
    row = connection.execute(f"select * from {resource.table} where id = %s".encode(), [key]).fetchone()
    if row is None:
        raise StripeError(status, f"No such {resource.name}: '{key}'", code="resource_missing", param=param)
    return row


def _integer(text: str, param: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise StripeError(400, f"Invalid integer: {text}", code="parameter_invalid_integer", param=param) from error


def _unix(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp())


def _customer(_connection: office.Connection, row: Row) -> Row:
    return {
        "id": row["id"], "object": "customer", "address": None, "balance": 0, "created": _unix(row["created_at"]),
        "currency": row["currency"], "default_source": None, "delinquent": row["delinquent"], "description": None,
        "email": row["email"], "livemode": False, "metadata": {"organisation_id": row["organisation_id"]},
        "name": row["name"], "phone": None, "preferred_locales": [], "shipping": None, "tax_exempt": "none",
    }  # fmt: skip


def _price(_connection: office.Connection, row: Row) -> Row:
    amount = row["unit_amount"]
    return {
        "id": row["id"], "object": "price", "active": True, "billing_scheme": "per_unit",
        "created": _unix(row["created_at"]), "currency": "usd", "livemode": False, "lookup_key": row["plan"],
        "metadata": {}, "nickname": row["plan"], "product": f"prod_{row['plan']}",
        "recurring": {"interval": "month", "interval_count": 1, "usage_type": "licensed"}, "type": "recurring",
        "unit_amount": amount, "unit_amount_decimal": str(amount),
    }  # fmt: skip


def _subscription(connection: office.Connection, row: Row) -> Row:
    price = {
        "id": billing.PRICE_IDS[row["plan"]], "plan": row["plan"], "unit_amount": row["unit_amount"],
        "created_at": billing.PRICED_AT,
    }  # fmt: skip
    item = {
        "id": f"si_{row['id'][4:18]}", "object": "subscription_item", "created": _unix(row["created_at"]),
        "current_period_end": _unix(row["current_period_end"]),
        "current_period_start": _unix(row["current_period_start"]), "metadata": {},
        "price": _price(connection, price), "quantity": row["quantity"], "subscription": row["id"],
    }  # fmt: skip
    return {
        "id": row["id"], "object": "subscription", "billing_cycle_anchor": _unix(row["created_at"]), "cancel_at": None,
        "cancel_at_period_end": False, "canceled_at": _unix(row["canceled_at"]),
        "collection_method": row["collection_method"], "created": _unix(row["created_at"]), "currency": "usd",
        "customer": row["customer_id"],
        "days_until_due": 30 if row["collection_method"] == "send_invoice" else None, "ended_at": _unix(row["ended_at"]),
        "items": {
            "object": "list", "data": [item], "has_more": False, "total_count": 1,
            "url": f"/v1/subscription_items?subscription={row['id']}",
        },
        "livemode": False, "metadata": {"organisation_id": row["organisation_id"]},
        "start_date": _unix(row["created_at"]), "status": row["status"], "trial_end": _unix(row["trial_end"]),
        "trial_start": _unix(row["created_at"]) if row["trial_end"] else None,
    }  # fmt: skip


def _invoice(_connection: office.Connection, row: Row) -> Row:
    due = row["quantity"] * row["unit_amount"]
    line = {
        "id": f"il_{row['id'][3:]}", "object": "line_item", "amount": due, "currency": "usd", "invoice": row["id"],
        "parent": {
            "type": "subscription_item_details",
            "subscription_item_details": {"subscription": row["subscription_id"], "proration": False},
        },
        "period": {"start": _unix(row["service_start"]), "end": _unix(row["service_end"])}, "quantity": row["quantity"],
    }  # fmt: skip
    first = row["period_start"] == row["created_at"]
    return {
        "id": row["id"], "object": "invoice", "amount_due": due, "amount_paid": row["amount_paid"],
        "amount_remaining": due - row["amount_paid"], "attempted": row["status"] != "draft",
        "billing_reason": "subscription_create" if first else "subscription_cycle",
        "collection_method": "send_invoice" if row["due_at"] else "charge_automatically",
        "created": _unix(row["created_at"]), "currency": "usd", "customer": row["customer_id"],
        "due_date": _unix(row["due_at"]),
        "lines": {
            "object": "list", "data": [line], "has_more": False, "total_count": 1, "url": f"/v1/invoices/{row['id']}/lines",
        },
        "livemode": False, "metadata": {}, "number": row["number"],
        "parent": {
            "type": "subscription_details",
            "subscription_details": {"subscription": row["subscription_id"], "metadata": {}},
        },
        "period_end": _unix(row["created_at"]), "period_start": _unix(row["period_start"]), "status": row["status"],
        "status_transitions": {"paid_at": _unix(row["paid_at"])}, "subtotal": due, "total": due,
    }  # fmt: skip


def _event(connection: office.Connection, row: Row) -> Row:
    subject = row["type"].rpartition(".")[0].removeprefix("customer.")
    resource = next(resource for resource in RESOURCES.values() if resource.name == subject)
    found = connection.execute(f"select * from {resource.table} where id = %s".encode(), [row["object_id"]]).fetchone()
    shown = resource.show(connection, found) if found else {"id": row["object_id"], "object": subject, "deleted": True}
    return {
        "id": row["id"], "object": "event", "api_version": VERSION, "created": _unix(row["created_at"]),
        "data": {"object": shown}, "livemode": False, "pending_webhooks": 0,
        "request": {"id": None, "idempotency_key": None}, "type": row["type"],
    }  # fmt: skip


RESOURCES = {
    "customers": Resource("customer", "company_state.billing_customers", _customer, {"email": "email"}),
    "subscriptions": Resource(
        "subscription",
        "company_state.billing_subscriptions",
        _subscription,
        {"customer": "customer_id", "status": "status", "collection_method": "collection_method"},
    ),
    "prices": Resource("price", f"({billing.PRICE_LIST}) as prices", _price, {"active": "active"}),
    "invoices": Resource(
        "invoice",
        "company_state.billing_invoices",
        _invoice,
        {"customer": "customer_id", "subscription": "subscription_id", "status": "status"},
    ),
    "events": Resource("event", "company_state.billing_events", _event, {"type": "type"}, "number"),
}
