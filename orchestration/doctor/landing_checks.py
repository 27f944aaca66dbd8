"""Whether something lands every table that dbt's models read as a source, by the saved states."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, cast

from orchestration.components.dbt_files import reads_missing_as_empty
from orchestration.doctor.datasets import landed_by_fivetran, landed_by_others
from orchestration.doctor.model import Check, Outcome, ok, warning
from orchestration.doctor.state_checks import MANIFEST_CHECK, REFRESH, STATE_CHECK, States
from orchestration.lineage.dbt_keys import resolve_keys
from orchestration.settings import Settings

LANDING_CHECK = "dbt: sources landed"
NAMED = 5

Table = tuple[str, str]
"""Dataset and name."""


def checks(values: Settings, states: States) -> Iterator[Check]:
    yield Check(LANDING_CHECK, lambda: _landed(values, states), after=(STATE_CHECK, MANIFEST_CHECK))


def _landed(values: Settings, states: States) -> Outcome:
    from orchestration.components.platform_history import TABLES  # it imports Dagster, which takes a second
    from product_events.registry import owners

    manifest = states.manifest or {"nodes": {}, "sources": {}}
    own: set[Table] = {(table.dataset, table.name) for table in TABLES}
    found = own | {("product_events", name) for name in owners()}
    if (state := states.saved.get("fivetran.json")) is not None:
        found |= set(landed_by_fivetran(state.state))
    looked_at = set[str]()
    if (state := states.saved.get("landed.json")) is not None:
        tables = cast("Mapping[str, Any]", state.state)
        looked_at, found = {*tables}, found | {*landed_by_others(tables)}
    built = resolve_keys(manifest, values.modelled_project, values.raw_project).builder_of
    return of_sources(manifest, found, built, looked_at)


def of_sources(
    manifest: Mapping[str, Any], landed: set[Table], built: Mapping[str, str], looked_at: Collection[str] = ()
) -> Outcome:
    """Return whether each source that a model reads is landed, or built by dbt itself.

    Args:
        manifest: dbt's.
        landed: The tables that the platform lands or looks at.
        built: The ids of the sources whose table dbt builds.
        looked_at: Datasets that the platform looks at, with tables or yet without.
    """
    missing: list[str] = []
    nodes, datasets = manifest["nodes"], {*looked_at, *(dataset for dataset, _ in landed)}
    read = 0
    for id_, source in sorted(manifest["sources"].items()):
        readers = [one for one in manifest.get("child_map", {}).get(id_, []) if one.startswith(("model.", "snapshot."))]
        read += bool(readers)
        if source["schema"] in datasets:
            # Segment creates a table with its first event: a model that reads such a table as an empty one is built.
            readers = [one for one in readers if not reads_missing_as_empty(nodes.get(one, {}))]
        if not readers:
            continue
        if id_ not in built and (source["schema"], source["identifier"]) not in landed:
            names = ", ".join(f"`{one.split('.')[2]}`" for one in sorted(readers)[:2])
            missing.append(f"{names} reads {source['schema']}.{source['identifier']} in {source['original_file_path']}")
    if not missing:
        return ok(f"each of {read} sources is landed, looked at, or built by dbt")
    more = f"; and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
    return warning(
        f"nothing lands what these read: {'; '.join(missing[:NAMED])}{more}",
        "Land the table (docs/how-to/add-a-source.md), or take note that its changes build nothing by themselves; "
        f"after a new connection, run {REFRESH}",
    )
