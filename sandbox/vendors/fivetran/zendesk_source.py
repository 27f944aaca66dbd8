"""Reads Zendesk as a connector does: by its incremental exports, from the beginning at first and then from where the last one ended.

Tables and columns are those of fivetran.com/docs/connectors/applications/zendesk/connector-schema.md, as far as github.com/fivetran/dbt_zendesk
reads them. A deleted ticket lands once more, with the status `deleted`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import pyarrow as pa

from sandbox.company.support import TRACKED
from sandbox.config import SandboxConfig
from sandbox.vendors.fivetran.sources import DELETED, TIMESTAMP, Changes, Table
from sandbox.vendors.zendesk import EMAIL, TOKEN

TEXT, WHOLE = pa.string(), pa.int64()
BY_CURSOR = {"ticket", "user"}
"""These exports give a cursor; the others give a time, at which the next export finds some records again."""
Record = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """A table: the export that it comes from, its columns, and the rows that a record of the export has."""

    export: str
    listed: str
    columns: dict[str, pa.DataType]
    rows: Callable[[Record], list[Record]]
    changed: str = "updated_at"
    """The column with the time of a row's last change."""
    key: tuple[str, ...] = ("id",)
    deleted: str | None = DELETED


class ZendeskSource:
    def __init__(self, config: SandboxConfig, schema: str) -> None:
        self._http = httpx.Client(
            base_url=f"{config.url('zendesk')}/api/v2/incremental", auth=(f"{EMAIL}/token", TOKEN), timeout=30
        )
        self.dataset = schema

    def tables(self) -> list[Table]:
        # A source that does not answer is to fail here already, as one that describes its own tables does.
        self._get("/organizations.json", start_time=0, per_page=1)
        return [Table(name, kind.export, kind.columns, kind.key, kind.deleted) for name, kind in KINDS.items()]

    def changes(self, table: Table, cursor: str | None, known: set[str]) -> Changes:
        kind = KINDS[table.name]
        after = cursor
        records: list[Record] = []
        for page in self._pages(kind, cursor, by_cursor=table.name in BY_CURSOR):
            records += page[kind.listed]
            after = page["after_cursor"] if table.name in BY_CURSOR else str(page["end_time"])
        # A record may come twice, on two pages: the later one is the newer.
        latest = {table.key_of(row): row for record in records if not _deleted(record) for row in kind.rows(record)}
        gone = {str(record["id"]) for record in records if _deleted(record)}
        rows = [row for row in latest.values() if not self._landed(table, kind, row, cursor, known)]
        base = known if cursor is not None else set()
        return Changes(rows, after, (base | latest.keys()) - gone)

    def close(self) -> None:
        self._http.close()

    def _landed(self, table: Table, kind: Kind, row: Record, cursor: str | None, known: set[str]) -> bool:
        """Whether a record of an export by time came before: it is of the last one's final second, and its key is known."""
        if cursor is None or table.name in BY_CURSOR:
            return False
        return row[kind.changed].timestamp() <= int(cursor) and table.key_of(row) in known

    def _pages(self, kind: Kind, cursor: str | None, *, by_cursor: bool) -> Iterator[Record]:
        query: dict[str, str | int] = {"start_time": 0 if cursor is None else cursor}
        if by_cursor and cursor is not None:
            query = {"cursor": cursor}
        if kind.listed == "ticket_events":
            query["include"] = "comment_events"
        page = self._get(kind.export, **query)
        yield page
        while not page["end_of_stream"]:
            page = self._http.get(page["after_url"] if by_cursor else page["next_page"]).raise_for_status().json()
            yield page

    def _get(self, path: str, **query: str | int) -> Record:
        return self._http.get(path, params=query).raise_for_status().json()


def _deleted(record: Record) -> bool:
    """Whether a user or an organization is gone."""
    return record.get("active") is False or bool(record.get("deleted_at"))


def _times(record: Record) -> Record:
    return {name: datetime.fromisoformat(record[name]) for name in ("created_at", "updated_at")}


def _picked(*fields: str) -> Callable[[Record], list[Record]]:
    return lambda record: [{field: record[field] for field in fields} | _times(record)]


def _ticket(record: Record) -> list[Record]:
    fields = ("id", "subject", "status", "priority", "type", "requester_id", "assignee_id", "organization_id")
    return [{field: record[field] for field in fields} | {"via_channel": record["via"]["channel"]} | _times(record)]


def _comments(record: Record) -> list[Record]:
    return [
        {"id": said["id"], "ticket_id": record["ticket_id"], "user_id": said["author_id"], "public": said["public"],
         "created": datetime.fromtimestamp(record["timestamp"], UTC)}
        for said in record["child_events"]
        if said["event_type"] == "Comment"
    ]  # fmt: skip


def _field_changes(record: Record) -> list[Record]:
    return [
        {"ticket_id": record["ticket_id"], "field_name": field, "updated": datetime.fromtimestamp(record["timestamp"], UTC),
         "value": child[field], "user_id": record["updater_id"]}
        for child in record["child_events"]
        for field in TRACKED
        if child["event_type"] in {"Create", "Change"} and field in child
    ]  # fmt: skip


TIMES = {"created_at": TIMESTAMP, "updated_at": TIMESTAMP}
KINDS = {
    "organization": Kind(
        "/organizations.json",
        "organizations",
        {"id": WHOLE, "name": TEXT, "external_id": TEXT} | TIMES,
        _picked("id", "name", "external_id"),
        deleted=None,
    ),
    "user": Kind(
        "/users/cursor.json",
        "users",
        {"id": WHOLE, "name": TEXT, "email": TEXT, "role": TEXT, "organization_id": WHOLE} | TIMES,
        _picked("id", "name", "email", "role", "organization_id"),
    ),
    "ticket": Kind(
        "/tickets/cursor.json",
        "tickets",
        {"id": WHOLE, "subject": TEXT, "status": TEXT, "priority": TEXT, "type": TEXT, "via_channel": TEXT,
         "requester_id": WHOLE, "assignee_id": WHOLE, "organization_id": WHOLE} | TIMES,
        _ticket,
    ),
    "ticket_comment": Kind(
        "/ticket_events.json",
        "ticket_events",
        {"id": WHOLE, "ticket_id": WHOLE, "user_id": WHOLE, "public": pa.bool_(), "created": TIMESTAMP},
        _comments,
        "created",
    ),
    "ticket_field_history": Kind(
        "/ticket_events.json",
        "ticket_events",
        {"ticket_id": WHOLE, "field_name": TEXT, "updated": TIMESTAMP, "value": TEXT, "user_id": WHOLE},
        _field_changes,
        "updated",
        ("ticket_id", "field_name", "updated"),
        deleted=None,
    ),
}  # fmt: skip
