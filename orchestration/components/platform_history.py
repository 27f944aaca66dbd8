"""What the platform knows of itself, as assets: its runs and events from Dagster's storage, its alerts and incidents from incident.io."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, override

import dagster as dg
from dagster import DagsterEventType

from orchestration.components import dagster_history, incident_history
from orchestration.components.steps import Failures, Sleep, side_by_side
from orchestration.lineage import keys
from orchestration.settings import SettingsError, settings
from orchestration.vendors.bigquery_tables import Table, Tables
from orchestration.vendors.incident_io import IncidentIo

GROUP = "ingestion"
INCIDENT_OVERLAP = timedelta(days=2)
"""Alerts and incidents that changed this long before the newest in the warehouse are read again: an alert's incident may follow it."""

RUNS = Table("dataplatform", "runs", dagster_history.Run, key="run_id", since="created_at")
ASSET_EVENTS = Table("dataplatform", "asset_events", dagster_history.AssetEvent, key="event_id", since="occurred_at")
CHECK_RESULTS = Table("dataplatform", "check_results", dagster_history.CheckResult, key="event_id", since="occurred_at")
ALERTS = Table("incident_io", "alerts", incident_history.Alert, key="id", since="created_at")
INCIDENTS = Table("incident_io", "incidents", incident_history.Incident, key="id", since="created_at")

TABLES = {
    RUNS: "Every run of this Dagster: what started it, which attempt it was, and how it ended.",
    ASSET_EVENTS: "What happened to assets: made, observed, or failed, with the rows, the time and the cost.",
    CHECK_RESULTS: "Every result of an asset check.",
    ALERTS: "The alerts that this platform has sent to incident.io.",
    INCIDENTS: "The incidents of incident.io that these alerts are part of.",
}
UNITS = {
    "runs": (RUNS,),
    "asset_events": (ASSET_EVENTS,),
    "check_results": (CHECK_RESULTS,),
    "incident_io": (ALERTS, INCIDENTS),
}
"""What is exported as one: alerts and incidents are read together."""


def exported_tables() -> tuple[Table, ...]:
    """Return the tables of this platform: those of incident.io only where alerts go there."""
    without = () if settings().incident_io else UNITS["incident_io"]
    return tuple(table for table in TABLES if table not in without)


@dataclass(frozen=True)
class Exported:
    moved: int
    rows: int
    seconds: float
    complete: bool = True


@dataclass
class PlatformHistory(dg.Component, dg.Resolvable):
    """Exports the platform's own history to BigQuery. Nothing runs it but a schedule: it would go on for ever about itself."""

    owners: list[str] = field(default_factory=list[str])
    """Who is asked about a failure: e-mail addresses, or `team:<name>`."""
    rows_a_run: int = 100_000
    """Of each table. What is left of a long history, the next runs export."""
    fresh_within_hours: int = 6

    @override
    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        return self.definitions()

    def definitions(self) -> dg.Definitions:
        @dg.multi_asset(
            name="platform_history", specs=[self.get_asset_spec(table) for table in exported_tables()], can_subset=True
        )
        def run(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any]]:
            yield from self.execute(context)

        return dg.Definitions(assets=[run])

    def get_asset_spec(self, table: Table) -> dg.AssetSpec:
        columns = [dg.TableColumn(column.name, column.field_type.lower()) for column in table.schema()]
        hours = self.fresh_within_hours
        return dg.AssetSpec(
            key=_key(table),
            description=TABLES[table],
            group_name=GROUP,
            kinds={"bigquery", "incidentio" if table in UNITS["incident_io"] else "dagster"},
            owners=self.owners,
            metadata={"dagster/column_schema": dg.TableSchema(columns=columns)},
            freshness_policy=dg.FreshnessPolicy.time_window(
                fail_window=timedelta(hours=hours), warn_window=timedelta(hours=hours / 2)
            ),
        )

    def execute(self, context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any]]:
        """Export the selected tables side by side, and report each as soon as it is written.

        Raises dagster.Failure at the end, with a report of every export that failed. Tables keep what they had, and what was merged.
        """
        wanted = {
            unit: [table for table in tables if _key(table) in context.selected_asset_keys]
            for unit, tables in UNITS.items()
        }
        jobs = {
            unit: partial(self._export, unit, tables, context.instance) for unit, tables in wanted.items() if tables
        }
        failed = Failures(context)
        for unit, future in side_by_side(jobs, len(UNITS)):
            if error := future.exception():
                failed.add(f"export/{unit}", [_key(table) for table in wanted[unit]], error, _url(unit))
                continue
            for table, exported in future.result().items():
                if not exported.complete:
                    context.log.warning(
                        f"{table.path}: {exported.moved} rows written; the next run goes on from there."
                    )
                yield dg.MaterializeResult(asset_key=_key(table), metadata=_metadata(exported))
        failed.raise_any()

    def _export(
        self, unit: str, wanted: Sequence[Table], instance: dg.DagsterInstance, sleep: Sleep
    ) -> Mapping[Table, Exported]:
        settings()
        warehouse = Tables.configured()
        for table in UNITS[unit]:
            warehouse.ensure(table)
        if unit == "incident_io":
            return _export_incidents(warehouse, wanted)
        [table] = wanted
        return {table: self._write(warehouse, table, _history(warehouse, table, instance), sleep)}

    def _write(self, warehouse: Tables, table: Table, batches: Iterable[Sequence[Any]], sleep: Sleep) -> Exported:
        """Merge batch after batch, each of them a step ahead that a killed export keeps."""
        began, moved, complete = time.monotonic(), 0, True
        for batch in batches:
            # Rows that are only read again do not count: else an export that begins with many of them would never get past them.
            if moved >= self.rows_a_run:
                complete = False
                break
            sleep(0)  # raises where the run was cancelled meanwhile
            moved += warehouse.merge(table, batch)
        return Exported(moved, warehouse.number_of_rows(table.path), time.monotonic() - began, complete)


def _history(warehouse: Tables, table: Table, instance: dg.DagsterInstance) -> Iterator[Sequence[Any]]:
    """Batches of what a table of Dagster's history lacks, or may have an older state of."""
    if table is RUNS:
        yield from dagster_history.runs(instance, _newest(warehouse, table, "updated_at"))
        return
    storage = dagster_history.storage_name(instance)
    if table is CHECK_RESULTS:
        yield from dagster_history.check_results(instance, storage, _last_id(warehouse, table, storage))
        return
    # The cursor of each kind is its own: an export that was killed may have written one of them further than the other.
    made = _last_id(warehouse, table, storage, "materialized")
    yield from dagster_history.asset_events(instance, DagsterEventType.ASSET_MATERIALIZATION, storage, made)
    seen = _last_id(warehouse, table, storage, "observed")
    yield from dagster_history.asset_events(instance, DagsterEventType.ASSET_OBSERVATION, storage, seen)
    # A failure is never later than the last change of its run, so that no run is passed over.
    yield from dagster_history.failures(instance, _newest(warehouse, table, "occurred_at", "failed"))


def _export_incidents(warehouse: Tables, wanted: Sequence[Table]) -> Mapping[Table, Exported]:
    """Read all that has changed, and only then write."""
    began, access = time.monotonic(), settings().incident_io
    if access is None:
        raise SettingsError(
            "INCIDENT_IO_API_KEY is not set any more: reload the code location, which then has no tables of incident.io."
        )
    api = IncidentIo(access.api_url, access.api_key.get_secret_value())
    rows: dict[Table, Sequence[Any]] = {}
    alerts = rows[ALERTS] = incident_history.alerts(
        api, access.alert_source_id, _before(_newest(warehouse, ALERTS, "updated_at"))
    )
    if INCIDENTS in wanted:
        ours = warehouse.values(ALERTS, "incident_id") | {alert.incident_id for alert in alerts if alert.incident_id}
        known = warehouse.values(INCIDENTS, "id")
        since = _before(_newest(warehouse, INCIDENTS, "updated_at"))
        rows[INCIDENTS] = incident_history.incidents(api, ours, known, since)
    moved = {table: warehouse.merge(table, rows[table]) for table in wanted}
    seconds = time.monotonic() - began
    return {table: Exported(moved[table], warehouse.number_of_rows(table.path), seconds) for table in wanted}


def _before(newest: datetime | None) -> datetime | None:
    return newest - INCIDENT_OVERLAP if newest else None


def _newest(warehouse: Tables, table: Table, column: str, kind: str | None = None) -> datetime | None:
    """The latest time of a column; of the events of one kind. None where there is none."""
    return warehouse.greatest(table, column, {"kind": kind} if kind else {})


def _last_id(warehouse: Tables, table: Table, storage: str, kind: str | None = None) -> int | None:
    """The highest id of this event log in a table; of the events of one kind. None where there is none."""
    number = (
        f"if(starts_with({table.key}, '{storage}-'), safe_cast(split({table.key}, '-')[safe_offset(1)] as int64), null)"
    )
    return warehouse.greatest(table, number, {"kind": kind} if kind else {})


def _key(table: Table) -> dg.AssetKey:
    return keys.table(table.dataset, table.name)


def _metadata(exported: Exported) -> dict[str, Any]:
    return {
        "rows_moved": exported.moved,
        "dagster/row_count": exported.rows,
        "duration_seconds": round(exported.seconds, 1),
    }


def _url(unit: str) -> str:
    if unit == "incident_io":
        return "https://app.incident.io"
    return f"https://console.cloud.google.com/bigquery?project={settings().raw_project}"
