"""The files that dbt's manifest is made of, and that it is kept in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from orchestration.settings import DBT_PROJECT

FOLDER, MANIFEST = "dbt", "manifest.json"
"""The folder below the state's, and the file in it."""
SOURCES_OF_MANIFEST = ("models", "macros", "tests", "seeds", "snapshots", "dbt_project.yml", "profiles.yml")

LANDED_TABLE = "landed_table"
"""The dbt project's macro for a source table that may not exist yet (dbt_project/macros/sources.sql)."""


def reads_missing_as_empty(node: Mapping[str, Any]) -> bool:
    """Return whether a node of a manifest reads its sources by `landed_table`: it is built empty while its table does not exist."""
    return any(name.endswith(f".{LANDED_TABLE}") for name in node.get("depends_on", {}).get("macros", []))


def changed_since(moment: datetime) -> Iterator[Path]:
    """The files and folders of the project that were changed after a time."""
    files = (file for name in SOURCES_OF_MANIFEST for file in [DBT_PROJECT / name, *(DBT_PROJECT / name).rglob("*")])
    return (file for file in files if file.exists() and file.stat().st_mtime > moment.timestamp())
