"""Writes to BigQuery as a connector does: a load job, then a merge by key; nothing that did not change is written."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from google.cloud import bigquery
from google.cloud.exceptions import NotFound

from sandbox.services.bigquery import client_of_environment
from sandbox.vendors.fivetran.sources import JSON, TIMESTAMP, Table

SYNCED = "_fivetran_synced"
HISTORY = {"_fivetran_start": TIMESTAMP, "_fivetran_end": TIMESTAMP, "_fivetran_active": pa.bool_()}
FOREVER = datetime(9999, 12, 31, 23, 59, 59, 999000, tzinfo=UTC)
"""Where the newest version of a record ends."""
BIGQUERY_TYPES = {
    pa.string(): "STRING",
    pa.int64(): "INT64",
    pa.bool_(): "BOOL",
    pa.float64(): "FLOAT64",
    TIMESTAMP: "TIMESTAMP",
    pa.timestamp("us"): "DATETIME",
    pa.date32(): "DATE",
    JSON: "JSON",
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
        dropped = {column: kind for column, kind in landed.items() if column not in {*columns, *_added(table)}}
        return replace(table, columns=columns | dropped)

    def merge(self, table: Table, rows: list[dict[str, Any]], synced: datetime) -> int:
        """Insert and update by key; return how many rows were written."""
        staging = f"_fivetran_staging_{table.name}"
        self._load(table, rows, synced, staging)
        written = len(rows)
        if table.history:
            written = self._add_versions(table, staging, synced)
        else:
            self._upsert(table, staging)
        self._client.delete_table(f"{self._dataset}.{staging}", not_found_ok=True)
        return written

    def _upsert(self, table: Table, staging: str) -> None:
        columns = [*table.columns, *_added(table)]
        updates = ", ".join(f"`{column}` = s.`{column}`" for column in columns)
        names = ", ".join(f"`{column}`" for column in columns)
        same = " and ".join(f"t.`{column}` = s.`{column}`" for column in table.key)
        self._run(
            f"merge `{self._dataset}.{table.name}` t using `{self._dataset}.{staging}` s on {same}"
            f" when matched then update set {updates}"
            f" when not matched then insert ({names}) values ({', '.join(f's.`{column}`' for column in columns)})"
        )

    def _add_versions(self, table: Table, staging: str, synced: datetime) -> int:
        """End the versions that are no longer the newest, and insert those that are; what did not change stays as it is."""
        target, fresh = f"`{self._dataset}.{table.name}`", f"`{self._dataset}.{staging}`"
        record = " and ".join(f"t.`{column}` = s.`{column}`" for column in table.key if column not in HISTORY)
        same = " and ".join(_unchanged(column, kind) for column, kind in table.columns.items())
        parameters = [bigquery.ScalarQueryParameter("synced", "TIMESTAMP", synced)]
        self._run(
            f"delete from {fresh} s where exists"
            f" (select 1 from {target} t where {record} and t._fivetran_active and {same})"
        )
        self._run(
            f"update {target} t set _fivetran_active = false, _fivetran_synced = @synced,"
            f" _fivetran_end = timestamp_sub(@synced, interval 1 millisecond)"
            f" from {fresh} s where {record} and t._fivetran_active",
            parameters,
        )
        names = ", ".join(f"`{column}`" for column in [*table.columns, *_added(table)])
        return self._run(f"insert into {target} ({names}) select {names} from {fresh}")

    def delete(self, table: Table, keys: list[str], synced: datetime) -> int:
        """Mark rows as deleted; they stay. Nothing marks them in a table that has no column for it."""
        if table.deleted is None:
            return 0
        parameters = [
            bigquery.ArrayQueryParameter("keys", "STRING", keys),
            bigquery.ScalarQueryParameter("synced", "TIMESTAMP", synced),
        ]
        statement = (
            f"update `{self._dataset}.{table.name}` set {table.deleted} = true, {SYNCED} = @synced"
            f" where cast(`{table.key[0]}` as string) in unnest(@keys) and not coalesce({table.deleted}, false)"
        )
        return self._run(statement, parameters)

    def _load(self, table: Table, rows: list[dict[str, Any]], synced: datetime, name: str) -> None:
        added = _added(table)
        schema = pa.schema([*table.columns.items(), *added.items()])
        system = {SYNCED: synced, "_fivetran_start": synced, "_fivetran_end": FOREVER, "_fivetran_active": True}
        full = [
            {column: system.get(column, False) for column in added}
            | {column: _fitting(row.get(column), kind) for column, kind in table.columns.items()}
            for row in rows
        ]
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(full, schema=schema), buffer)
        buffer.seek(0)
        config = bigquery.LoadJobConfig(source_format="PARQUET", write_disposition="WRITE_TRUNCATE")
        self._client.load_table_from_file(buffer, f"{self._dataset}.{name}", job_config=config).result(timeout=120)
        documents = [column for column, kind in table.columns.items() if kind == JSON]
        if documents:
            parsed = ", ".join(f"parse_json(`{column}`) as `{column}`" for column in documents)
            address = f"`{self._dataset}.{name}`"
            self._run(f"create or replace table {address} as select * replace ({parsed}) from {address}")

    def _run(self, statement: str, parameters: list[Any] | None = None) -> int:
        """Run a statement and return how many rows it changed."""
        config = bigquery.QueryJobConfig(query_parameters=parameters or [])
        job = self._client.query(statement, job_config=config)
        job.result(timeout=120)
        return job.num_dml_affected_rows or 0


def _added(table: Table) -> dict[str, pa.DataType]:
    """The columns that Fivetran adds to the source's."""
    added = {SYNCED: TIMESTAMP} | (HISTORY if table.history else {})
    return added | ({table.deleted: pa.bool_()} if table.deleted and table.deleted not in table.columns else {})


def _unchanged(column: str, kind: pa.DataType) -> str:
    """A condition: a record's newest version `t` and its new one `s` have the same value. BigQuery does not compare JSON."""
    landed, fresh = (f"to_json_string({one}.`{column}`)" if kind == JSON else f"{one}.`{column}`" for one in "ts")
    return f"{landed} is not distinct from {fresh}"


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
