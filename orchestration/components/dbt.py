"""The dbt project as assets: one invocation of dbt a run, tests as asset checks, and an exact account of what failed."""

import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, NoReturn, cast, override

import dagster as dg
import yaml
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
)
from dagster_dbt import DagsterDbtTranslator, DbtCliInvocation, DbtCliResource, DbtProject, DbtProjectComponent
from dagster_dbt.asset_utils import build_dbt_specs, get_node, get_upstream_unique_ids
from dagster_dbt.components.dbt_component_utils import (
    DagsterDbtComponentTranslatorSettings,
    _set_resolution_context,  # pyright: ignore[reportPrivateUsage]
)
from dagster_dbt.components.dbt_project.component import DbtProjectComponentTranslator
from dagster_dbt.dbt_project_manager import DbtProjectManager

from orchestration.components import automation, dbt_nodes, steps
from orchestration.components import dagster_values as values
from orchestration.components.dbt_events import LOG_ARGUMENTS, Streamed, skipped, with_columns
from orchestration.components.dbt_failures import BAD, failed_units, permanent
from orchestration.components.dbt_files import (
    FOLDER,
    MANIFEST,
    PACKAGES,
    PARTIAL_PARSE,
    TARGET_VARIABLE,
    ManifestError,
    changed_since,
    find_fault,
    normalize,
    read_manifest,
    reads_missing_as_empty,
    target_of,
)
from orchestration.components.dbt_nodes import Nodes
from orchestration.components.saved_state import Candidate, Lineage, Refreshed, SavedState, StateRefused
from orchestration.components.state_files import finish_publication
from orchestration.core.causes import Cause
from orchestration.lineage import keys
from orchestration.lineage.dbt_keys import is_asset
from orchestration.lineage.failures import FailedUnit
from orchestration.settings import DBT_PROJECT, REPOSITORY, settings
from orchestration.vendors.bigquery_project import BigQueryProject

ALLOW_EMPTY_DAYS_TAG = "dataplatform/allow_empty_days"
"""The tag, with the value `true`, of a run that may leave days without rows (dbt_project/macros/overwrite.sql)."""
DBT = Path(sys.executable).with_name("dbt")
RUN_RESULTS = "run_results.json"
"""What dbt writes once it has run a node."""
KEEP_RUNS_SECONDS = 7 * 86400
"""How long the artifacts of a failed invocation stay for people to look at."""

WITHOUT_UNIT_TESTS = ("--exclude-resource-type", "unit_test")
"""Their rows are made up: what they show, they have shown before a model was deployed."""
UNIQUE_ID = "dagster_dbt/unique_id"
"""The metadata with a node's id (dagster_dbt/asset_utils.py)."""
log = logging.getLogger(__name__)


class ParseFailed(RuntimeError):
    """`dbt parse` or `dbt deps` failed, so that there is no manifest; the message is what dbt printed."""


def install_packages() -> None:
    """Install the packages that the dbt project declares, where that has not been done since they were declared. Raises ParseFailed."""
    declared = [path.stat().st_mtime for path in (DBT_PROJECT / name for name in PACKAGES) if path.exists()]
    project = yaml.safe_load((DBT_PROJECT / "dbt_project.yml").read_text("utf-8"))
    installed = DBT_PROJECT / project.get("packages-install-path", "dbt_packages")
    if not declared or (installed.is_dir() and installed.stat().st_mtime >= max(declared)):
        return
    command = [str(DBT), "--quiet", "deps", "--project-dir", str(DBT_PROJECT), "--profiles-dir", str(DBT_PROJECT)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise ParseFailed(f"dbt cannot install the packages of {DBT_PROJECT.name}:\n{result.stdout}{result.stderr}")
    installed.mkdir(exist_ok=True)  # a list of packages may be empty
    installed.touch()


@cache
def dbt_project() -> DbtProject:
    """The project, with the manifest that the last refresh has saved."""
    values = settings()
    target = values.dataplatform_state_dir / DbtModels.state_name
    return DbtProject(DBT_PROJECT, target_path=target, profiles_dir=DBT_PROJECT, target=values.dbt_target)


class Translator(DbtProjectComponentTranslator):
    """Keys by the project's one rule; everything runs when what it reads has landed; and every value is one that Dagster takes."""

    def __init__(self, component: DbtProjectComponent, settings: DagsterDbtComponentTranslatorSettings | None) -> None:
        super().__init__(component, settings)
        self._manifest: Mapping[str, Any] = {}
        self._specs: dict[tuple[int, str, int], dg.AssetSpec] = {}

    @override
    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        return keys.dbt_node(dbt_resource_props)

    @override
    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        if dbt_resource_props["resource_type"] == "source":
            return None
        return values.group_name(keys.dbt_schema(dbt_resource_props))[0]

    @override
    def get_owners(self, dbt_resource_props: Mapping[str, Any]) -> Sequence[str] | None:
        return None  # `get_asset_spec` has the groups, which these properties have not

    @override
    def get_tags(self, dbt_resource_props: Mapping[str, Any]) -> Mapping[str, str]:
        return values.tags(dbt_resource_props.get("tags", []))[0]

    @override
    def get_description(self, dbt_resource_props: Mapping[str, Any]) -> str:
        return values.description(super().get_description(dbt_resource_props))[0] or ""

    @override
    def get_partitions_def(self, dbt_resource_props: Mapping[str, Any]) -> dg.PartitionsDefinition[str] | None:
        if not dbt_nodes.partitions_of(dbt_resource_props)[0]:
            return None
        component = cast(DbtModels, self.component)
        # Until the end of today: events of this hour are part of what people look at.
        return dg.DailyPartitionsDefinition(start_date=component.events_since, end_offset=1)

    @override
    def get_automation_condition(self, dbt_resource_props: Mapping[str, Any]) -> dg.AutomationCondition[Any] | None:
        if dbt_resource_props["resource_type"] == "source":
            return None
        condition = self._condition(dbt_resource_props)
        if self.get_partitions_def(dbt_resource_props) is None:
            return condition
        # Events arrive late: the days that they may still change are built again with today's.
        late = timedelta(days=cast(DbtModels, self.component).late_days + 1)
        latest = dg.AutomationCondition.in_latest_time_window
        return condition.replace(latest(), latest(late))

    def _condition(self, node: Mapping[str, Any]) -> dg.AutomationCondition[Any]:
        # What reads such a model must not wait for the source table either.
        wait = not reads_missing_as_empty(node)
        parents = [get_node(self._manifest, id_) for id_ in get_upstream_unique_ids(self._manifest, node)]
        sources = [keys.dbt_node(parent) for parent in parents if parent["resource_type"] == "source"]
        if sources and len(sources) == len(parents):
            return automation.when_source_lands(sources, cast(DbtModels, self.component).unseen_cron, wait=wait)
        if not parents and self._is_read(node):
            return automation.when_changed()
        return automation.when_read_changes(sources, wait=wait)

    def _is_read(self, node: Mapping[str, Any]) -> bool:
        """Return whether something waits for a node that reads nothing. A seed is data, and somebody looks at it."""
        children = self._manifest.get("child_map", {}).get(node["unique_id"], [])
        return node["resource_type"] == "seed" or any(not id_.startswith(("test.", "unit_test.")) for id_ in children)

    @override
    def get_asset_spec(self, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None) -> dg.AssetSpec:
        self._manifest = manifest
        # The library asks for the same one with every child and test.
        known = (id(manifest), unique_id, id(project))
        if known not in self._specs:
            self._specs[known] = self._spec(manifest, unique_id, project)
        return self._specs[known]

    def _spec(self, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None) -> dg.AssetSpec:
        spec = super().get_asset_spec(manifest, unique_id, project)
        if unique_id.startswith("source."):
            return spec
        node = self.get_resource_props(manifest, unique_id)
        owners = dbt_nodes.owners_of(node, manifest)
        policy = values.freshness(dbt_nodes.meta_of(node).get("freshness"))[0]
        return spec.replace_attributes(
            owners=owners.names,
            metadata={**spec.metadata, **owners.metadata},
            freshness_policy=policy or spec.freshness_policy,
        )


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
    unseen_cron: str = "0 6 * * *"
    """When models are built that read nothing but what nothing in the platform lands, such as a Google Sheet: cron, in UTC."""

    state_name: ClassVar[str] = FOLDER

    @cached_property
    @override
    def translator(self) -> DagsterDbtTranslator:
        return Translator(
            self,
            # Several sources may name one table.
            DagsterDbtComponentTranslatorSettings(enable_code_references=True, enable_duplicate_source_asset_keys=True),
        )

    @cached_property
    def loaded(self) -> Nodes:
        """The nodes that the definitions were built from; a refresh may have replaced the saved ones since. Raises StateMissing."""
        return dbt_nodes.read_nodes(self.manifest_path())

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
        if read_at is None or any(changed_since(read_at)):
            return True
        return target_of(read_manifest(self.state_path() / MANIFEST)) != settings().dbt_target

    @override
    def stage(self, folder: Path) -> Candidate:
        """Parse the project into `folder`. Raises ParseFailed where dbt refuses it, and StateRefused where it makes no assets."""
        from orchestration.components.dbt_exposures import read  # it imports this module

        last, new = self.state_path(), folder / self.state_name
        new.mkdir()
        install_packages()
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
            after = read_lineage(new / MANIFEST)
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
        nodes = dbt_nodes.read_nodes(self.manifest_path())
        vars(self)["loaded"] = nodes
        for name, change in nodes.changes():
            log.warning("%s: %s", name, change)
        for collision in nodes.collisions:
            log.warning("%s: %s. %s", collision.key, "; ".join(collision.names), collision.outcome)
        defs = self._definitions(context, nodes.manifest)
        code = settings().dataplatform_code_url
        return dg.Definitions(assets=linked(list(cast(Any, defs.assets)), code)) if code else defs

    def _definitions(self, context: dg.ComponentLoadContext, manifest: Mapping[str, Any]) -> dg.Definitions:
        """Return the assets of a manifest in memory: the library's `build_defs_from_state` takes the file as dbt wrote it.

        Its body is that of dagster_dbt 0.29's (components/dbt_project/component.py).
        """
        project, resolution = self.dbt_project, context.resolution_context
        asset_specs, check_specs = build_dbt_specs(
            translator=self.translator,
            manifest=manifest,
            select=self.select,
            exclude=self.exclude,
            selector=self.selector,
            project=project,
            io_manager_key=None,
        )
        op = self._get_op_spec(project)

        @dg.multi_asset(
            specs=asset_specs,
            check_specs=check_specs,
            can_subset=True,
            name=op.name,
            op_tags=op.tags,
            backfill_policy=op.backfill_policy,
            pool=op.pool,
        )
        def dbt(context: dg.AssetExecutionContext) -> Iterator[Any]:
            with _set_resolution_context(resolution):
                yield from self.execute(context=context, dbt=DbtCliResource(project))

        return dg.Definitions(assets=[dbt])

    @override
    def write_state_to_path(self, state_path: Path) -> None:
        command = [
            str(DBT), "--quiet", "parse", "--project-dir", str(DBT_PROJECT),
            "--profiles-dir", str(DBT_PROJECT), "--target", settings().dbt_target, "--target-path", str(state_path),
            "--log-path", str(state_path),
        ]  # fmt: skip
        environment = os.environ | {TARGET_VARIABLE: settings().dbt_target}
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if result.returncode:
            raise ParseFailed(f"dbt cannot parse {DBT_PROJECT.name}:\n{result.stdout}{result.stderr}")

    @override
    def execute(self, context: dg.AssetExecutionContext, dbt: DbtCliResource) -> Iterator[Any]:
        """Build what is selected in one invocation.

        Where dbt builds the table of a source, dbt itself does not know that the source's readers come after: invocations of their own
        build such tables first, and what reads one that failed is left out of the last one.

        Raises dagster.Failure with a report of each model that failed, was failed by a test, or was blocked by one of them.
        """
        steps.find_output_keys_once(context)
        runs = self.state_path() / "runs"
        for old in runs.glob("*"):
            if old.stat().st_mtime < time.time() - KEEP_RUNS_SECONDS:
                shutil.rmtree(old, ignore_errors=True)
        target = runs / context.run.run_id
        self._make_target(target)
        arguments = [
            *self.get_cli_args(context),
            *WITHOUT_UNIT_TESTS,
            *LOG_ARGUMENTS,
            *partition_arguments(context.run.tags),
        ]
        nodes = self.loaded
        selected = self._selected(context) if nodes.keys.builder_of else set[str]()
        stages = stages_before(nodes, selected)
        ended: list[Streamed] = []
        blocked: set[str] = set()
        for number, stage in enumerate(stages):
            if wanted := [id_ for id_ in stage if id_ not in blocked]:
                folder = target / f"sources-{number}"
                self._make_target(folder)
                context.log.info(f"Building the tables of sources first: {', '.join(wanted)}")
                chosen = [*selection_of(nodes.manifest, wanted), "--exclude-resource-type", "test"]
                first = dbt.cli(
                    [*arguments, *chosen],
                    manifest=nodes.manifest,
                    dagster_dbt_translator=self.translator,
                    raise_on_error=False,
                    target_path=folder,
                )
                yield from self._stream(first, context, ended)
                if not (folder / RUN_RESULTS).exists():
                    self._raise_failure(context, ended, blocked)
                for id_ in _failed_in(first) & set(wanted):
                    blocked |= {id_, *(_below(nodes.manifest, id_) & selected)}
        if not stages:
            last = dbt.cli(arguments, context=context, raise_on_error=False, target_path=target)
            yield from self._stream(last, context, ended)
        elif rest := self._rest(context, nodes, selected, {id_ for stage in stages for id_ in stage}, blocked):
            last = dbt.cli(
                [*arguments, *rest],
                manifest=nodes.manifest,
                dagster_dbt_translator=self.translator,
                raise_on_error=False,
                target_path=target,
            )
            yield from self._stream(last, context, ended)
        if all(streamed.invocation.is_successful() for streamed in ended):
            shutil.rmtree(target, ignore_errors=True)
            return
        self._raise_failure(context, ended, blocked)

    def _stream(
        self, invocation: DbtCliInvocation, context: dg.AssetExecutionContext, ended: list[Streamed]
    ) -> Iterator[Any]:
        if invocation.project is None:
            # One that was given its selection, and not that of the context.
            invocation.project, invocation.context = self.dbt_project, context
        streamed = Streamed(invocation, context, BigQueryProject.configured())
        ended.append(streamed)
        yield from with_columns(streamed, invocation)

    def _raise_failure(
        self, context: dg.AssetExecutionContext, ended: Sequence[Streamed], blocked: Collection[str]
    ) -> NoReturn:
        """Raise the failure of a step by all of its invocations. `blocked` are the ids of nodes that were left out."""
        results: list[dict[str, Any]] = []
        batch_errors: dict[str, Sequence[str]] = {}
        for streamed in ended:
            invocation = streamed.invocation
            streamed.log.read_to_end()
            try:
                results += invocation.get_artifact(RUN_RESULTS)["results"]
            except FileNotFoundError:
                # dbt did not get as far as running a node: its own error is all that there is.
                error = invocation.get_error() or dg.Failure(f"dbt failed; see {invocation.target_path}")
                main = streamed.log.main_error
                cause = streamed.cause_of("", main) if main is not None else None
                if cause is not None:
                    selected = tuple(sorted(key.to_user_string() for key in context.selected_asset_keys))
                    unit = f"step/{context.get_step_execution_context().step.key}"
                    raise steps.failed(context, [FailedUnit(unit, selected, str(main), cause=cause)]) from None
                steps.not_again(context, permanent=permanent({"status": "error", "message": str(error)}))
                raise error from None
            batch_errors |= streamed.log.batch_errors

        def cause_of(unique_id: str, text: str) -> Cause | None:
            return next((cause for one in ended if (cause := one.cause_of(unique_id, text))), None)

        # Of this invocation, and not the saved one, which a refresh may have replaced in the meantime.
        last = ended[-1].invocation
        manifest = dbt_nodes.prepare_manifest(last.get_artifact(MANIFEST))
        known = {result["unique_id"] for result in results}
        results += [{"unique_id": id_, "status": "skipped", "message": None} for id_ in sorted({*blocked} - known)]
        failed = failed_units(manifest, results, batch_errors, cause_of)
        if not failed:
            error = next((one for streamed in ended if (one := streamed.invocation.get_error())), None)
            raise error or dg.Failure(f"dbt failed; see {last.target_path}")
        for unit in failed:
            for key in unit.held_up:
                context.log_event(skipped(key, unit.unit.removeprefix("dbt/"), unit.error))
        raise steps.failed(context, failed)

    def _selected(self, context: dg.AssetExecutionContext) -> set[str]:
        """Return the ids of the nodes that a step builds."""
        specs = context.assets_def.specs_by_key
        return {specs[key].metadata[UNIQUE_ID] for key in context.selected_asset_keys}

    def _rest(
        self,
        context: dg.AssetExecutionContext,
        nodes: Nodes,
        selected: Collection[str],
        built: Collection[str],
        blocked: Collection[str],
    ) -> list[str]:
        """Return the arguments that select what is left to build and to test; none where nothing is.

        Of each test it is said by name whether it runs: dbt would leave out the tests of what is built already.
        """
        tests = {id_: node for id_, node in nodes.manifest["nodes"].items() if node["resource_type"] == "test"}
        # What a test of a blocked model, or of its source, would say is of rows that are older than this run.
        old = {*blocked, *(source for source, builder in nodes.keys.builder_of.items() if builder in blocked)}
        stale = {id_ for id_, node in tests.items() if old.intersection(node["depends_on"]["nodes"])}
        by_name = ["--indirect-selection", "empty"]
        if not context.is_subset:
            left_out = selection_of(nodes.manifest, sorted({*built, *blocked, *stale}), "--exclude")
            return ["--select", self.select, *left_out, *by_name]
        check_ids = {spec.key: spec.metadata[UNIQUE_ID] for spec in context.assets_def.check_specs}
        wanted = {check_ids[key] for key in context.selected_asset_check_keys} - stale
        left = [*sorted({*selected} - {*built} - {*blocked}), *sorted(wanted)]
        return [*selection_of(nodes.manifest, left), *by_name] if left else []

    def _make_target(self, target: Path) -> None:
        target.mkdir(parents=True, exist_ok=True)
        if (self.state_path() / PARTIAL_PARSE).exists():
            shutil.copy(self.state_path() / PARTIAL_PARSE, target / PARTIAL_PARSE)


def stages_before(nodes: Nodes, selected: Collection[str]) -> list[list[str]]:
    """Return the ids of the selected nodes that are built before all others, in the order of the invocations that build them.

    They are the models, seeds and snapshots that build the table of a source which another selected node reads, and what these are
    made of. dbt has no edge from such a node to the readers of the source.
    """
    sources = [(source, builder) for source, builder in nodes.keys.builder_of.items() if builder in selected]
    read = {builder for source, builder in sources if _below(nodes.manifest, source) & set(selected) - {builder}}
    parents: dict[str, list[str]] = {}
    waiting = sorted(read)
    while waiting:
        if (id_ := waiting.pop()) not in parents:
            parents[id_] = [parent for parent in nodes.parents_of(id_) if parent in selected]
            waiting.extend(parents[id_])
    levels: dict[str, int] = {}

    def level(id_: str) -> int:
        if id_ not in levels:
            levels[id_] = max((level(parent) + (parent in read) for parent in parents[id_]), default=0)
        return levels[id_]

    highest = max((level(id_) for id_ in parents), default=-1)
    return [sorted(id_ for id_ in parents if level(id_) == number) for number in range(highest + 1)]


def selection_of(manifest: Mapping[str, Any], ids: Collection[str], option: str = "--select") -> list[str]:
    """Return the arguments of dbt that select nodes, or leave them out, by their full names."""
    return [part for id_ in ids for part in (option, f"fqn:{'.'.join(manifest['nodes'][id_]['fqn'])}")]


def _failed_in(invocation: DbtCliInvocation) -> set[str]:
    """Return the ids of the nodes that an invocation did not build; none where it ended before it ran any."""
    if invocation.is_successful():
        return set()
    try:
        results = invocation.get_artifact(RUN_RESULTS)["results"]
    except FileNotFoundError:
        return set()
    return {result["unique_id"] for result in results if result["status"] in BAD or result["status"] == "skipped"}


def _below(manifest: Mapping[str, Any], id_: str) -> set[str]:
    seen: set[str] = set()
    waiting = [id_]
    while waiting:
        for child in manifest["child_map"].get(waiting.pop(), []):
            if child not in seen:
                seen.add(child)
                waiting.append(child)
    return seen


def lineage(manifest: Path) -> Lineage:
    """Return the assets that a manifest makes; none where there is no manifest, or none that can be read."""
    try:
        return read_lineage(manifest)
    except (FileNotFoundError, ManifestError, LookupError, TypeError, AttributeError):
        return {}


def read_lineage(manifest: Path) -> Lineage:
    """Return the assets that a manifest makes. Raises FileNotFoundError, ManifestError, and what a node that is odd raises."""
    nodes = dbt_nodes.read_nodes(manifest)
    return {
        keys.dbt_node(node).to_user_string(): frozenset(
            keys.dbt_node(get_node(nodes.manifest, parent)).to_user_string() for parent in nodes.parents_of(id_)
        )
        for id_, node in nodes.manifest["nodes"].items()
        if is_asset(node)
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
