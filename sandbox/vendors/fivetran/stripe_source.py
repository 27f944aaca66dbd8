"""Reads Stripe as a connector does: everything by its lists at first, then what its events name.

Stripe's objects have no time of their last change; an event does. What is deleted there is told by an event, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import pyarrow as pa

from sandbox.config import SandboxConfig
from sandbox.vendors.fivetran.sources import TIMESTAMP, Changes, Table
from sandbox.vendors.stripe import KEY, MOST, VERSION

TEXT, WHOLE = pa.string(), pa.int64()
Record = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """An object of Stripe's: where it is listed, and the columns in which it lands."""

    path: str
    columns: dict[str, pa.DataType]
    row: Callable[[Record], Record]


class StripeSource:
    def __init__(self, config: SandboxConfig, schema: str) -> None:
        headers = {"Authorization": f"Bearer {KEY}", "Stripe-Version": VERSION}
        self._http = httpx.Client(base_url=f"{config.url('stripe')}/v1", headers=headers, timeout=30)
        self.dataset = schema

    def tables(self) -> list[Table]:
        # A source that does not answer is to fail here already, as one that describes its own tables does.
        self._get("/events", limit=1)
        return [Table(name, kind.path, kind.columns, "id") for name, kind in KINDS.items()]

    def changes(self, table: Table, cursor: str | None, known: set[str]) -> Changes:
        """The cursor is `<created>:<id>` of the newest event that was read."""
        kind = KINDS[table.name]
        if cursor is None:
            # Before the lists: what changes while they are read comes again with the next events.
            newest = self._get("/events", limit=1)["data"]
            rows = [
                kind.row(found)
                for found in self._list(kind.path, status="all" if table.name == "subscription" else None)
            ]
            return Changes(rows, _cursor(newest[0]) if newest else "0:", {row["id"] for row in rows})
        events = list(self._events(cursor))
        told = [event for event in events if event["data"]["object"]["object"] == table.name]
        # Newest first: of an object's events the first one shows it as it is last.
        latest = {event["data"]["object"]["id"]: event["data"]["object"] for event in reversed(told)}
        rows = [kind.row(found) for found in latest.values() if not found.get("deleted")]
        gone = {key for key, found in latest.items() if found.get("deleted")}
        keys = (known | {row["id"] for row in rows}) - gone
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


def _customer(found: Record) -> Record:
    return {
        "id": found["id"], "name": found["name"], "email": found["email"], "currency": found["currency"],
        "delinquent": found["delinquent"], "created": _time(found["created"]),
        "metadata_organisation_id": found["metadata"].get("organisation_id"),
    }  # fmt: skip


def _subscription(found: Record) -> Record:
    [item] = found["items"]["data"]
    return {
        "id": found["id"], "customer_id": found["customer"], "status": found["status"],
        "plan": item["price"]["lookup_key"], "quantity": item["quantity"], "unit_amount": item["price"]["unit_amount"],
        "currency": found["currency"], "created": _time(found["created"]),
        "current_period_start": _time(found["current_period_start"]),
        "current_period_end": _time(found["current_period_end"]), "canceled_at": _time(found["canceled_at"]),
        "ended_at": _time(found["ended_at"]), "trial_end": _time(found["trial_end"]),
    }  # fmt: skip


def _invoice(found: Record) -> Record:
    return {
        "id": found["id"], "customer_id": found["customer"], "subscription_id": found["subscription"],
        "number": found["number"], "status": found["status"], "currency": found["currency"],
        "amount_due": found["amount_due"], "amount_paid": found["amount_paid"],
        "period_start": _time(found["period_start"]), "period_end": _time(found["period_end"]),
        "created": _time(found["created"]), "due_date": _time(found["due_date"]),
        "paid_at": _time(found["status_transitions"]["paid_at"]),
    }  # fmt: skip


KINDS = {
    "customer": Kind(
        "customers",
        {"id": TEXT, "name": TEXT, "email": TEXT, "currency": TEXT, "delinquent": pa.bool_(), "created": TIMESTAMP,
         "metadata_organisation_id": TEXT},
        _customer,
    ),
    "subscription": Kind(
        "subscriptions",
        {"id": TEXT, "customer_id": TEXT, "status": TEXT, "plan": TEXT, "quantity": WHOLE, "unit_amount": WHOLE,
         "currency": TEXT, "created": TIMESTAMP, "current_period_start": TIMESTAMP, "current_period_end": TIMESTAMP,
         "canceled_at": TIMESTAMP, "ended_at": TIMESTAMP, "trial_end": TIMESTAMP},
        _subscription,
    ),
    "invoice": Kind(
        "invoices",
        {"id": TEXT, "customer_id": TEXT, "subscription_id": TEXT, "number": TEXT, "status": TEXT, "currency": TEXT,
         "amount_due": WHOLE, "amount_paid": WHOLE, "period_start": TIMESTAMP, "period_end": TIMESTAMP,
         "created": TIMESTAMP, "due_date": TIMESTAMP, "paid_at": TIMESTAMP},
        _invoice,
    ),
}  # fmt: skip
