"""Changes of a landed table's columns, and the dbt models that they put at risk. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import dagster as dg

from orchestration.lineage import keys

Columns = Mapping[str, str]
"""A table's columns with their types in BigQuery."""

BUILT = {"model", "snapshot"}
SAME_TYPE = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL"}
"""BigQuery's API and its SQL name some types differently (https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types)."""


@dataclass(frozen=True)
class Change:
    """One difference between the columns that were agreed and those that are there; without a column, the table itself is gone."""

    kind: Literal["new column", "dropped column", "changed type", "dropped table"]
    column: str = ""
    was: str | None = None
    now: str | None = None

    def __str__(self) -> str:
        match self.kind:
            case "new column":
                return f"column {self.column} ({self.now}) is new"
            case "dropped column":
                return f"column {self.column} ({self.was}) is gone"
            case "changed type":
                return f"column {self.column} was {self.was} and is {self.now}"
            case "dropped table":
                return "the table is not in BigQuery"


def standard(kind: str) -> str:
    """A type as BigQuery's SQL names it."""
    return SAME_TYPE.get(kind, kind)


def changes(agreed: Columns, found: Columns) -> list[Change]:
    """What differs, by column. No columns found means that there is no table: BigQuery has none without columns."""
    if agreed and not found:
        return [Change("dropped table")]
    differing = [column for column in {**agreed, **found} if agreed.get(column) != found.get(column)]
    return [_change(column, agreed.get(column), found.get(column)) for column in differing]


def _change(column: str, was: str | None, now: str | None) -> Change:
    if was is None:
        return Change("new column", column, now=now)
    return Change("dropped column" if now is None else "changed type", column, was, now)


def at_risk(manifest: Mapping[str, Any], table: dg.AssetKey, changed: Iterable[Change]) -> list[str]:
    """The models and snapshots that may break, by their asset keys as people write them.

    `manifest` is dbt's (https://docs.getdbt.com/reference/artifacts/manifest-json). At risk are those that read the table and name a
    column that is gone or of another type, all that read it where it is gone, and what is made of them. A new column breaks nobody.
    """
    nodes: Mapping[str, Any] = manifest["nodes"]
    sources = [id_ for id_, node in manifest["sources"].items() if keys.dbt_node(node) == table]
    readers = {child for source in sources for child in manifest["child_map"].get(source, [])}
    broken = [change for change in changed if change.kind != "new column"]
    waiting = [id_ for id_ in readers if id_ in nodes and _names(nodes[id_].get("raw_code") or "", broken)]
    reached: set[str] = set()
    while waiting:
        id_ = waiting.pop()
        if id_ not in reached and id_ in nodes and nodes[id_]["resource_type"] in BUILT:
            reached.add(id_)
            waiting += manifest["child_map"].get(id_, [])
    return sorted(keys.dbt_node(nodes[id_]).to_user_string() for id_ in reached)


def _names(sql: str, broken: Iterable[Change]) -> bool:
    return any(
        change.kind == "dropped table" or re.search(rf"\b{re.escape(change.column)}\b", sql, re.IGNORECASE)
        for change in broken
    )
