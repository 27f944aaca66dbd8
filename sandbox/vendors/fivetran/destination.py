"""Writes to BigQuery as a connector does: a load job, then a merge by key; nothing that did not change is written."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from google.cloud import bigquery
from google.cloud.exceptions import NotFound

from sandbox.services.bigquery import client_of_environment
from sandbox.vendors.fivetran.sources import TIMESTAMP, Table

SYNCED, DELETED = "_fivetran_synced", "_fivetran_deleted"
BIGQUERY_TYPES = {
    pa.string(): "STRING",
    pa.int64(): "INT64",
    pa.bool_(): "BOOL",
    pa.float64(): "FLOAT64",
    TIMESTAMP: "TIMESTAMP",
    pa.timestamp("us"): "DATETIME",
    pa.date32(): "DATE",
}
LEGACY_NAMES = {"INTEGER": "INT64", "BOOLEAN": "BOOL", "FLOAT": "FLOAT64"}
"""What the API calls some types of a table."""


class Destination:
    """One dataset. Times are those of the sync: every row that a sync writes carries its start as `_fivetran_synced`."""

    def __init__(self, dataset: str) -> None:
        self._client = client_of_environment(raw=True)
        self._dataset = dataset
        self._client.create_dataset(dataset, exists_ok=True)

    def replace(self, table: Table, rows: list[dict[str, Any]], synced: datetime) -> None:
        """Land the whole table anew."""
        self._load(table, rows, synced, table.name)

    def columns(self, table: Table) -> dict[str, pa.DataType] | None:
        """The landed table's columns, None where there is no table; a type that no source has counts as text."""
        try:
            schema = self._client.get_table(f"{self._dataset}.{table.name}").schema
        except NotFound:
            return None
        kinds = {name: kind for kind, name in BIGQUERY_TYPES.items()}
        names = {field.name: LEGACY_NAMES.get(field.field_type, field.field_type) for field in schema}
        return {column: kinds.get(name, pa.string()) for column, name in names.items()}

    def align(self, table: Table, landed: dict[str, pa.DataType]) -> Table:
        """Give the landed table what the source's has got since, and return the table as it lands now.

        New columns are added. A column of another type gets the narrowest one that holds both, with its old values cast: often text, and text
        stays text. A column that the source has dropped stays, and is null in every row that is written from then on.
        """
        for column in [column for column in table.columns if column not in landed]:
            kind = BIGQUERY_TYPES[table.columns[column]]
            self._run(f"alter table `{self._dataset}.{table.name}` add column if not exists `{column}` {kind}")
        columns = {column: _widest(landed.get(column, kind), kind) for column, kind in table.columns.items()}
        changed = {column: kind for column, kind in columns.items() if landed.get(column, kind) != kind}
        if changed:
            casts = ", ".join(
                f"cast(`{column}` as {BIGQUERY_TYPES[kind]}) as `{column}`" for column, kind in changed.items()
            )
            name = f"`{self._dataset}.{table.name}`"
            self._run(f"create or replace table {name} as select * replace ({casts}) from {name}")
        dropped = {column: kind for column, kind in landed.items() if column not in {*columns, SYNCED, DELETED}}
        return replace(table, columns=columns | dropped)

    def merge(self, table: Table, rows: list[dict[str, Any]], synced: datetime) -> None:
        """Insert and update by key."""
        staging = f"_fivetran_staging_{table.name}"
        self._load(table, rows, synced, staging)
        columns = [*table.columns, SYNCED, DELETED]
        updates = ", ".join(f"`{column}` = s.`{column}`" for column in columns)
        names = ", ".join(f"`{column}`" for column in columns)
        self._run(
            f"merge `{self._dataset}.{table.name}` t using `{self._dataset}.{staging}` s on t.`{table.key}` = s.`{table.key}`"
            f" when matched then update set {updates}"
            f" when not matched then insert ({names}) values ({', '.join(f's.`{column}`' for column in columns)})"
        )
        self._client.delete_table(f"{self._dataset}.{staging}", not_found_ok=True)

    def delete(self, table: Table, keys: list[str], synced: datetime) -> None:
        """Mark rows as deleted; they stay."""
        parameters = [
            bigquery.ArrayQueryParameter("keys", "STRING", keys),
            bigquery.ScalarQueryParameter("synced", "TIMESTAMP", synced),
        ]
        statement = (
            f"update `{self._dataset}.{table.name}` set {DELETED} = true, {SYNCED} = @synced"
            f" where cast(`{table.key}` as string) in unnest(@keys) and not {DELETED}"
        )
        self._run(statement, parameters)

    def _load(self, table: Table, rows: list[dict[str, Any]], synced: datetime, name: str) -> None:
        schema = pa.schema([*table.columns.items(), (SYNCED, TIMESTAMP), (DELETED, pa.bool_())])
        full = [
            {column: _fitting(row.get(column), kind) for column, kind in table.columns.items()}
            | {SYNCED: synced, DELETED: False}
            for row in rows
        ]
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(full, schema=schema), buffer)
        buffer.seek(0)
        config = bigquery.LoadJobConfig(source_format="PARQUET", write_disposition="WRITE_TRUNCATE")
        self._client.load_table_from_file(buffer, f"{self._dataset}.{name}", job_config=config).result(timeout=120)

    def _run(self, statement: str, parameters: list[Any] | None = None) -> None:
        config = bigquery.QueryJobConfig(query_parameters=parameters or [])
        self._client.query(statement, job_config=config).result(timeout=120)


def _widest(landed: pa.DataType, kind: pa.DataType) -> pa.DataType:
    """The narrowest type that holds values of both."""
    if landed == kind:
        return kind
    return pa.float64() if {landed, kind} == {pa.int64(), pa.float64()} else pa.string()


def _fitting(value: Any, kind: pa.DataType) -> Any:
    """A value of a source's narrower type as the landed column takes it."""
    if value is None or kind != pa.string() or isinstance(value, str):
        return value
    return json.dumps(value) if isinstance(value, bool) else str(value)
