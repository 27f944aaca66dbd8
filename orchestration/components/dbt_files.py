"""The files that dbt's manifest is made of, and that it is kept in."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from orchestration.settings import DBT_PROJECT

FOLDER, MANIFEST = "dbt", "manifest.json"
"""The folder below the state's, and the file in it."""
PARTIAL_PARSE = "partial_parse.msgpack"
"""What dbt keeps of a parse for the next one. It is a cache: any of it goes with any manifest."""
NOT_OF_MANIFEST = ("target", "logs", ".user.yml")
"""What dbt itself writes into a project. All else may be part of a manifest: a project names its folders as it likes."""
PACKAGES = ("packages.yml", "dependencies.yml")
"""Where a project declares the packages that `dbt deps` installs (https://docs.getdbt.com/docs/build/packages)."""
SECTIONS = ("nodes", "sources", "exposures")
"""What this platform reads of a manifest: each is an object with a node of dbt for each id."""
VOLATILE = ("created_at", "build_path", "compiled_path")
"""What differs between two parses of the same node."""
VOLATILE_METADATA = ("generated_at", "invocation_id", "invocation_started_at", "run_started_at", "env")


TARGET = "DATAPLATFORM_TARGET"
"""The entry of a manifest's `metadata.env` with the target that it was parsed for, which dbt itself does not write."""
TARGET_VARIABLE = f"DBT_ENV_CUSTOM_ENV_{TARGET}"
"""The variable that dbt makes that entry of (https://docs.getdbt.com/reference/artifacts/dbt-artifacts#common-metadata)."""


class ManifestError(ValueError):
    """A manifest cannot be read; the message says why."""


LANDED_TABLE = "landed_table"
"""The dbt project's macro for a source table that may not exist yet (dbt_project/macros/sources.sql)."""


def reads_missing_as_empty(node: Mapping[str, Any]) -> bool:
    """Return whether a node of a manifest reads its sources by `landed_table`: it is built empty while its table does not exist."""
    return any(name.endswith(f".{LANDED_TABLE}") for name in node.get("depends_on", {}).get("macros", []))


def changed_since(moment: datetime) -> Iterator[Path]:
    """Yield the files and folders of the project, and of its packages, that were changed after a time."""
    parts = (path for path in DBT_PROJECT.iterdir() if path.name not in NOT_OF_MANIFEST)
    files = (file for path in parts for file in (path, *path.rglob("*")))
    return (file for file in files if file.exists() and file.stat().st_mtime > moment.timestamp())


def read_manifest(path: Path) -> Mapping[str, Any]:
    """Return the manifest of a file, with at least `SECTIONS`. Raises FileNotFoundError, and ManifestError for any other fault."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise
    except NotADirectoryError as error:
        raise ManifestError(f"{path.parent} is no folder") from error
    except OSError as error:
        raise ManifestError(error.strerror or str(error)) from error
    except ValueError as error:
        raise ManifestError(f"it is no JSON, or cut off ({error})") from error
    if not isinstance(found, dict):
        raise ManifestError("it is no JSON object")
    manifest = cast("dict[str, Any]", found)
    wrong = [name for name in SECTIONS if not isinstance(manifest.get(name), dict)]
    if wrong:
        raise ManifestError(f"it has no {', '.join(wrong)}")
    return manifest


def target_of(manifest: Mapping[str, Any]) -> str | None:
    """Return the target that a manifest was parsed for; None where it does not say."""
    environment = manifest.get("metadata", {}).get("env", {})
    return environment.get(TARGET)


def find_fault(path: Path) -> str | None:
    """Return why the manifest of a file cannot be read, or None where it can, or where there is none."""
    try:
        state = path.stat()
    except FileNotFoundError:
        return None
    except OSError:
        return _find_fault(path, 0, 0)
    return _find_fault(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=8)
def _find_fault(path: Path, _changed: int, _size: int) -> str | None:
    # Only the answer is kept: a manifest of thousands of models takes hundreds of megabytes.
    try:
        read_manifest(path)
    except FileNotFoundError:
        return None
    except ManifestError as error:
        return str(error)
    return None


def normalize(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a manifest without what differs between two parses of the same project."""
    metadata = {name: value for name, value in manifest.get("metadata", {}).items() if name not in VOLATILE_METADATA}
    return {
        name: {id_: normalize_node(node) for id_, node in cast("dict[str, Any]", section).items()}
        if isinstance(section, dict)
        else section
        for name, section in manifest.items()
    } | {"metadata": metadata}


def normalize_node(node: Any) -> Any:
    """Return a node of a manifest without what differs between two parses of it."""
    if not isinstance(node, dict):
        return node
    return {name: value for name, value in cast("dict[str, Any]", node).items() if name not in VOLATILE}
