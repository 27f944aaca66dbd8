"""Reads PostgreSQL and Salesforce as a connector does: which tables, their keys, and the rows that changed since a cursor."""

from __future__ import annotations

import re
from collections.abc import Iterator
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
JSON = pa.large_string()
"""The type of a column that lands as JSON; its values are JSON texts until then."""
DELETED = "_fivetran_deleted"
SALESFORCE_TYPES = {"double": pa.float64(), "boolean": pa.bool_(), "date": TIMESTAMP, "datetime": TIMESTAMP}
SALESFORCE_FIELDS = {
    "Account": ("Id", "Name", "Industry", "OwnerId", "IsDeleted"),
    "User": ("Id", "Name", "Email", "IsActive"),
    "Contact": (
        "Id", "AccountId", "OwnerId", "Name", "FirstName", "LastName", "Email", "Title", "IsDeleted", "CreatedDate",
        "LastModifiedDate", "SystemModstamp",
    ),
    "Opportunity": (
        "Id", "AccountId", "Name", "StageName", "Amount", "CloseDate", "IsDeleted", "CreatedDate",
    ),
}  # fmt: skip
"""The standard fields that land, next to every custom field. A real connection lands every field of an object.

Here only those land that Fivetran's own dbt package knows (github.com/fivetran/dbt_salesforce): no model can then depend on a column that
only this repository's authors believe in.
"""
CURSOR = "SystemModstamp"


@dataclass(frozen=True)
class Table:
    """A source table as it lands: its name in the destination and its columns there, with their types.

    `key` are the columns of its primary key. `deleted` is the column that marks a row which the source no longer has: connectors differ
    (fivetran.com/docs/core-concepts/sync-modes/soft-delete), and some tables have none. A table with `history` gets one row for each
    version of a record (fivetran.com/docs/core-concepts/sync-modes/history-mode).
    """

    name: str
    source: str
    columns: dict[str, pa.DataType]
    key: tuple[str, ...] = ("id",)
    deleted: str | None = DELETED
    history: bool = False

    def key_of(self, row: dict[str, Any]) -> str:
        """The key of a source's row as text; a version of a record has the record's."""
        return "|".join(str(row[column]) for column in self.key if column in self.columns)


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
        return [Table(name, name, columns) for name, columns in usable.items()]

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
        moments = [written(row["updated_at"], "microseconds") for row in rows]
        return _past(table, rows, moments, cursor, known, keys)

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
        for name, standard in SALESFORCE_FIELDS.items():
            described = self._get(f"/services/data/v59.0/sobjects/{name}/describe")["fields"]
            landed = [field for field in described if field["name"] in standard or field["name"].endswith("__c")]
            self._fields[name] = {snake(field["name"]): field["name"] for field in landed}
            columns = {snake(f["name"]): SALESFORCE_TYPES.get(f["type"], pa.string()) for f in landed}
            deleted = "is_deleted" if "IsDeleted" in standard else DELETED
            tables.append(Table(snake(name), name, columns, deleted=deleted))
        return tables

    def changes(self, table: Table, cursor: str | None, known: set[str]) -> Changes:
        fields = self._fields[table.source]
        where = f" WHERE {CURSOR} >= {cursor}" if cursor else ""
        asked = ", ".join(dict.fromkeys([*fields.values(), CURSOR]))
        records = list(self._query(f"SELECT {asked} FROM {table.source}{where}"))
        rows = [
            {column: _salesforce_value(record[field], table.columns[column]) for column, field in fields.items()}
            for record in records
        ]
        keys = {record["Id"] for record in self._query(f"SELECT Id FROM {table.source}")}
        moments = [written(datetime.fromisoformat(record[CURSOR]), "milliseconds") for record in records]
        return _past(table, rows, moments, cursor, known, keys)

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
    table: Table, rows: list[dict[str, Any]], moments: list[str], cursor: str | None, known: set[str], keys: set[str]
) -> Changes:
    """Of rows read at or after a cursor, leave out those exactly there whose keys are known: they have landed before.

    `moments` has the time of each row's last change, which the cursor is compared with.
    """
    fresh = [
        row
        for row, moment in zip(rows, moments, strict=True)
        if cursor is None or moment > cursor or table.key_of(row) not in known
    ]
    return Changes(fresh, max(moments, default=cursor), keys)


def _selected(column: str, kind: pa.DataType) -> sql.Composable:
    name = sql.Identifier(column)
    return sql.SQL("{}::{}").format(name, sql.SQL(CASTS[kind])) if kind in CASTS else name


def snake(name: str) -> str:
    """A Salesforce name as Fivetran lands it: `Organisation_Id__c` becomes `organisation_id_c`."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return re.sub(r"_+", "_", spaced).lower()


def _salesforce_value(value: Any, kind: pa.DataType) -> Any:
    if value is None or kind != TIMESTAMP:
        return value
    at = datetime.fromisoformat(value)
    return at if at.tzinfo else at.replace(tzinfo=UTC)
