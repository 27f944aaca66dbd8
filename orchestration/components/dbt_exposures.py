"""What dbt's exposures declare, read from the manifest of the last refresh."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

import dagster as dg

from orchestration.components import dagster_values as values
from orchestration.components import dbt_nodes
from orchestration.components.dbt import MANIFEST, DbtModels
from orchestration.components.dbt_files import find_fault
from orchestration.lineage import keys
from orchestration.lineage.consumers import Exposure, unite
from orchestration.lineage.dbt_keys import is_asset
from orchestration.lineage.graph import Audience

AUDIENCES = get_args(Audience)
log = logging.getLogger(__name__)


def declared() -> Mapping[dg.AssetKey, Exposure]:
    """Return the exposures by the key of their consumer; none where there is no manifest that can be read."""
    path = DbtModels.state_path() / MANIFEST
    return _declared(path, path.stat().st_mtime_ns) if _is_readable(path) else {}


def dbt_models() -> Mapping[str, dg.AssetKey]:
    """Return the assets of dbt's models, seeds and snapshots by their unique ids; none where there is no manifest that can be read."""
    path = DbtModels.state_path() / MANIFEST
    return _models(path, path.stat().st_mtime_ns) if _is_readable(path) else {}


def keys_of_relations() -> Mapping[dg.AssetKey, dg.AssetKey]:
    """Return the assets of dbt's tables by the key of their dataset and table in this target, where that is another key.

    It is, for example, where the project has dbt's own `generate_schema_name`: production's `prod_marts.orders` is `marts/orders`.
    """
    path = DbtModels.state_path() / MANIFEST
    return _keys_of_relations(path, path.stat().st_mtime_ns) if _is_readable(path) else {}


def _is_readable(path: Path) -> bool:
    # The part that a broken manifest belongs to names it (`DbtModels.manifest_path`); the vendors' states have nothing to do with it.
    return path.is_file() and find_fault(path) is None


@lru_cache(maxsize=4)
def _models(path: Path, _changed: int) -> Mapping[str, dg.AssetKey]:
    nodes = dbt_nodes.read_nodes(path).manifest["nodes"]
    return {id_: keys.dbt_node(node) for id_, node in nodes.items() if is_asset(node)}


@lru_cache(maxsize=4)
def _keys_of_relations(path: Path, _changed: int) -> Mapping[dg.AssetKey, dg.AssetKey]:
    manifest = dbt_nodes.read_nodes(path).manifest
    nodes = [node for node in manifest["nodes"].values() if is_asset(node)]
    # A table that has such a key of its own is the one that is read.
    taken = {keys.dbt_node(node) for node in (*nodes, *manifest["sources"].values())}
    found = {keys.table(node["schema"], node.get("alias") or node["name"]): keys.dbt_node(node) for node in nodes}
    return {relation: key for relation, key in found.items() if relation not in taken}


@lru_cache(maxsize=4)
def _declared(path: Path, _changed: int) -> Mapping[dg.AssetKey, Exposure]:
    found = read(path)
    for one in found.values():
        for change in one.changes:
            log.warning("The exposure `%s` in %s: %s", one.name, one.file, change)
    return found


def read(path: Path) -> Mapping[dg.AssetKey, Exposure]:
    """The exposures of a manifest's file."""
    manifest = dbt_nodes.read_nodes(path).manifest
    return unite(exposure(manifest, node) for node in manifest.get("exposures", {}).values())


def exposure(manifest: Mapping[str, Any], node: Mapping[str, Any]) -> Exposure:
    """Return an exposure of a manifest.

    One whose `config.meta` does not say which vendor's consumer it is has its kind and its name as its key, and without an audience
    it is internal. A value of `audience` that is not known counts as `customer`: a page too many is better than one that is missing.
    """
    meta = dbt_nodes.meta_of(node)
    vendor, slug, audience = (_text(meta.get(name)) for name in ("vendor", "slug", "audience"))
    owner: Mapping[str, Any] = node.get("owner") or dict[str, Any]()
    owners = values.owners(owner.get("email"), owner.get("name"))
    changes: list[str] = []
    if not vendor or not slug:
        changes.append(
            f"its config.meta has no {'vendor' if not vendor else 'slug'}, so that no vendor's consumer is joined to it: it is an asset "
            "by its kind and name"
        )
    if audience not in AUDIENCES:
        given = f"config.meta.audience is {audience!r}" if audience else "its config.meta has no audience"
        changes.append(f"{given} ({' or '.join(AUDIENCES)}): it counts as {'customer' if audience else 'internal'}")
    if owners.warning:
        changes.append(owners.warning)
    known = "customer" if audience == "customer" or (audience and audience not in AUDIENCES) else "internal"
    return Exposure(
        name=node["name"],
        file=node["original_file_path"],
        key=keys.consumer(vendor or _text(node.get("type")) or "exposure", slug or node["name"]),
        reads=tuple(_tables(manifest, node.get("depends_on", {}).get("nodes", []))),
        audience=known,
        description=node.get("description") or node.get("label"),
        url=node.get("url"),
        owner=(*owners.names, *owners.texts) or None,
        changes=tuple(changes),
    )


def _text(value: object) -> str:
    return "" if value is None or isinstance(value, dict | list) else str(value).strip()


def _tables(manifest: Mapping[str, Any], ids: Iterable[str]) -> list[dg.AssetKey]:
    """The assets below nodes of dbt. Metrics, functions and ephemeral models are no assets: they are read through what they read."""
    assets = {**manifest["nodes"], **manifest["sources"]}
    between = {
        id_: node
        for kind in ("metrics", "semantic_models", "saved_queries", "functions")
        for id_, node in manifest.get(kind, {}).items()
    }
    found: dict[dg.AssetKey, None] = {}
    waiting, seen = [*ids][::-1], set[str]()
    while waiting:
        if (id_ := waiting.pop()) in seen:
            continue
        seen.add(id_)
        node = assets.get(id_)
        if node is not None and (node["resource_type"] == "source" or is_asset(node)):
            found[keys.dbt_node(node)] = None
        elif (passed := node or between.get(id_)) is not None:
            waiting.extend(passed.get("depends_on", {}).get("nodes", [])[::-1])
    return list(found)
