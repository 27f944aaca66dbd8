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
    tasks text not null default '[]', historical integer not null default 1, tables text, rescheduled_for text
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

PLATFORM = "fivetran_log"
"""The service of the connection that Fivetran adds to each new destination, under the name `fivetran_metadata`
(https://fivetran.com/docs/logs/fivetran-platform). Here it lands nothing."""
WITHOUT_SOURCE = (PLATFORM, "google_sheets")
"""Services whose syncs land nothing here. Those of `google_sheets` are for accounts of any size (`content.add_connections`)."""
# Three of its tables (https://fivetran.com/docs/logs/fivetran-platform/table-reference).
PLATFORM_TABLES = [
    {"name": "account", "key": ["id"], "columns": ["id", "name", "status", "created_at"]},
    {"name": "connection", "key": ["connection_id"], "columns": ["connection_id", "connection_name", "destination_id"]},
    {"name": "log", "key": ["id"], "columns": ["id", "time_stamp", "connection_id", "event", "message_event", "message_data"]},
]  # fmt: skip

# The `schema` of a Postgres connection is a prefix: its tables land in <prefix>_<source schema>.
CONNECTIONS = (
    ("platform_conn", PLATFORM, "fivetran_metadata"),
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
    store.execute(
        "update fivetran_connection set tables = ?, historical = 0 where service = ?",
        (json.dumps(PLATFORM_TABLES), PLATFORM),
    )
    interrupted = "The sync was interrupted by a restart and is scheduled again."
    with store.transaction():
        for row in store.execute("select id, connection from fivetran_sync where status = 'running'"):
            finish(store, row["id"], row["connection"], reason=interrupted)
        store.execute("update fivetran_connection set sync_state = 'scheduled', rescheduled_for = null")


def keep_schema(store: Store, connection: str, tables: list[Table]) -> None:
    """Remember the source's tables as they are now: Fivetran shows what it last saw, not the source."""
    shown = [{"name": table.name, "key": table.key, "columns": list(table.columns)} for table in tables]
    store.execute("update fivetran_connection set tables = ? where id = ?", (json.dumps(shown), connection))


def reschedule(store: Store, connection: str, until: datetime) -> None:
    """Put off a sync, as Fivetran does where the source accepts no more API calls."""
    store.execute(
        "update fivetran_connection set sync_state = 'rescheduled', rescheduled_for = ? where id = ?",
        (written(until), connection),
    )


def finish(
    store: Store, sync: int, connection: str, *, rows: str = "{}", reason: str | None = None, reconnect: bool = False
) -> None:
    """End a sync: as successful, or as failed for a reason.

    The reason becomes a task of the connection only where someone has to `reconnect` the source: other failures have none.
    """
    now = moment()
    status = "failed" if reason else "succeeded"
    store.execute(
        "update fivetran_sync set status = ?, ended_at = ?, reason = ?, rows = ? where id = ?",
        (status, now, reason, rows, sync),
    )
    tasks = json.dumps([{"code": "reconnect", "message": "Reconnect", "details": reason}] if reconnect else [])
    store.execute(
        f"update fivetran_connection set {status}_at = ?, tasks = ?, sync_state = 'scheduled', rescheduled_for = null,"
        " historical = historical and ? where id = ?",
        (now, tasks, bool(reason), connection),
    )
