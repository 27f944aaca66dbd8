"""A fingerprint of everything that a code location is built from: where it is the same, building it again proves nothing new."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from orchestration.components.dbt_files import MANIFEST
from orchestration.components.saved_state import read_stamped
from orchestration.settings import REPOSITORY, settings

CODE = ("orchestration", "product_events")
"""The packages that a code location is made of, below the repository; in the image too."""
SUFFIXES = (".py", ".yaml", ".yml", ".sql")
OWN = {"dataplatform_state_dir", "dataplatform_state_on_load"}
"""The settings that differ between machines that build the same code location."""


def fingerprint(states: Mapping[str, Path]) -> str:
    """Return the fingerprint of the code, the settings without secrets, and the content of states without when they were read.

    Raises OSError and ValueError where a state cannot be read.
    """
    found = hashlib.sha256(_code().encode())
    found.update(json.dumps(settings().model_dump(mode="json", exclude=OWN), sort_keys=True).encode())
    for name, path in sorted(states.items()):
        found.update(name.encode())
        if path.is_dir():
            found.update(hashlib.sha256((path / MANIFEST).read_bytes()).digest())
        else:
            found.update(hashlib.sha256(json.dumps(read_stamped(path).state, sort_keys=True).encode()).digest())
    return found.hexdigest()


@cache
def _code() -> str:
    found = hashlib.sha256()
    for path in _files():
        found.update(str(path.relative_to(REPOSITORY)).encode())
        found.update(path.read_bytes())
    return found.hexdigest()


def _files() -> Iterator[Path]:
    lock = REPOSITORY / "uv.lock"  # the image has none: its packages are those of its commit
    yield from [lock] if lock.exists() else []
    for package in CODE:
        yield from sorted(path for path in (REPOSITORY / package).rglob("*") if path.suffix in SUFFIXES)
