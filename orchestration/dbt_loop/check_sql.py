"""Judge compiled statements of a dbt project with Google's analyzer, each against the columns of what it reads. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from googlesql.sql_types import UnknownTypeError, format_type, parse_type

from googlesql import Analysis, Analyzer, Column, NotJudgedError, Parameter, Registered, RejectedError, Table

Kind = Literal["source", "seed", "model", "snapshot", "test", "unit_test", "consumer"]
SQL_START = "(\n"
OF_TYPES = ("No matching signature", "LIMIT expects", "OFFSET expects")
"""What Google's messages on wrong types begin with."""


@dataclass(frozen=True)
class Declared:
    """A column as YAML declares it. `type` is None where it has no `data_type`."""

    name: str
    type: str | None


@dataclass(frozen=True)
class Node:
    """A source, model, snapshot, seed or data test of the project. `sql` is compiled; None for what has none.

    `reads` are the ids of nodes upstream. `incremental_sql` is the SQL of an incremental model whose table exists.
    """

    id: str
    kind: Kind
    name: str
    file: str
    sql: str | None = None
    table: str | None = None
    """`project.dataset.name` of what the node builds or is."""
    reads: tuple[str, ...] = ()
    columns: tuple[Declared, ...] = ()
    contract: bool = False
    view: bool = False
    cluster_by: tuple[str, ...] = ()
    fail_calc: str = "count(*)"
    incremental_sql: str | None = None
    incremental_problem: str | None = None
    """Why dbt cannot compile that."""
    added: tuple[tuple[str, str], ...] = ()
    """What dbt adds to a snapshot's columns: expressions with their names."""
    problem: str | None = None
    """Why there is no SQL to judge."""
    fault: str | None = None
    """Why dbt cannot compile it."""


@dataclass(frozen=True)
class Consumer:
    """A statement of a vendor's object. `problem` says why it cannot be judged.

    With `guessed_types`, the vendor does not say of which type a parameter is: what is wrong with types then is not sure.
    """

    id: str
    name: str
    file: str
    sql: str
    parameters: tuple[Parameter, ...] = ()
    problem: str | None = None
    guessed_types: bool = False


@dataclass(frozen=True)
class Statement:
    """A statement to be judged elsewhere. `lines_before` are those before the compiled SQL."""

    node: str
    sql: str
    lines_before: int = 0
    parameters: tuple[Parameter, ...] = ()


@dataclass(frozen=True)
class Rejection:
    """A fault of one node. `line` and `column` are of its compiled SQL, where Google's analyzer gives them; `about` is the YAML's column."""

    node: str
    message: str
    line: int | None = None
    column: int | None = None
    incremental: bool = False
    contract: bool = False
    about: str | None = None


@dataclass(frozen=True)
class NotJudged:
    """A node that could not be judged, and why."""

    node: str
    reason: str


@dataclass
class Verdict:
    """How many statements were analyzed, what was rejected, and what could not be judged."""

    analyzed: int = 0
    rejected: list[Rejection] = field(default_factory=list[Rejection])
    not_judged: list[NotJudged] = field(default_factory=list[NotJudged])


@dataclass(frozen=True)
class Relation:
    """A table that statements may read. `columns` is None where they are not known, for `reason`."""

    columns: tuple[Column, ...] | None
    reason: str = ""
    partition_time: bool = False


class Catalog:
    """The tables of the project by dataset and name: the same in every Google Cloud project that the platform may be given."""

    def __init__(self) -> None:
        self._relations: dict[tuple[str, str], tuple[str, Relation]] = {}
        self._built: set[str] = set()

    def put(self, table: str, relation: Relation, *, built: bool) -> None:
        """Register `project.dataset.name`; `built` says that dbt makes it."""
        project, dataset, name = table.rsplit(".", 2)
        self._relations[dataset, name] = (project, relation)
        if built:
            self._built.add(dataset)

    def tables(self, project: str) -> Iterator[Table]:
        """Each table whose columns are known, in a project of that name and in its own."""
        for (dataset, name), (own, relation) in self._relations.items():
            if relation.columns is not None:
                for each in {project, own}:
                    yield Table(f"{each}.{dataset}.{name}", relation.columns, relation.partition_time)

    def find(self, dataset: str, name: str) -> Relation | None:
        found = self._relations.get((dataset, name))
        return found[1] if found else None

    def is_built(self, dataset: str) -> bool:
        """Whether dbt builds tables in a dataset."""
        return dataset in self._built


class Judge:
    """Judges statements one by one; what a node returns is known to those downstream of it."""

    def __init__(self, analyzer: Analyzer, project: str) -> None:
        self.catalog = Catalog()
        self.verdict = Verdict()
        self._analyzer, self._project = analyzer, project
        self._registered: Registered | None = None
        self._unregistered: set[str] = set()

    def judge_nodes(self, nodes: Iterable[Node], selected: frozenset[str] | None = None) -> None:
        """Judge nodes, those upstream first. Only what is `selected` is reported; None is everything."""
        ordered = in_order(nodes)
        for node in ordered:
            if node.kind != "test":
                self._judge_node(node, report=selected is None or node.id in selected)
        # Last, since nothing reads them, and they read what is upstream of nothing: they are analyzed with the same tables.
        self._renew()
        for node in ordered:
            if selected is None or node.id in selected:
                if node.kind == "test":
                    self._judge_node(node, report=True)
                self._judge_later_run(node)

    def judge_consumer(self, consumer: Consumer) -> None:
        """Judge a consumer's statement. One that reads a table that dbt no longer builds is rejected."""
        if consumer.problem:
            self.verdict.not_judged.append(NotJudged(consumer.id, consumer.problem))
            return
        self._try(consumer.id, consumer.sql, consumer.parameters, report=True, lines_before=0)
        last = self.verdict.rejected[-1] if self.verdict.rejected else None
        if consumer.guessed_types and last and last.node == consumer.id and last.message.startswith(OF_TYPES):
            self.verdict.rejected.pop()
            self.verdict.not_judged.append(
                NotJudged(consumer.id, f"the type of a variable is not known: {last.message}")
            )

    def analyze(self, sql: str, parameters: Sequence[Parameter] = ()) -> Analysis:
        """Analyze one statement against the tables of the catalog.

        Raises RejectedError and NotJudgedError.
        """
        if self._registered is None:
            self._registered = self._analyzer.register(
                self.catalog.tables(self._project), default_project=self._project
            )
        try:
            return self._analyzer.analyze_registered(sql, self._registered, parameters)
        except RejectedError:
            # A table that is not known is a reason of its own; then the statement is analyzed with what it names alone.
            tables = [self._table(path) for path in self._analyzer.referenced_tables(sql)]
            return self._analyzer.analyze(sql, tables, default_project=self._project, parameters=parameters)

    def _judge_node(self, node: Node, *, report: bool) -> None:
        declared = self._declared(node, report=report)
        if why := node.fault or node.problem:
            self._put(node, declared or Relation(None, f"the columns of `{node.name}` are not known: {why}"))
            if report and node.fault:
                self.verdict.rejected.append(Rejection(node.id, node.fault))
            elif report:
                self.verdict.not_judged.append(NotJudged(node.id, why))
            return
        if node.sql is None:
            unknown = f"the {node.kind} `{node.name}` declares no `data_type` for its columns"
            self._put(node, declared or Relation(None, unknown))
            return
        if not self._unregistered.isdisjoint(node.reads):
            self._renew()
        analysis = self._try(node.id, statement(node, node.sql), report=report)
        if analysis is None:
            self._put(
                node,
                declared
                if node.contract and declared
                else Relation(None, f"`{node.name}` upstream was rejected or not judged"),
            )
            return
        if report:
            self.verdict.rejected += compare_contract(node, analysis.columns)
        self._put(node, declared if node.contract and declared else Relation(analysis.columns))

    def _judge_later_run(self, node: Node) -> None:
        """Judge an incremental model as it is built into its own table; a fault of the first run would only come again."""
        if any(one.node == node.id and not one.contract for one in self.verdict.rejected):
            return
        if node.incremental_problem:
            self.verdict.not_judged.append(NotJudged(node.id, f"of a run after the first, {node.incremental_problem}"))
        elif node.incremental_sql is not None and node.incremental_sql != node.sql:
            self._try(node.id, statement(node, node.incremental_sql), report=True, incremental=True)

    def _put(self, node: Node, relation: Relation) -> None:
        if node.table:
            self.catalog.put(node.table, relation, built=node.kind != "source")
            self._unregistered.add(node.id)

    def _renew(self) -> None:
        """Have what was put since be registered with the rest before the next statement."""
        if self._registered is not None:
            self._analyzer.unregister(self._registered)
        self._registered = None
        self._unregistered.clear()

    def _declared(self, node: Node, *, report: bool) -> Relation | None:
        """Return the columns that YAML declares with their types; None unless there is one, and each has a type.

        A type that BigQuery does not have is reported.
        """
        wrong = False
        for column in node.columns:
            try:
                parse_type(column.type or "STRING")
            except UnknownTypeError as error:
                wrong = True
                if report:
                    message = f"column `{column.name}`: {error}"
                    self.verdict.rejected.append(Rejection(node.id, message, contract=True, about=column.name))
        if wrong:
            return Relation(None, f"`{node.name}` declares a type that BigQuery does not have")
        typed = tuple(Column(column.name, column.type) for column in node.columns if column.type)
        if not typed or len(typed) < len(node.columns):
            return None
        # Which sources are partitioned by when they were loaded is not declared: the pseudo-columns are in no `select *`.
        return Relation(typed, partition_time=node.kind == "source")

    def _try(
        self,
        node: str,
        sql: str,
        parameters: Sequence[Parameter] = (),
        *,
        report: bool,
        incremental: bool = False,
        lines_before: int = 1,
    ) -> Analysis | None:
        try:
            analysis = self.analyze(sql, parameters)
        except RejectedError as error:
            if report:
                self.verdict.analyzed += 1
                line = None if error.line is None else max(1, error.line - lines_before)
                self.verdict.rejected.append(Rejection(node, error.message, line, error.column, incremental))
            return None
        except NotJudgedError as error:
            if report:
                self.verdict.not_judged.append(NotJudged(node, str(error)))
            return None
        if report:
            self.verdict.analyzed += 1
        return analysis

    def _table(self, path: Sequence[str]) -> Table:
        """The table of a path in a statement. Raises NotJudgedError where its columns are not known, and RejectedError where dbt would have to build it."""
        parts = [part for segment in path for part in segment.split(".")] if len(path) == 1 else list(path)
        shown = ".".join(parts)
        if len(parts) < 2:
            raise NotJudgedError(f"it reads `{shown}`, which has no dataset")
        if any(part.upper() == "INFORMATION_SCHEMA" for part in parts):
            raise NotJudgedError("it reads INFORMATION_SCHEMA")
        if parts[-1].endswith("*"):
            raise NotJudgedError(f"it reads the wildcard table `{shown}`")
        relation = self.catalog.find(parts[-2], parts[-1])
        if relation is None and self.catalog.is_built(parts[-2]):
            raise RejectedError(
                f"Table not found: {shown}. The dbt project builds the dataset `{parts[-2]}`, but no such table"
            )
        if relation is None:
            raise NotJudgedError(f"it reads `{shown}`, which no model or source of the dbt project is")
        if relation.columns is None:
            raise NotJudgedError(relation.reason)
        name = shown if len(parts) > 2 else f"{self._project}.{shown}"
        return Table(name, relation.columns, relation.partition_time)


def statement(node: Node, sql: str) -> str:
    """The statement that dbt sends for a node, as far as it matters to its validity. One line is before the compiled SQL."""
    if node.kind == "test":
        return f"select {node.fail_calc} as failures from {SQL_START}{sql}\n) dbt_internal_test"
    if node.kind == "snapshot":
        added = "".join(f", {expression} as {name}" for expression, name in node.added)
        return f"select *{added} from {SQL_START}{sql}\n)"
    what = "view" if node.view else "table"
    cluster = f" cluster by {', '.join(node.cluster_by)}" if node.cluster_by and not node.view else ""
    return f"create or replace {what} `{'`.`'.join((node.table or '').rsplit('.', 2))}`{cluster} as {SQL_START}{sql}\n)"


def in_order(nodes: Iterable[Node]) -> list[Node]:
    """The nodes by how many are upstream of them in a row, so that each is after those that it reads."""
    known = {node.id: node for node in nodes}
    depths: dict[str, int] = {}

    def depth(id_: str) -> int:
        if id_ not in depths:
            depths[id_] = 1 + max((depth(upstream) for upstream in known[id_].reads if upstream in known), default=0)
        return depths[id_]

    return sorted(known.values(), key=lambda node: depth(node.id))


def compare_contract(node: Node, columns: Sequence[Column]) -> Iterator[Rejection]:
    """Compare the columns that a model returns with the types that its YAML declares, and with all names where a contract is enforced."""
    returned = {column.name.lower(): column for column in columns}
    declared = {column.name.lower(): column for column in node.columns}
    for name, column in declared.items():
        if name not in returned:
            if node.contract or column.type:
                message = f"column `{column.name}` is declared here, and the model's SQL does not return it"
                yield Rejection(node.id, message, contract=True, about=column.name)
        elif column.type and canonical(column.type) != canonical(returned[name].type):
            message = f"column `{column.name}` is declared as {canonical(column.type)}, and the model's SQL returns {returned[name].type}"
            yield Rejection(node.id, message, contract=True, about=column.name)
    if node.contract:
        for name, column in returned.items():
            if name not in declared:
                message = f"column `{column.name}` ({column.type}) is returned by the model's SQL, and the contract does not declare it"
                yield Rejection(node.id, message, contract=True)


def canonical(type_text: str) -> str:
    """One spelling for each type: `integer` is INT64. Raises UnknownTypeError."""
    return format_type(parse_type(type_text))


def tally(reasons: Iterable[str]) -> Mapping[str, int]:
    """Count each reason, the most frequent first."""
    counts: dict[str, int] = {}
    for reason in reasons:
        counts[reason] = counts.get(reason, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
