"""The dbt project as assets: one invocation of dbt a run, tests as asset checks, and an exact account of what failed."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, override

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DbtCliResource, DbtProject, DbtProjectComponent
from dagster_dbt.components.dbt_project.component import DbtProjectComponentTranslator
from dagster_dbt.dbt_project_manager import DbtProjectManager

from orchestration.components.saved_state import SavedState
from orchestration.lineage import failures, keys
from orchestration.lineage.failures import FailedUnit
from orchestration.settings import DBT_PROJECT, settings

DBT = Path(sys.executable).with_name("dbt")
MANIFEST, PARTIAL_PARSE = "manifest.json", "partial_parse.msgpack"
SOURCES_OF_MANIFEST = ("models", "macros", "tests", "seeds", "snapshots", "dbt_project.yml", "profiles.yml")
KEEP_RUNS_SECONDS = 7 * 86400
"""How long the artifacts of a failed invocation stay for people to look at."""
BAD = {"error", "fail", "runtime error", "partial success"}


class ParseFailed(RuntimeError):
    """`dbt parse` did not make a manifest; the message is what dbt printed."""


@cache
def dbt_project() -> DbtProject:
    """The project, with the manifest that the last refresh has saved."""
    values = settings()
    target = values.dataplatform_state_dir / DbtModels.state_name
    return DbtProject(DBT_PROJECT, target_path=target, profiles_dir=DBT_PROJECT, target=values.dbt_target)


class Translator(DbtProjectComponentTranslator):
    """Keys by the project's one rule; everything runs when what it reads has landed."""

    @override
    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        return keys.dbt_node(dbt_resource_props)

    @override
    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        if dbt_resource_props["resource_type"] == "source":
            return None
        return keys.dbt_node(dbt_resource_props).path[0]

    @override
    def get_automation_condition(self, dbt_resource_props: Mapping[str, Any]) -> dg.AutomationCondition[Any] | None:
        return None if dbt_resource_props["resource_type"] == "source" else dg.AutomationCondition.eager()


@dataclass
class DbtModels(SavedState, DbtProjectComponent):
    """The models, seeds and snapshots of `dbt_project/`, from the manifest that `dataplatform refresh` parses."""

    # An object, not a path: for a path the library copies the project and runs dbt in the copy.
    project: Annotated[DbtProject | DbtProjectManager, dg.Resolver.default(model_field_type=str)] = field(
        default_factory=dbt_project
    )

    state_name: ClassVar[str] = "dbt"

    @cached_property
    @override
    def translator(self) -> DagsterDbtTranslator:
        return Translator(self, self.translation_settings)

    @override
    def stale(self) -> bool:
        manifest = self.state_path() / MANIFEST
        if not manifest.exists():
            return True
        parsed = manifest.stat().st_mtime
        files = (
            file for name in SOURCES_OF_MANIFEST for file in [DBT_PROJECT / name, *(DBT_PROJECT / name).rglob("*")]
        )
        return any(file.exists() and file.stat().st_mtime > parsed for file in files)

    @override
    def refresh(self) -> None:
        """Parse the project beside the last manifest, and put the new one in its place when it is whole."""
        folder = self.state_path()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix="parse-") as new:
            if (folder / PARTIAL_PARSE).exists():
                shutil.copy(folder / PARTIAL_PARSE, new)
            self.write_state_to_path(Path(new))
            for name in (PARTIAL_PARSE, MANIFEST):
                (Path(new) / name).replace(folder / name)

    @override
    def build_defs_from_state(self, context: dg.ComponentLoadContext, state_path: Path | None) -> dg.Definitions:
        # The library looks dbt up on the PATH when a run starts; this environment's own has to be found, and first.
        folder = str(DBT.parent)
        if os.environ.get("PATH", "").split(os.pathsep)[0] != folder:
            os.environ["PATH"] = os.pathsep.join([folder, os.environ.get("PATH", "")])
        return super().build_defs_from_state(context, state_path)

    @override
    def write_state_to_path(self, state_path: Path) -> None:
        command = [
            str(DBT), "--quiet", "parse", "--project-dir", str(DBT_PROJECT),
            "--profiles-dir", str(DBT_PROJECT), "--target", settings().dbt_target, "--target-path", str(state_path),
            "--log-path", str(state_path),
        ]  # fmt: skip
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            raise ParseFailed(f"dbt cannot parse {DBT_PROJECT.name}:\n{result.stdout}{result.stderr}")

    @override
    def execute(self, context: dg.AssetExecutionContext, dbt: DbtCliResource) -> Iterator[Any]:
        """Build what is selected in one invocation.

        Raises dagster.Failure with a report of each model that failed, was failed by a test, or was held up by one of them.
        """
        runs = self.state_path() / "runs"
        for old in runs.glob("*"):
            if old.stat().st_mtime < time.time() - KEEP_RUNS_SECONDS:
                shutil.rmtree(old, ignore_errors=True)
        target = runs / context.run_id
        target.mkdir(parents=True, exist_ok=True)
        if (self.state_path() / PARTIAL_PARSE).exists():
            shutil.copy(self.state_path() / PARTIAL_PARSE, target / PARTIAL_PARSE)
        arguments = self.get_cli_args(context)
        invocation = dbt.cli(arguments, context=context, raise_on_error=False, target_path=target)
        yield from invocation.stream().fetch_row_counts()
        if invocation.is_successful():
            shutil.rmtree(target, ignore_errors=True)
            return
        try:
            results = invocation.get_artifact("run_results.json")["results"]
        except FileNotFoundError:
            # dbt did not get as far as running a node: its own error is all that there is.
            raise invocation.get_error() or dg.Failure(f"dbt failed; see {target}") from None
        # Of this invocation, and not the saved one, which a refresh may have replaced meanwhile.
        failed = failed_units(invocation.get_artifact(MANIFEST), results)
        if not failed:
            raise invocation.get_error() or dg.Failure(f"dbt failed; see {target}")
        raise dg.Failure(failures.summary(failed), failures.to_metadata(failed), allow_retries=False)


def failed_units(manifest: Mapping[str, Any], results: list[dict[str, Any]]) -> list[FailedUnit]:
    """What failed in an invocation, by model: its own error, or those of the tests on it.

    `results` are dbt's run results (https://docs.getdbt.com/reference/artifacts/run-results-json). A failed test that is
    attached to no model counts against the first that it reads; one on a source against the models that read the source,
    which dbt does not build while it fails; and what is neither, such as a hook, against all that was skipped.
    """
    kinds = ("nodes", "sources", "unit_tests", "exposures")
    nodes: dict[str, Any] = {id_: node for kind in kinds for id_, node in manifest.get(kind, {}).items()}
    errors: defaultdict[str, list[str]] = defaultdict(list)
    for result in results:
        if result["status"] in BAD:
            node = nodes.get(result["unique_id"])
            about = _about(node) if node else result["unique_id"]
            text = _message(result)
            errors[about].append(f"{_test(node)} {result['status']}: {text}" if node and not _is_asset(node) else text)
    skipped = {result["unique_id"] for result in results if result["status"] == "skipped"}

    def assets(ids: Iterable[str]) -> tuple[str, ...]:
        return tuple(sorted(_key(nodes[id_]) for id_ in ids if id_ in nodes and _is_asset(nodes[id_])))

    failed: list[FailedUnit] = []
    for about, messages in errors.items():
        node, error = nodes.get(about), " ".join(messages)
        if node and _is_asset(node):
            held_up = assets(_downstream(manifest, about) & skipped)
            failed.append(FailedUnit(f"dbt/{_key(node)}", (_key(node),), error, held_up=held_up))
        elif node and node["resource_type"] == "source":
            failed.append(FailedUnit(f"dbt/{_key(node)}", assets(manifest["child_map"].get(about, [])), error))
        else:
            failed.append(FailedUnit(f"dbt/{about}", assets(skipped), error))
    return failed


def _about(node: Mapping[str, Any]) -> str:
    if _is_asset(node):
        return node["unique_id"]
    attached = node.get("attached_node")
    return attached or next(iter(node.get("depends_on", {}).get("nodes", [])), node["unique_id"])


def _is_asset(node: Mapping[str, Any]) -> bool:
    return node["resource_type"] in {"model", "seed", "snapshot"}


def _test(node: Mapping[str, Any]) -> str:
    kind = "unit test" if node["resource_type"] == "unit_test" else "test"
    return f"{kind} {node['name']}"


def _message(result: Mapping[str, Any]) -> str:
    return " ".join(str(result.get("message") or "dbt gives no message").split())


def _key(node: Mapping[str, Any]) -> str:
    return keys.dbt_node(node).to_user_string()


def _downstream(manifest: Mapping[str, Any], unique_id: str) -> set[str]:
    seen: set[str] = set()
    waiting = [unique_id]
    while waiting:
        children = manifest["child_map"].get(waiting.pop(), [])
        waiting += [child for child in children if child not in seen]
        seen.update(children)
    return seen
