"""What is refused before dbt builds anything: pure decisions over two manifests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from orchestration.dbt_loop.workspace import Refused, Workspace

BUILT = {"model", "seed", "snapshot"}
SAID = 5


@dataclass(frozen=True)
class Relation:
    """Where a node of dbt is built."""

    name: str
    database: str | None
    schema: str

    @property
    def dataset(self) -> tuple[str | None, str]:
        return (self.database, self.schema)


def compatible(manifest: Mapping[str, Any], installed: str, adapter: str) -> None:
    """Raises Refused for a manifest of production that another minor version of dbt-core, or another adapter, has made.

    Across minors dbt may read an older manifest, and then takes models for changed that nobody has changed
    (https://docs.getdbt.com/reference/node-selection/state-comparison-caveats).
    """
    metadata = manifest["metadata"]
    made_by, made_for = str(metadata["dbt_version"]), str(metadata["adapter_type"])
    if _minor(made_by) != _minor(installed):
        raise Refused(
            f"Production's manifest was made by dbt {made_by}, and this is dbt {installed}: they would not agree on what has changed. "
            "Install what production runs: bring this branch up to date with main and run `make install`; "
            "or, where this branch is what changes dbt's version, build by name (`dbs`) after it was deployed."
        )
    if made_for != adapter:
        raise Refused(f"Production's manifest was made for {made_for}, and dbt_project/profiles.yml is for {adapter}.")


def own_datasets(branch: Iterable[Relation], production: Iterable[Relation], workspace: Workspace) -> None:
    """Raises Refused where a node of the branch would be built anywhere but in the workspace's datasets, or in one of production's."""
    taken = {relation.dataset for relation in production}
    foreign = [one for one in branch if one.dataset in taken or not workspace.owns(*one.dataset)]
    if foreign:
        shown = ", ".join(f"{one.name} in {one.database}.{one.schema}" for one in foreign[:SAID])
        more = f" and {len(foreign) - SAID} more" if len(foreign) > SAID else ""
        raise Refused(
            f"Only {workspace.database}.{workspace.prefix} and {workspace.prefix}_… are written to by this command; it would build {shown}{more}. "
            "Leave database and schema to dbt_project.yml and macros/generate_schema_name.sql, and choose another DBT_SCHEMA_PREFIX "
            "where production has datasets of that name."
        )


def relations(manifest: Mapping[str, Any]) -> list[Relation]:
    """All that a manifest, as JSON, says is built or landed: nothing of it is a developer's to write."""
    built = [node for node in manifest["nodes"].values() if node["resource_type"] in BUILT]
    return [
        Relation(node["name"], node["database"], node["schema"]) for node in [*built, *manifest["sources"].values()]
    ]


def _minor(version: str) -> tuple[str, ...]:
    return tuple(version.split(".")[:2])
