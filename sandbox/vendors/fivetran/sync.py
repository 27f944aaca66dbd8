"""One sync of one connection: table by table, a cursor moves only after its rows have landed."""

from __future__ import annotations

import json
import logging
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime

import pyarrow as pa

from sandbox.vendors.context import VendorContext
from sandbox.vendors.faults import Fault
from sandbox.vendors.fivetran import state
from sandbox.vendors.fivetran.destination import Destination
from sandbox.vendors.fivetran.sources import Changes, PostgresSource, SalesforceSource, Source, Table
from sandbox.vendors.fivetran.stripe_source import StripeSource
from sandbox.vendors.fivetran.zendesk_source import ZendeskSource

TABLES_AT_ONCE = 3
log = logging.getLogger(__name__)


def source_of(context: VendorContext, service: str, schema: str) -> Source:
    kinds = {
        "postgres": PostgresSource,
        "salesforce": SalesforceSource,
        "stripe": StripeSource,
        "zendesk": ZendeskSource,
    }
    return kinds[service](context.config, schema)


def start(context: VendorContext, connection: str) -> bool:
    """Start a sync in a thread of its own; False where one runs already."""
    with context.store.transaction():
        claimed = context.store.execute(
            "update fivetran_connection set sync_state = 'syncing' where id = ? and sync_state <> 'syncing' returning schema, service",
            (connection,),
        )
        if not claimed:
            return False
        [sync] = context.store.execute(
            "insert into fivetran_sync (connection, status, started_at) values (?, 'running', ?) returning id",
            (connection, state.moment()),
        )
    run = _Sync(context, connection, claimed[0]["service"], claimed[0]["schema"], sync["id"])
    threading.Thread(target=run.run, name=f"fivetran-{connection}", daemon=True).start()
    return True


class _Sync:
    def __init__(self, context: VendorContext, connection: str, service: str, schema: str, number: int) -> None:
        self._context, self._connection, self._service, self._schema, self._number = (
            context,
            connection,
            service,
            schema,
            number,
        )
        self._began = datetime.now(UTC)

    def run(self) -> None:
        store = self._context.store
        try:
            rows = self._move()
        except Exception as error:
            log.exception("sync of %s failed", self._connection)
            reason = str(error) if isinstance(error, SourceError) else f"{type(error).__name__}: {error}"
            with store.transaction():
                reconnect = isinstance(error, CredentialsError)
                state.finish(store, self._number, self._connection, reason=reason[:1000], reconnect=reconnect)
            return
        # "Only a real sync clears" the mark of a broken connection (astronomer/airflow-provider-fivetran-async, pull request 235).
        self._context.faults.remove("fivetran", self._schema, "broken")
        with store.transaction():
            state.finish(store, self._number, self._connection, rows=json.dumps(rows))

    def _move(self) -> dict[str, int]:
        for fault in self._faults("slow_sync"):
            self._context.faults.consume(fault)
            time.sleep(fault.params["seconds"])
        for kind, error in (("broken_credentials", CredentialsError), ("sync_failure", SourceError)):
            for fault in self._faults(kind):
                self._context.faults.consume(fault)
                raise error(fault.params["reason"])
        with closing(source_of(self._context, self._service, self._schema)) as source:
            destination = Destination(source.dataset)
            tables = source.tables()
            state.keep_schema(self._context.store, self._connection, tables)
            with ThreadPoolExecutor(TABLES_AT_ONCE) as pool:
                counts = list(pool.map(lambda table: self._table(source, destination, table), tables))
        return {table.name: count for table, count in zip(tables, counts, strict=True)}

    def _table(self, source: Source, destination: Destination, table: Table) -> int:
        """Move one table's changes and return how many rows were written, the soft-deleted ones included."""
        store = self._context.store
        found = store.execute(
            "select * from fivetran_table where connection = ? and name = ?", (self._connection, table.name)
        )
        past = found[0] if found else None
        broken = next((f for f in self._faults("broken_column") if f.params["table"] == table.name), None)
        landed = destination.columns(table) if past else None
        whole = past is None or landed is None or bool(broken) or bool(past["dirty"])
        known = _unpack(past["keys"]) if past else set()
        changes = source.changes(table, None if whole else past["cursor"], known)
        if broken:
            _spoil(changes, table, broken)
        if landed is None:
            destination.replace(table, changes.rows, self._began)
            count = len(changes.rows)
        else:
            count = self._increment(destination, destination.align(table, landed), changes, known)
        store.execute(
            "insert or replace into fivetran_table (connection, name, cursor, keys, dirty) values (?, ?, ?, ?, ?)",
            (self._connection, table.name, changes.cursor, _pack(changes.keys), bool(broken)),
        )
        return count

    def _increment(self, destination: Destination, table: Table, changes: Changes, known: set[str]) -> int:
        gone = sorted(known - changes.keys)
        written = destination.merge(table, changes.rows, self._began) if changes.rows else 0
        return written + (destination.delete(table, gone, self._began) if gone else 0)

    def _faults(self, kind: str) -> list[Fault]:
        return self._context.faults.active("fivetran", self._schema, kind)


class SourceError(RuntimeError):
    """The source refused the connector."""


class CredentialsError(SourceError):
    """The source refused the credentials: someone has to reconnect it."""


def _spoil(changes: Changes, table: Table, fault: Fault) -> None:
    column = fault.params["column"]
    rubbish = "???" if table.columns.get(column) == pa.string() else None
    for row in changes.rows:
        if column in row:
            row[column] = rubbish


def _pack(keys: set[str]) -> bytes:
    return zlib.compress("\n".join(sorted(keys)).encode())


def _unpack(packed: bytes) -> set[str]:
    return set(zlib.decompress(packed).decode().splitlines())
