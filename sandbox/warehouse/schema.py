"""What exists in the warehouse, as the analyzer wants it: tables with BigQuery's types, and user-defined functions.

Columns come from DuckLake's own catalogue, one query for all tables of a statement: to bind a table in DuckDB opens its files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb
import information_schema
from local_bigquery.catalog import metadata, routines, tables
from local_bigquery.engine import database, types
from local_bigquery.errors import from_duckdb
from local_bigquery.models import Routine
from local_bigquery.models import Table as Resource

from googlesql import Analysis, Column, Function, NotJudgedError, Table

# DuckLake's names of types: https://ducklake.select/docs/stable/specification/data_types
SCALARS = {
    "boolean": "BOOL",
    **dict.fromkeys(
        ("int8", "int16", "int32", "int64", "int128", "uint8", "uint16", "uint32", "uint64", "uint128"), "INT64"
    ),
    "float32": "FLOAT64",
    "float64": "FLOAT64",
    "varchar": "STRING",
    "uuid": "STRING",
    "blob": "BYTES",
    "date": "DATE",
    "time": "TIME",
    "timetz": "TIME",
    **dict.fromkeys(("timestamp", "timestamp_s", "timestamp_ms", "timestamp_ns"), "DATETIME"),
    "timestamptz": "TIMESTAMP",
    "json": "JSON",
    "geometry": "GEOGRAPHY",
    "interval": "INTERVAL",
}
DECIMAL = re.compile(r"decimal\((\d+),\s*(\d+)\)")
NUMERIC_SCALE = 9
Reference = tuple[str, str, str]


@dataclass
class Schema:
    """What exists for one statement: tables of the warehouse, and the temporary tables and functions of its script."""

    cursor: Any
    project: str
    dataset: str | None
    temporary: set[str] = field(default_factory=set)
    functions: dict[str, Function | None] = field(default_factory=dict)

    def tables(self, paths: Iterable[tuple[str, ...]]) -> tuple[Table, ...]:
        """Return those of the tables that exist. Raises NotJudgedError for a metadata view whose columns are not described."""
        described: list[Table] = []
        wanted: dict[tuple[str, ...], Reference] = {}
        for path in paths:
            if view := information_schema.view_of(path):
                if view not in information_schema.COLUMNS:
                    raise NotJudgedError(f"undescribed view of INFORMATION_SCHEMA: {view}")
                described.append(Table(".".join(path), information_schema.COLUMNS[view], path=path))
            elif self._is_temporary(path):
                columns = _columns_of_relation(self.cursor, f"temp.main.{database.quote(path[-1])}")
                described.append(Table(path[-1], columns, path=path))
            elif reference := self._reference(path):
                wanted[path] = reference
        found = _tables_of(self.cursor, set(wanted.values()))
        for path, reference in wanted.items():
            if table := found.get(reference):
                described.append(Table(table.name, table.columns, table.partition_time, table.wildcard, path))
        return tuple(described)

    def function(self, path: tuple[str, ...], analyze: Callable[[str], Analysis]) -> Function | None:
        """Return a user-defined function under the path by which it was called, or None where there is none."""
        if len(path) == 1:
            name = path[0].casefold()
            if name not in self.functions:
                return None
            function = self.functions[name]
        else:
            reference = self._reference(path)
            routine = reference and metadata.load(Routine, *reference)
            if not routine:
                return None
            if routine.routineType != "SCALAR_FUNCTION":
                raise NotJudgedError("user-defined table function")
            function = analyze(routines.statement(routine, True)).function
        if function is None:
            raise NotJudgedError("user-defined function of any type")
        return Function(path, function.arguments, function.returns)

    def _is_temporary(self, path: tuple[str, ...]) -> bool:
        qualified = len(path) == 2 and path[0].casefold() == "_session"
        return (len(path) == 1 or qualified) and path[-1].casefold() in self.temporary

    def _reference(self, path: tuple[str, ...]) -> Reference | None:
        return qualify(path, self.project, self.dataset)


def qualify(path: Sequence[str], project: str, dataset: str | None) -> Reference | None:
    """Return project, dataset and name of what a path stands for, or None where a part is missing or the path is longer."""
    whole = ([project, dataset][: max(0, 3 - len(path))] + list(path)) if path else []
    return (whole[0], whole[1], whole[2]) if len(whole) == 3 and all(whole[:2]) else None


def type_of_variable(cursor: Any, table: str) -> str:
    """Return the type of a script's variable, which the emulator keeps in a temporary table of one column."""
    [column] = _columns_of_relation(cursor, table)
    return column.type


def _tables_of(cursor: Any, references: set[Reference]) -> dict[Reference, Table]:
    found: dict[Reference, Table] = {}
    for project in {project for project, _, _ in references}:
        named = [(dataset, name) for each, dataset, name in references if each == project]
        exact = [(dataset, name) for dataset, name in named if not name.endswith("*")]
        if project in database._attached:
            found |= _tables_of_project(cursor, project, exact)
        for dataset, prefix in (pair for pair in named if pair not in exact):
            if table := _wildcard(cursor, project, dataset, prefix):
                found[project, dataset, prefix] = table
    return found


def _tables_of_project(cursor: Any, project: str, named: list[tuple[str, str]]) -> dict[Reference, Table]:
    catalogue = database.quote(f"__ducklake_metadata_{project}")
    rows = database.fetch(
        "WITH wanted AS (SELECT unnest($1) AS pair), "
        f"found AS (SELECT s.schema_name, t.table_name, t.table_id FROM {catalogue}.ducklake_table t "
        f"JOIN {catalogue}.ducklake_schema s ON s.schema_id = t.schema_id AND s.end_snapshot IS NULL "
        "WHERE t.end_snapshot IS NULL AND list_contains($1, [s.schema_name, t.table_name])) "
        "SELECT schema_name, table_name, column_id, parent_column, column_name, column_type FROM found "
        f"JOIN {catalogue}.ducklake_column c ON c.table_id = found.table_id AND c.end_snapshot IS NULL "
        "ORDER BY found.table_id, column_order",
        [[list(pair) for pair in named]],
    )
    grouped: dict[tuple[str, str], list[tuple[Any, ...]]] = {}
    for dataset, name, *column in rows:
        grouped.setdefault((dataset, name), []).append(tuple(column))
    found: dict[Reference, Table] = {}
    for dataset, name in named:
        if column_rows := grouped.get((dataset, name)):
            columns = _columns(column_rows, None)
        else:
            # A view, whose columns DuckLake does not keep, or a table of a transaction that is not committed.
            columns = _columns_of_view(cursor, project, dataset, name)
            if columns is None:
                continue
        kept = tuple(each for each in columns if each.name != tables.INGESTION_TIME)
        found[project, dataset, name] = Table(
            f"{project}.{dataset}.{name}", kept, partition_time=len(kept) < len(columns)
        )
    return found


def _columns(rows: list[tuple[Any, ...]], parent: int | None) -> tuple[Column, ...]:
    return tuple(Column(name, _type(rows, column_id, kind)) for column_id, above, name, kind in rows if above == parent)


def _type(rows: list[tuple[Any, ...]], column_id: int, kind: str) -> str:
    if kind == "list":
        [element] = _columns(rows, column_id)
        return f"ARRAY<{element.type}>"
    if kind == "struct":
        return _struct(_columns(rows, column_id))
    if kind in ("map", "variant"):
        return "JSON"
    if decimal := DECIMAL.fullmatch(kind):
        return "NUMERIC" if int(decimal[2]) <= NUMERIC_SCALE else "BIGNUMERIC"
    return SCALARS[kind]


def _struct(fields: tuple[Column, ...]) -> str:
    if tuple(each.name for each in fields) == types.RANGE_FIELDS:
        return f"RANGE<{fields[0].type}>"
    return f"STRUCT<{', '.join(f'`{each.name}` {each.type}' for each in fields)}>"


def _columns_of_view(cursor: Any, project: str, dataset: str, name: str) -> tuple[Column, ...] | None:
    try:
        return _columns_of_relation(cursor, tables.name(project, dataset, name))
    except (duckdb.CatalogException, duckdb.BinderException) as error:
        if database.objects(project, dataset, name):
            # The view is there, and what it reads is not as it was.
            raise from_duckdb(error) from error
        return None


def _columns_of_relation(cursor: Any, table: str) -> tuple[Column, ...]:
    relation = cursor.sql(f"SELECT * FROM {table} LIMIT 0")
    return tuple(
        Column(name, types.bigquery_type(types.field(name, kind)))
        for name, kind in zip(relation.columns, relation.types, strict=True)
    )


def _wildcard(cursor: Any, project: str, dataset: str, pattern: str) -> Table | None:
    # BigQuery takes the columns of the table that was created last.
    # https://cloud.google.com/bigquery/docs/querying-wildcard-tables#schema_used_for_query_evaluation
    prefix = pattern.rstrip("*")
    names = [
        name for name, kind, _ in database.objects(project, dataset) if kind == "TABLE" and name.startswith(prefix)
    ]
    if not names:
        return None
    newest = max(names, key=lambda name: _created(project, dataset, name))
    table = _tables_of_project(cursor, project, [(dataset, newest)])[project, dataset, newest]
    return Table(f"{project}.{dataset}.{pattern}", table.columns, table.partition_time, wildcard=True)


def _created(project: str, dataset: str, name: str) -> int:
    stored = metadata.load(Resource, project, dataset, name)
    return int((stored and stored.creationTime) or 0)
