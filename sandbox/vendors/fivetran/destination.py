"""Writes to BigQuery as a connector does: a load job, then a merge by key; nothing that did not change is written."""

from __future__ import annotations

import io
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from google.cloud import bigquery
from google.cloud.exceptions import NotFound

from sandbox.config import PROJECT
from sandbox.vendors.fivetran.sources import TIMESTAMP, Table

SYNCED, DELETED = "_fivetran_synced", "_fivetran_deleted"
BIGQUERY_TYPES = {
    pa.int64(): "INT64",
    pa.bool_(): "BOOL",
    pa.float64(): "FLOAT64",
    TIMESTAMP: "TIMESTAMP",
    pa.timestamp("us"): "DATETIME",
    pa.date32(): "DATE",
}


class Destination:
    """One dataset. Times are those of the sync: every row that a sync writes carries its start as `_fivetran_synced`."""

    def __init__(self, dataset: str) -> None:
        self._client = bigquery.Client(project=PROJECT)
        self._dataset = dataset
        self._client.create_dataset(dataset, exists_ok=True)

    def replace(self, table: Table, rows: list[dict[str, Any]], synced: datetime) -> None:
        """Land the whole table anew."""
        self._load(table, rows, synced, table.name)

    def widen(self, table: Table, known: list[str]) -> None:
        """Add the columns that are not among the `known` ones."""
        for column in [column for column in table.columns if column not in known]:
            kind = _bigquery_type(table.columns[column])
            self._run(f"alter table `{self._dataset}.{table.name}` add column if not exists `{column}` {kind}")

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

    def has(self, table: Table) -> bool:
        try:
            self._client.get_table(f"{self._dataset}.{table.name}")
        except NotFound:
            return False
        return True

    def _load(self, table: Table, rows: list[dict[str, Any]], synced: datetime, name: str) -> None:
        schema = pa.schema([*table.columns.items(), (SYNCED, TIMESTAMP), (DELETED, pa.bool_())])
        full = [row | {SYNCED: synced, DELETED: False} for row in rows]
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(full, schema=schema), buffer)
        buffer.seek(0)
        config = bigquery.LoadJobConfig(source_format="PARQUET", write_disposition="WRITE_TRUNCATE")
        self._client.load_table_from_file(buffer, f"{self._dataset}.{name}", job_config=config).result(timeout=120)

    def _run(self, statement: str, parameters: list[Any] | None = None) -> None:
        config = bigquery.QueryJobConfig(query_parameters=parameters or [])
        self._client.query(statement, job_config=config).result(timeout=120)


def _bigquery_type(kind: pa.DataType) -> str:
    return BIGQUERY_TYPES.get(kind, "STRING")
