"""`dataplatform dbt check`: compile the project without a warehouse, and have Google's analyzer judge each statement."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from dbt_common.exceptions import DbtDatabaseError

from googlesql import Analyzer, Column, NotJudgedError, RejectedError
from orchestration.dbt_loop.check_compile import ASKS, Dbt, WarehouseAskedError
from orchestration.dbt_loop.check_positions import source_position, yaml_line
from orchestration.dbt_loop.check_sql import (
    Consumer,
    Declared,
    Judge,
    Kind,
    Node,
    NotJudged,
    Rejection,
    Verdict,
)

if TYPE_CHECKING:
    from collections.abc import Generator

    from dbt.contracts.graph.manifest import Manifest

EMULATOR = "BIGQUERY_EMULATOR_HOST"
KINDS: dict[str, Kind] = {"model": "model", "snapshot": "snapshot", "seed": "seed", "test": "test"}
VIEWS = {"view", "ephemeral", "materialized_view"}
CREATED = re.compile(r"create\s+(?:or\s+replace\s+)?(?:temp\s+)?table\s+([`\w.-]+)", re.IGNORECASE)
SNAPSHOT_COLUMNS = ("dbt_scd_id", "dbt_updated_at", "dbt_valid_from", "dbt_valid_to", "dbt_is_deleted")


@dataclass(frozen=True)
class Finding:
    """A fault in a file. `compiled` is the place in compiled SQL, where that is another."""

    file: str
    line: int | None
    column: int | None
    message: str
    node: str
    compiled: str | None = None

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)
        compiled = f" (compiled: {self.compiled})" if self.compiled else ""
        # Google lists every signature that a function has; the argument types before that say enough.
        message = " ".join(self.message.partition("\n  Signature")[0].split())
        return f"{place}: {message}\n  {self.node}{compiled}"


@dataclass(frozen=True)
class Report:
    """What a check has found. `not_judged` has names with reasons."""

    statements: int
    findings: tuple[Finding, ...]
    not_judged: tuple[tuple[str, str], ...]

    def as_json(self) -> dict[str, Any]:
        return {
            "statements": self.statements,
            "rejected": [asdict(finding) for finding in self.findings],
            "not_judged": [{"node": name, "reason": reason} for name, reason in self.not_judged],
        }


def check(
    project_dir: Path,
    project: str,
    variables: Mapping[str, Any],
    consumers: Iterable[Consumer] = (),
    select: Sequence[str] = (),
) -> Report:
    """Check the dbt project in a folder, without a connection to anything.

    Args:
        project_dir: The folder of dbt_project.yml.
        project: The Google Cloud project that names without one are in.
        variables: Variables of the dbt project.
        consumers: Statements of consumers, checked where nothing is selected.
        select: dbt's selection of what is reported; all is analyzed nevertheless, for its columns.

    Raises:
        Refused: dbt cannot parse or compile the project, or nothing is selected.
    """
    with _real_bigquery():
        dbt = Dbt(project_dir, variables)
        manifest = dbt.parse()
        selected = dbt.select(manifest, select) if select else None
        nodes = _compiled(dbt, manifest)
        judge = Judge(Analyzer(), project)
        judge.judge_nodes(nodes, selected)
        if selected is None or any(id_.startswith("unit_test.") for id_ in selected):
            _judge_unit_tests(dbt, manifest, judge, select)
    listed = list(consumers) if selected is None else []
    for consumer in listed:
        judge.judge_consumer(consumer)
    return _report(dbt, manifest, nodes, listed, judge.verdict)


@contextmanager
def _real_bigquery() -> Generator[None]:
    """Compile what BigQuery gets: a macro may leave out what an emulator does not have."""
    host = os.environ.pop(EMULATOR, None)
    try:
        yield
    finally:
        if host is not None:
            os.environ[EMULATOR] = host


class _Declarations:
    """The warehouse while models compile: it has the columns of the YAML, and no tables yet, or those of incremental models."""

    def __init__(self, nodes: Iterable[Node], existing: Iterable[Node] = ()) -> None:
        self._nodes = {node.table: node for node in nodes if node.table}
        self._existing = {tuple((node.table or "").rsplit(".", 2)[1:]) for node in existing}

    def columns(self, database: str, schema: str, name: str) -> Sequence[Column] | None:
        node = self._nodes.get(f"{database}.{schema}.{name}")
        if node is None or not node.columns or any(column.type is None for column in node.columns):
            return None
        return [Column(column.name, column.type or "") for column in node.columns]

    def exists(self, schema: str, name: str) -> bool:
        return (schema, name) in self._existing

    def execute(self, node: str, sql: str) -> Sequence[Column]:
        raise WarehouseAskedError(f"{ASKS} while it compiles: {' '.join(sql.split())[:100]}")


class _UnitTests:
    """The warehouse while unit tests run: each statement is analyzed, and returns no rows."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._made: dict[tuple[str, str], Sequence[Column]] = {}
        self.rejected: dict[str, str] = {}
        self.not_judged: dict[str, str] = {}
        self.judged: set[str] = set()

    def columns(self, database: str, schema: str, name: str) -> Sequence[Column] | None:
        if (schema, name) in self._made:
            return self._made[schema, name]
        relation = self._judge.catalog.find(schema, name)
        return relation.columns if relation else None

    def exists(self, schema: str, name: str) -> bool:
        return False

    def execute(self, node: str, sql: str) -> Sequence[Column]:
        try:
            columns = self._judge.analyze(sql).columns
        except RejectedError as error:
            self.rejected[node] = error.message
            raise DbtDatabaseError(str(error)) from None
        except NotJudgedError as error:
            self.not_judged[node] = str(error)
            raise DbtDatabaseError(str(error)) from None
        self.judged.add(node)
        if made := CREATED.search(sql):
            _, schema, name = made[1].replace("`", "").rsplit(".", 2)
            self._made[schema, name] = columns
            return []
        return columns


def _compiled(dbt: Dbt, manifest: Manifest) -> list[Node]:
    """The project's nodes with their compiled SQL; incremental models have that of a later run too."""
    nodes = [*_sources(manifest), *_nodes(manifest, {})]
    failed = dbt.compile(manifest, _Declarations(nodes))
    first = [*_sources(manifest), *_nodes(manifest, failed)]
    incremental = [node for node in first if _config(manifest, node.id, "materialized") == "incremental"]
    if not incremental:
        return first
    again = dbt.compile(manifest, _Declarations(nodes, incremental), ["config.materialized:incremental"])
    later = {node.id: node.sql for node in _nodes(manifest, again)}
    ids = {node.id for node in incremental}
    return [replace(node, incremental_sql=later[node.id]) if node.id in ids else node for node in first]


def _config(manifest: Manifest, id_: str, name: str) -> Any:
    node = manifest.nodes.get(id_)
    return getattr(node.config, name, None) if node else None


def _sources(manifest: Manifest) -> Iterator[Node]:
    for source in manifest.sources.values():
        yield Node(
            id=source.unique_id,
            kind="source",
            name=f"{source.source_name}.{source.name}",
            file=source.original_file_path,
            table=f"{source.database}.{source.schema}.{source.identifier}",
            columns=_columns(source),
        )


def _nodes(manifest: Manifest, failed: Mapping[str, str]) -> Iterator[Node]:
    for node in cast("Iterable[Any]", manifest.nodes.values()):
        kind = KINDS.get(str(node.resource_type))
        if kind is None:
            continue
        sql = getattr(node, "compiled_code", None)
        message = failed.get(node.unique_id)
        problem = _plain(message) if message and ASKS in message else None
        fault = f"dbt cannot compile it: {_plain(message)}" if message and not problem else None
        if getattr(node, "language", "sql") == "python":
            problem, sql = "it is a Python model", None
        elif kind != "seed" and sql is None and message is None:
            problem = "dbt did not compile it"
        yield Node(
            id=node.unique_id,
            kind=kind,
            name=node.name,
            file=node.original_file_path,
            sql=sql,
            table=None if kind == "test" else f"{node.database}.{node.schema}.{node.alias}",
            reads=tuple(node.depends_on_nodes),
            columns=_columns(node),
            contract=kind == "model" and node.config.contract.enforced,
            view=node.config.materialized in VIEWS,
            cluster_by=_texts(node.config.get("cluster_by")),
            fail_calc=getattr(node.config, "fail_calc", None) or "count(*)",
            added=tuple(_snapshot_columns(node.config)) if kind == "snapshot" else (),
            problem=problem,
            fault=fault,
        )


def _columns(node: Any) -> tuple[Declared, ...]:
    return tuple(Declared(column.name, column.data_type) for column in node.columns.values())


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    return tuple(str(each) for each in cast("Sequence[object]", value or ()))


def _snapshot_columns(config: Any) -> Iterator[tuple[str, str]]:
    """What dbt adds to a snapshot, with the types that it gives (dbt's macro `snapshot_staging_table`)."""
    named = config.snapshot_meta_column_names
    keys = ", ".join(f"cast({key} as string)" for key in _texts(config.unique_key))
    changed = config.get("updated_at") or "current_timestamp()"
    expressions = [f"to_hex(md5(concat({keys})))", changed, changed, changed, "'False'"]
    for name, expression in zip(SNAPSHOT_COLUMNS, expressions, strict=True):
        if name != "dbt_is_deleted" or config.get("hard_deletes") == "new_record":
            yield expression, getattr(named, name, None) or name


def _judge_unit_tests(dbt: Dbt, manifest: Manifest, judge: Judge, select: Sequence[str]) -> None:
    """Judge the unit tests by what dbt sends when it runs them; those of a rejected model would only repeat its fault."""
    verdict = judge.verdict
    unsound = {one.node for one in verdict.rejected if not one.contract} | {one.node for one in verdict.not_judged}
    warehouse = _UnitTests(judge)
    messages = dbt.unit_tests(manifest, warehouse, select)
    for id_ in warehouse.judged | messages.keys():
        model = manifest.unit_tests[id_].depends_on.nodes[0]
        if id_ not in messages:
            verdict.analyzed += 1
        elif model in unsound:
            verdict.not_judged.append(
                NotJudged(id_, f"its model `{manifest.nodes[model].name}` was rejected or not judged")
            )
        elif id_ in warehouse.not_judged:
            verdict.not_judged.append(NotJudged(id_, warehouse.not_judged[id_]))
        elif ASKS in messages[id_]:
            verdict.not_judged.append(NotJudged(id_, _plain(messages[id_])))
        else:
            verdict.analyzed += 1
            verdict.rejected.append(Rejection(id_, warehouse.rejected.get(id_) or _plain(messages[id_])))


def _plain(message: str) -> str:
    """dbt's message in one line, without its headings."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return " ".join(line for line in lines if not re.fullmatch(r"\w+ Error( in .*)?", line)) or " ".join(lines)


def _report(
    dbt: Dbt, manifest: Manifest, nodes: Iterable[Node], consumers: Iterable[Consumer], verdict: Verdict
) -> Report:
    files = _Files(dbt, manifest)
    known = {node.id: node for node in nodes}
    readers = {consumer.id: consumer for consumer in consumers}

    def name(id_: str) -> str:
        if id_ in readers:
            return readers[id_].name
        if id_ in known:
            return f"{known[id_].kind} {known[id_].name}"
        return f"unit test {id_.rsplit('.', 1)[-1]} of {manifest.unit_tests[id_].model}"

    def finding(one: Rejection) -> Finding:
        if one.node in readers:
            # The position is of the consumer's SQL: the saved state has all of it in one line.
            place = f" at [{one.line}:{one.column}]" if one.line is not None else ""
            return Finding(readers[one.node].file, None, None, f"{one.message}{place}", readers[one.node].name)
        if one.node in known:
            return files.locate(known[one.node], one, name(one.node))
        return files.locate_unit_test(one, name(one.node))

    findings = [finding(one) for one in verdict.rejected]
    findings.sort(key=lambda found: (found.file, found.line or 0, found.column or 0, found.message))
    return Report(verdict.analyzed, tuple(findings), tuple((name(one.node), one.reason) for one in verdict.not_judged))


class _Files:
    """The files of the project, in which findings are located."""

    def __init__(self, dbt: Dbt, manifest: Manifest) -> None:
        self._dbt, self._manifest = dbt, manifest

    def locate(self, node: Node, one: Rejection, name: str) -> Finding:
        """A finding about a source, model, snapshot or data test."""
        found = cast("Any", self._manifest.sources if node.kind == "source" else self._manifest.nodes)[node.id]
        if one.contract:
            patch = getattr(found, "patch_path", None)
            file = patch.split("://", 1)[-1] if patch else node.file
            names = [found.source_name, found.name] if node.kind == "source" else [found.name]
            line = yaml_line(self._read(file), *names, *([one.about] if one.about else []))
            return Finding(self._shown(file), line, None, one.message, name)
        sql = (node.incremental_sql if one.incremental else node.sql) or ""
        message = f"{one.message} (when its table exists)" if one.incremental else one.message
        compiled = self._shown(found.compiled_path, project=False) if getattr(found, "compiled_path", None) else None
        if compiled and one.line is not None:
            compiled = f"{compiled}:{one.line}:{one.column}"
        if not node.file.endswith(".sql"):
            return Finding(self._shown(node.file), self._yaml_line(found), None, message, name, compiled)
        if one.line is None:
            return Finding(self._shown(node.file), None, None, message, name)
        line, column = source_position(self._read(node.file), sql, one.line, one.column or 1)
        return Finding(
            self._shown(node.file),
            line,
            column,
            message,
            name,
            None if (line, column) == (one.line, one.column) else compiled,
        )

    def locate_unit_test(self, one: Rejection, name: str) -> Finding:
        """A finding about a unit test, which is where its YAML has it."""
        test = self._manifest.unit_tests[one.node]
        line = yaml_line(self._read(test.original_file_path), test.name)
        return Finding(self._shown(test.original_file_path), line, None, one.message, name)

    def _yaml_line(self, node: Any) -> int:
        """Where YAML has a test or a snapshot: at its column, or at its model or source."""
        attached = getattr(node, "attached_node", None)
        text = self._read(node.original_file_path)
        if not attached:
            return yaml_line(text, node.name)
        above = cast("Any", self._manifest.nodes.get(attached) or self._manifest.sources.get(attached))
        names = [above.source_name, above.name] if hasattr(above, "source_name") else [above.name]
        return yaml_line(text, *names, *([node.column_name] if node.column_name else []))

    def _read(self, file: str) -> str:
        return (self._dbt.project_dir / file).read_text("utf-8")

    def _shown(self, file: str, *, project: bool = True) -> str:
        """A path that a terminal opens: from the working directory."""
        return os.path.relpath(self._dbt.project_dir / file if project else file)
