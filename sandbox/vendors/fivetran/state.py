"""What Fivetran remembers: connections, where each table's cursor stands, and past syncs."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from sandbox.vendors.fivetran.sources import Table
from sandbox.vendors.store import Store

GROUP = "local_group"

SCHEMA = """
create table if not exists fivetran_connection (
    id text primary key, service text not null, schema text not null, paused integer not null default 0,
    schedule_type text not null default 'auto', sync_frequency integer not null default 360,
    created_at text not null, succeeded_at text, failed_at text, sync_state text not null default 'scheduled',
    tasks text not null default '[]', historical integer not null default 1, tables text
);
create table if not exists fivetran_table (
    connection text not null, name text not null, cursor text, keys blob, dirty integer not null default 0,
    primary key (connection, name)
);
create table if not exists fivetran_sync (
    id integer primary key, connection text not null, status text not null, started_at text not null, ended_at text,
    reason text, rows text not null default '{}'
);
"""

# The `schema` of a Postgres connection is a prefix: its tables land in <prefix>_<source schema>.
CONNECTIONS = (
    ("product_conn", "postgres", "product"),
    ("salesforce_conn", "salesforce", "salesforce"),
    ("stripe_conn", "stripe", "stripe"),
    ("zendesk_conn", "zendesk", "zendesk"),
)


def moment() -> str:
    """Now, as Fivetran writes times: ISO 8601 in UTC with microseconds, so that they compare as text."""
    return written(datetime.now(UTC))


def written(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def prepare(store: Store) -> None:
    """Create the tables and the connections, and end as failed the syncs that a killed process left behind."""
    store.script(SCHEMA)
    for connection, service, schema in CONNECTIONS:
        store.execute(
            "insert or ignore into fivetran_connection (id, service, schema, created_at) values (?, ?, ?, ?)",
            (connection, service, schema, moment()),
        )
    interrupted = "The sync was interrupted by a restart and is scheduled again."
    with store.transaction():
        for row in store.execute("select id, connection from fivetran_sync where status = 'running'"):
            finish(store, row["id"], row["connection"], reason=interrupted)
        store.execute("update fivetran_connection set sync_state = 'scheduled'")


def keep_schema(store: Store, connection: str, tables: list[Table]) -> None:
    """Remember the source's tables as they are now: Fivetran shows what it last saw, not the source."""
    shown = [{"name": table.name, "key": table.key, "columns": list(table.columns)} for table in tables]
    store.execute("update fivetran_connection set tables = ? where id = ?", (json.dumps(shown), connection))


def finish(store: Store, sync: int, connection: str, *, rows: str = "{}", reason: str | None = None) -> None:
    """End a sync: as successful, or as failed for a reason, which becomes a task on the connection."""
    now = moment()
    status = "failed" if reason else "succeeded"
    store.execute(
        "update fivetran_sync set status = ?, ended_at = ?, reason = ?, rows = ? where id = ?",
        (status, now, reason, rows, sync),
    )
    tasks = json.dumps([{"code": "reconnect", "message": reason}] if reason else [])
    store.execute(
        f"update fivetran_connection set {status}_at = ?, tasks = ?, sync_state = 'scheduled',"
        " historical = historical and ? where id = ?",
        (now, tasks, bool(reason), connection),
    )
