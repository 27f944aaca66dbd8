"""Analysis of one statement against the tables that it reads."""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf import empty_pb2
from zetasql.core.exceptions import ServerError, StatusCode
from zetasql.wasi._pb2.zetasql.local_service import local_service_pb2
from zetasql.wasi._pb2.zetasql.proto import function_pb2, options_pb2, simple_catalog_pb2
from zetasql.wasi._pb2.zetasql.public import function_pb2 as public_function_pb2
from zetasql.wasi._pb2.zetasql.public import options_pb2 as public_options_pb2
from zetasql.wasi._pb2.zetasql.public import simple_table_pb2

from googlesql.language import GROUPS, SYSTEM_VARIABLES, empty_catalog, language_options
from googlesql.names import split_quoted_paths
from googlesql.service import Service
from googlesql.sql_types import format_type, parse_type

POSITION = re.compile(r"\s*\[at (\d+):(\d+)\]\s*$")
GROUP = re.compile(rf"\b(?:{'|'.join(GROUPS)}):", re.IGNORECASE)
PARTITION_COLUMNS = (("_PARTITIONTIME", "TIMESTAMP"), ("_PARTITIONDATE", "DATE"))
WORD = re.compile(r"\w+")
KEPT_TABLES = 50
"""Tables in the catalog that is kept. With more of them it takes longer to make than it saves."""
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
    pseudo-columns for it; with `wildcard` it stands for several tables, and has the pseudo-column of these. `path` is how the
    statement spells the name, where defaults do not say so: a temporary table, a view of INFORMATION_SCHEMA.
    """

    name: str
    columns: tuple[Column, ...]
    partition_time: bool = False
    wildcard: bool = False
    path: tuple[str, ...] = ()


@dataclass(frozen=True)
class Function:
    """A user-defined function with fixed types, under the path by which statements call it."""

    path: tuple[str, ...]
    arguments: tuple[Column, ...]
    returns: str


@dataclass(frozen=True)
class Parameter:
    """A query parameter. `name` is None where parameters are positional."""

    name: str | None
    type: str


@dataclass(frozen=True)
class Analysis:
    """What a statement is (`query`, `merge`, `create_table_as_select`) and the columns that a query returns.

    `function` is what CREATE FUNCTION defines; it is None for a function with arguments of any type.
    """

    kind: str
    columns: tuple[Column, ...]
    function: Function | None = None


@dataclass(frozen=True)
class Registered:
    """Tables that the analyzer keeps, so that statements about them take a fraction of the time."""

    id: int


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
        self._lock = threading.RLock()
        self._service = Service()
        self._language = language_options()
        self._catalog = empty_catalog(self._language)
        self._kept: dict[tuple[str, ...], Table] = {}
        self._kept_id: int | None = None

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

    def parse_script(self, sql: str) -> None:
        """Parse a script of several statements. Raises RejectedError where GoogleSQL cannot."""
        request = local_service_pb2.ParseRequest(
            sql_statement=split_quoted_paths(sql), options=self._language, allow_script=True
        )
        self._call("Parse", request, local_service_pb2.ParseResponse)

    def register(self, tables: Iterable[Table], *, default_project: str | None = None) -> Registered:
        """Have the analyzer keep tables, for many statements that read them. `unregister` frees them.

        Raises UnknownTypeError for a column's type that is none of BigQuery's.
        """
        placed = {path: table for table in tables for path in _paths(table, default_project, None)}
        request = local_service_pb2.RegisterCatalogRequest(simple_catalog=self._catalog_of(placed))
        return Registered(self._call("RegisterCatalog", request, local_service_pb2.RegisterResponse).registered_id)

    def unregister(self, registered: Registered) -> None:
        """Free tables that `register` has kept."""
        request = local_service_pb2.UnregisterRequest(registered_id=registered.id)
        self._call("UnregisterCatalog", request, empty_pb2.Empty)

    def analyze_registered(self, sql: str, registered: Registered, parameters: Sequence[Parameter] = ()) -> Analysis:
        """Analyze one statement about registered tables. Raises what `analyze` raises."""
        request = local_service_pb2.AnalyzeRequest(
            sql_statement=split_quoted_paths(sql),
            options=self._options(parameters),
            registered_catalog_id=registered.id,
        )
        return _analysis(self._call("Analyze", request, local_service_pb2.AnalyzeResponse).resolved_statement)

    def analyze(
        self,
        sql: str,
        tables: Iterable[Table] = (),
        *,
        functions: Sequence[Function] = (),
        default_project: str | None = None,
        default_dataset: str | None = None,
        parameters: Sequence[Parameter] = (),
        variables: Sequence[Column] = (),
    ) -> Analysis:
        """Analyze one statement as BigQuery would.

        Args:
            sql: One statement.
            tables: The tables that exist; only these may be named. A `default_project` and a `default_dataset` let shorter names stand for them.
            functions: The user-defined functions that may be called.
            parameters: The types of the query's parameters.
            variables: The variables of the script around the statement.

        Raises:
            RejectedError: GoogleSQL rejects the statement.
            NotJudgedError: The analyzer has met something that it cannot judge.
            UnknownTypeError: A column's or parameter's type is none of BigQuery's.
        """
        request = local_service_pb2.AnalyzeRequest(
            sql_statement=split_quoted_paths(sql), options=self._options(parameters)
        )
        placed = {path: table for table in tables for path in _paths(table, default_project, default_dataset)}
        with self._lock:
            if functions or variables:
                request.simple_catalog.CopyFrom(self._catalog_of(placed, functions, variables))
            elif (kept := self._kept_catalog(sql, placed)) is not None:
                request.registered_catalog_id = kept
            else:
                request.simple_catalog.CopyFrom(self._catalog_of(placed))
            response = self._call("Analyze", request, local_service_pb2.AnalyzeResponse)
        return _analysis(response.resolved_statement)

    def _kept_catalog(self, sql: str, placed: Mapping[tuple[str, ...], Table]) -> int | None:
        """Return the catalog that stays registered, or None where it holds a table that the statement may name and must not see.

        To make a catalog with all functions takes four times as long as an analysis. The one that is kept has the tables of
        earlier statements too, so that most statements find theirs in it.
        """
        words = {word.casefold() for word in WORD.findall(sql)}
        for path in self._kept.keys() - placed.keys():
            if {word.casefold() for word in WORD.findall(path[-1])} <= words:
                return None
        if self._kept_id is None or any(self._kept.get(path) != table for path, table in placed.items()):
            if self._kept_id is not None:
                unregister = local_service_pb2.UnregisterRequest(registered_id=self._kept_id)
                self._call("UnregisterCatalog", unregister, empty_pb2.Empty)
            union = self._kept | placed
            self._kept = union if len(union) <= KEPT_TABLES else dict(placed)
            register = local_service_pb2.RegisterCatalogRequest(simple_catalog=self._catalog_of(self._kept))
            self._kept_id = self._call("RegisterCatalog", register, local_service_pb2.RegisterResponse).registered_id
        return self._kept_id

    def _catalog_of(
        self,
        placed: Mapping[tuple[str, ...], Table],
        functions: Iterable[Function] = (),
        variables: Iterable[Column] = (),
    ) -> simple_catalog_pb2.SimpleCatalogProto:
        catalog = simple_catalog_pb2.SimpleCatalogProto()
        catalog.CopyFrom(self._catalog)
        for path, table in placed.items():
            _place(catalog, path[:-1]).table.append(_described(table, path[-1]))
        for variable in variables:
            constant = catalog.constant.add(name_path=[variable.name])
            constant.type.CopyFrom(parse_type(variable.type))
        for function in functions:
            _place(catalog, function.path[:-1]).custom_function.append(_user_function(function))
        return catalog

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
        for name, kind in SYSTEM_VARIABLES.items():
            options.system_variables.add(name_path=name.split("."), type=parse_type(kind))
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
    # GoogleSQL names a function that is not its own after its group. BigQuery does not.
    # The library keeps the first line of a message; the others say which signatures there are, and where the fault is.
    text = error.raw_error.partition("Message: ")[2] or error.message
    message = GROUP.sub("", text)
    position = POSITION.search(message)
    if position is None:
        return RejectedError(message)
    return RejectedError(message[: position.start()], int(position[1]), int(position[2]))


def _paths(table: Table, default_project: str | None, default_dataset: str | None) -> list[tuple[str, ...]]:
    if table.path:
        return [table.path]
    project, dataset, name = table.name.rsplit(".", 2)
    paths = [(project, dataset, name)]
    if project == default_project:
        paths.append((dataset, name))
        if dataset == default_dataset:
            paths.append((name,))
    return paths


def _place(
    catalog: simple_catalog_pb2.SimpleCatalogProto, path: Sequence[str]
) -> simple_catalog_pb2.SimpleCatalogProto:
    for part in path:
        found = next((child for child in catalog.catalog if child.name == part), None)
        catalog = catalog.catalog.add(name=part) if found is None else found
    return catalog


@functools.lru_cache(maxsize=2048)
def _described(table: Table, name: str) -> simple_table_pb2.SimpleTableProto:
    described = simple_table_pb2.SimpleTableProto(name=name, full_name=table.name)
    for column in table.columns:
        described.column.add(name=column.name, type=parse_type(column.type), is_writable_column=True)
    pseudo = (*(PARTITION_COLUMNS if table.partition_time else ()), *((WILDCARD_COLUMN,) if table.wildcard else ()))
    for column_name, kind in pseudo:
        described.column.add(name=column_name, type=parse_type(kind), is_pseudo_column=True)
    return described


def _user_function(function: Function) -> function_pb2.FunctionProto:
    proto = function_pb2.FunctionProto(
        name_path=function.path, group=GROUPS[1], mode=public_function_pb2.FunctionEnums.SCALAR
    )
    signature = proto.signature.add()
    for kind, argument in (
        *((argument.type, signature.argument.add(num_occurrences=1)) for argument in function.arguments),
        (function.returns, signature.return_type),
    ):
        argument.kind = public_function_pb2.ARG_TYPE_FIXED
        argument.type.CopyFrom(parse_type(kind))
        argument.options.cardinality = public_function_pb2.FunctionEnums.REQUIRED
    signature.return_type.num_occurrences = 1
    return proto


def _analysis(statement: Any) -> Analysis:
    # A kind of statement that shares fields with others is a message inside the message of what they share.
    kind, node, columns = "", statement, ()
    while inner := node.WhichOneof("node") if "node" in node.DESCRIPTOR.oneofs_by_name else None:
        kind, node = inner, getattr(node, inner)
    last = node
    while node is not None and not columns:
        fields = node.DESCRIPTOR.fields_by_name
        if "output_column_list" in fields:
            columns = tuple(Column(each.name, format_type(each.column.type)) for each in node.output_column_list)
        node = node.parent if "parent" in fields else None
    name = kind.removeprefix("resolved_").removesuffix("_node").removesuffix("_stmt")
    return Analysis(name, columns, _function_of(last) if name == "create_function" else None)


def _function_of(statement: Any) -> Function | None:
    arguments = statement.signature.argument
    if any(argument.kind != public_function_pb2.ARG_TYPE_FIXED for argument in arguments):
        return None
    return Function(
        tuple(statement.parent.name_path),
        tuple(Column(each.options.argument_name, format_type(each.type)) for each in arguments),
        format_type(statement.return_type),
    )
