"""What dbt's exposures declare, read from the manifest of the last refresh."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

import dagster as dg

from orchestration.components.dbt import MANIFEST, DbtModels
from orchestration.components.dbt_files import find_fault
from orchestration.lineage import keys
from orchestration.lineage.consumers import Exposure, unite
from orchestration.lineage.graph import Audience

AUDIENCES = get_args(Audience)
BUILT = {"model", "seed", "snapshot"}


class ExposureError(dg.DagsterError):
    """An exposure lacks what makes it an asset; the message names it and what to add."""


def declared() -> Mapping[dg.AssetKey, Exposure]:
    """Return the exposures by the key of their consumer; none where there is no manifest that can be read. Raises ExposureError."""
    path = DbtModels.state_path() / MANIFEST
    return _declared(path, path.stat().st_mtime_ns) if _is_readable(path) else {}


def dbt_models() -> Mapping[str, dg.AssetKey]:
    """Return the assets of dbt's models, seeds and snapshots by their unique ids; none where there is no manifest that can be read."""
    path = DbtModels.state_path() / MANIFEST
    return _models(path, path.stat().st_mtime_ns) if _is_readable(path) else {}


def _is_readable(path: Path) -> bool:
    # The part that a broken manifest belongs to names it (`DbtModels.manifest_path`); the vendors' states have nothing to do with it.
    return path.is_file() and find_fault(path) is None


@lru_cache(maxsize=4)
def _models(path: Path, _changed: int) -> Mapping[str, dg.AssetKey]:
    nodes = json.loads(path.read_text("utf-8"))["nodes"]
    return {id_: keys.dbt_node(node) for id_, node in nodes.items() if node["resource_type"] in BUILT}


@lru_cache(maxsize=4)
def _declared(path: Path, _changed: int) -> Mapping[dg.AssetKey, Exposure]:
    return read(path)


def read(path: Path) -> Mapping[dg.AssetKey, Exposure]:
    """The exposures of a manifest's file. Raises ExposureError."""
    manifest = json.loads(path.read_text("utf-8"))
    return unite(exposure(manifest, node) for node in manifest["exposures"].values())


def exposure(manifest: Mapping[str, Any], node: Mapping[str, Any]) -> Exposure:
    """An exposure of a manifest. Raises ExposureError."""
    meta = {**node.get("meta", {}), **node.get("config", {}).get("meta", {})}
    missing = [name for name in ("vendor", "slug", "audience") if not meta.get(name)]
    if missing or meta["audience"] not in AUDIENCES:
        raise ExposureError(
            f"The exposure `{node['name']}` in {node['original_file_path']} needs config.meta with vendor, slug and "
            f"audience ({' or '.join(AUDIENCES)}); it has {meta or 'none'}."
        )
    owner = node["owner"].get("email")
    return Exposure(
        name=node["name"],
        file=node["original_file_path"],
        key=keys.consumer(meta["vendor"], meta["slug"]),
        reads=tuple(_tables(manifest, node["depends_on"]["nodes"])),
        audience=meta["audience"],
        description=node.get("description") or node.get("label"),
        url=node.get("url"),
        owner=owner if isinstance(owner, str) else None,
    )


def _tables(manifest: Mapping[str, Any], ids: Iterable[str]) -> list[dg.AssetKey]:
    """The assets below nodes of dbt, which may be metrics: those are read through their semantic models."""
    assets = {**manifest["nodes"], **manifest["sources"]}
    described = {
        id_: node
        for kind in ("metrics", "semantic_models", "saved_queries")
        for id_, node in manifest.get(kind, {}).items()
    }
    found: dict[dg.AssetKey, None] = {}
    for id_ in ids:
        if id_ in assets:
            found[keys.dbt_node(assets[id_])] = None
        elif id_ in described:
            found |= dict.fromkeys(_tables(manifest, described[id_]["depends_on"]["nodes"]))
    return list(found)
