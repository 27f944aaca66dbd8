"""What Hightouch remembers: the runs of its syncs, and each row as the destination last accepted it."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sandbox.vendors.hightouch import catalogue
from sandbox.vendors.store import Store

SCHEMA = """
create table if not exists hightouch_run (
    id integer primary key, sync integer not null, status text not null, full_resync integer not null default 0,
    created_at text not null, started_at text, finished_at text, query_size integer, done integer,
    planned text not null, successful text not null, failed text not null, error text
);
create table if not exists hightouch_row (
    sync integer not null, row_id text not null, fields text, rejected text, primary key (sync, row_id)
);
"""
RUNNING = ("querying", "processing", "reporting")


@dataclass(frozen=True)
class Counts:
    """Rows by what happened to them in the model since the run before."""

    added: int = 0
    changed: int = 0
    removed: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.added + other.added, self.changed + other.changed, self.removed + other.removed)

    @property
    def sent(self) -> int:
        """Rows that go to the destination: removed ones do not."""
        return self.added + self.changed


@dataclass(frozen=True)
class Known:
    """A row of an earlier run: its fields when it was last accepted (None: never), and why it was last rejected."""

    fields: dict[str, Any] | None
    rejected: str | None


def moment() -> str:
    """Now, as Hightouch writes times: ISO 8601 in UTC with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def minutes_ago(minutes: float) -> str:
    return (datetime.now(UTC) - timedelta(minutes=minutes)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def prepare(store: Store) -> None:
    """Create the tables with the company's own syncs."""
    store.script(SCHEMA)
    catalogue.prepare(store)


def interrupt_left_behind(store: Store) -> list[sqlite3.Row]:
    """End as interrupted the runs that a killed process has left behind, and return them, oldest first."""
    return sorted(
        store.execute(
            "update hightouch_run set status = 'interrupted', finished_at = ?, error = 'Interrupted by a restart of Hightouch.'"
            " where finished_at is null returning *",
            (moment(),),
        ),
        key=lambda row: row["id"],
    )


def queue(store: Store, sync: int, full_resync: bool) -> int:
    none = json.dumps(asdict(Counts()))
    [row] = store.execute(
        "insert into hightouch_run (sync, status, full_resync, created_at, planned, successful, failed)"
        " values (?, 'queued', ?, ?, ?, ?, ?) returning id",
        (sync, full_resync, moment(), none, none, none),
    )
    return row["id"]


def claim(store: Store, sync: int) -> sqlite3.Row | None:
    """Start the oldest queued run; None where there is none, or one runs."""
    claimed = store.execute(
        "update hightouch_run set status = 'querying', started_at = ? where id ="
        " (select min(id) from hightouch_run where sync = ? and status = 'queued')"
        " and not exists (select 1 from hightouch_run where sync = ? and status in (?, ?, ?)) returning *",
        (moment(), sync, sync, *RUNNING),
    )
    return claimed[0] if claimed else None


def note(store: Store, run: int, **values: Any) -> None:
    """Write what a run has come to; counts are kept as JSON."""
    plain = {name: json.dumps(asdict(v)) if isinstance(v, Counts) else v for name, v in values.items()}
    assignments = ", ".join(f"{name} = ?" for name in plain)
    store.execute(f"update hightouch_run set {assignments} where id = ?", (*plain.values(), run))


def rows(store: Store, sync: int) -> dict[str, Known]:
    """Every row that is known, by its key."""
    found = store.execute("select row_id, fields, rejected from hightouch_row where sync = ?", (sync,))
    return {row["row_id"]: Known(json.loads(row["fields"] or "null"), row["rejected"]) for row in found}


def accept(store: Store, sync: int, row_id: str, fields: dict[str, Any]) -> None:
    store.execute("insert or replace into hightouch_row values (?, ?, ?, null)", (sync, row_id, json.dumps(fields)))


def reject(store: Store, sync: int, row_id: str, reason: str) -> None:
    """Remember that a row was rejected; what was accepted of it before stays."""
    store.execute(
        "insert into hightouch_row values (?, ?, null, ?)"
        " on conflict (sync, row_id) do update set rejected = excluded.rejected",
        (sync, row_id, reason),
    )


def forget(store: Store, sync: int, row_ids: list[str]) -> None:
    for row_id in row_ids:
        store.execute("delete from hightouch_row where sync = ? and row_id = ?", (sync, row_id))
