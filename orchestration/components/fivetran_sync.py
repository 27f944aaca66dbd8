"""One connection's sync, and what its tables hold after it: what the threads of the Fivetran step do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

import dagster as dg

from orchestration.components.fivetran_account import CREATED, Connection, Table, fivetran
from orchestration.components.steps import Sleep
from orchestration.components.table_counts import BIGQUERY_ERRORS, Counts, count_tables, find_newest
from orchestration.lineage import keys
from orchestration.settings import settings
from orchestration.vendors import fivetran as api
from orchestration.vendors.bigquery import SYNCED, Counted, Look, Schema, Warehouse
from orchestration.vendors.http import VendorError
from orchestration.vendors.waiting import Wait

LATE = "If it is only slow, raise `sync_timeout_minutes` in defs/ingestion/defs.yaml."


@dataclass(frozen=True)
class Limits:
    seconds: float
    """How long one sync may take."""
    manage_schedules: bool


@dataclass(frozen=True)
class Result:
    """What a connection's tables hold now, by table, and the sync that brought it; None where only checks were asked for.

    A part that could not be read is None.
    """

    connection: api.Connection
    synced: api.Synced | None
    syncs: set[tuple[str, str]] | None
    schemas: Mapping[dg.AssetKey, Schema] | None
    counted: Mapping[dg.AssetKey, Counted]
    """The tables that could be counted."""
    unreadable: Mapping[dg.AssetKey, Exception] = field(default_factory=dict[dg.AssetKey, Exception])
    """Tables that BigQuery cannot read, each with its error."""


class Syncs:
    """What the threads of one step share."""

    def __init__(self, limits: Limits, log: dg.DagsterLogManager) -> None:
        settings()
        self._limits, self._log = limits, log
        self._fivetran = fivetran()
        self._warehouse = Warehouse.configured()

    def run(self, own: Connection, resync: Sequence[str] | None, sleep: Sleep) -> Result:
        """Sync a connection. `resync` are names of tables to read all over again: none means all, None that it is a usual sync."""
        if self._limits.manage_schedules:
            self._fivetran.hand_over_schedule(own.id)
        datasets = _by_dataset(own.tables)
        newest = {name: self._asked(partial(self._newest, name, tables)) for name, tables in datasets.items()}
        wait = Wait(self._limits.seconds, LATE, self._log.info, sleep)
        if resync is None:
            synced = self._fivetran.sync(own.id, wait)
        else:
            synced = self._fivetran.resync(own.id, _scope(own, resync), wait)
        since = {
            keys.table(dataset, name): at for dataset, found in newest.items() for name, at in (found or {}).items()
        }
        return self._result(own, synced.connection, synced, since)

    def look(self, own: Connection, _: Sleep) -> Result:
        """What there is, without a sync."""
        return self._result(own, self._fivetran.connection(own.id), None, {})

    def _result(
        self,
        own: Connection,
        connection: api.Connection,
        synced: api.Synced | None,
        since: Mapping[dg.AssetKey, datetime],
    ) -> Result:
        schemas = self._asked(partial(self._schemas, own))
        counts = {} if schemas is None else self._count(own, schemas, since)
        counted = {
            keys.table(dataset, name): counted
            for dataset, found in counts.items()
            for name, counted in found.counted.items()
        }
        unreadable = {
            keys.table(dataset, name): error
            for dataset, found in counts.items()
            for name, error in found.failed.items()
        }
        return Result(connection, synced, self._syncs(own), schemas, counted, unreadable)

    def _schemas(self, own: Connection) -> dict[dg.AssetKey, Schema]:
        found = {dataset: self._warehouse.schemas(dataset) for dataset in _by_dataset(own.tables)}
        return {
            table.key: found[table.dataset][table.name] for table in own.tables if table.name in found[table.dataset]
        }

    def _newest(self, dataset: str, tables: Sequence[str]) -> dict[str, datetime]:
        newest, error = find_newest(self._warehouse, dataset, tables)
        if error is not None:
            self._log.warning(f"The newest rows of some tables of {dataset} are not known: {error}")
        return newest

    def _count(
        self, own: Connection, schemas: Mapping[dg.AssetKey, Schema], since: Mapping[dg.AssetKey, datetime]
    ) -> dict[str, Counts]:
        looks: dict[str, list[Look]] = {}
        for table in own.tables:
            if table.key in schemas and SYNCED in schemas[table.key].columns:
                looks.setdefault(table.dataset, []).append(_look(table, schemas[table.key], since.get(table.key)))
        counts = {dataset: count_tables(self._warehouse, dataset, wanted) for dataset, wanted in looks.items()}
        for dataset, found in counts.items():
            if found.left:
                self._log.warning(
                    f"{len(found.left)} tables of {dataset} could not be counted, the sync goes on: {found.error}"
                )
        return counts

    def _syncs(self, own: Connection) -> set[tuple[str, str]] | None:
        try:
            return self._fivetran.tables(own.id)
        except VendorError as error:
            self._log.warning(f"whether {own.name} has new tables is not known: {error}")
            return None

    def _asked[T](self, ask: Callable[[], T]) -> T | None:
        """What the warehouse says; None where it does not. Counts describe a sync, they are not what it is for."""
        try:
            return ask()
        except BIGQUERY_ERRORS as error:
            self._log.warning(f"BigQuery could not be asked what has landed, the sync goes on: {error}")
            return None


def _look(table: Table, schema: Schema, since: datetime | None) -> Look:
    return Look(
        table=table.name,
        written=SYNCED,
        day=next((name for name in CREATED if name in schema.columns), None),
        keys=[key for key in table.keys if key in schema.columns],
        since=since,
    )


def _scope(own: Connection, names: Sequence[str]) -> api.Scope:
    scope: dict[str, list[str]] = {}
    for table in own.tables:
        if table.source_name in names:
            scope.setdefault(table.source_schema, []).append(table.source_name)
    return scope


def _by_dataset(tables: Sequence[Table]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for table in tables:
        found.setdefault(table.dataset, []).append(table.name)
    return found
