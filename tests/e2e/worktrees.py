"""A checkout beside this one, in which a test may write."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from sandbox.config import REPOSITORY

INSTALLED = (".venv", "sandbox/warehouse/.venv", ".uv")


@contextmanager
def worktree(folder: Path) -> Generator[Path]:
    """A git worktree with the files as they are here, committed or not, and the same environments; gone at the end of the block."""
    git = ["git", "-C", str(REPOSITORY)]
    subprocess.run([*git, "worktree", "add", "--quiet", "--detach", str(folder)], check=True)
    try:
        asked = [*git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        for name in subprocess.run(asked, check=True, capture_output=True, text=True).stdout.split("\0"):
            if name and (REPOSITORY / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(REPOSITORY / name, folder / name)
        for installed in INSTALLED:
            if (REPOSITORY / installed).exists():
                (folder / installed).symlink_to(REPOSITORY / installed)
        yield folder
    finally:
        subprocess.run([*git, "worktree", "remove", "--force", str(folder)], check=True)
