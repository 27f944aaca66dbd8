"""Reads PostgreSQL and Salesforce as a connector does: which tables, their keys, and the rows that changed since a cursor."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import httpx
import psycopg
import pyarrow as pa
from psycopg import sql

from sandbox.config import SandboxConfig
from sandbox.services import postgres
from sandbox.vendors.salesforce import TOKEN

TIMESTAMP = pa.timestamp("us", tz="UTC")
POSTGRES_TYPES = {
    "text": pa.string(),
    "integer": pa.int64(),
    "smallint": pa.int64(),
    "bigint": pa.int64(),
    "boolean": pa.bool_(),
    "real": pa.float64(),
    "double precision": pa.float64(),
    "numeric": pa.float64(),
    "timestamp with time zone": TIMESTAMP,
    "timestamp without time zone": pa.timestamp("us"),
    "date": pa.date32(),
}
"""How columns land; what is not named here lands as text."""
CASTS = {pa.string(): "text", pa.float64(): "double precision"}
SALESFORCE_TYPES = {"double": pa.float64(), "boolean": pa.bool_(), "datetime": TIMESTAMP}
SALESFORCE_OBJECTS = ("Account", "User", "Contact", "Opportunity")


@dataclass(frozen=True)
class Table:
    """A source table as it lands: its name in the destination and its columns there, with their types."""

    name: str
    source: str
    columns: dict[str, pa.DataType]
    key: str


@dataclass(frozen=True)
class Changes:
    """The rows that are new or changed, and the cursor after them. `keys` are all keys that the source has now."""

    rows: list[dict[str, Any]]
    cursor: str | None
    keys: set[str]


class Source(Protocol):
    dataset: str

    def tables(self) -> list[Table]: ...

    def changes(self, table: Table, cursor: str | None, known: set[str]) -> Changes:
        """What changed past a cursor, None for everything. `known` are the keys of the rows that have landed and live."""
        ...

    def close(self) -> None: ...


class PostgresSource:
    """Reads the tables of `public` that have an `id` and an `updated_at`, which is the cursor."""

    def __init__(self, config: SandboxConfig, prefix: str) -> None:
        self._dsn = postgres.dsn(config)
        self.dataset = f"{prefix}_public"

    def tables(self) -> list[Table]:
        query = """
            select table_name, column_name, data_type from information_schema.columns
            where table_schema = 'public' order by table_name, ordinal_position
        """
        found: dict[str, dict[str, pa.DataType]] = {}
        with psycopg.connect(self._dsn) as connection:
            for table, column, kind in connection.execute(query):
                found.setdefault(table, {})[column] = POSTGRES_TYPES.get(kind, pa.string())
        usable = {name: columns for name, columns in found.items() if {"id", "updated_at"} <= columns.keys()}
        return [Table(name, name, columns, "id") for name, columns in usable.items()]

    def changes(self, table: Table, cursor: str | None, known: set[str]) -> Changes:
        name = sql.Identifier(table.source)
        with psycopg.connect(self._dsn) as connection:
            # One snapshot for rows and keys, so that a row which comes in between is not taken for a deleted one.
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            # At or after, not after: rows of one statement share a time, and part of them may have been read before.
            past = sql.SQL("where updated_at >= {}").format(sql.Literal(cursor)) if cursor else sql.SQL("")
            columns = sql.SQL(", ").join(_selected(column, kind) for column, kind in table.columns.items())
            result = connection.execute(sql.SQL("select {} from {} {}").format(columns, name, past))
            rows = [dict(zip(table.columns, row, strict=True)) for row in result]
            keys = {key for (key,) in connection.execute(sql.SQL("select id::text from {}").format(name))}
        return _past(rows, lambda row: written(row["updated_at"], "microseconds"), cursor, known, keys)

    def close(self) -> None:
        """Nothing to close: it connects anew for every table."""


class SalesforceSource:
    """Reads objects by SOQL over REST, with `SystemModstamp` as the cursor."""

    def __init__(self, config: SandboxConfig, schema: str) -> None:
        self._http = httpx.Client(
            base_url=config.url("salesforce"), headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30
        )
        self.dataset = schema
        self._fields: dict[str, dict[str, str]] = {}

    def tables(self) -> list[Table]:
        tables = []
        for name in SALESFORCE_OBJECTS:
            fields = self._get(f"/services/data/v59.0/sobjects/{name}/describe")["fields"]
            self._fields[name] = {snake(field["name"]): field["name"] for field in fields}
            columns = {snake(f["name"]): SALESFORCE_TYPES.get(f["type"], pa.string()) for f in fields}
            tables.append(Table(snake(name), name, columns, "id"))
        return tables

    def changes(self, table: Table, cursor: str | None, known: set[str]) -> Changes:
        fields = self._fields[table.source]
        where = f" WHERE SystemModstamp >= {cursor}" if cursor else ""
        rows = [
            {column: _salesforce_value(record[field], table.columns[column]) for column, field in fields.items()}
            for record in self._query(f"SELECT {', '.join(fields.values())} FROM {table.source}{where}")
        ]
        keys = {record["Id"] for record in self._query(f"SELECT Id FROM {table.source}")}
        return _past(rows, lambda row: written(row["system_modstamp"], "milliseconds"), cursor, known, keys)

    def close(self) -> None:
        self._http.close()

    def _query(self, text: str) -> Iterator[dict[str, Any]]:
        page = self._get("/services/data/v59.0/queryAll", q=text)
        yield from page["records"]
        while not page["done"]:
            page = self._get(page["nextRecordsUrl"])
            yield from page["records"]

    def _get(self, path: str, **query: str) -> dict[str, Any]:
        return self._http.get(path, params=query or None).raise_for_status().json()


def written(at: datetime, precision: str) -> str:
    """A time in UTC, so that times of one precision compare as text."""
    return at.astimezone(UTC).isoformat(timespec=precision).replace("+00:00", "Z")


def _past(
    rows: list[dict[str, Any]],
    position: Callable[[dict[str, Any]], str],
    cursor: str | None,
    known: set[str],
    keys: set[str],
) -> Changes:
    """Of rows read at or after a cursor: those exactly there whose keys are known have landed before."""
    fresh = [row for row in rows if cursor is None or position(row) > cursor or str(row["id"]) not in known]
    return Changes(fresh, max(map(position, rows), default=cursor), keys)


def _selected(column: str, kind: pa.DataType) -> sql.Composable:
    name = sql.Identifier(column)
    return sql.SQL("{}::{}").format(name, sql.SQL(CASTS[kind])) if kind in CASTS else name


def snake(name: str) -> str:
    """A Salesforce name as Fivetran lands it: `Organisation_Id__c` becomes `organisation_id_c`."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return re.sub(r"_+", "_", spaced).lower()


def _salesforce_value(value: Any, kind: pa.DataType) -> Any:
    if value is not None and kind == TIMESTAMP:
        return datetime.fromisoformat(value)
    return value
