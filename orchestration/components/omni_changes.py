"""What makes Omni's schema model out of date: other columns in a table that documents read, or other descriptions in dbt's project."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from pydantic import BaseModel, Field

from orchestration.components.dbt import MANIFEST, DbtModels
from orchestration.components.dbt_nodes import read_nodes
from orchestration.lineage import keys

COLUMNS = "dagster/column_schema"
AGAIN = timedelta(hours=1)
"""So long after a refresh that did not end well the next is asked for: what was wrong may have been mended in Omni."""
MADE = {"model", "seed", "snapshot"}


class Seen(BaseModel):
    """What a refresh was last asked for: the columns of each table by its key, and the dbt project's descriptions, as checksums."""

    tables: dict[str, str] = Field(default_factory=dict[str, str])
    project: str | None = None

    def since(self, before: Seen) -> list[str]:
        """What is new or other than before, in words. A table that nobody reads any more is no news."""
        tables = [name for name, columns in sorted(self.tables.items()) if before.tables.get(name) != columns]
        described = self.project is not None and self.project != before.project
        return [*tables, *(["the dbt project's columns and descriptions"] if described else [])]


class Project(BaseModel):
    """What dbt's manifest says: a checksum of its columns and descriptions, and the tables that dbt makes, by their keys."""

    checksum: str
    made: frozenset[str]


def look(instance: dg.DagsterInstance, read: Collection[dg.AssetKey], before: Seen) -> Seen:
    """The tables as they were last made, by one question to Dagster's storage.

    Columns are known of what was made lately with its columns looked up; of another, those of `before` still count.
    """
    names = {key.to_user_string() for key in read}
    tables = {name: columns for name, columns in before.tables.items() if name in names}
    for record in instance.get_asset_records(list(read)):
        event = record.asset_entry.last_materialization
        made = event.asset_materialization if event else None
        columns = made.metadata.get(COLUMNS) if made else None
        if made and isinstance(columns, dg.TableSchemaMetadataValue):
            pairs = [(column.name, column.type) for column in columns.value.columns]
            tables[made.asset_key.to_user_string()] = _checksum(pairs)
    known = project()
    return Seen(tables=tables, project=known.checksum if known else before.project)


def unmade(instance: dg.DagsterInstance, read: Collection[dg.AssetKey]) -> list[str]:
    """The tables among these that dbt makes, and has not made yet as far as Dagster knows."""
    known = project()
    wanted = [key for key in read if known and key.to_user_string() in known.made]
    if not wanted:
        return []
    records = instance.get_asset_records(wanted)
    made = {record.asset_entry.asset_key for record in records if record.asset_entry.last_materialization}
    return [key.to_user_string() for key in wanted if key not in made]


def unwell(instance: dg.DagsterInstance, check: dg.AssetCheckKey, now: datetime) -> str | None:
    """Why the refresh of the check's asset is to be repeated, in words; None where the last one was well, is under way or was just now."""
    record = next(iter(instance.get_asset_records([check.asset_key])), None)
    run_id = record.asset_entry.last_run_id if record else None
    ran = instance.get_run_record_by_id(run_id) if run_id else None
    if ran is None or ran.end_time is None or now - datetime.fromtimestamp(ran.end_time, UTC) < AGAIN:
        return None
    if ran.dagster_run.status is dg.DagsterRunStatus.FAILURE:
        return "the last refresh failed"
    evaluated = instance.get_latest_asset_check_evaluation_record(check)
    failed = evaluated is not None and evaluated.status is AssetCheckExecutionRecordStatus.FAILED
    return f"the check `{check.name}` failed" if failed else None


def project() -> Project | None:
    """What the manifest of the last refresh says; None where the project has not been parsed yet."""
    path = DbtModels.state_path() / MANIFEST
    return _project(path, path.stat().st_mtime_ns) if path.exists() else None


@lru_cache(maxsize=2)
def _project(path: Path, _changed: int) -> Project:
    nodes = [node for node in read_nodes(path).manifest["nodes"].values() if node["resource_type"] in MADE]
    made = {keys.dbt_node(node).to_user_string(): node for node in nodes}
    return Project(
        checksum=_checksum([name, *_said(node)] for name, node in sorted(made.items())), made=frozenset(made)
    )


def _said(node: Mapping[str, Any]) -> Iterable[Any]:
    yield node.get("description")
    for name, column in sorted(node.get("columns", {}).items()):
        yield [name, column.get("description"), column.get("data_type")]


def _checksum(value: Iterable[Any]) -> str:
    return hashlib.sha256(json.dumps(list(value)).encode()).hexdigest()[:16]
