"""Hex projects as assets, joined to the tables that they query; those marked for it run when these have landed, in one step."""

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, override

import dagster as dg
from pydantic import BaseModel

from orchestration.components.consumers import ConsumerState
from orchestration.components.setting_names import find_unknown_names
from orchestration.components.steps import Failures, Sleep, side_by_side
from orchestration.lineage import keys
from orchestration.lineage.consumers import Consumer, Finding
from orchestration.settings import HexSettings, VendorSettings, hex_settings
from orchestration.vendors.hex import Hex, Project, Ran
from orchestration.vendors.http import VendorError
from orchestration.vendors.waiting import Wait

LATE = "If it is only slow, raise `run_timeout_minutes` in defs/analytics/defs.yaml."
READERS = 4
"""So many projects are asked for their tables at once."""
NOT_TOLD = (403, 404, 422)
"""How Hex answers where it does not say what one project reads, which is no reason to lose the others."""


class HexProject(BaseModel):
    """A project, with the tables that it queries as its SQL spells them."""

    project: Project
    slug: str
    tables: list[str]
    problem: str | None = None
    """Why Hex did not say what it queries."""

    @property
    def key(self) -> dg.AssetKey:
        return keys.consumer("hex", self.slug)


class HexState(BaseModel):
    projects: list[HexProject]


def hex_api() -> Hex:
    values = hex_settings()
    return Hex(str(values.hex_api_url), values.hex_api_token.get_secret_value())


@dataclass
class HexProjects(ConsumerState, dg.Resolvable):
    """Every project of a Hex workspace that is not archived. What there is, is read from Hex by `dataplatform refresh`."""

    run_category: str = "Run when its data lands"
    """The category in Hex of the projects that run here; the others are run by whoever does it now."""
    run_timeout_minutes: int = 60
    concurrent_runs: int = 4
    workspace: str | None = None
    """The part of Hex's addresses after the host, which its API does not give; without it projects have no link."""

    state_name: ClassVar[str] = "hex.json"
    vendor: ClassVar[str] = "hex"
    vendor_settings: ClassVar[tuple[type[VendorSettings], ...]] = (HexSettings,)

    @property
    @override
    def source(self) -> str:
        return str(hex_settings().hex_api_url)

    @override
    def read(self, last: str | None) -> str:
        api = hex_api()
        before = {known.project.id: known for known in _projects(last)} if last else {}
        projects = {project.id: project for project in api.projects()}
        slugs = keys.slugs(
            {id_: project.name for id_, project in projects.items()}, {id_: known.slug for id_, known in before.items()}
        )

        def read(project: Project) -> HexProject:
            return _read(api, project, slugs[project.id], before.get(project.id))

        with ThreadPoolExecutor(READERS) as pool:
            found = sorted(pool.map(read, projects.values()), key=lambda one: one.slug)
        return HexState(projects=found).model_dump_json()

    @override
    def findings(self, state: str) -> list[Finding]:
        """Return the settings that name a category of runs that no project has."""
        return [name.finding for name in find_unknown_names(self, json.loads(state))]

    @override
    def read_consumers(self, state: str) -> list[Consumer]:
        return [self._consumer(one) for one in _projects(state)]

    @override
    def definitions(self, state: str) -> dg.Definitions:
        marked = {one.key: one.project for one in _projects(state) if self._is_marked(one.project)}
        specs = [self.spec(consumer) for consumer in self.consumers(state)]
        external = [spec for spec in specs if spec.key not in marked]
        if not marked:
            return dg.Definitions(assets=external)
        eager = dg.AutomationCondition.eager()
        runs = [spec.replace_attributes(automation_condition=eager) for spec in specs if spec.key in marked]

        @dg.multi_asset(name="hex", specs=runs, can_subset=True, pool="hex")
        def run(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any]]:
            yield from self.execute(context, marked)

        return dg.Definitions(assets=[run, *external])

    def execute(
        self, context: dg.AssetExecutionContext, projects: Mapping[dg.AssetKey, Project]
    ) -> Iterator[dg.MaterializeResult[Any]]:
        """Run the selected projects side by side, and report each as soon as it has ended.

        Raises dagster.Failure at the end, with a report of every project whose run failed.
        """
        api, failed = hex_api(), Failures(context)

        def run(project: Project, sleep: Sleep) -> Ran:
            return api.run(project, Wait(self.run_timeout_minutes * 60, LATE, context.log.info, sleep))

        jobs = {key: partial(run, projects[key]) for key in context.selected_asset_keys}
        for key, future in side_by_side(jobs, self.concurrent_runs):
            if error := future.exception():
                failed.add(key.to_user_string(), [key], error, self._url(projects[key]) or self.source)
            else:
                yield dg.MaterializeResult(asset_key=key, metadata=_metadata(future.result()))
        failed.raise_any()

    def _is_marked(self, project: Project) -> bool:
        return any(category.name.strip() == self.run_category for category in project.categories)

    def _consumer(self, one: HexProject) -> Consumer:
        reads: dict[dg.AssetKey, None] = {}
        unknown = [one.problem] if one.problem else []
        for name in one.tables:
            try:
                reads[table_of(name)] = None
            except ValueError as why:
                unknown.append(str(why))
        email = (one.project.owner and one.project.owner.email) or ""
        return Consumer(
            one.key,
            one.project.name,
            tuple(sorted(reads, key=lambda key: key.to_user_string())),
            tuple(unknown),
            url=self._url(one.project),
            owner=email or None,
        )

    def _url(self, project: Project) -> str | None:
        if not self.workspace:
            return None
        return f"{self.source.rstrip('/').removesuffix('/api')}/{self.workspace}/hex/{project.id}"


def table_of(name: str) -> dg.AssetKey:
    """The key of a table as SQL spells it: `project.dataset.table` or `dataset.table`, quoted as a whole, by parts, or not at all.

    Raises ValueError, with the reason, for what is not one table of a known dataset.
    """
    parts = [part.strip() for part in name.translate(str.maketrans(":", ".", '`"[]')).split(".")]
    if not all(parts) or len(parts) < 2:
        raise ValueError(f"It queries `{name}`, whose dataset Hex does not say.")
    if parts[-1].endswith("*"):
        raise ValueError(f"It queries `{name}`, which is many tables.")
    if parts[-2].upper() == "INFORMATION_SCHEMA":
        raise ValueError(f"It queries `{name}`, which is BigQuery's own.")
    return keys.table(parts[-2], parts[-1])


def _projects(state: str) -> list[HexProject]:
    return HexState.model_validate_json(state).projects


def _read(api: Hex, project: Project, slug: str, before: HexProject | None) -> HexProject:
    """A project with its tables: those of the last state, where nobody has changed it since."""
    if before is not None and before.problem is None and _version(before.project) == _version(project) != (None, None):
        return HexProject(project=project, slug=slug, tables=before.tables)
    try:
        return HexProject(project=project, slug=slug, tables=api.queried_tables(project.id))
    except VendorError as error:
        if error.status not in NOT_TOLD:
            raise
        known = before.tables if before else []
        return HexProject(
            project=project, slug=slug, tables=known, problem=f"Hex does not say what it queries: {error}"
        )


def _version(project: Project) -> tuple[str | None, str | None]:
    return project.last_edited_at, project.last_published_at


def _metadata(ran: Ran) -> dict[str, Any]:
    return {"duration_seconds": round(ran.seconds, 1), "hex": dg.MetadataValue.url(ran.run.run_url)}
