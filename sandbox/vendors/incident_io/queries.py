"""Lists and single records, with the filters and the paging of incident.io's API."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.datastructures import QueryParams

from sandbox.vendors.context import VendorContext
from sandbox.vendors.incident_io import show
from sandbox.vendors.incident_io.names import Problem, identifier, numbered, stamp
from sandbox.vendors.incident_io.settings import ATTRIBUTE, Settings

OPERATORS = {"is": "in", "one_of": "in", "not_in": "not in", "gte": ">=", "lte": "<="}


def _text(value: str) -> str:
    return value


def _moment(value: str) -> str:
    return stamp(_parse(value))


def _parse(value: str) -> datetime:
    try:
        moment = datetime.fromisoformat(value)
    except ValueError as error:
        raise Problem(422, "invalid_value", f"{value!r} is not an ISO 8601 time") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Listing:
    """A list of the API: its table, its largest page, and the columns that its filters compare."""

    name: str
    kind: str
    table: str
    largest_page: int
    filters: dict[str, tuple[str, Callable[[str], Any]]]
    plain: tuple[str, ...] = ()
    """Filters that take no operator."""
    operators: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """The operators that a filter takes; without an entry all of them."""


TIMES = {"created_at": ("created_at", _moment), "updated_at": ("updated_at", _moment)}
ALERTS = Listing(
    "alerts", "ALERT", "incident_io_alert", 50,
    {"deduplication_key": ("deduplication_key", _text), "status": ("status", _text),
     "alert_source": ("source", _text)} | TIMES,
    # https://docs.incident.io/api-reference/alerts-v2. The API takes `date_range` of times, too, which is not understood here.
    operators={"deduplication_key": ("is",), "status": ("one_of", "not_in"), "alert_source": ("one_of", "not_in"),
               "created_at": ("gte", "lte"), "updated_at": ("gte", "lte")},
)  # fmt: skip
INCIDENTS = Listing(
    "incidents", "INCIDENT", "incident_io_incident", 500, {"status_category": ("status", _text)} | TIMES
)
ESCALATIONS = Listing(
    "escalations", "ESCALATION", "incident_io_escalation", 50,
    {
        "status": ("status", _text), "escalation_path": ("path", _text), "idempotency_key": ("idempotency_key", _text),
        "alert": ("alert", numbered("ALERT")), "incident": ("incident", numbered("INCIDENT")),
    } | TIMES,
)  # fmt: skip
INCIDENT_ALERTS = Listing(
    "incident_alerts", "LINK", "incident_io_incident", 50,
    {"alert_id": ("alert", numbered("ALERT")), "incident_id": ("id", numbered("INCIDENT"))},
    plain=("alert_id", "incident_id"),
)  # fmt: skip
LISTINGS = {listing.kind: listing for listing in (ALERTS, INCIDENTS, ESCALATIONS, INCIDENT_ALERTS)}


class Reader:
    def __init__(self, context: VendorContext, settings: Settings) -> None:
        self._store, self._clock, self._settings = context.store, context.clock, settings

    def alerts(self, params: QueryParams) -> dict[str, Any]:
        attributes = self._settings.all(ATTRIBUTE)
        return self._page(ALERTS, params, lambda row: show.alert(row, attributes))

    def alert(self, name: str) -> dict[str, Any]:
        return show.alert(self._row("ALERT", self.number("ALERT", name)), self._settings.all(ATTRIBUTE))

    def incidents(self, params: QueryParams) -> dict[str, Any]:
        return self._page(INCIDENTS, params, self._incident)

    def incident_alerts(self, params: QueryParams) -> dict[str, Any]:
        return self._page(
            INCIDENT_ALERTS, params, lambda row: show.incident_alert(row, self._row("ALERT", row["alert"]))
        )

    def incident(self, name: str) -> dict[str, Any]:
        # The real API takes the number of the reference as well.
        number = int(name) if name.isdecimal() and len(name) < 18 else self.number("INCIDENT", name)
        return self._incident(self._row("INCIDENT", number))

    def escalations(self, params: QueryParams) -> dict[str, Any]:
        return self._page(ESCALATIONS, params, self._escalation)

    def escalation(self, name: str) -> dict[str, Any]:
        return self.escalation_of(self.number("ESCALATION", name))

    def escalation_of(self, number: int) -> dict[str, Any]:
        return self._escalation(self._row("ESCALATION", number))

    def number(self, kind: str, name: str) -> int:
        """The number of a record that exists. Raises Problem (404)."""
        number = numbered(kind)(name)
        self._row(kind, number)
        return number

    def window(self, params: QueryParams) -> tuple[datetime, datetime]:
        """`entry_window_start` and `entry_window_end`: by default a week from now."""
        start = _parse(params["entry_window_start"]) if "entry_window_start" in params else self._clock.now()
        end = _parse(params["entry_window_end"]) if "entry_window_end" in params else start + timedelta(days=7)
        if end <= start:
            raise Problem(422, "invalid_value", "entry_window_end is not after entry_window_start", "entry_window_end")
        return start, end

    def _page(self, listing: Listing, params: QueryParams, shown: Callable[[sqlite3.Row], Any]) -> dict[str, Any]:
        size = _page_size(params, listing.largest_page)
        oldest_first = params.get("sort_by") == "created_at_oldest_first"
        conditions, values = _conditions(listing, params)
        where = " and ".join(conditions) or "true"
        total = self._store.execute(f"select count(*) as n from {listing.table} where {where}", values)[0]["n"]
        if after := params.get("after"):
            where += f" and id {'>' if oldest_first else '<'} ?"
            values.append(self.number(listing.kind, after))
        rows = self._store.execute(
            f"select * from {listing.table} where {where} order by id {'asc' if oldest_first else 'desc'} limit {size + 1}",
            values,
        )
        meta: dict[str, Any] = {"page_size": size}
        if listing is INCIDENTS:
            meta["total_record_count"] = total
        if len(rows) > size:
            meta["after"] = identifier(listing.kind, rows[size - 1]["id"])
        return {listing.name: [shown(row) for row in rows[:size]], "pagination_meta": meta}

    def _row(self, kind: str, number: int) -> sqlite3.Row:
        rows = self._store.execute(f"select * from {LISTINGS[kind].table} where id = ?", (number,))
        if not rows:
            raise Problem(404, "not_found", f"no such {kind.lower()}")
        return rows[0]

    def _incident(self, row: sqlite3.Row) -> dict[str, Any]:
        return show.incident(row, self._row("ALERT", row["alert"]))

    def _escalation(self, row: sqlite3.Row) -> dict[str, Any]:
        pages = self._store.execute("select * from incident_io_page where escalation = ? order by id", (row["id"],))
        alerts = [self._row("ALERT", row["alert"])] if row["alert"] else []
        incidents = [self._row("INCIDENT", row["incident"])] if row["incident"] else []
        acks = self._store.execute("select * from incident_io_acknowledgement where escalation = ?", (row["id"],))
        return show.escalation(row, pages, alerts, incidents, acks[0]["acked_at"] if acks else None)


def _page_size(params: QueryParams, largest: int) -> int:
    text = params.get("page_size", "25")
    if not text.isdecimal() or not 1 <= int(text) <= largest:
        raise Problem(422, "invalid_value", f"page_size is a number from 1 to {largest}", "page_size")
    return int(text)


def _conditions(listing: Listing, params: QueryParams) -> tuple[list[str], list[Any]]:
    conditions, values = [], []
    for name in params:
        filtered, _, rest = name.partition("[")
        if name in {"page_size", "after"} or (name == "sort_by" and listing is INCIDENTS):
            continue
        word = rest.removesuffix("]")
        operator = "=" if filtered in listing.plain else OPERATORS.get(word)
        taken = word in listing.operators.get(filtered, (word,))
        if filtered not in listing.filters or operator is None or not taken:
            raise Problem(422, "invalid_value", f"the filter {name} is not understood here", filtered)
        column, convert = listing.filters[filtered]
        given = [convert(value) for value in params.getlist(name)]
        marks = ", ".join("?" * len(given))
        conditions.append(f"{column} {operator} ({marks})" if "in" in operator else f"{column} {operator} ?")
        values += given if "in" in operator else given[:1]
    return conditions, values
