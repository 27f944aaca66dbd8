"""The dbt project as assets: one invocation of dbt a run, tests as asset checks, and an exact account of what failed."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, cast, override

import dagster as dg
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
)
from dagster_dbt import DagsterDbtTranslator, DbtCliResource, DbtProject, DbtProjectComponent
from dagster_dbt.components.dbt_component_utils import DagsterDbtComponentTranslatorSettings
from dagster_dbt.components.dbt_project.component import DbtProjectComponentTranslator
from dagster_dbt.dbt_project_manager import DbtProjectManager

from orchestration.components import steps
from orchestration.components.dbt_events import LOG_ARGUMENTS, Streamed, skipped, with_columns
from orchestration.components.dbt_failures import failed_units, permanent
from orchestration.components.dbt_files import (
    FOLDER,
    MANIFEST,
    PARTIAL_PARSE,
    ManifestError,
    changed_since,
    find_fault,
    normalize,
    read_manifest,
)
from orchestration.components.saved_state import Candidate, Lineage, Refreshed, SavedState, StateRefused
from orchestration.components.state_files import finish_publication
from orchestration.lineage import keys
from orchestration.lineage.failures import FailedUnit
from orchestration.settings import DBT_PROJECT, REPOSITORY, settings
from orchestration.vendors.bigquery_project import BigQueryProject

LANDED_TABLE = "landed_table"
"""The dbt project's macro for a source table that may not exist yet (dbt_project/macros/sources.sql)."""
ALLOW_EMPTY_DAYS_TAG = "dataplatform/allow_empty_days"
"""The tag, with the value `true`, of a run that may leave days without rows (dbt_project/macros/overwrite.sql)."""
DBT = Path(sys.executable).with_name("dbt")
KEEP_RUNS_SECONDS = 7 * 86400
"""How long the artifacts of a failed invocation stay for people to look at."""

WITHOUT_UNIT_TESTS = ("--exclude-resource-type", "unit_test")
"""Their rows are made up: what they show, they have shown before a model was deployed."""


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
    def get_partitions_def(self, dbt_resource_props: Mapping[str, Any]) -> dg.PartitionsDefinition[str] | None:
        wanted = _meta(dbt_resource_props).get("partitions")
        if wanted is None:
            return None
        if wanted != "daily":
            raise dg.DagsterInvalidDefinitionError(
                f"{dbt_resource_props['original_file_path']}: config.meta.partitions is {wanted!r}; only `daily` is known."
            )
        component = cast(DbtModels, self.component)
        # Until the end of today: events of this hour are part of what people look at.
        return dg.DailyPartitionsDefinition(start_date=component.events_since, end_offset=1)

    @override
    def get_automation_condition(self, dbt_resource_props: Mapping[str, Any]) -> dg.AutomationCondition[Any] | None:
        if dbt_resource_props["resource_type"] == "source":
            return None
        eager = dg.AutomationCondition.eager()
        if any(
            name.endswith(f".{LANDED_TABLE}") for name in dbt_resource_props.get("depends_on", {}).get("macros", [])
        ):
            # Such a model is built empty while its source table does not exist, and what reads it must not wait for that table.
            # Any: the library's `without` leaves the type of the keys open.
            eager = cast(Any, eager).without(~dg.AutomationCondition.any_deps_missing())
        if self.get_partitions_def(dbt_resource_props) is None:
            return eager
        # Events arrive late: the days that they may still change are built again with today's.
        late = timedelta(days=cast(DbtModels, self.component).late_days + 1)
        latest = dg.AutomationCondition.in_latest_time_window
        return eager.replace(latest(), latest(late))

    @override
    def get_asset_spec(self, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None) -> dg.AssetSpec:
        spec = super().get_asset_spec(manifest, unique_id, project)
        wanted = _meta(self.get_resource_props(manifest, unique_id)).get("freshness")
        if wanted is None or unique_id.startswith("source."):
            return spec
        policy = dg.FreshnessPolicy.time_window(
            fail_window=timedelta(hours=wanted["fail_hours"]), warn_window=timedelta(hours=wanted["warn_hours"])
        )
        return spec.replace_attributes(freshness_policy=policy)


def _meta(node: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**node.get("meta", {}), **node.get("config", {}).get("meta", {})}


@dataclass
class DbtModels(SavedState, DbtProjectComponent):
    """The models, seeds and snapshots of `dbt_project/`, from the manifest that `dataplatform refresh` parses."""

    # An object, not a path: for a path the library copies the project and runs dbt in the copy.
    project: Annotated[DbtProject | DbtProjectManager, dg.Resolver.default(model_field_type=str)] = field(
        default_factory=dbt_project
    )

    events_since: str = "2026-08-24"
    """The first day (ISO date, UTC) that models with `meta.partitions: daily` have a partition of."""
    late_days: int = 3
    """How long after its day an event may arrive; the same as the variable `late_days` of the dbt project."""

    state_name: ClassVar[str] = FOLDER

    @cached_property
    @override
    def translator(self) -> DagsterDbtTranslator:
        return Translator(self, DagsterDbtComponentTranslatorSettings(enable_code_references=True))

    @classmethod
    def manifest_path(cls) -> Path:
        """Return the manifest of the last refresh. Raises StateMissing where there is none, or none that can be read."""
        finish_publication(settings().dataplatform_state_dir)
        path = cls.state_path() / MANIFEST
        if fault := find_fault(path):
            raise cls.unreadable(fault)
        if not path.exists():
            raise cls.missing()
        return path

    @override
    def find_fault(self) -> str | None:
        return find_fault(self.state_path() / MANIFEST)

    @override
    def read_at(self) -> datetime | None:
        manifest = self.state_path() / MANIFEST
        if not manifest.exists() or self.find_fault():
            return None
        return datetime.fromtimestamp(manifest.stat().st_mtime, UTC)

    @override
    def stale(self) -> bool:
        read_at = self.read_at()
        return read_at is None or any(changed_since(read_at))

    @override
    def stage(self, folder: Path) -> Candidate:
        """Parse the project into `folder`. Raises ParseFailed where dbt refuses it, and StateRefused where it makes no assets."""
        from orchestration.components.dbt_exposures import read  # it imports this module

        last, new = self.state_path(), folder / self.state_name
        new.mkdir()
        began = datetime.now(UTC)
        before = lineage(last / MANIFEST)
        with tempfile.TemporaryDirectory(dir=folder, prefix="parse-") as target:
            if (last / PARTIAL_PARSE).is_file():
                shutil.copy(last / PARTIAL_PARSE, target)
            self.write_state_to_path(Path(target))
            for name in (PARTIAL_PARSE, MANIFEST):
                (Path(target) / name).replace(new / name)
        # The files of the project may be edited while dbt reads them.
        os.utime(new / MANIFEST, (began.timestamp(), began.timestamp()))
        try:
            read(new / MANIFEST)  # the error of an exposure that is no asset names the exposure and its file
            after = lineage_of(read_manifest(new / MANIFEST))
        except Exception as error:
            raise StateRefused(new, error) from error
        return Candidate(self, new, Refreshed.of(before, after), began)

    @override
    def differs(self, path: Path) -> bool:
        try:
            return normalize(read_manifest(self.state_path() / MANIFEST)) != normalize(read_manifest(path / MANIFEST))
        except (FileNotFoundError, ManifestError):
            return True

    @override
    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        if self.is_left_out():
            return dg.Definitions()
        self.manifest_path()
        return self.build_defs_from_state(context, self.state_path())

    @override
    def build_defs_from_state(self, context: dg.ComponentLoadContext, state_path: Path | None) -> dg.Definitions:
        # The library looks dbt up on the PATH when a run starts; this environment's own has to be found, and first.
        folder = str(DBT.parent)
        if os.environ.get("PATH", "").split(os.pathsep)[0] != folder:
            os.environ["PATH"] = os.pathsep.join([folder, os.environ.get("PATH", "")])
        defs = super().build_defs_from_state(context, state_path)
        code = settings().dataplatform_code_url
        return dg.Definitions(assets=linked(list(cast(Any, defs.assets)), code)) if code else defs

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
        target = runs / context.run.run_id
        target.mkdir(parents=True, exist_ok=True)
        if (self.state_path() / PARTIAL_PARSE).exists():
            shutil.copy(self.state_path() / PARTIAL_PARSE, target / PARTIAL_PARSE)
        arguments = [
            *self.get_cli_args(context),
            *WITHOUT_UNIT_TESTS,
            *LOG_ARGUMENTS,
            *partition_arguments(context.run.tags),
        ]
        invocation = dbt.cli(arguments, context=context, raise_on_error=False, target_path=target)
        streamed = Streamed(invocation, context, BigQueryProject.configured())
        yield from with_columns(streamed, invocation)
        if invocation.is_successful():
            shutil.rmtree(target, ignore_errors=True)
            return
        try:
            results = invocation.get_artifact("run_results.json")["results"]
        except FileNotFoundError:
            # dbt did not get as far as running a node: its own error is all that there is.
            error = invocation.get_error() or dg.Failure(f"dbt failed; see {target}")
            streamed.log.read_to_end()
            main = streamed.log.main_error
            cause = streamed.cause_of("", main) if main is not None else None
            if cause is not None:
                selected = tuple(sorted(key.to_user_string() for key in context.selected_asset_keys))
                unit = f"step/{context.get_step_execution_context().step.key}"
                raise steps.failed(context, [FailedUnit(unit, selected, str(main), cause=cause)]) from None
            steps.not_again(context, permanent=permanent({"status": "error", "message": str(error)}))
            raise error from None
        # Of this invocation, and not the saved one, which a refresh may have replaced meanwhile.
        streamed.log.read_to_end()
        manifest = invocation.get_artifact(MANIFEST)
        failed = failed_units(manifest, results, streamed.log.batch_errors, streamed.cause_of)
        if not failed:
            raise invocation.get_error() or dg.Failure(f"dbt failed; see {target}")
        for unit in failed:
            for key in unit.held_up:
                context.log_event(skipped(key, unit.unit.removeprefix("dbt/"), unit.error))
        raise steps.failed(context, failed)


def lineage(manifest: Path) -> Lineage:
    """Return the assets that a manifest makes; none where there is no manifest, or none that can be read."""
    try:
        return lineage_of(read_manifest(manifest))
    except (FileNotFoundError, ManifestError, LookupError, TypeError, AttributeError):
        return {}


def lineage_of(manifest: Mapping[str, Any]) -> Lineage:
    """Return the assets that a manifest makes. A seed depends on nothing, and has no key for what it depends on."""
    nodes = {**manifest["nodes"], **manifest["sources"]}
    return {
        keys.dbt_node(node).to_user_string(): frozenset(
            keys.dbt_node(nodes[id_]).to_user_string()
            for id_ in (node.get("depends_on") or {}).get("nodes", [])
            if id_ in nodes
        )
        for node in manifest["nodes"].values()
        if node["resource_type"] in {"model", "seed", "snapshot"}
    }


def linked(assets: list[dg.AssetsDefinition], code_url: str) -> Sequence[Any]:
    """The assets with their files linked to the repository's branch instead of to this machine. `code_url` as in the settings."""
    url, _, branch = code_url.rstrip("/").rpartition("/tree/")
    return dg.link_code_references_to_git(
        assets_defs=assets,
        git_url=url.removesuffix("/-"),  # GitLab's part between the repository and the branch
        git_branch=branch,
        file_path_mapping=dg.AnchorBasedFilePathMapping(REPOSITORY, file_anchor_path_in_repository=""),
    )


def partition_arguments(tags: Mapping[str, str]) -> list[str]:
    """Return the dbt vars that a run's tags ask for: the days of its partitions, and whether these may become empty.

    A range of days is one invocation. A run without partitions gives dbt no days.
    """
    given: dict[str, Any] = {}
    one = tags.get(PARTITION_NAME_TAG)
    start, end = tags.get(ASSET_PARTITION_RANGE_START_TAG, one), tags.get(ASSET_PARTITION_RANGE_END_TAG, one)
    if start is not None and end is not None:
        given |= {"partition_start": start, "partition_end": end}
    if tags.get(ALLOW_EMPTY_DAYS_TAG) == "true":
        given["allow_empty_days"] = True
    return ["--vars", json.dumps(given)] if given else []
