"""Reads Stripe as a connector does: everything by its lists at first, then what its events name.

Stripe's objects have no time of their last change; an event does. What is deleted there is told by an event, too. Tables and columns are
those of a connection made since 31 July 2025 (github.com/fivetran/dbt_stripe, README and CHANGELOG): every version of a subscription lands,
and its billing period is its items'.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import pyarrow as pa

from sandbox.config import SandboxConfig
from sandbox.vendors.fivetran.sources import JSON, TIMESTAMP, Changes, Table
from sandbox.vendors.stripe import KEY, MOST, VERSION

TEXT, WHOLE, TRUTH = pa.string(), pa.int64(), pa.bool_()
SUBSCRIPTION = "subscription"
Record = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """A table: the object of Stripe's that it comes from, where that is listed, the columns in which it lands, and an object's rows."""

    object: str
    path: str
    columns: dict[str, pa.DataType]
    rows: Callable[[Record], list[Record]]
    key: tuple[str, ...] = ("id",)
    deleted: str | None = None
    history: bool = False


class StripeSource:
    def __init__(self, config: SandboxConfig, schema: str) -> None:
        headers = {"Authorization": f"Bearer {KEY}", "Stripe-Version": VERSION}
        self._http = httpx.Client(base_url=f"{config.url('stripe')}/v1", headers=headers, timeout=30)
        self.dataset = schema

    def tables(self) -> list[Table]:
        # A source that does not answer is to fail here already, as one that describes its own tables does.
        self._get("/events", limit=1)
        return [
            Table(name, kind.path, kind.columns, kind.key, kind.deleted, kind.history) for name, kind in KINDS.items()
        ]

    def changes(self, table: Table, cursor: str | None, known: set[str]) -> Changes:
        """The cursor is `<created>:<id>` of the newest event that was read."""
        kind = KINDS[table.name]
        if cursor is None:
            # Before the lists: what changes while they are read comes again with the next events.
            newest = self._get("/events", limit=1)["data"]
            found = self._list(kind.path, status="all" if kind.object == SUBSCRIPTION else None)
            rows = [row for one in found for row in kind.rows(one)]
            return Changes(rows, _cursor(newest[0]) if newest else "0:", {table.key_of(row) for row in rows})
        events = list(self._events(cursor))
        told = [event for event in events if event["data"]["object"]["object"] == kind.object]
        # Newest first: of an object's events the first one shows it as it is last.
        latest = {event["data"]["object"]["id"]: event["data"]["object"] for event in reversed(told)}
        rows = [row for found in latest.values() if not found.get("deleted") for row in kind.rows(found)]
        gone = {key for key, found in latest.items() if found.get("deleted")}
        keys = (known | {table.key_of(row) for row in rows}) - gone
        return Changes(rows, _cursor(events[0]) if events else cursor, keys)

    def close(self) -> None:
        self._http.close()

    def _events(self, cursor: str) -> Iterator[Record]:
        """Those newer than the cursor's, newest first. Times are whole seconds: its own second may have had more since."""
        created, _, last = cursor.partition(":")
        for event in self._list("events", **{"created[gte]": created}):
            if event["id"] == last:
                return
            yield event

    def _list(self, path: str, **query: str | None) -> Iterator[Record]:
        page = self._get(f"/{path}", limit=MOST, **query)
        yield from page["data"]
        while page["has_more"]:
            page = self._get(f"/{path}", limit=MOST, starting_after=page["data"][-1]["id"], **query)
            yield from page["data"]

    def _get(self, path: str, **query: str | int | None) -> Record:
        params = {name: value for name, value in query.items() if value is not None}
        return self._http.get(path, params=params).raise_for_status().json()


def _cursor(event: Record) -> str:
    return f"{event['created']}:{event['id']}"


def _time(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _metadata(found: Record) -> str:
    return json.dumps(found["metadata"], sort_keys=True)


def _customer(found: Record) -> list[Record]:
    return [{
        "id": found["id"], "name": found["name"], "email": found["email"], "currency": found["currency"],
        "delinquent": found["delinquent"], "created": _time(found["created"]), "metadata": _metadata(found),
        "is_deleted": False,
    }]  # fmt: skip


def _subscription(found: Record) -> list[Record]:
    return [{
        "id": found["id"], "customer_id": found["customer"], "status": found["status"],
        "created": _time(found["created"]), "start_date": _time(found["start_date"]),
        "cancel_at_period_end": found["cancel_at_period_end"], "canceled_at": _time(found["canceled_at"]),
        "ended_at": _time(found["ended_at"]), "trial_start": _time(found["trial_start"]),
        "trial_end": _time(found["trial_end"]), "metadata": _metadata(found),
    }]  # fmt: skip


def _items(found: Record) -> list[Record]:
    """A subscription's items. A price has the id of the plan that Stripe keeps for it: dbt_stripe joins the two by `plan_id`."""
    return [
        {
            "id": item["id"], "subscription_id": found["id"], "plan_id": item["price"]["id"],
            "quantity": item["quantity"], "created": _time(item["created"]),
            "current_period_start": _time(item["current_period_start"]),
            "current_period_end": _time(item["current_period_end"]), "metadata": _metadata(item),
        }
        for item in found["items"]["data"]
    ]  # fmt: skip


def _price(found: Record) -> list[Record]:
    return [{
        "id": found["id"], "active": found["active"], "billing_scheme": found["billing_scheme"],
        "created": _time(found["created"]), "currency": found["currency"], "is_deleted": False,
        "lookup_key": found["lookup_key"], "metadata": _metadata(found), "nickname": found["nickname"],
        "product_id": found["product"], "recurring_interval": found["recurring"]["interval"],
        "recurring_interval_count": found["recurring"]["interval_count"],
        "recurring_usage_type": found["recurring"]["usage_type"], "type": found["type"],
        "unit_amount": found["unit_amount"], "unit_amount_decimal": found["unit_amount_decimal"],
    }]  # fmt: skip


def _invoice(found: Record) -> list[Record]:
    parent = found["parent"] or {}
    return [{
        "id": found["id"], "customer_id": found["customer"],
        "subscription_id": parent.get("subscription_details", {}).get("subscription"), "number": found["number"],
        "status": found["status"], "currency": found["currency"], "amount_due": found["amount_due"],
        "amount_paid": found["amount_paid"], "amount_remaining": found["amount_remaining"],
        "billing_reason": found["billing_reason"], "period_start": _time(found["period_start"]),
        "period_end": _time(found["period_end"]), "created": _time(found["created"]), "due_date": _time(found["due_date"]),
        "status_transitions_paid_at": _time(found["status_transitions"]["paid_at"]), "metadata": _metadata(found),
        "is_deleted": False,
    }]  # fmt: skip


KINDS = {
    "customer": Kind(
        "customer",
        "customers",
        {"id": TEXT, "name": TEXT, "email": TEXT, "currency": TEXT, "delinquent": TRUTH, "created": TIMESTAMP,
         "metadata": JSON, "is_deleted": TRUTH},
        _customer,
        deleted="is_deleted",
    ),
    "subscription_history": Kind(
        SUBSCRIPTION,
        "subscriptions",
        {"id": TEXT, "customer_id": TEXT, "status": TEXT, "created": TIMESTAMP, "start_date": TIMESTAMP,
         "cancel_at_period_end": TRUTH, "canceled_at": TIMESTAMP, "ended_at": TIMESTAMP, "trial_start": TIMESTAMP,
         "trial_end": TIMESTAMP, "metadata": JSON},
        _subscription,
        key=("id", "_fivetran_start"),
        history=True,
    ),
    "subscription_item": Kind(
        SUBSCRIPTION,
        "subscriptions",
        {"id": TEXT, "subscription_id": TEXT, "plan_id": TEXT, "quantity": WHOLE, "created": TIMESTAMP,
         "current_period_start": TIMESTAMP, "current_period_end": TIMESTAMP, "metadata": JSON},
        _items,
    ),
    "price": Kind(
        "price",
        "prices",
        {"id": TEXT, "active": TRUTH, "billing_scheme": TEXT, "created": TIMESTAMP, "currency": TEXT,
         "is_deleted": TRUTH, "lookup_key": TEXT, "metadata": JSON, "nickname": TEXT, "product_id": TEXT,
         "recurring_interval": TEXT, "recurring_interval_count": WHOLE, "recurring_usage_type": TEXT, "type": TEXT,
         "unit_amount": WHOLE, "unit_amount_decimal": TEXT},
        _price,
        deleted="is_deleted",
    ),
    "invoice": Kind(
        "invoice",
        "invoices",
        {"id": TEXT, "customer_id": TEXT, "subscription_id": TEXT, "number": TEXT, "status": TEXT, "currency": TEXT,
         "amount_due": WHOLE, "amount_paid": WHOLE, "amount_remaining": WHOLE, "billing_reason": TEXT,
         "period_start": TIMESTAMP, "period_end": TIMESTAMP, "created": TIMESTAMP, "due_date": TIMESTAMP,
         "status_transitions_paid_at": TIMESTAMP, "metadata": JSON, "is_deleted": TRUTH},
        _invoice,
        deleted="is_deleted",
    ),
}  # fmt: skip
