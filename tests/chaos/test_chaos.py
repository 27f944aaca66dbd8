"""A short chaos, by the command that `make chaos` is: what is broken in it, and the long one, are described in docs/chaos.md."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.config import REPOSITORY

DURATION, SEED = 30, 7


@pytest.mark.timeout(900)
def test_no_failure_is_unheard_and_no_page_unearned(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "tests.chaos",
        "--duration",
        str(DURATION),
        "--seed",
        str(SEED),
        "--root",
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=REPOSITORY, env=os.environ, capture_output=True, text=True, timeout=880)
    print(done.stdout, done.stderr[-5000:])
    last = done.stdout.splitlines()[-1]
    assert re.fullmatch(r"injected [1-9]\d*, lost 0, duplicated 0, wrongly paged 0, left open 0", last)
    assert done.returncode == 0
