"""Corrections of local-bigquery 0.4.0. Each replaces a function or two. A test shows each wrong answer; `bench/warehouse_latency.py` shows the slow ones."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import duckdb
from local_bigquery import errors
from local_bigquery.catalog import names, tabledata, tables
from local_bigquery.engine import database, types
from local_bigquery.grpc import server
from local_bigquery.jobs import query, runner, store
from local_bigquery.models import Job
from local_bigquery.sql import script
from local_bigquery.sql.rules import partitions
from sqlglot import exp

SUPPORTED = "0.4.0"
TEMPORARY_TABLES = "SELECT table_name FROM duckdb_tables() WHERE temporary"
NO_TABLES = "SELECT NULL::VARCHAR AS table_name WHERE false"
STRUCT_ASSIGNMENT = re.compile(r"\bset\s*\(\s*(\w+)\s*\)\s*=\s*\(\s*select\s+as\s+struct\b", re.IGNORECASE)


def apply(start_anew: Callable[[], None]) -> None:
    """Correct the loaded package. `start_anew` is called when the database has to be opened again. Raises RuntimeError for a version that these corrections were not made for."""
    if version("local-bigquery") != SUPPORTED:
        raise RuntimeError(f"the corrections are for local-bigquery {SUPPORTED}, not {version('local-bigquery')}")
    _report_the_destination_of_create_table_as()
    _assign_structs()
    _look_tables_up_in_the_catalogue()
    _look_columns_up_by_table()
    _know_when_tables_were_written()
    _know_that_there_is_no_pandas()
    _say_when_to_try_again(start_anew)


def _report_the_destination_of_create_table_as() -> None:
    # BigQuery answers with both; dbt reads `destinationTable` and fails on None.
    original = runner._query

    def corrected(job: Any, session: Any, running: Any) -> Any:
        statistics = original(job, session, running)
        config = job.configuration.query
        done = statistics.query
        # Of tables only: the rows of a destination are read by row number, which a view does not have.
        if config.destinationTable is None and done and done.statementType == "CREATE_TABLE_AS_SELECT":
            config.destinationTable = done.ddlTargetTable
        return statistics

    runner._query = corrected


def _assign_structs() -> None:
    # `set (x) = (select as struct …)`, which dbt writes for dynamic insert_overwrite, is not understood.
    original = script.Interpreter.set

    def corrected(self: Any, statement: Any) -> None:
        text = STRUCT_ASSIGNMENT.sub(r"set \1 = (select", statement.text)
        original(self, replace(statement, text=text))

    script.Interpreter.set = corrected


def _look_tables_up_in_the_catalogue() -> None:
    # duckdb_tables() opens every table of a DuckLake and is asked several times a query: it makes latency grow
    # with the number of tables. DuckLake's own catalogue has the same answer at once.
    listed = database.objects

    def objects(project_id: str, dataset_id: str, table_id: str | None = None) -> list[tuple[str, str, int]]:
        if project_id == "emulator":  # the one database that is no DuckLake; it stays small
            return listed(project_id, dataset_id, table_id)
        catalogue = database.quote(f"__ducklake_metadata_{project_id}")
        return database.fetch(
            # DuckLake counts a row that was deleted until its file is rewritten; BigQuery does not.
            "SELECT t.table_name, 'TABLE', coalesce(c.record_count, 0) - coalesce((SELECT sum(d.delete_count) "
            f"FROM {catalogue}.ducklake_delete_file d WHERE d.table_id = t.table_id AND d.end_snapshot IS NULL), 0)::BIGINT "
            f"FROM {catalogue}.ducklake_table t "
            f"JOIN {catalogue}.ducklake_schema s ON s.schema_id = t.schema_id AND s.end_snapshot IS NULL "
            f"LEFT JOIN {catalogue}.ducklake_table_stats c ON c.table_id = t.table_id "
            "WHERE t.end_snapshot IS NULL AND s.schema_name = $1 AND t.table_name = coalesce($2, t.table_name) "
            f"UNION ALL SELECT v.view_name, 'VIEW', 0 FROM {catalogue}.ducklake_view v "
            f"JOIN {catalogue}.ducklake_schema s ON s.schema_id = v.schema_id AND s.end_snapshot IS NULL "
            "WHERE v.end_snapshot IS NULL AND s.schema_name = $1 AND v.view_name = coalesce($2, v.view_name) ORDER BY 1",
            [dataset_id, table_id],
        )

    database.objects = objects
    original = query.execute

    def execute(cur: Any, project_id: str, job_id: str | None, config: Any, dry_run: bool = False, session: Any = None):
        # A cursor of its own has no temporary tables yet; only a session's can have some.
        return original(cur if session else _FreshCursor(cur), project_id, job_id, config, dry_run, session)

    query.execute = execute


def _look_columns_up_by_table() -> None:
    # duckdb_columns() opens every table too, and is asked for each table of a query: it was a quarter of the warehouse's time.
    def typed(table: str) -> dict[str, Any]:
        with database.cursor() as cursor:
            relation = cursor.sql(f"SELECT * FROM {table} LIMIT 0")
            return dict(zip(relation.columns, relation.types, strict=True))

    def columns(project_id: str, dataset_id: str, table_id: str) -> list[Any]:
        table = tables.name(project_id, dataset_id, table_id)
        try:
            found = typed(table)
        except duckdb.CatalogException:
            raise errors.not_found("Table", names.label(project_id, dataset_id, table_id)) from None
        required = {
            name for (name,) in database.fetch('SELECT name FROM pragma_table_info(?) WHERE "notnull"', [table])
        }
        return [
            types.field(name, kind, name in required)
            for name, kind in found.items()
            if name != tables.INGESTION_TIME or dataset_id == tables.RESULTS
        ]

    def hidden(table: Any) -> bool:
        if not (table.catalog and table.db) or not isinstance(table.this, exp.Identifier):
            return False
        try:
            return tables.INGESTION_TIME in typed(database.quote(table.catalog, table.db, table.name))
        except (duckdb.CatalogException, duckdb.BinderException):
            # There is none, or a view that is broken: the statement itself will say so.
            return False

    for module in (tables, tabledata):
        module.columns = columns
    partitions._hidden = hidden


def _know_when_tables_were_written() -> None:
    # Of a table that was made by SQL, every look at it is taken for its last change. DuckLake's catalogue has the snapshots.
    original = tables.load

    def corrected(project_id: str, dataset_id: str, table_id: str) -> Any:
        table = original(project_id, dataset_id, table_id)
        if project_id == "emulator":
            return table
        catalogue = database.quote(f"__ducklake_metadata_{project_id}")
        [(created, written)] = database.fetch(
            "WITH found AS ("
            f"SELECT t.table_id, t.begin_snapshot FROM {catalogue}.ducklake_table t "
            f"JOIN {catalogue}.ducklake_schema s ON s.schema_id = t.schema_id AND s.end_snapshot IS NULL "
            "WHERE t.end_snapshot IS NULL AND s.schema_name = $1 AND t.table_name = $2 "
            f"UNION ALL SELECT v.view_id, v.begin_snapshot FROM {catalogue}.ducklake_view v "
            f"JOIN {catalogue}.ducklake_schema s ON s.schema_id = v.schema_id AND s.end_snapshot IS NULL "
            "WHERE v.end_snapshot IS NULL AND s.schema_name = $1 AND v.view_name = $2), "
            "changes AS (SELECT begin_snapshot AS snapshot_id FROM found "
            f"UNION ALL SELECT begin_snapshot FROM {catalogue}.ducklake_data_file WHERE table_id IN (SELECT table_id FROM found) "
            f"UNION ALL SELECT end_snapshot FROM {catalogue}.ducklake_data_file WHERE table_id IN (SELECT table_id FROM found) "
            f"UNION ALL SELECT begin_snapshot FROM {catalogue}.ducklake_delete_file WHERE table_id IN (SELECT table_id FROM found)) "
            "SELECT epoch_ms(min(snapshot_time)), epoch_ms(max(snapshot_time)) "
            f"FROM {catalogue}.ducklake_snapshot WHERE snapshot_id IN (SELECT snapshot_id FROM changes)",
            [dataset_id, table_id],
        )
        if written is None:
            return table
        return table.replace(creationTime=str(created), lastModifiedTime=str(written))

    tables.load = corrected


def _know_that_there_is_no_pandas() -> None:
    # DuckDB looks for it whenever a statement has parameters, on the whole of the path each time.
    sys.modules["pandas"] = None


def _say_when_to_try_again(start_anew: Callable[[], None]) -> None:
    # DuckDB gives a database up after an error of its own, which writers side by side have brought about, and refuses every statement
    # from then on. BigQuery says `backendError` of its troubles, and its clients try again; it was an error in the query here.
    errors.STATUSES["backendError"] = (503, "UNAVAILABLE")
    original = errors.from_exception

    def from_exception(error: Exception) -> errors.BigQueryError:
        if isinstance(error, duckdb.FatalException | duckdb.InternalException):
            print(f"the database is broken: {error}", file=sys.stderr, flush=True)
            start_anew()
            return errors.BigQueryError("backendError", f"The database starts anew, try again. {error}")
        return original(error)

    # `local_bigquery.app` is the application; its module has the same name.
    for module in (errors, sys.modules["local_bigquery.app"], server, runner, script):
        module.from_exception = from_exception


def end_interrupted_jobs() -> None:
    """Say of the jobs that a process which has died left behind that they failed: their clients would wait for ever."""
    error = {"reason": "backendError", "message": "The warehouse was started anew while this job ran."}
    rows = database.fetch("SELECT resource FROM emulator.jobs WHERE state != 'DONE'")
    for (resource,) in rows:
        job = Job.model_validate_json(resource)
        store.save(job.replace(status={"state": "DONE", "errorResult": error, "errors": [error]}))


class _FreshCursor:
    """A cursor that knows without asking that it has no temporary tables when a job starts."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def sql(self, text: str, **arguments: Any) -> Any:
        return self._cursor.sql(NO_TABLES if text == TEMPORARY_TABLES else text, **arguments)
