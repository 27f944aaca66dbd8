"""What `dataplatform lineage check` lists: where vendors, dbt and the graph disagree, and what cannot be shown or built as written."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import dagster as dg
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

from orchestration.components import dbt_nodes
from orchestration.components.consumers import ConsumerState
from orchestration.components.dbt import DbtModels, lineage
from orchestration.components.dbt_exposures import declared
from orchestration.components.dbt_files import reads_missing_as_empty
from orchestration.components.landed import LandedTables
from orchestration.components.saved_state import SavedState, VendorState
from orchestration.lineage import keys
from orchestration.lineage.consumers import Finding, in_order, reconcile
from orchestration.lineage.dbt_keys import is_asset


def findings(parts: Collection[SavedState], assets: AssetGraph) -> list[Finding]:
    """Return every finding, by the saved states and the definitions that are made of them. Raises StateMissing.

    Args:
        parts: The parts of the graph that have a saved state.
        assets: The assets of all definitions: only they say what lands a table.
    """
    readers = [part for part in parts if isinstance(part, ConsumerState)]
    known = {dg.AssetKey.from_user_string(key) for key in lineage(DbtModels.manifest_path())}
    known |= {
        dg.AssetKey.from_user_string(key)
        for part in parts
        if isinstance(part, VendorState)
        for key in part.lineage(part.saved())
    }
    consumers = [consumer for part in readers for consumer in part.consumers(part.saved())]
    nodes = dbt_nodes.read_nodes(DbtModels.manifest_path())
    return in_order(
        [
            *reconcile(consumers, declared().values(), {part.vendor for part in readers}, known),
            *unlanded(assets, nodes, _looked_at(parts)),
            *_shared(nodes),
            *_changed(nodes),
            *(one for part in parts if isinstance(part, VendorState) for one in part.findings(part.saved())),
        ]
    )


def unlanded(assets: AssetGraph, nodes: dbt_nodes.Nodes, datasets: Collection[str] = ()) -> Iterator[Finding]:
    """Yield each asset that the automation builds and that reads what nothing in the platform builds or looks at.

    Args:
        assets: The assets of all definitions.
        nodes: dbt's.
        datasets: Datasets that the platform looks at, with tables or yet without.
    """
    names = _names_of(nodes)
    # Segment creates a table with its first event: a model that reads such a table as an empty one is built.
    landed = {*datasets, *(key.path[0] for key in assets.get_all_asset_keys() if assets.get(key).is_executable)}
    late = {keys.dbt_node(node) for node in nodes.manifest["nodes"].values() if reads_missing_as_empty(node)}
    for key in sorted(assets.get_all_asset_keys()):
        node = assets.get(key)
        if node.automation_condition is None:
            continue
        parents = [parent for parent in sorted(node.parent_keys) if parent != key]
        missing = [parent for parent in parents if not assets.get(parent).is_executable]
        if key in late:
            missing = [parent for parent in missing if parent.path[0] not in landed]
        # dbt builds a model that reads nothing else by the clock; what runs such a sync has to be said.
        alone = len(missing) == len(parents) and key not in names
        for parent in missing:
            what, read = names.get(key, key.to_user_string()), names.get(parent, parent.to_user_string())
            why = f"{what} reads {read}, which nothing lands: no change of it builds {key.to_user_string()}. " + (
                "It reads nothing else, and runs only by hand, or by `cron_of`."
                if alone
                else "Land the table, or take note that its changes wait for another."
            )
            yield Finding("unlanded", key.to_user_string(), why)


def _looked_at(parts: Collection[SavedState]) -> set[str]:
    sources = [source for part in parts if isinstance(part, LandedTables) for source in part.sources]
    return {dataset for source in sources for dataset in source.datasets}


def _names_of(nodes: dbt_nodes.Nodes) -> Mapping[dg.AssetKey, str]:
    sources = {keys.dbt_node(node): node for node in nodes.manifest["sources"].values()}
    built = {keys.dbt_node(node): node for node in nodes.manifest["nodes"].values() if is_asset(node)}
    return {
        key: f"{key.to_user_string()} ({node['resource_type']} `{node['name']}` in {node['original_file_path']})"
        for key, node in {**sources, **built}.items()
    }


def _shared(nodes: dbt_nodes.Nodes) -> Iterator[Finding]:
    for collision in nodes.collisions:
        yield Finding("shared", collision.key, f"{', '.join(collision.names)}. {collision.outcome}")


def _changed(nodes: dbt_nodes.Nodes) -> Iterator[Finding]:
    for name, change in nodes.changes():
        yield Finding("changed", name, change)
    for exposure in declared().values():
        for change in exposure.changes:
            yield Finding("changed", exposure.key.to_user_string(), f"`{exposure.name}` in {exposure.file}: {change}")
