"""Dagster's asset graph as the plain one that incidents walk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dagster import LocalFileCodeReference, TextMetadataValue
from dagster._core.definitions.assets.definition.asset_spec import SYSTEM_METADATA_KEY_AUTO_CREATED_STUB_ASSET
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph
from dagster._core.definitions.freshness import TimeWindowFreshnessPolicy
from dagster._core.definitions.metadata.source_code import CodeReferencesMetadataSet
from dagster._core.remote_representation.external_data import AssetNodeSnap

from orchestration.lineage.graph import AUDIENCE_TAG, OWNERS_METADATA, Asset, Audience, Graph
from orchestration.settings import REPOSITORY


def graph_of(assets: AssetGraph) -> Graph:
    """The part of Dagster's asset graph that alerts need."""
    found: dict[str, Asset] = {}
    for key in assets.get_all_asset_keys():
        node = assets.get(key)
        found[key.to_user_string()] = Asset(
            key.to_user_string(),
            frozenset(parent.to_user_string() for parent in node.parent_keys),
            _owners(node.owners, node.metadata),
            _audience(node.tags.get(AUDIENCE_TAG)),
            _fresh_within(node.freshness_policy),
            _code(node.metadata),
            SYSTEM_METADATA_KEY_AUTO_CREATED_STUB_ASSET not in node.metadata,
        )
    return Graph(found)


def graph_of_snapshots(nodes: Iterable[AssetNodeSnap]) -> Graph:
    """Return the same of the assets of another code location, as its code server describes them."""
    found: dict[str, Asset] = {}
    for node in nodes:
        key = node.asset_key.to_user_string()
        found[key] = Asset(
            key,
            frozenset(edge.parent_asset_key.to_user_string() for edge in node.parent_edges),
            _owners(node.owners, node.metadata),
            _audience((node.tags or {}).get(AUDIENCE_TAG)),
            _fresh_within(node.freshness_policy),
            _code(node.metadata),
            SYSTEM_METADATA_KEY_AUTO_CREATED_STUB_ASSET not in node.metadata,
        )
    return Graph(found)


def _owners(names: Sequence[str] | None, metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """Return who answers for an asset, with those whom Dagster cannot hold as owners."""
    texts = metadata.get(OWNERS_METADATA)
    more = texts.value.split(", ") if isinstance(texts, TextMetadataValue) and texts.value else []
    return (*(names or ()), *more)


def _audience(tag: str | None) -> Audience | None:
    return "customer" if tag == "customer" else "internal" if tag else None


def _fresh_within(policy: object) -> timedelta | None:
    return policy.fail_window.to_timedelta() if isinstance(policy, TimeWindowFreshnessPolicy) else None


def _code(metadata: Any) -> str | None:
    references = CodeReferencesMetadataSet.extract(metadata).code_references
    for reference in references.code_references if references else []:
        if isinstance(reference, LocalFileCodeReference):
            file = Path(reference.file_path)
            return file.relative_to(REPOSITORY).as_posix() if file.is_relative_to(REPOSITORY) else None
        # …/tree/<branch>/<path>: a branch with a slash in its name gives a path that git does not know.
        return urlsplit(reference.url).path.partition("/tree/")[2].partition("/")[2] or None
    return None
