"""A Python process as a person starts one: away from the repository, with the platform's variables as given and no others."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from orchestration.settings import Settings


def python(folder: Path, variables: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run this Python in a folder, with these of the platform's variables."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=only(variables),
        capture_output=True,
        text=True,
        timeout=200,
    )


def only(variables: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with these of the platform's variables and no others."""
    own = {name.upper() for name in Settings.model_fields}
    return {name: value for name, value in os.environ.items() if name not in own} | dict(variables)
