"""The datasets of a workspace in BigQuery, to be dropped when the work is done."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from orchestration.dbt_loop.workspace import Refused, Workspace
from orchestration.vendors.bigquery_project import bigquery_client

SECONDS = 60


def drop(workspace: Workspace, location: str) -> Iterator[str]:
    """Drop each dataset of the workspace with all that is in it, and yield its name. Raises google.api_core's exceptions."""
    if not workspace.prefix.startswith(f"{workspace.target}_"):
        raise Refused(
            f"DBT_SCHEMA_PREFIX is {workspace.prefix}: only datasets whose names begin with {workspace.target}_ are dropped at once."
        )
    client = bigquery_client(workspace.database, location)
    found: list[str] = [one.dataset_id for one in cast(Any, client.list_datasets(timeout=SECONDS))]
    for name in sorted(name for name in found if workspace.owns(workspace.database, name)):
        client.delete_dataset(name, delete_contents=True, not_found_ok=True, timeout=SECONDS)
        yield name
