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
    own = {name.upper() for name in Settings.model_fields}
    clean = {name: value for name, value in os.environ.items() if name not in own}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**clean, **variables},
        capture_output=True,
        text=True,
        timeout=200,
    )
