"""Asset keys of all nodes of a dbt manifest together: no two tables share one, and each table has one. Pure.

The key of a single node is `keys.dbt_node`. It is not enough where a seed writes the table that a source reads, where one alias is
in two databases, or where two names differ only by a character that Dagster replaces. The rules here do not depend on the order of
the nodes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg

from orchestration.lineage import keys

BUILT = {"model", "seed", "snapshot"}


@dataclass(frozen=True)
class Collision:
    """Nodes of a manifest that would share one asset key, and what was done about it.

    `names` has each node as `name in file`. `key` is an asset key as people write it.
    """

    key: str
    names: tuple[str, ...]
    outcome: str


@dataclass(frozen=True)
class DbtKeys:
    """The keys of a manifest's nodes that differ from `keys.dbt_node`, and the tables that dbt itself builds for a source."""

    changed: Mapping[str, dg.AssetKey]
    """By the node's id."""
    builder_of: Mapping[str, str]
    """Id of a source to the id of the model, seed or snapshot that writes its table."""
    collisions: tuple[Collision, ...] = ()


def resolve_keys(manifest: Mapping[str, Any], built_in: str | None = None, landed_in: str | None = None) -> DbtKeys:
    """Return the keys of a manifest's nodes.

    A source whose table a model, seed or snapshot writes has the key of that one, unless it would then be above itself. Of different
    tables with one key, one keeps it: the source in the project `landed_in`, since whatever lands that table has the same key; else
    what dbt builds in `built_in`; else the first by its full name. The others have their database as a first part.

    Args:
        manifest: dbt's (https://docs.getdbt.com/reference/artifacts/manifest-json).
        built_in: BigQuery's project that dbt builds in.
        landed_in: BigQuery's project that sources land in.
    """
    nodes = {id_: node for id_, node in manifest["nodes"].items() if is_asset(node)}
    sources: Mapping[str, Any] = manifest.get("sources", {})
    collisions: list[Collision] = []
    builder_of, cyclic = _builders(manifest, nodes, sources)
    for source, builder in sorted(builder_of.items()):
        both = _names([nodes[builder], sources[source]])
        key = keys.dbt_node(nodes[builder]).to_user_string()
        outcome = f"They are one table, and one asset: {both[0]} builds it."
        collisions.append(Collision(key, both, outcome))
    for source in sorted(cyclic):
        both = _names([nodes[cyclic[source]], sources[source]])
        key = keys.dbt_node(sources[source]).to_user_string()
        outcome = (
            "They are one table that is made of itself: they stay two assets, and the source is not shown as built."
        )
        collisions.append(Collision(key, both, outcome))
    tables: defaultdict[str, dict[tuple[str, ...], list[str]]] = defaultdict(dict)
    for id_, node in sorted({**nodes, **sources}.items()):
        if id_ in builder_of:
            continue
        place = (*_relation(node), id_) if id_ in cyclic else _relation(node)
        tables[_output(keys.dbt_node(node))].setdefault(place, []).append(id_)
    changed: dict[str, dg.AssetKey] = {}
    every = {**nodes, **sources}
    taken = {output for output, places in tables.items() if len(places) == 1}
    for places in (places for _, places in sorted(tables.items()) if len(places) > 1):
        order = sorted(places, key=lambda place: _rank(every[places[place][0]], built_in, landed_in, place))
        taken.add(_output(keys.dbt_node(every[places[order[0]][0]])))
        for place in order[1:]:
            key = _qualified(every[places[place][0]], taken)
            taken.add(_output(key))
            changed |= dict.fromkeys(places[place], key)
        members = [id_ for place in order for id_ in places[place]]
        if not cyclic.keys() & set(members):
            told = ", ".join(changed.get(id_, keys.dbt_node(every[id_])).to_user_string() for id_ in members)
            first = keys.dbt_node(every[members[0]]).to_user_string()
            collisions.append(
                Collision(first, _names(every[id_] for id_ in members), f"They are different tables: {told}.")
            )
    changed |= {source: changed.get(one, keys.dbt_node(nodes[one])) for source, one in builder_of.items()}
    plain = {id_: key for id_, key in changed.items() if key != keys.dbt_node(every[id_])}
    return DbtKeys(plain, builder_of, tuple(collisions))


def is_asset(node: Mapping[str, Any]) -> bool:
    """Return whether a node of a manifest is a table or view that dbt builds."""
    return node["resource_type"] in BUILT and node.get("config", {}).get("materialized") != "ephemeral"


def _builders(
    manifest: Mapping[str, Any], nodes: Mapping[str, Any], sources: Mapping[str, Any]
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the builder of each source that has one, and of each source whose builder reads it, however far above."""
    by_place = {_relation(node): id_ for id_, node in sorted(nodes.items())}
    found = {id_: one for id_, node in sources.items() if (one := by_place.get(_relation(node)))}
    parents: defaultdict[str, set[str]] = defaultdict(set)
    for kind in ("nodes", "functions"):
        for id_, node in manifest.get(kind, {}).items():
            parents[id_].update(node.get("depends_on", {}).get("nodes", []))
    builders: dict[str, str] = {}
    cyclic: dict[str, str] = {}
    for source, builder in sorted(found.items()):
        if source in _ancestors(builder, parents):
            cyclic[source] = builder
        else:
            builders[source] = builder
            parents[source].add(builder)
    return builders, cyclic


def _ancestors(id_: str, parents: Mapping[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = [id_]
    while waiting:
        for parent in parents.get(waiting.pop(), set()):
            if parent not in seen:
                seen.add(parent)
                waiting.append(parent)
    return seen


def _relation(node: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the table of a node in full. Where a manifest does not say the database, two of one schema and name are one table."""
    name = node.get("identifier") if node["resource_type"] == "source" else node.get("alias")
    return str(node.get("database") or ""), str(node.get("schema") or ""), str(name or node["name"])


def _output(key: dg.AssetKey) -> str:
    """Return what Dagster makes of a key in names of outputs: two keys with the same one cannot be in one step."""
    return key.to_python_identifier()


def _rank(
    node: Mapping[str, Any], built_in: str | None, landed_in: str | None, place: tuple[str, ...]
) -> tuple[int, bool, tuple[str, ...]]:
    database, source = node.get("database"), node["resource_type"] == "source"
    first = 0 if source and database == landed_in else 1 if not source and database == built_in else 2
    # A name that Dagster takes as it is comes before one of which it replaces a character.
    return first, _has_replaced(place[2]), place


def _has_replaced(name: str) -> bool:
    return "-" in name or "." in name


def _qualified(node: Mapping[str, Any], taken: set[str]) -> dg.AssetKey:
    """Return a key with the database, and where that is not enough a checksum of the full name."""
    database, schema, name = _relation(node)
    key = keys.dbt_node(node)
    path = [keys.part(database)] * bool(database) + [*key.path]
    if _output(dg.AssetKey(path)) in taken or _has_replaced(name):
        path = [*key.path[:-1], f"{key.path[-1]}_{keys.checksum(f'{database}.{schema}.{name}')}"]
    return dg.AssetKey(path)


def _names(nodes: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    return tuple(f"{node['resource_type']} `{node['name']}` in {node.get('original_file_path', '?')}" for node in nodes)
