"""The files that dbt's manifest is made of, and that it is kept in."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from orchestration.settings import DBT_PROJECT

FOLDER, MANIFEST = "dbt", "manifest.json"
"""The folder below the state's, and the file in it."""
SOURCES_OF_MANIFEST = ("models", "macros", "tests", "seeds", "snapshots", "dbt_project.yml", "profiles.yml")


def changed_since(moment: datetime) -> Iterator[Path]:
    """The files and folders of the project that were changed after a time."""
    files = (file for name in SOURCES_OF_MANIFEST for file in [DBT_PROJECT / name, *(DBT_PROJECT / name).rglob("*")])
    return (file for file in files if file.exists() and file.stat().st_mtime > moment.timestamp())
