"""`dataplatform dbt check`: compile the project without a warehouse, and have Google's analyzer judge each statement."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from googlesql import Analyzer
from orchestration.dbt_loop.check_compile import ASKS, Dbt
from orchestration.dbt_loop.check_nodes import nodes, plain, sources
from orchestration.dbt_loop.check_report import Report, report
from orchestration.dbt_loop.check_sql import Consumer, Judge, Node, NotJudged, Rejection, Statement, Verdict, statement
from orchestration.dbt_loop.check_warehouses import Declarations, UnitTests

if TYPE_CHECKING:
    from collections.abc import Generator

    from dbt.contracts.graph.manifest import Manifest

DryRun = Callable[[Sequence[Statement]], Verdict]
EMULATOR = "BIGQUERY_EMULATOR_HOST"


def check(
    project_dir: Path,
    project: str,
    variables: Mapping[str, Any],
    consumers: Iterable[Consumer] = (),
    select: Sequence[str] = (),
    dry_run: DryRun | None = None,
) -> Report:
    """Check the dbt project in a folder, without a connection to anything but what `dry_run` asks.

    Args:
        project_dir: The folder of dbt_project.yml.
        project: The Google Cloud project that names without one are in.
        variables: Variables of the dbt project.
        consumers: Statements of consumers, checked where nothing is selected.
        select: dbt's selection of what is reported; all is analyzed nevertheless, for its columns.
        dry_run: Takes the statements, and judges them instead of the analyzer.

    Raises:
        Refused: dbt cannot parse or compile the project, or nothing is selected.
    """
    # With BIGQUERY_EMULATOR_HOST a macro leaves out what an emulator does not have, and an emulator is then asked.
    with nullcontext() if dry_run else _real_bigquery():
        dbt = Dbt(project_dir, variables)
        manifest = dbt.parse()
        selected = dbt.select(manifest, select) if select else None
        compiled = _compiled(dbt, manifest)
        judge = Judge(Analyzer(), project)
        unit_tests: list[Statement] = []
        judge.judge_nodes(compiled, selected)
        if selected is None or any(id_.startswith("unit_test.") for id_ in selected):
            unit_tests = _judge_unit_tests(dbt, manifest, judge, select)
    listed = list(consumers) if selected is None else []
    for consumer in listed:
        judge.judge_consumer(consumer)
    verdict = judge.verdict
    if dry_run is not None:
        verdict = dry_run([*_statements(compiled, selected), *unit_tests, *_of_consumers(listed)])
        verdict.not_judged += _without_sql(compiled, listed, selected)
    return report(project_dir, manifest, compiled, listed, verdict)


@contextmanager
def _real_bigquery() -> Generator[None]:
    """Compile what BigQuery gets: a macro may leave out what an emulator does not have."""
    host = os.environ.pop(EMULATOR, None)
    try:
        yield
    finally:
        if host is not None:
            os.environ[EMULATOR] = host


def _compiled(dbt: Dbt, manifest: Manifest) -> list[Node]:
    """The project's nodes with their compiled SQL; incremental models have that of a later run too."""
    parsed = [*sources(manifest), *nodes(manifest, {})]
    failed = dbt.compile(manifest, Declarations(parsed))
    first = [*sources(manifest), *nodes(manifest, failed)]
    incremental = [node for node in first if _config(manifest, node.id, "materialized") == "incremental"]
    if not incremental:
        return first
    again = dbt.compile(manifest, Declarations(parsed, incremental), ["config.materialized:incremental"])
    later = {node.id: node for node in nodes(manifest, again)}
    ids = {node.id for node in incremental}
    return [_with_later(node, later[node.id]) if node.id in ids else node for node in first]


def _with_later(node: Node, later: Node) -> Node:
    return replace(node, incremental_sql=later.sql, incremental_problem=later.fault or later.problem)


def _config(manifest: Manifest, id_: str, name: str) -> Any:
    node = manifest.nodes.get(id_)
    return getattr(node.config, name, None) if node else None


def _judge_unit_tests(dbt: Dbt, manifest: Manifest, judge: Judge, select: Sequence[str]) -> list[Statement]:
    """Judge the unit tests by what dbt sends when it runs them, and return that; those of a rejected model would repeat its fault."""
    verdict = judge.verdict
    unsound = {one.node for one in verdict.rejected if not one.contract} | {one.node for one in verdict.not_judged}
    models = {id_: manifest.nodes[test.depends_on.nodes[0]] for id_, test in manifest.unit_tests.items()}
    tested = {id_: f"{model.database}.{model.schema}.{model.alias}" for id_, model in models.items()}
    warehouse = UnitTests(judge, tested)
    messages = dbt.unit_tests(manifest, warehouse, select)
    for id_ in warehouse.statements.keys() | messages.keys():
        if id_ not in messages:
            verdict.analyzed += 1
        elif id_ in warehouse.not_judged:
            verdict.not_judged.append(NotJudged(id_, warehouse.not_judged[id_]))
        elif ASKS in messages[id_]:
            verdict.not_judged.append(NotJudged(id_, plain(messages[id_])))
        elif id_ in warehouse.rejected and models[id_].unique_id in unsound:
            verdict.not_judged.append(NotJudged(id_, f"its model `{models[id_].name}` was rejected or not judged"))
        else:
            verdict.analyzed += 1
            verdict.rejected.append(Rejection(id_, warehouse.rejected.get(id_) or plain(messages[id_])))
    return [Statement(id_, sql) for id_, sql in warehouse.statements.items() if id_ not in messages]


def _statements(compiled: Iterable[Node], selected: frozenset[str] | None) -> Iterator[Statement]:
    """The queries of the nodes, as they are: a dry run of `create table` would ask for the right to create it."""
    for node in compiled:
        if node.sql is not None and (selected is None or node.id in selected):
            wrapped = node.kind in ("test", "snapshot")
            yield Statement(node.id, statement(node, node.sql) if wrapped else node.sql, int(wrapped))


def _of_consumers(consumers: Iterable[Consumer]) -> Iterator[Statement]:
    for consumer in consumers:
        if not consumer.problem:
            yield Statement(consumer.id, consumer.sql, parameters=consumer.parameters)


def _without_sql(
    compiled: Iterable[Node], consumers: Iterable[Consumer], selected: frozenset[str] | None
) -> Iterator[NotJudged]:
    for node in compiled:
        why = node.fault or node.problem
        if why and (selected is None or node.id in selected):
            yield NotJudged(node.id, why)
    yield from (NotJudged(consumer.id, consumer.problem) for consumer in consumers if consumer.problem)
