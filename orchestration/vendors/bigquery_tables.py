"""Tables that the platform writes itself: made when they are missing, and rows merged into them by their key."""

from __future__ import annotations

import threading
import types
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any, cast, get_args, get_type_hints

from google.api_core.exceptions import NotFound
from google.cloud import bigquery

from orchestration.vendors.bigquery_project import (
    CALL_SECONDS,
    TIMEOUT_SECONDS,
    TYPES,
    BigQueryProject,
    require_location,
)

STAGED_FOR = timedelta(hours=1)
"""When BigQuery deletes the rows that a process which was killed has left waiting."""

RECENT_DAYS = 30

MAKING = threading.Lock()
"""Tables of one dataset are made one after another: exports that run side by side all find it missing."""


@dataclass(frozen=True)
class Table:
    """A table of rows of one dataclass. `key` tells rows apart; `since` is the time by whose days the table is partitioned, and
    which a row never changes."""

    dataset: str
    name: str
    row: type
    key: str
    since: str

    @property
    def path(self) -> str:
        return f"{self.dataset}.{self.name}"

    def schema(self) -> list[bigquery.SchemaField]:
        """One column a field of the dataclass, nullable where the field may be None."""
        kinds = get_type_hints(self.row)
        return [_column(field.name, kinds[field.name]) for field in fields(self.row)]


class Tables(BigQueryProject):
    """The platform's own tables in a project. Every call raises google.api_core's exceptions."""

    raw = True

    def ensure(self, table: Table) -> None:
        """Make the dataset and the table where they are missing, and add the columns that the table lacks."""
        with MAKING:
            try:
                made = self._client.get_table(table.path, retry=self._retry, timeout=CALL_SECONDS)
            except NotFound:
                dataset = self._client.create_dataset(
                    table.dataset, exists_ok=True, retry=self._retry, timeout=CALL_SECONDS
                )
                require_location(dataset, self._location)
                made = self._client.create_table(
                    self._described(table), exists_ok=True, retry=self._retry, timeout=CALL_SECONDS
                )
        known = cast("list[bigquery.SchemaField]", made.schema)
        for column in table.schema():
            if column.name not in {field.name for field in known}:
                self._rows(f"alter table `{table.path}` add column if not exists {column.name} {column.field_type}")

    def merge(self, table: Table, rows: Sequence[Any]) -> int:
        """Write dataclass rows, in place of those that have the same keys; all of them or none. Returns how many are new or changed.

        The rows are loaded beside the table first: a load and a `merge` statement each happen wholly or not at all.
        """
        by_key = {getattr(row, table.key): _plain(row) for row in rows}
        if not by_key:
            return 0
        staged = f"{table.path}__{uuid.uuid4().hex}"
        target = bigquery.Table(f"{self._client.project}.{staged}", schema=table.schema())
        target.expires = datetime.now(UTC) + STAGED_FOR
        self._client.create_table(target, retry=self._retry, timeout=CALL_SECONDS)
        try:
            config = bigquery.LoadJobConfig(schema=table.schema(), write_disposition="WRITE_TRUNCATE")
            load = self._client.load_table_from_json(
                by_key.values(), f"{self._client.project}.{staged}", job_config=config, timeout=CALL_SECONDS
            )
            load.result(timeout=TIMEOUT_SECONDS, retry=self._retry)
            moments = [getattr(row, table.since) for row in rows]
            statement = _merge(table, staged)
            with self._locating():
                job = self._run(statement, {"first": min(moments), "last": max(moments)})
                job.result(timeout=TIMEOUT_SECONDS, retry=self._retry)
            return job.num_dml_affected_rows or 0
        finally:
            self._client.delete_table(staged, not_found_ok=True, retry=self._retry, timeout=CALL_SECONDS)

    def values(self, table: Table, column: str) -> set[str]:
        """The different values of a column, nulls left out."""
        rows = self._rows(f"select distinct {column} as value from `{table.path}` where {column} is not null")
        return {row["value"] for row in rows}

    def greatest(self, table: Table, value: str, equal: Mapping[str, str]) -> Any:
        """The greatest value of an expression, over the rows that have these values in these columns; None where there is none.

        Where the last days have one, BigQuery reads no more than these.
        """
        conditions = ["true", *(f"{column} = @{column}" for column in equal)]
        recent = f"{table.since} > timestamp_sub(current_timestamp(), interval {RECENT_DAYS} day)"
        for some in ([*conditions, recent], conditions):
            query = f"select max({value}) as greatest from `{table.path}` where {' and '.join(some)}"
            [row] = self._rows(query, equal)
            if row["greatest"] is not None:
                return row["greatest"]
        return None

    def _described(self, table: Table) -> bigquery.Table:
        described = bigquery.Table(f"{self._client.project}.{table.path}", schema=table.schema())
        described.time_partitioning = bigquery.TimePartitioning(field=table.since)
        described.clustering_fields = [table.key]
        return described


def _merge(table: Table, staged: str) -> str:
    names = [field.name for field in fields(table.row)]
    others = [name for name in names if name not in {table.key, table.since}]
    changed = " or ".join(f"existing.{name} is distinct from staged.{name}" for name in others)
    # The bounds let BigQuery read only the days that the rows are of.
    return f"""
        merge `{table.path}` as existing using `{staged}` as staged
        on existing.{table.key} = staged.{table.key} and existing.{table.since} between @first and @last
        when matched and ({changed}) then update set {", ".join(f"{name} = staged.{name}" for name in others)}
        when not matched then insert ({", ".join(names)}) values ({", ".join(f"staged.{name}" for name in names)})
    """


def _column(name: str, kind: Any) -> bigquery.SchemaField:
    nullable = isinstance(kind, types.UnionType)
    [plain] = [part for part in get_args(kind) if part is not type(None)] if nullable else [kind]
    return bigquery.SchemaField(name, TYPES[plain], mode="NULLABLE" if nullable else "REQUIRED")


def _plain(row: Any) -> dict[str, Any]:
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in asdict(row).items()}
