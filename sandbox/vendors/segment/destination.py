"""Segment's BigQuery destination: one load job per table, into ingestion-time-partitioned tables that grow with what is sent.

As documented (https://segment.com/docs/connections/storage/catalog/bigquery/#schema and
https://segment.com/docs/connections/storage/warehouses/schema/#new-columns, read in segmentio/segment-docs):
- a table is created when its first row arrives, a column when its first value arrives;
- tables hold duplicates, also `users`; next to each is `<table>_view`, which has each id once, of the last 60 days;
- tables are partitioned by the day on which a row was loaded, so that after a backfill old events are in the newest partition.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from google.api_core.exceptions import Conflict, NotFound
from google.cloud import bigquery

from sandbox.vendors.segment.messages import STANDARD, STANDARD_OF_USERS, USERS, Row

JOB_SECONDS = 120
LOST_JOB_SECONDS = 30
"""How long a load job that an earlier process started may take; after that it is taken for lost."""
LARGEST_INTEGER = 2**63 - 1
ARROW = {
    "STRING": pa.string(),
    "INTEGER": pa.int64(),
    "FLOAT": pa.float64(),
    "BOOLEAN": pa.bool_(),
    "TIMESTAMP": pa.timestamp("us", tz="UTC"),
}
KINDS = {bool: "BOOLEAN", int: "INTEGER", float: "FLOAT", datetime: "TIMESTAMP"}
DDL_TYPES = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL"}
"""The tables API's names of types, and those of DDL where they differ."""
VIEW_DAYS = 60
Columns = dict[str, str]


class Destination:
    """The dataset of one source."""

    def __init__(self, client: bigquery.Client, source: str) -> None:
        self._client, self._dataset = client, source
        self._client.create_dataset(source, exists_ok=True)
        self._columns_of_views: dict[str, Columns] = {}

    def append(self, table: str, rows: list[Row], batch: str) -> None:
        """Land a batch's rows of a table, once, however often it is called for them.

        BigQuery runs a load job wholly or not at all, and refuses a second one with the same id. Where the fate of the first one
        is not known (BigQuery itself was killed), the batch's `loaded_at` tells whether its rows are there.
        """
        columns = self._columns(table, rows)
        attempt = 0
        while not self._try(table, rows, columns, f"segment_{batch}_{table}_{attempt}"):
            if self._landed(table, rows[0]["loaded_at"]):
                break
            attempt += 1
        self._create_view(table, columns)

    def recreate(self, table: str, rows: list[Row]) -> None:
        """Drop a table and land all of its rows again, as Segment's backfill of a dropped table does."""
        self._client.delete_table(f"{self._dataset}.{table}", not_found_ok=True)
        columns = self._columns(table, rows)
        self._load(table, rows, columns, None)
        self._create_view(table, columns)

    def _try(self, table: str, rows: list[Row], columns: Columns, job: str) -> bool:
        """Load under this job id, or wait for the job that has it; False where that one failed or does not end."""
        try:
            self._load(table, rows, columns, job)
        except Conflict:
            return self._ended(job)
        return True

    def _ended(self, job: str) -> bool:
        deadline = time.monotonic() + LOST_JOB_SECONDS
        while (found := self._client.get_job(job)).state != "DONE":
            if time.monotonic() > deadline:
                return False
            time.sleep(0.2)
        return found.error_result is None

    def _landed(self, table: str, loaded_at: datetime) -> bool:
        parameter = bigquery.ScalarQueryParameter("loaded_at", "TIMESTAMP", loaded_at)
        config = bigquery.QueryJobConfig(query_parameters=[parameter])
        statement = f"select count(*) from `{self._dataset}.{table}` where loaded_at = @loaded_at"
        try:
            [[count]] = self._client.query(statement, config).result(timeout=JOB_SECONDS)
        except NotFound:
            return False
        return count > 0

    def _columns(self, table: str, rows: Iterable[Row]) -> Columns:
        """The table's columns, and those that are new in the rows, as their first value that is not null has it."""
        try:
            found = self._client.get_table(f"{self._dataset}.{table}")
        except NotFound:
            columns = _standard(table)
        else:
            columns = {field.name: field.field_type for field in found.schema}
        for row in rows:
            for name, value in row.items():
                if name not in columns and value is not None:
                    columns[name] = KINDS.get(type(value), "STRING")
        return columns

    def _load(self, table: str, rows: list[Row], columns: Columns, job: str | None) -> None:
        self._create(table, columns)
        buffer = io.BytesIO()
        schema = pa.schema([(name, ARROW[kind]) for name, kind in columns.items()])
        pq.write_table(pa.Table.from_pylist(_fitted(rows, columns), schema=schema), buffer)
        buffer.seek(0)
        config = bigquery.LoadJobConfig(
            source_format=bigquery.SourceFormat.PARQUET,
            write_disposition=bigquery.WriteDisposition.WRITE_APPEND,
            schema_update_options=[bigquery.SchemaUpdateOption.ALLOW_FIELD_ADDITION],
        )
        started = self._client.load_table_from_file(buffer, f"{self._dataset}.{table}", job_config=config, job_id=job)
        started.result(timeout=JOB_SECONDS)

    def _create(self, table: str, columns: Columns) -> None:
        # By DDL: the warehouse on a laptop gives `_partitiontime` only to a table that was created so.
        fields = ", ".join(f"`{name}` {DDL_TYPES.get(kind, kind)}" for name, kind in columns.items())
        self._run(f"create table if not exists `{self._dataset}.{table}` ({fields}) partition by _partitiondate")

    def _create_view(self, table: str, columns: Columns) -> None:
        if self._columns_of_views.get(table) == columns:
            return
        # A view of `select *` has the columns that the table had when the view was created.
        self._run(
            f"create or replace view `{self._dataset}.{table}_view` as select * from `{self._dataset}.{table}`"
            f" where _partitiontime >= timestamp(date_sub(current_date('UTC'), interval {VIEW_DAYS} day))"
            " qualify row_number() over (partition by id order by loaded_at desc) = 1"
        )
        self._columns_of_views[table] = columns

    def _run(self, statement: str) -> None:
        self._client.query(statement).result(timeout=JOB_SECONDS)


def _standard(table: str) -> Columns:
    return dict(STANDARD_OF_USERS if table == USERS else STANDARD)


def _fitted(rows: list[Row], columns: Columns) -> list[Row]:
    """The rows with each value as its column's type has it, or null where it has none."""
    fits = {name: _FIT[kind] for name, kind in columns.items()}
    return [{name: fits[name](value) for name, value in row.items() if name in fits} for row in rows]


def _text(value: Any) -> str | None:
    if value is None:
        return None
    text = str(value).lower() if isinstance(value, bool) else str(value)
    # JSON may hold half of a surrogate pair, which is no text in UTF-8.
    return text if text.isascii() else text.encode(errors="replace").decode()


def _integer(value: Any) -> int | None:
    try:
        number = None if value is None or isinstance(value, bool) else int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    lost = number is None or abs(number) > LARGEST_INTEGER or (isinstance(value, float) and number != value)
    return None if lost else number


def _float(value: Any) -> float | None:
    try:
        return None if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _only(kind: type) -> Callable[[Any], Any]:
    return lambda value: value if isinstance(value, kind) else None


_FIT: dict[str, Callable[[Any], Any]] = {
    "STRING": _text, "INTEGER": _integer, "FLOAT": _float, "BOOLEAN": _only(bool), "TIMESTAMP": _only(datetime),
}  # fmt: skip
