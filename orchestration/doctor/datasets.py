"""Which datasets the graph is of: those where rows land, and those that dbt builds, from the saved states. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast


@dataclass(frozen=True)
class Datasets:
    """By the names that they have in the warehouse; of each that is read, one table of it. `built` are made by dbt itself.

    `projects` has the project of each, as far as a manifest says.
    """

    landed: Mapping[str, str | None]
    built: frozenset[str]
    projects: Mapping[str, str] = field(default_factory=dict[str, str])

    def path(self, name: str, raw_project: str) -> str:
        """`project.dataset`. What no manifest tells of has landed, without a model that reads it."""
        return f"{self.projects.get(name, raw_project)}.{name}"


def of_manifest(manifest: Mapping[str, Any]) -> Datasets:
    """The datasets of a manifest of dbt (https://schemas.getdbt.com/dbt/manifest/v12.json)."""
    landed: dict[str, str | None] = {}
    for node in manifest["sources"].values():
        landed.setdefault(node["schema"], node["identifier"])
    made = [node for node in manifest["nodes"].values() if _builds(node)]
    built = frozenset(node["schema"] for node in made)
    nodes = (*manifest["sources"].values(), *made)
    projects = {node["schema"]: node["database"] for node in nodes if node.get("database")}
    return Datasets({name: table for name, table in landed.items() if name not in built}, built, projects)


def projects(manifest: Mapping[str, Any]) -> tuple[set[str], set[str]]:
    """Those of a manifest's sources, and those that it builds in."""
    sources = {node["database"] for node in manifest["sources"].values()}
    return sources, {node["database"] for node in manifest["nodes"].values() if _builds(node)}


def _builds(node: Mapping[str, Any]) -> bool:
    kept = node["resource_type"] in {"model", "seed", "snapshot"}
    return kept and node["config"].get("materialized") != "ephemeral" and node["config"].get("enabled", True)


def of_landed(state: Any) -> Iterator[str]:
    """Those of `landed.json` which had tables."""
    # Beside the datasets there are parts that are none, each with a colon first.
    yield from (
        name for name, tables in cast("Mapping[str, Any]", state).items() if tables and not name.startswith(":")
    )


def of_fivetran(state: Any) -> Iterator[str]:
    """Those of `fivetran.json`: dagster_fivetran's own objects, as Dagster writes them down.

    Read as JSON, since reading them as objects takes two seconds of imports.
    """
    for schema in _objects(state, "FivetranSchema"):
        if schema["enabled"] and any(table["enabled"] for table in _objects(schema["tables"], "FivetranTable")):
            yield schema["name_in_destination"]


def landed_by_fivetran(state: Any) -> Iterator[tuple[str, str]]:
    """Yield dataset and name of each table of `fivetran.json` that a connection lands."""
    for schema in _objects(state, "FivetranSchema"):
        for table in _objects(schema["tables"], "FivetranTable") if schema["enabled"] else ():
            if table["enabled"]:
                yield schema["name_in_destination"], table["name_in_destination"]


def landed_by_others(state: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield dataset and name of each table of `landed.json`."""
    for dataset, tables in state.items():
        yield from ((dataset, table) for table in tables)


def _objects(value: Any, kind: str) -> Iterator[dict[str, Any]]:
    """The objects of a class, wherever they are."""
    if isinstance(value, list):
        for one in cast("list[Any]", value):
            yield from _objects(one, kind)
    elif isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        if fields.get("__class__") == kind:
            yield fields
        for one in fields.values():
            yield from _objects(one, kind)
