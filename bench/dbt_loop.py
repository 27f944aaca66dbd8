"""What building one edited mart takes, against building it with its ancestors and against dbt alone: `uv run python -m bench.dbt_loop`.

Needs the sandbox of `make demo`, running. Works in a copy of the dbt project and in datasets of its own, which it drops. Prints the
median of three builds in seconds, one after another in turn, and the two ratios.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from sandbox.config import REPOSITORY, SandboxConfig
from sandbox.env_file import environment

REPEATS = 3
MART = "account_health"
EDITED = f"models/marts/sales/{MART}.sql"
PREFIX = "dev_bench"
BIN = Path(sys.executable).parent


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="dbt-loop-") as directory:
        project = Path(directory) / "dbt_project"
        shutil.copytree(REPOSITORY / "dbt_project", project, ignore=shutil.ignore_patterns("target", "logs"))
        edited = project / EDITED
        edited.write_text("{# A change. #}\n" + edited.read_text())
        state = Path(directory) / "state"
        variables = os.environ | environment(SandboxConfig.load())
        variables |= {"DATAPLATFORM_STATE_DIR": str(state), "DBT_SCHEMA_PREFIX": PREFIX}
        run(["dataplatform", "dbt", "mfest"], project, variables)
        [production] = (state / "production").glob("[0-9]*")
        places = ["--project-dir", ".", "--profiles-dir", ".", "--target", "dev", "--target-path", "target/dev"]
        defer = ["--defer", "--favor-state", "--state", str(production)]
        commands = {
            "dbm": ["dataplatform", "dbt", "dbm"],
            "dbt build -s state:modified+ --defer --state": ["dbt", "build", "-s", "state:modified+", *defer, *places],
            # Without tests that read what is not selected, since there is no other table for them.
            f"dbt build -s +{MART}": ["dbt", "build", "-s", f"+{MART}", "--indirect-selection", "cautious", *places],
        }
        took: dict[str, list[float]] = {name: [] for name in commands}
        try:
            for _ in range(REPEATS):
                for name, command in commands.items():
                    took[name].append(run(command, project, variables))
        finally:
            run(["dataplatform", "dbt", "drop"], project, variables)
    dbm, plain, whole = (statistics.median(seconds) for seconds in took.values())
    for name, seconds in took.items():
        print(f"{name}: {statistics.median(seconds):.1f} s")
    print(f"dbm against a build of its ancestors: {dbm / whole:.2f}")
    print(f"dbm against dbt alone: {dbm / plain:.2f}")


def run(command: list[str], folder: Path, variables: Mapping[str, str]) -> float:
    """The seconds of one run. Fails with what it printed."""
    began = time.perf_counter()
    done = subprocess.run(
        [str(BIN / command[0]), *command[1:]],
        cwd=folder,
        env=dict(variables),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}")
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
