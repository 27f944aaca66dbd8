"""Limits of BigQuery that the platform's own statements could meet: locations of jobs and datasets, and partitions changed by a job.

The limit of tables in a statement is in `strict.py`.
"""

from __future__ import annotations

import contextvars
import functools
from collections.abc import Iterable
from typing import Any

import schema
import sqlglot
from local_bigquery.api import jobs, uploads
from local_bigquery.catalog import datasets, ddl, metadata, names, tables
from local_bigquery.engine import database
from local_bigquery.errors import BigQueryError
from local_bigquery.jobs import query, runner
from local_bigquery.models import Table
from sqlglot import exp

# https://cloud.google.com/bigquery/quotas#partitioned_tables: "Number of partitions modified by a single job".
PARTITIONS_OF_A_JOB = 4000
DEFAULT_LOCATION = "US"
REGION = "region-"
"""Prefix of a location where it stands in place of a dataset, as in `region-us`.INFORMATION_SCHEMA."""


class _Location:
    """The location of one job. It is open until a dataset decides, where the client names none."""

    def __init__(self, wanted: str | None) -> None:
        self.name = wanted


_location: contextvars.ContextVar[_Location | None] = contextvars.ContextVar("location", default=None)


def enforce() -> None:
    """Hold jobs to BigQuery's locations and to its number of partitions."""
    _take_locations_from_requests()
    _name_locations_in_answers()
    _check_locations()
    _count_partitions()


def _take_locations_from_requests() -> None:
    insert_job, run_query, start_upload = jobs.insert_job, jobs.run_query, uploads._start

    @functools.wraps(insert_job)
    def insert(project_id: str, body: Any) -> Any:
        _location.set(_Location(body.jobReference and body.jobReference.location))
        return insert_job(project_id, body)

    @functools.wraps(run_query)
    def run(project_id: str, body: Any) -> Any:
        _location.set(_Location(body.location))
        return run_query(project_id, body)

    def start(project_id: str, body: Any, upload: str) -> Any:
        _location.set(_Location(body.jobReference and body.jobReference.location))
        return start_upload(project_id, body, upload)

    for route in jobs.router.routes:
        for original, located in ((insert_job, insert), (run_query, run)):
            if getattr(route, "endpoint", None) is original:
                # FastAPI reads the endpoint, with its signature, when the first request comes.
                route.endpoint = located
    uploads._start = start


def _name_locations_in_answers() -> None:
    make, answer = runner._job, jobs.with_rows

    def located(project_id: str, job_id: str | None, configuration: Any) -> Any:
        job = make(project_id, job_id, configuration)
        asked = _location.get()
        return _at(job, asked.name if asked and asked.name else DEFAULT_LOCATION)

    def answer_located(payload: dict[str, Any], rows: list[str]) -> Any:
        if "location" in payload:
            payload["location"] = payload["jobReference"].location
        return answer(payload, rows)

    runner._job, jobs.with_rows = located, answer_located


def _at(job: Any, location: str) -> Any:
    project_id, job_id = job.jobReference.projectId, job.jobReference.jobId
    return job.replace(
        id=f"{project_id}:{location}.{job_id}",
        selfLink=f"/bigquery/v2/projects/{project_id}/jobs/{job_id}?location={location}",
        jobReference=job.jobReference.replace(location=location),
    )


def _check_locations() -> None:
    # https://cloud.google.com/bigquery/docs/locations#specify_locations: a job runs where it says, else where its datasets are, else in
    # the US, and its datasets must all be there.
    run_statement, run_query, handle, record = query._statement, runner._query, runner._handle, datasets.record

    def statement(cur: Any, tree: Any, context: Any, destination: Any, *rest: Any) -> Any:
        used = _datasets_of(tree, context)
        if destination is not None and destination.datasetId != tables.RESULTS:
            used.add((destination.projectId, destination.datasetId))
        _check(used)
        return run_statement(cur, tree, context, destination, *rest)

    def run(job: Any, *rest: Any) -> Any:
        try:
            return run_query(job, *rest)
        finally:
            _relocate(job)

    def other(job: Any, job_type: str, *rest: Any) -> Any:
        config = getattr(job.configuration, runner.JOB_TYPES[job_type])
        references = [getattr(config, name, None) for name in ("destinationTable", "sourceTable")]
        references += getattr(config, "sourceTables", None) or []
        try:
            _check({(each.projectId, each.datasetId) for each in references if each})
        finally:
            _relocate(job)
        return handle(job, job_type, *rest)

    def record_located(project_id: str, dataset_id: str, resource: Any) -> Any:
        # CREATE SCHEMA without a location makes the dataset where its job runs.
        asked = _location.get()
        if resource.location is None and asked and asked.name:
            resource = resource.replace(location=asked.name)
        return record(project_id, dataset_id, resource)

    query._statement, runner._query, runner._handle, datasets.record = statement, run, other, record_located


def _relocate(job: Any) -> None:
    """Give a job that is about to be saved as done the location that its datasets have decided."""
    asked = _location.get()
    if asked and asked.name:
        located = _at(job, asked.name)
        job.id, job.selfLink, job.jobReference = located.id, located.selfLink, located.jobReference


def _datasets_of(tree: exp.Expression, context: Any) -> set[tuple[str, str]]:
    ctes = {cte.alias_or_name.casefold() for cte in tree.find_all(exp.CTE)}
    if tree.args.get("kind") == "SCHEMA":
        return set()
    used: set[tuple[str, str]] = set()
    for table in tree.find_all(exp.Table):
        if not isinstance(table.this, exp.Identifier) or table.db.casefold() == "_session":
            continue
        parts = [part for part in (table.catalog, table.db, table.name) if part]
        parts = [piece for part in parts for piece in part.split(".")]
        if len(parts) == 1 and (parts[0].casefold() in ctes | context.temporary or context.dataset_id is None):
            continue
        upper = [part.upper() for part in parts]
        if "INFORMATION_SCHEMA" in upper:
            parts = [*parts[: upper.index("INFORMATION_SCHEMA")], ""]
        reference = schema.qualify(parts, context.project_id, context.dataset_id)
        if reference and not reference[1].casefold().startswith(REGION):
            used.add(reference[:2])
    return used


def _check(used: Iterable[tuple[str, str]]) -> None:
    asked = _location.get()
    if asked is None:  # a statement of the emulator itself
        return
    known = {
        (project, dataset): location
        for project, dataset, location in database.fetch(
            "SELECT project_id, dataset_id, resource ->> '$.location' FROM emulator.datasets"
        )
    }
    for project, dataset in sorted(used):
        location = known.get((project, dataset))
        if location is None:
            continue
        asked.name = asked.name or location
        if location.casefold() != asked.name.casefold():
            raise BigQueryError(
                "notFound", f"Not found: Dataset {project}:{dataset} was not found in location {asked.name}"
            )


def _count_partitions() -> None:
    run_statement, write = query._statement, tables.write

    def statement(cur: Any, tree: Any, context: Any, destination: Any, config: Any, dry_run: bool, *rest: Any) -> Any:
        if isinstance(tree, exp.Transaction | exp.Commit | exp.Rollback):
            context.in_transaction = isinstance(tree, exp.Transaction)
        elif not dry_run and (unit := _partitioning_of(tree, context)):
            cur = _CountingCursor(cur, *unit, inside=getattr(context, "in_transaction", False))
        return run_statement(cur, tree, context, destination, config, dry_run, *rest)

    def write_counted(cur: Any, sql: str, bound: Any, reference: Any, config: Any, *rest: Any, **named: Any) -> bool:
        if reference[1] != tables.RESULTS:
            partitioned = config if config.timePartitioning or config.rangePartitioning else None
            partitioned = partitioned or metadata.load(Table, *reference)
            if partitioned and (unit := _unit(partitioned)):
                field, partition = unit
                relation = cur.sql(sql, params=bound)
                if field.casefold() in {column.casefold() for column in relation.columns}:
                    _refuse_too_many(cur, f"SELECT {database.quote(field)} AS p FROM ({sql})", partition, bound)
        return write(cur, sql, bound, reference, config, *rest, **named)

    query._statement, tables.write = statement, write_counted


def _partitioning_of(tree: exp.Expression, context: Any) -> tuple[str, str] | None:
    """Return the partitioning column of what a statement fills with rows, and the partition of a value `p`."""
    if isinstance(tree, exp.Create) and tree.args.get("kind") == "TABLE" and tree.expression:
        node = tree.find(exp.PartitionedByProperty)
        return _unit(Table.model_validate(ddl._partitioning(node))) if node else None
    if isinstance(tree, exp.Insert | exp.Merge) and (target := names.target(tree)):
        stored = metadata.load(Table, *names.reference(target, context.project_id, context.dataset_id))
        return _unit(stored) if stored else None
    return None


def _unit(resource: Any) -> tuple[str, str] | None:
    if (time := resource.timePartitioning) and time.field:
        return time.field, f"date_trunc('{time.type or 'DAY'}', p)"
    if (whole := resource.rangePartitioning) and whole.field:
        return whole.field, f"(p - {whole.range.start}) // {whole.range.interval}"
    return None


def _refuse_too_many(cur: Any, values: str, partition: str, bound: Any = None) -> None:
    # A row without a value is in a partition too.
    [(count,)] = cur.execute(
        f"SELECT count(DISTINCT {partition}) + coalesce(max(CAST(p IS NULL AS INTEGER)), 0) FROM ({values})", bound
    ).fetchall()
    if count > PARTITIONS_OF_A_JOB:
        raise BigQueryError(
            "invalidQuery",
            f"Too many partitions produced by query, allowed {PARTITIONS_OF_A_JOB}, query produces at least {count} partitions",
        )


class _CountingCursor:
    """A cursor that undoes a statement which fills too many partitions. Rows that are deleted or updated in place are not counted."""

    def __init__(self, cursor: Any, field: str, partition: str, inside: bool) -> None:
        self._cursor, self._field, self._partition = cursor, field, partition
        self._inside = inside
        """Whether a transaction is open: a second BEGIN would abort it."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def execute(self, sql: str, bound: Any = None) -> Any:
        verb = sql.split(None, 1)[0].upper()
        if verb in ("BEGIN", "COMMIT", "ROLLBACK"):
            self._inside = verb == "BEGIN"
        if verb not in ("CREATE", "INSERT") or " TEMP TABLE " in sql[:60].upper():
            return self._cursor.execute(sql, bound)
        if self._inside:
            return self._execute_counted(sql, bound)
        self._cursor.execute("BEGIN")
        try:
            rows = self._execute_counted(sql, bound)
            self._cursor.execute("COMMIT")
        except Exception:
            self._cursor.execute("ROLLBACK")
            raise
        return rows

    def _execute_counted(self, sql: str, bound: Any) -> _Rows:
        rows = self._cursor.execute(sql, bound).fetchall()
        if rows and int(rows[0][0]) > PARTITIONS_OF_A_JOB:
            self._count(sqlglot.parse_one(sql, dialect="duckdb"), bound)
        return _Rows(rows)

    def _count(self, tree: exp.Expression, bound: Any) -> None:
        field = database.quote(self._field)
        if isinstance(tree, exp.Create):
            _refuse_too_many(
                self._cursor, f"SELECT {field} AS p FROM {tree.find(exp.Table).sql('duckdb')}", self._partition
            )
            return
        select = tree.expression.sql("duckdb")
        if isinstance(tree.this, exp.Schema):
            columns = ", ".join(each.sql("duckdb") for each in tree.this.expressions)
        else:
            columns = ", ".join(
                map(database.quote, self._cursor.sql(f"SELECT * FROM {tree.this.sql('duckdb')} LIMIT 0").columns)
            )
        _refuse_too_many(self._cursor, f"SELECT {field} AS p FROM ({select}) AS q({columns})", self._partition, bound)


class _Rows:
    """The rows of a statement that is complete."""

    def __init__(self, rows: list[tuple[Any, ...]]) -> None:
        self._rows = rows

    def fetchone(self) -> tuple[Any, ...] | None:
        return self._rows.pop(0) if self._rows else None

    def fetchall(self) -> list[tuple[Any, ...]]:
        rows, self._rows = self._rows, []
        return rows
