"""dbt, run in this process: the branch is parsed once, looked at, and built from that."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, cast

from orchestration.dbt_loop import guards
from orchestration.dbt_loop.guards import Relation
from orchestration.dbt_loop.production import Fetched
from orchestration.dbt_loop.workspace import Refused, Workspace

if TYPE_CHECKING:
    from dbt.cli.main import dbtRunnerResult
    from dbt.contracts.graph.manifest import Manifest

ADAPTER = "bigquery"
MODIFIED = "state:modified+"
NAMES = "names.txt"
OURS = {
    "--target", "-t", "--state", "--defer-state", "--defer", "--no-defer", "--favor-state", "--no-favor-state", "--project-dir",
    "--profiles-dir", "--profile", "--target-path", "--select", "-s", "--models", "-m", "--model",
}  # fmt: skip
"""dbt's options that say where is read from and written to: given by the command, and by nobody else."""


def parse(workspace: Workspace, extra: Sequence[str] = ()) -> Manifest:
    """Parse the branch; leave the words that a shell completes. Raises Refused where dbt cannot: it has printed why."""
    result = _invoke(["--quiet", "parse", *workspace.arguments, *_variables(extra)])
    if not result.success:
        raise Refused(f"dbt cannot parse {workspace.project_dir}.") from result.exception
    manifest = cast("Manifest", result.result)
    (workspace.target_path / NAMES).write_text("".join(f"{word}\n" for word in sorted(set(_words(manifest)))))
    return manifest


def build(command: str, select: Sequence[str], workspace: Workspace, known: Fetched, extra: Sequence[str]) -> bool:
    """Run `dbt build` or `dbt run` of what is selected, with production in the place of the rest; return whether all went well.

    `extra` is given to dbt as it is. Raises Refused before anything is written.
    """
    if taken := sorted({option for argument in extra for option in _options(argument) if option in OURS}):
        raise Refused(
            f"{', '.join(taken)} cannot be given here: this command always reads from production, and writes to {workspace.prefix}."
        )
    guards.compatible(known.manifest, version("dbt-core"), ADAPTER)
    workspace.enter()
    manifest = parse(workspace, extra)
    guards.own_datasets(_relations(manifest), guards.relations(known.manifest), workspace)
    # A table that was built here some time ago must not stand for production's: only what is selected now is read from here.
    defer = ["--defer", "--favor-state", "--state", str(known.folder)]
    result = _invoke([command, *workspace.arguments, "--select", *select, *defer, *extra], manifest)
    if result.exception:
        raise Refused(f"dbt did not run: {result.exception}") from result.exception
    return result.success


def _options(argument: str) -> Iterator[str]:
    """What an argument may give: `--target=prod` is `--target`; `-xtprod` is `-x`, and `-t` with a value, by the letters alone."""
    if argument.startswith("--"):
        yield argument.split("=", 1)[0]
    elif argument.startswith("-"):
        yield from (f"-{letter}" for letter in argument[1:])


def told(workspace: Workspace, known: Fetched) -> str:
    """What a build is about to use, in lines."""
    return f"{known.text(datetime.now(UTC))}\nbuilding in {workspace.database}.{workspace.prefix}_…"


def _invoke(arguments: list[str], manifest: Manifest | None = None) -> dbtRunnerResult:
    # dbt takes seconds to import: what is refused before is refused at once.
    from dbt.cli.main import dbtRunner

    return dbtRunner(manifest=manifest).invoke(arguments)


def _relations(manifest: Manifest) -> Iterator[Relation]:
    for node in manifest.nodes.values():
        if node.resource_type in guards.BUILT:
            yield Relation(node.name, node.database, node.schema)


def _words(manifest: Manifest) -> Iterator[str]:
    """Names of models, seeds and snapshots, and tags."""
    for node in manifest.nodes.values():
        if node.resource_type in guards.BUILT:
            yield node.name
            yield from (f"tag:{tag}" for tag in node.tags)


def _variables(extra: Sequence[str]) -> list[str]:
    """The project's variables among dbt's options: they change what is parsed."""
    found = [*extra]
    for place, argument in enumerate(found):
        if argument == "--vars":
            return found[place : place + 2]
        if argument.startswith("--vars="):
            return [argument]
    return []
