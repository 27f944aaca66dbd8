"""Analysis of one statement against the tables that it reads."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from zetasql.core.exceptions import ServerError, StatusCode
from zetasql.wasi._pb2.zetasql.local_service import local_service_pb2
from zetasql.wasi._pb2.zetasql.proto import options_pb2, simple_catalog_pb2
from zetasql.wasi._pb2.zetasql.public import options_pb2 as public_options_pb2
from zetasql.wasi._pb2.zetasql.public import simple_table_pb2

from googlesql.language import empty_catalog, language_options
from googlesql.names import split_quoted_paths
from googlesql.service import Service
from googlesql.sql_types import format_type, parse_type

POSITION = re.compile(r"\s*\[at (\d+):(\d+)\]\s*$")
PARTITION_COLUMNS = (("_PARTITIONTIME", "TIMESTAMP"), ("_PARTITIONDATE", "DATE"))
WILDCARD_COLUMN = ("_TABLE_SUFFIX", "STRING")

# What BigQuery answers with its own code rather than with the analyzer.
UNIMPLEMENTED = {StatusCode.UNIMPLEMENTED, StatusCode.INTERNAL}


@dataclass(frozen=True)
class Column:
    """A column of a table or a query. `type` is a type as in DDL."""

    name: str
    type: str


@dataclass(frozen=True)
class Table:
    """A table as a statement may name it.

    `name` is the full one, `project.dataset.table`. With `partition_time` it is partitioned by ingestion time, and has BigQuery's two
    pseudo-columns for it; with `wildcard` it stands for several tables, and has the pseudo-column of these.
    """

    name: str
    columns: tuple[Column, ...]
    partition_time: bool = False
    wildcard: bool = False


@dataclass(frozen=True)
class Parameter:
    """A query parameter. `name` is None where parameters are positional."""

    name: str | None
    type: str


@dataclass(frozen=True)
class Analysis:
    """What a statement is (`query`, `merge`, `create_table_as_select`) and the columns that a query returns."""

    kind: str
    columns: tuple[Column, ...]


class RejectedError(Exception):
    """GoogleSQL rejects a statement. The text is Google's message, with BigQuery's way to give a position."""

    def __init__(self, message: str, line: int | None = None, column: int | None = None) -> None:
        super().__init__(message if line is None else f"{message} at [{line}:{column}]")
        self.message, self.line, self.column = message, line, column


class NotJudgedError(Exception):
    """The analyzer cannot say whether BigQuery takes a statement. The text is the reason."""


class Analyzer:
    """GoogleSQL's analyzer with BigQuery's dialect. One for a process is enough: threads wait for each other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._service = Service()
        self._language = language_options()
        self._catalog = empty_catalog(self._language)

    def referenced_tables(self, sql: str) -> list[tuple[str, ...]]:
        """Return the paths of the tables that a statement names, in its own spelling; names of its own WITH clauses are left out.

        Raises RejectedError for a statement that GoogleSQL cannot parse.
        """
        request = local_service_pb2.ExtractTableNamesFromStatementRequest(
            sql_statement=split_quoted_paths(sql), options=self._language, allow_script=False
        )
        response = self._call(
            "ExtractTableNamesFromStatement", request, local_service_pb2.ExtractTableNamesFromStatementResponse
        )
        return [tuple(name.table_name_segment) for name in response.table_name]

    def analyze(
        self,
        sql: str,
        tables: Iterable[Table] = (),
        *,
        default_project: str | None = None,
        default_dataset: str | None = None,
        parameters: Sequence[Parameter] = (),
        variables: Sequence[Column] = (),
    ) -> Analysis:
        """Analyze one statement as BigQuery would.

        Args:
            sql: One statement.
            tables: The tables that exist; only these may be named. A `default_project` and a `default_dataset` let shorter names stand for them.
            parameters: The types of the query's parameters.
            variables: The variables of the script around the statement.

        Raises:
            RejectedError: GoogleSQL rejects the statement.
            NotJudgedError: The analyzer has met something that it cannot judge.
            UnknownTypeError: A column's or parameter's type is none of BigQuery's.
        """
        catalog = simple_catalog_pb2.SimpleCatalogProto()
        catalog.CopyFrom(self._catalog)
        for table in tables:
            _register(catalog, table, default_project, default_dataset)
        for variable in variables:
            constant = catalog.constant.add(name_path=[variable.name])
            constant.type.CopyFrom(parse_type(variable.type))
        response = self._call(
            "Analyze",
            local_service_pb2.AnalyzeRequest(
                sql_statement=split_quoted_paths(sql), options=self._options(parameters), simple_catalog=catalog
            ),
            local_service_pb2.AnalyzeResponse,
        )
        return _analysis(response.resolved_statement)

    def _options(self, parameters: Sequence[Parameter]) -> options_pb2.AnalyzerOptionsProto:
        options = options_pb2.AnalyzerOptionsProto(
            language_options=self._language,
            error_message_mode=public_options_pb2.ERROR_MESSAGE_ONE_LINE,
            default_timezone="UTC",
            prune_unused_columns=True,
        )
        for parameter in parameters:
            kind = parse_type(parameter.type)
            if parameter.name is None:
                options.parameter_mode = public_options_pb2.PARAMETER_POSITIONAL
                options.positional_query_parameters.append(kind)
            else:
                options.query_parameters.add(name=parameter.name, type=kind)
        for name, kind in PARTITION_COLUMNS:
            # `partition by _partitiondate` in a statement that makes a table.
            options.ddl_pseudo_columns.add(name=name, type=parse_type(kind))
        return options

    def _call(self, method: str, request: Any, response_type: type[Any]) -> Any:
        with self._lock:
            try:
                return self._service.call_grpc_func(f"ZetaSqlLocalService_{method}", request, response_type)
            except ServerError as error:
                raise _translated(error) from None


def _translated(error: ServerError) -> RejectedError | NotJudgedError:
    if error.code in UNIMPLEMENTED:
        return NotJudgedError(error.message)
    position = POSITION.search(error.message)
    if position is None:
        return RejectedError(error.message)
    return RejectedError(error.message[: position.start()], int(position[1]), int(position[2]))


def _register(
    catalog: simple_catalog_pb2.SimpleCatalogProto,
    table: Table,
    default_project: str | None,
    default_dataset: str | None,
) -> None:
    project, dataset, name = table.name.rsplit(".", 2)
    paths = [[project, dataset]]
    if project == default_project:
        paths.append([dataset])
        if dataset == default_dataset:
            paths.append([])
    described = _described(table, name)
    for path in paths:
        place = catalog
        for part in path:
            found = next((child for child in place.catalog if child.name == part), None)
            place = place.catalog.add(name=part) if found is None else found
        place.table.append(described)


def _described(table: Table, name: str) -> simple_table_pb2.SimpleTableProto:
    described = simple_table_pb2.SimpleTableProto(name=name, full_name=table.name)
    for column in table.columns:
        described.column.add(name=column.name, type=parse_type(column.type), is_writable_column=True)
    pseudo = (*(PARTITION_COLUMNS if table.partition_time else ()), *((WILDCARD_COLUMN,) if table.wildcard else ()))
    for column_name, kind in pseudo:
        described.column.add(name=column_name, type=parse_type(kind), is_pseudo_column=True)
    return described


def _analysis(statement: Any) -> Analysis:
    # A kind of statement that shares fields with others is a message inside the message of what they share.
    kind, node, columns = "", statement, ()
    while inner := node.WhichOneof("node") if "node" in node.DESCRIPTOR.oneofs_by_name else None:
        kind, node = inner, getattr(node, inner)
    while node is not None and not columns:
        fields = node.DESCRIPTOR.fields_by_name
        if "output_column_list" in fields:
            columns = tuple(Column(each.name, format_type(each.column.type)) for each in node.output_column_list)
        node = node.parent if "parent" in fields else None
    return Analysis(kind.removeprefix("resolved_").removesuffix("_node").removesuffix("_stmt"), columns)
