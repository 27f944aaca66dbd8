"""The dashboards that dbt's exposures declare, as assets at the end of the graph."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, override

import dagster as dg
from dagster_dbt.dbt_manifest import validate_manifest

from orchestration.components.dbt import MANIFEST, DbtModels
from orchestration.lineage import keys
from orchestration.lineage.graph import AUDIENCE_TAG

GROUP = "analytics"
AUDIENCES = ("customer", "internal")


class ExposureError(dg.DagsterError):
    """An exposure lacks what makes it an asset; the message names it and what to add."""


@dataclass
class DbtExposures(dg.Component, dg.Resolvable):
    """One asset an exposure. Its `meta` says what it is: `vendor`, `slug`, and `audience` (`customer` or `internal`)."""

    @override
    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        manifest = validate_manifest(DbtModels.saved() / MANIFEST)
        return dg.Definitions(assets=[asset_spec(manifest, exposure) for exposure in manifest["exposures"].values()])


def asset_spec(manifest: Mapping[str, Any], exposure: Mapping[str, Any]) -> dg.AssetSpec:
    """The asset of one exposure. Raises ExposureError."""
    meta = {**exposure.get("meta", {}), **exposure.get("config", {}).get("meta", {})}
    missing = [name for name in ("vendor", "slug", "audience") if not meta.get(name)]
    if missing or meta["audience"] not in AUDIENCES:
        raise ExposureError(
            f"The exposure `{exposure['name']}` in {exposure['original_file_path']} needs config.meta with vendor, slug and "
            f"audience ({' or '.join(AUDIENCES)}); it has {meta or 'none'}."
        )
    owner = exposure["owner"].get("email")
    metadata: dict[str, Any] = {"dashboard": dg.MetadataValue.url(exposure["url"])} if exposure.get("url") else {}
    return dg.AssetSpec(
        key=keys.consumer(meta["vendor"], meta["slug"]),
        deps=_tables(manifest, exposure["depends_on"]["nodes"]),
        description=exposure.get("description") or exposure.get("label"),
        metadata=metadata,
        owners=[owner] if isinstance(owner, str) else [],
        group_name=GROUP,
        kinds={meta["vendor"]},
        tags={AUDIENCE_TAG: meta["audience"]},
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
