"""Every way by which SQL reaches the warehouse leads through the judge of `strict.py` first.

Statements of jobs and dry runs, definitions of views, filters of row access policies and of the Storage Read API. The statements of a
script are judged one by one as they run, so that variables and temporary tables are those that exist at that moment.
"""

from __future__ import annotations

import contextvars
import os
import re
from dataclasses import dataclass, field
from typing import Any

import schema
from local_bigquery import errors
from local_bigquery.api import tables as tables_api
from local_bigquery.catalog import names, row_access, tables
from local_bigquery.engine import database, types
from local_bigquery.errors import BigQueryError
from local_bigquery.grpc import read
from local_bigquery.jobs import query
from local_bigquery.sql import script
from local_bigquery.sql.rules import tables as table_rules
from strict import Judge, Statement, UnlistedError, split_path

from googlesql import Analysis, Column, Function, Parameter, RejectedError

SWITCH = "SANDBOX_STRICT"
TABLE_NOT_FOUND = "Table not found: "
DECORATOR = re.compile(r"[$@]")
SELECT = "select "
ASSIGNMENT = re.compile(r"\A\s*set\s+(?:\([^)]*\)|`?@{0,2}[\w.]+`?)\s*=\s*", re.IGNORECASE)
DECLARATION = re.compile(
    r"\A\s*declare\s+(?P<names>`?\w+`?(?:\s*,\s*`?\w+`?)*)\s*(?P<type>.*?)\s*(?:\bdefault\b\s*(?P<default>.*))?\Z",
    re.IGNORECASE | re.DOTALL,
)


@dataclass
class Job:
    """What the statements of one job share."""

    text: str = ""
    parameters: tuple[Parameter, ...] = ()
    functions: dict[str, Function | None] = field(default_factory=dict)


_job: contextvars.ContextVar[Job] = contextvars.ContextVar("job")


def enforce() -> Judge | None:
    """Put the judge in front of DuckDB. Return it, or None where SANDBOX_STRICT=off leaves it out, to compare times."""
    if os.environ.get(SWITCH, "").casefold() == "off":
        return None
    judge = Judge()
    _judge_jobs(judge)
    _judge_views(judge)
    _judge_row_filters(judge)
    return judge


def _judge_jobs(judge: Judge) -> None:
    execute, run = query.execute, query._execute

    def execute_judged(cur: Any, project_id: str, job_id: str | None, config: Any, *rest: Any, **named: Any) -> Any:
        parameters = tuple(Parameter(each.name, _type(each.parameterType)) for each in config.queryParameters or [])
        token = _job.set(Job(config.query or "", parameters))
        try:
            return execute(cur, project_id, job_id, config, *rest, **named)
        finally:
            _job.reset(token)

    def run_parsed(cur: Any, *arguments: Any) -> Any:
        *_, statements = arguments
        if script.is_script(statements):
            _refuse_as_bigquery(lambda: judge.parse_script(_job.get().text), None, None)
        return run(cur, *arguments)

    class Interpreter(script.Interpreter):
        """The interpreter of scripts, which judges each statement before it runs."""

        def sql(self, statement: Any) -> None:
            if statement.kind == "TABLE_FUNCTION":
                judge.pass_unjudged("create table function")
            elif not getattr(self, "_dynamic", False):
                analysis = self._judge(_in_its_place(statement.text))
                if statement.kind == "TEMP_FUNCTION" and analysis is not None:
                    name = analysis.function.path[-1] if analysis.function else _name_of_function(statement.text)
                    _job.get().functions[name.casefold()] = analysis.function
            super().sql(statement)

        def declare(self, statement: Any) -> None:
            found = DECLARATION.match(statement.text)
            if found and found["type"]:
                self._judge(f"select cast(null as {found['type']})")
            if found and found["default"]:
                self._judge(_as_query(_in_its_place(statement.text), found["default"]))
            super().declare(statement)

        def set(self, statement: Any) -> None:
            if found := ASSIGNMENT.match(statement.text):
                self._judge(_as_query(_in_its_place(statement.text), statement.text[found.end() :]))
            super().set(statement)

        def evaluate(self, sql: str) -> Any:
            self._judge(f"{SELECT}{sql}")
            return super().evaluate(sql)

        def for_each(self, statement: Any) -> None:
            self._judge(f"select * from {statement.text}")
            super().for_each(statement)

        def execute(self, statement: Any) -> None:
            judge.pass_unjudged("execute immediate")
            self._dynamic = True
            try:
                super().execute(statement)
            finally:
                self._dynamic = False

        def call(self, statement: Any) -> None:
            judge.pass_unjudged("call")
            super().call(statement)

        def procedure(self, statement: Any) -> None:
            judge.pass_unjudged("create procedure")
            super().procedure(statement)

        def _judge(self, sql: str) -> Analysis | None:
            context, job = self.context, _job.get()
            variables = tuple(
                Column(name, schema.type_of_variable(self.cursor, table)) for name, table in context.variables.items()
            )
            statement = Statement(sql, context.project_id, context.dataset_id, job.parameters, variables)
            return _judge_statement(judge, statement, self.cursor, context.temporary, job.functions)

    query.execute, query._execute, script.Interpreter = execute_judged, run_parsed, Interpreter


def _judge_views(judge: Judge) -> None:
    # A view that is created through the API has no default dataset.
    translate_view, create, update = tables_api.translate_view, tables.create, tables.update

    def judge_definition(project_id: str, body: Any) -> None:
        for definition in (body.view, body.materializedView):
            if definition and definition.query:
                with database.cursor() as cursor:
                    _judge_statement(judge, Statement(definition.query, project_id), cursor)

    def create_judged(project_id: str, dataset_id: str, body: Any, translate: Any) -> Any:
        judge_definition(project_id, body)
        return create(project_id, dataset_id, body, translate)

    def update_judged(project_id: str, dataset_id: str, table_id: str, body: Any, *rest: Any) -> Any:
        judge_definition(project_id, body)
        return update(project_id, dataset_id, table_id, body, *rest)

    tables_api.translate_view, tables.create, tables.update = translate_view, create_judged, update_judged


def _judge_row_filters(judge: Judge) -> None:
    save, read_query = row_access.save, read._query

    def judge_filter(project_id: str, dataset_id: str, table_id: str, predicate: str) -> None:
        sql = f"select 1 from `{project_id}`.`{dataset_id}`.`{table_id}` where ({predicate})"
        with database.cursor() as cursor:
            _judge_statement(judge, Statement(sql, project_id), cursor)

    def save_judged(project_id: str, dataset_id: str, table_id: str, body: Any, *rest: Any, **named: Any) -> Any:
        if body.filterPredicate:
            judge_filter(project_id, dataset_id, table_id, body.filterPredicate)
        return save(project_id, dataset_id, table_id, body, *rest, **named)

    def query_judged(path: str, options: Any, data_format: Any) -> Any:
        if options.row_restriction:
            judge_filter(*read.table(path), options.row_restriction)
        return read_query(path, options, data_format)

    row_access.save, read._query = save_judged, query_judged


def _judge_statement(
    judge: Judge,
    statement: Statement,
    cursor: Any,
    temporary: set[str] | None = None,
    functions: dict[str, Function | None] | None = None,
) -> Analysis | None:
    seen = schema.Schema(cursor, statement.project, statement.dataset, temporary or set(), functions or {})
    return _refuse_as_bigquery(lambda: judge.judge(statement, seen), statement.project, statement.dataset)


def _refuse_as_bigquery(judged: Any, project: str | None, dataset: str | None) -> Any:
    try:
        return judged()
    except RejectedError as error:
        if project is not None and error.message.startswith(TABLE_NOT_FOUND):
            path = split_path(error.message.removeprefix(TABLE_NOT_FOUND))
            raise _missing_table(path, project, dataset) from None
        raise BigQueryError("invalidQuery", str(error)) from None
    except UnlistedError as error:
        raise errors.BigQueryError("notImplemented", str(error)) from None


def _missing_table(path: tuple[str, ...], project: str, dataset: str | None) -> BigQueryError:
    written = ".".join(path)
    if DECORATOR.search(path[-1]):
        return BigQueryError("invalidQuery", f'Table "{written}" cannot include decorator')
    reference = schema.qualify(path, project, dataset)
    if reference is None:
        return BigQueryError("invalid", f'Table "{written}" must be qualified with a dataset (e.g. dataset.table).')
    if path[-1].endswith("*"):
        return BigQueryError("invalid", f"{names.label(*reference)} does not match any table.")
    return table_rules._not_found(*reference)


def _in_its_place(text: str) -> str:
    """Return a statement of the running job with what is before it blanked out, so that positions are those in the whole script."""
    place = _job.get().text.find(text)
    return re.sub(r"[^\n]", " ", _job.get().text[: max(place, 0)]) + text


def _as_query(text: str, expression: str) -> str:
    """Return `text`, which ends with an expression, as a query for the expression, which keeps its position where there is room."""
    before = re.sub(r"[^\n]", " ", text.removesuffix(expression))
    return (
        (before.removesuffix(" " * len(SELECT)) if before.endswith(" " * len(SELECT)) else before) + SELECT + expression
    )


def _name_of_function(text: str) -> str:
    found = re.search(r"\bfunction\s+(?:if\s+not\s+exists\s+)?`?(\w+)", text, re.IGNORECASE)
    return found[1] if found else ""


def _type(kind: Any) -> str:
    match kind.type:
        case "ARRAY":
            return f"ARRAY<{_type(kind.arrayType)}>"
        case "STRUCT":
            fields = (
                f"`{each.name}` {_type(each.type)}" if each.name else _type(each.type)
                for each in kind.structTypes or []
            )
            return f"STRUCT<{', '.join(fields)}>"
        case "RANGE":
            return f"RANGE<{_type(kind.rangeElementType)}>"
        case name:
            return types.STANDARD.get(name, name)
