"""The step that looks at the tables of one writer: what has come since the last look, and whether it is as it should be."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatch
from functools import cached_property, partial
from typing import Any

import dagster as dg
from dagster._core.definitions.data_version import extract_data_version_from_entry

from orchestration.components import source_checks as checks
from orchestration.components.check_reports import CheckReports, Decide, specs, table_schema, table_url
from orchestration.components.dbt_exposures import dbt_models
from orchestration.components.schema_drift import Columns
from orchestration.components.source_checks import Freshness, Volume
from orchestration.components.steps import Failures, Sleep, find_output_keys_once, side_by_side
from orchestration.components.table_counts import BIGQUERY_ERRORS, Counts, count_tables, not_counted, unreadable
from orchestration.lineage import keys
from orchestration.settings import settings
from orchestration.vendors.bigquery import RECENT_DAYS, Counted, Look, Schema, Warehouse
from orchestration.vendors.waiting import SyncFailed
from product_events.registry import DEAD_LETTERS

GROUP = "ingestion"
NEWEST = "dagster/last_updated_timestamp"
ROWS = "dagster/row_count"
NOTHING = Schema({})


class ObserveConfig(dg.Config):
    accept_schema: bool = False
    """Take the columns of the selected tables as they are now for agreed."""


@dataclass
class LandedSource(dg.Resolvable):
    """Datasets of one writer."""

    name: str
    """Of the step that looks at them."""
    datasets: list[str]
    freshness: Freshness
    fresh_tables: list[str] = field(default_factory=lambda: ["*"])
    """Which tables have to be fresh, as patterns; a table of a rare event may be silent for weeks."""
    registry: bool = False
    """The tables, their columns and owners are those of `product_events.registry`."""
    owners: list[str] = field(default_factory=list[str])
    kinds: list[str] = field(default_factory=list[str])
    timestamp: str = "received_at"
    id: str = "id"
    exclude: list[str] = field(default_factory=list[str])
    """Patterns of tables that are none of the writer's, or no tables."""
    rewritten: list[str] = field(default_factory=list[str])
    """Patterns of tables whose rows are written again in place: a day's rows there say nothing."""
    volume: Volume = field(default_factory=Volume)


@dataclass(frozen=True)
class Table:
    """A table to look at. `columns` are those of the saved state or of the registry."""

    dataset: str
    name: str
    columns: Columns
    owners: Sequence[str]

    @property
    def key(self) -> dg.AssetKey:
        return keys.table(self.dataset, self.name)


@dataclass(frozen=True)
class Previous:
    """The last observation of a table."""

    rows: int
    newest: datetime | None
    version: str


@dataclass(frozen=True)
class Found:
    """A dataset as it is now."""

    schemas: Mapping[str, Schema]
    counts: Counts

    @property
    def counted(self) -> Mapping[str, Counted]:
        return self.counts.counted


@dataclass(frozen=True)
class Looking:
    """The step of one source."""

    source: LandedSource
    tables: Sequence[Table]

    def step(self) -> dg.AssetsDefinition:
        with warnings.catch_warnings():
            # The only way of Dagster's to look at several assets in one step is still called beta.
            warnings.simplefilter("ignore", dg.BetaWarning)
            decorate = dg.multi_observable_source_asset(
                name=self.source.name,
                specs=[self.get_asset_spec(table) for table in self.tables],
                check_specs=[spec for table in self.tables for spec in specs(table.key, self.checks_of(table))],
                can_subset=True,
            )

        def look(context: dg.AssetExecutionContext, config: ObserveConfig) -> Iterator[Any]:
            yield from self.execute(context, accept=config.accept_schema)

        return decorate(look)

    def get_asset_spec(self, table: Table) -> dg.AssetSpec:
        name = f"{settings().raw_project}.{table.dataset}.{table.name}"
        return dg.AssetSpec(
            key=table.key,
            group_name=GROUP,
            owners=table.owners,
            kinds={*self.source.kinds, "bigquery"},
            metadata={"dagster/table_name": name, "dagster/column_schema": table_schema(table.columns)},
        )

    def checks_of(self, table: Table) -> list[str]:
        if self.source.registry and table.name == DEAD_LETTERS:
            return [checks.SCHEMA, checks.REJECTED]
        wanted = {
            checks.SCHEMA: True,
            checks.KEYS: True,
            checks.VOLUME: not matches(table.name, self.source.rewritten),
            checks.FRESH: matches(table.name, self.source.fresh_tables),
            # What the graph does not have can have no check of its own: the dataset's first table speaks for it.
            checks.NEW_TABLES: not self.source.registry and table == self._of_dataset[table.dataset][0],
        }
        return [name for name, made in wanted.items() if made]

    def execute(self, context: dg.AssetExecutionContext, *, accept: bool) -> Iterator[Any]:
        """Look at the datasets of the selected tables side by side, and report each as soon as it is known.

        Raises dagster.Failure at the end, with a report of every dataset and table that could not be looked at, and of every table
        that failed a check.
        """
        find_output_keys_once(context)
        asked = {*context.selected_asset_keys, *(check.asset_key for check in context.selected_asset_check_keys)}
        wanted = {dataset: own for dataset, own in self._of_dataset.items() if any(table.key in asked for table in own)}
        failed, reports = Failures(context), CheckReports(context)
        # Read here: the event log is not for several threads.
        before = {table.key: _previous(context.instance, table.key) for own in wanted.values() for table in own}
        settings()
        warehouse = Warehouse.configured()
        jobs = {dataset: partial(self._find, warehouse, own, before) for dataset, own in wanted.items()}
        for dataset, future in side_by_side(jobs, len(jobs) or 1):
            own = [table for table in wanted[dataset] if table.key in asked]
            if error := future.exception():
                failed.add(f"landed/{dataset}", [table.key for table in own], error, table_url(dataset))
                continue
            found = future.result()
            if left := [table.key for table in own if table.name in found.counts.left]:
                failed.add(f"landed/{dataset}", left, not_counted(dataset, found.counts.error), table_url(dataset))
            for table in (table for table in own if table.key not in left):
                if (error := found.counts.failed.get(table.name)) is not None:
                    problem = unreadable(dataset, table.name, error)
                    failed.add(f"landed/{table.key.to_user_string()}", [table.key], problem, table_url(*table.key.path))
                elif self._unreadable(table, found):
                    problem = SyncFailed(f"It has no column `{self.source.timestamp}`, so what came is not known.")
                    failed.add(f"landed/{table.key.to_user_string()}", [table.key], problem, table_url(*table.key.path))
                elif table.name in found.counted and table.key in context.selected_asset_keys:
                    yield _observation(table, found, before[table.key])
                yield from reports.report(table.key, self._decisions(table, found, before[table.key], reports, accept))
        reports.fail(failed)
        failed.raise_any()

    def _find(
        self, warehouse: Warehouse, tables: Sequence[Table], before: Mapping[dg.AssetKey, Previous | None], _: Sleep
    ) -> Found:
        dataset = tables[0].dataset
        try:
            schemas = {**warehouse.schemas(dataset)}
            missing = [table for table in tables if table.name not in schemas]
            # Whether BigQuery lists the columns of a view that it cannot read any more is unverified. It does list the view: the
            # columns are then those of the saved state, and reading it says what is wrong.
            there = warehouse.tables(dataset) if missing else set[str]()
            schemas |= {table.name: Schema(table.columns) for table in missing if table.name in there}
        except BIGQUERY_ERRORS as error:
            raise not_counted(dataset, error) from error
        looks = [
            self._look(table, schemas[table.name], before)
            for table in tables
            if self.source.timestamp in schemas.get(table.name, NOTHING).columns
        ]
        return Found(schemas, count_tables(warehouse, dataset, looks))

    def _look(self, table: Table, schema: Schema, before: Mapping[dg.AssetKey, Previous | None]) -> Look:
        since = last.newest if (last := before[table.key]) else None
        written = self.source.timestamp
        return Look(
            table=table.name,
            written=written,
            day=written,
            keys=[self.source.id] if self.source.id in schema.columns else [],
            since=since,
            # The first look reads all; later ones what the history of a volume needs.
            after=since - timedelta(days=RECENT_DAYS) if since else None,
            by_load=schema.by_load,
        )

    def _unreadable(self, table: Table, found: Found) -> bool:
        return table.name in found.schemas and table.name not in found.counted

    def _decisions(
        self, table: Table, found: Found, before: Previous | None, reports: CheckReports, accept: bool
    ) -> dict[str, Decide]:
        columns, now = found.schemas.get(table.name, NOTHING).columns, datetime.now(UTC)
        known = {name for name in found.schemas if not matches(name, self.source.exclude)}
        decisions: dict[str, Decide] = {
            checks.SCHEMA: lambda last: (
                checks.contract(table.columns, columns)
                if self.source.registry
                else checks.drift(columns, last, partial(reports.models_at_risk, table.key), accept=accept)
            ),
            checks.NEW_TABLES: lambda _: checks.new_tables(
                known - {own.name for own in self._of_dataset[table.dataset]} - _built_in(table.dataset), table.dataset
            ),
        }
        counted = found.counted.get(table.name)
        if counted is None:
            problem = "what came is not known." if columns else "the table is not in BigQuery."
            return dict.fromkeys(self.checks_of(table), partial(checks.unknown, problem)) | decisions
        newest, moved = _newest(counted, before), _moved(counted, before)
        day = checks.newest_day(found.counted.values(), now.date())
        of_rows: dict[str, Decide] = {
            checks.KEYS: lambda _: checks.keys_not_null(counted.nulls),
            checks.VOLUME: lambda last: checks.volume(counted.days, day, self.source.volume, last),
            checks.FRESH: lambda last: checks.fresh(newest, now, self.source.freshness, last),
            checks.REJECTED: lambda _: checks.nothing_rejected(moved, f"{table.dataset}.{table.name}"),
        }
        return decisions | of_rows

    @cached_property
    def _of_dataset(self) -> dict[str, list[Table]]:
        found: dict[str, list[Table]] = {}
        for table in self.tables:
            found.setdefault(table.dataset, []).append(table)
        return found


def _built_in(dataset: str) -> set[str]:
    """Return the tables of a dataset that dbt builds."""
    return {key.path[-1] for key in dbt_models().values() if key.path[0] == dataset}


def matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _previous(instance: dg.DagsterInstance, key: dg.AssetKey) -> Previous | None:
    """What the last observation says; None where there is none, or one of another version of this code."""
    records = instance.fetch_observations(key, limit=1).records
    observation = records[0].asset_observation if records else None
    version = extract_data_version_from_entry(records[0].event_log_entry) if records else None
    if observation is None or version is None or ROWS not in observation.metadata:
        return None
    newest = observation.metadata.get(NEWEST)
    at = datetime.fromtimestamp(float(str(newest.value)), UTC) if newest else None
    return Previous(int(str(observation.metadata[ROWS].value)), at, version.value)


def _newest(counted: Counted, before: Previous | None) -> datetime | None:
    # A table that has been silent for longer than is read still has its newest row.
    return max(filter(None, (counted.newest, before and before.newest)), default=None)


def _moved(counted: Counted, before: Previous | None) -> int:
    """Rows that came since. Those that were written late have an older time, and deleted ones lower the total: the larger count is it."""
    return counted.moved if before is None else max(counted.moved, counted.rows - before.rows)


def _observation(table: Table, found: Found, before: Previous | None) -> dg.ObserveResult:
    """A table as it is. The version of its data changes when rows have come and not otherwise: what reads it runs when it changes."""
    counted = found.counted[table.name]
    newest, moved = _newest(counted, before), _moved(counted, before)
    version = f"{newest.isoformat() if newest else 'empty'}/{counted.rows}"
    metadata: dict[str, Any] = {
        ROWS: counted.rows,
        "rows_moved": moved,
        "dagster/column_schema": table_schema(found.schemas[table.name].columns),
        **({NEWEST: dg.MetadataValue.timestamp(newest)} if newest else {}),
    }
    return dg.ObserveResult(
        asset_key=table.key,
        metadata=metadata,
        data_version=dg.DataVersion(before.version if before and moved == 0 else version),
    )
