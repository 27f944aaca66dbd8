"""A dbt manifest as Dagster can hold it: keys that no two tables share, names that Dagster takes, and what was changed for that.

Every reader of a manifest that makes assets, checks or alerts of it reads it here, so that all name a node the same way.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import dagster as dg
from dagster_dbt.asset_utils import get_upstream_unique_ids

from orchestration.components import dagster_values as values
from orchestration.components.dbt_files import read_manifest
from orchestration.lineage import keys
from orchestration.lineage.dbt_keys import Collision, DbtKeys, is_asset, resolve_keys
from orchestration.settings import settings

PARTITIONS = "daily"
"""The only value of `meta.partitions`."""


@dataclass(frozen=True)
class Nodes:
    """A manifest whose nodes Dagster can hold, and what differs from the manifest that dbt wrote."""

    manifest: Mapping[str, Any]
    keys: DbtKeys
    collisions: tuple[Collision, ...]
    """Asset keys, or names of checks, that several nodes would share."""

    def changes(self) -> Iterator[tuple[str, str]]:
        """Yield each node with a value that Dagster cannot hold, as `name in file`, with what is shown instead."""
        for kind in ("nodes", "sources"):
            for node in self.manifest[kind].values():
                for change in (*node.get(CHANGES, ()), *changes_of(node, self.manifest)):
                    yield f"`{node['name']}` in {node['original_file_path']}", change

    def parents_of(self, id_: str) -> list[str]:
        """Return the ids of the sources and assets that a node reads, through ephemeral models."""
        return sorted(get_upstream_unique_ids(self.manifest, self.manifest["nodes"][id_]))


CHANGES = "dataplatform_changes"
"""The field of a node with what was changed in it, in words."""


def read_nodes(path: Path) -> Nodes:
    """Return the nodes of a manifest's file, as they are now."""
    return _read(path, path.stat().st_mtime_ns, settings().modelled_project, settings().raw_project)


@lru_cache(maxsize=2)
def _read(path: Path, _changed: int, built_in: str, landed_in: str) -> Nodes:
    # Not the library's `validate_manifest`, which keeps the first content of a path for as long as the process lives.
    return prepare(read_manifest(path), built_in, landed_in)


def prepare_manifest(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the same manifest with the keys and names that the assets have."""
    return prepare(manifest, settings().modelled_project, settings().raw_project).manifest


def prepare(manifest: Mapping[str, Any], built_in: str | None = None, landed_in: str | None = None) -> Nodes:
    """Return a manifest's nodes as Dagster can hold them; the manifest itself is not changed.

    What reads a source whose table dbt itself builds reads the model, seed or snapshot that builds it.

    Args:
        manifest: dbt's (https://docs.getdbt.com/reference/artifacts/manifest-json).
        built_in: BigQuery's project that dbt builds in.
        landed_in: BigQuery's project that sources land in.
    """
    resolved = resolve_keys(manifest, built_in, landed_in)
    made: dict[str, dict[str, Any]] = {kind: dict(manifest.get(kind, {})) for kind in ("nodes", "sources", "functions")}
    for kind in ("nodes", "sources"):
        for id_, node in manifest.get(kind, {}).items():
            made[kind][id_] = _hold_meta(node)
    for id_, key in resolved.changed.items():
        kind = "sources" if id_ in made["sources"] else "nodes"
        node = made[kind][id_]
        made[kind][id_] = {**node, keys.RESOLVED: [*key.path]}
    for kind in ("nodes", "sources"):
        for id_, node in made[kind].items():
            if (is_asset(node) or kind == "sources") and _is_odd(node, key := keys.dbt_node(node)):
                made[kind][id_] = node | _changed(node, f"its asset is {key.to_user_string()}")
    maps = {name: dict(manifest[name]) for name in ("child_map", "parent_map") if name in manifest}
    for source, builder in sorted(resolved.builder_of.items()):
        _read_builder(made, maps, source, builder)
    nodes = made["nodes"]
    collisions = [*resolved.collisions, *_name_checks(nodes)]
    return Nodes({**manifest, **made, **maps}, resolved, tuple(collisions))


def changes_of(node: Mapping[str, Any], manifest: Mapping[str, Any]) -> list[str]:
    """Return what Dagster shows instead of the owners, tags, description, freshness and partitions of a node, in words."""
    if not is_asset(node):
        return []
    changes = [
        owners_of(node, manifest).warning,
        values.tags(node.get("tags", []))[1],
        values.description(node.get("description"))[1],
        values.freshness(meta_of(node).get("freshness"))[1],
        partitions_of(node)[1],
    ]
    return [change for change in changes if change]


def meta_of(node: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the `meta` of a node, in its configuration or not."""
    return {**(node.get("meta") or {}), **(node.get("config", {}).get("meta") or {})}


def owners_of(node: Mapping[str, Any], manifest: Mapping[str, Any]) -> values.Owners:
    """Return who answers for a node: `meta.dagster.owners`, else the owner of its group."""
    given = meta_of(node).get("dagster", {}).get("owners")
    group = node.get("group") or node.get("config", {}).get("group")
    groups: Iterable[Mapping[str, Any]] = manifest.get("groups", {}).values()
    owner: Mapping[str, Any] = next((one["owner"] for one in groups if one["name"] == group), None) or dict[str, Any]()
    return values.owners(given or owner.get("email"), owner.get("name"))


def partitions_of(node: Mapping[str, Any]) -> tuple[bool, str | None]:
    """Return whether a node has a partition a day, and what is wrong with its `meta.partitions`."""
    wanted = meta_of(node).get("partitions")
    if wanted is None or wanted == PARTITIONS:
        return wanted == PARTITIONS, None
    return False, f"config.meta.partitions is {wanted!r}, and only `{PARTITIONS}` is known: it has no partitions"


def _changed(node: Mapping[str, Any], change: str) -> dict[str, Any]:
    return {CHANGES: (*node.get(CHANGES, ()), change)}


def _is_odd(node: Mapping[str, Any], key: dg.AssetKey) -> bool:
    """Return whether the key of a node is another than its schema and table."""
    name = node.get("identifier") if node["resource_type"] == "source" else node.get("alias")
    return key.path != [keys.dbt_schema(node), name or node["name"]]


def _hold_meta(node: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a node whose `meta` has the types that dagster_dbt reads without a look (dagster_dbt/asset_utils.py)."""
    held = node
    for owner in ("meta", "config"):
        config: Mapping[str, Any] = node.get("config") or dict[str, Any]()
        meta = config.get("meta") if owner == "config" else node.get("meta")
        fixed, changes = _fixed_meta(meta)
        if changes:
            place = {"config": {**node["config"], "meta": fixed}} if owner == "config" else {"meta": fixed}
            held = {**held, **place, CHANGES: (*held.get(CHANGES, ()), *changes)}
    return held


def _fixed_meta(meta: object) -> tuple[dict[str, Any], list[str]]:
    said = cast("dict[str, Any]", meta) if isinstance(meta, dict) else {}
    changes: list[str] = []
    if meta is not None and not isinstance(meta, dict):
        changes.append(f"meta is {meta!r}, which is ignored")
    fixed = dict(said)
    if "dagster" in said and not isinstance(said["dagster"], dict):
        del fixed["dagster"]
        changes.append(f"meta.dagster is {said['dagster']!r}, which is ignored")
    elif "ref" in (dagster := said.get("dagster", {})) and not _is_ref(dagster["ref"]):
        fixed["dagster"] = {name: value for name, value in dagster.items() if name != "ref"}
        changes.append(f"meta.dagster.ref is {dagster['ref']!r}, which is ignored")
    if not isinstance(said.get("description", ""), str):
        fixed["description"] = str(said["description"])
        changes.append("meta.description is no text")
    return fixed, changes


def _is_ref(ref: object) -> bool:
    return isinstance(ref, dict) and isinstance(cast("dict[str, object]", ref).get("name"), str)


def _read_builder(made: dict[str, dict[str, Any]], maps: dict[str, dict[str, Any]], source: str, builder: str) -> None:
    """Have what reads a source read the node that builds it. Tests of the source stay its own: dbt selects them by it."""

    def replaced(ids: Iterable[str]) -> list[str]:
        return [*dict.fromkeys(builder if id_ == source else id_ for id_ in ids)]

    for kind in ("nodes", "functions"):
        for id_, node in made[kind].items():
            depends = node.get("depends_on", {})
            if source not in depends.get("nodes", []) or node["resource_type"] == "test" or id_ == builder:
                continue
            made[kind][id_] = {**node, "depends_on": {**depends, "nodes": replaced(depends["nodes"])}}
            if "parent_map" in maps:
                maps["parent_map"][id_] = replaced(maps["parent_map"].get(id_, []))
            if "child_map" in maps:
                maps["child_map"][builder] = [*dict.fromkeys((*maps["child_map"].get(builder, []), id_))]


def _name_checks(nodes: dict[str, Any]) -> list[Collision]:
    """Give each test a name that no other check or asset of the step has, and return the tests that had one name.

    The name of a generic test is made of its arguments without their punctuation, so that two tests may have one name; their ids end
    with a checksum of the arguments (dbt/parser/generic_test_builders.py). Names of checks and of assets are outputs of one step.
    """
    assets = {keys.dbt_node(node).to_python_identifier() for node in nodes.values() if is_asset(node)}
    outputs: dict[str, list[str]] = {}
    for id_, node in nodes.items():
        if node["resource_type"] != "test":
            continue
        name, change = values.check_name(node["name"])
        if change:
            nodes[id_] = {**node, "name": name} | _changed(node, change)
        depends = node.get("depends_on", {}).get("nodes", [])
        attached = node.get("attached_node")
        on = [attached] if attached in nodes and len(depends) != 1 else depends
        outputs[id_] = [
            f"{keys.dbt_node(nodes[one]).to_python_identifier()}_{name}"
            for one in on
            if one in nodes and is_asset(nodes[one])
        ]
    count = Counter(output for found in outputs.values() for output in dict.fromkeys(found))
    same: defaultdict[str, list[str]] = defaultdict(list)
    for id_, found in outputs.items():
        shared = [output for output in found if count[output] > 1 or output in assets]
        if shared:
            same[shared[0]].append(id_)
    collisions: list[Collision] = []
    for members in (same[output] for output in sorted(same)):
        before = nodes[min(members)]
        for id_ in sorted(members):
            node = nodes[id_]
            end = id_.rpartition(".")[2]
            suffix = keys.checksum(id_) if end == node["name"] or not end.isalnum() else end
            nodes[id_] = {**node, "name": f"{node['name']}_{suffix}"}
        names = tuple(f"test `{nodes[id_]['name']}` in {nodes[id_]['original_file_path']}" for id_ in sorted(members))
        outcome = f"They have the name `{before['name']}`, which is an asset's or several tests': they are told apart."
        collisions.append(Collision(_asset_of(before, nodes), names, outcome))
    return collisions


def _asset_of(test: Mapping[str, Any], nodes: Mapping[str, Any]) -> str:
    on = next((one for one in (test.get("attached_node"), *test["depends_on"]["nodes"]) if one in nodes), None)
    return keys.dbt_node(nodes[on]).to_user_string() if on else test["name"]
