"""The dbt project as the tests run it: the real command, with artifacts in a directory of the test's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox.config import REPOSITORY

PROJECT_DIR = REPOSITORY / "dbt_project"
DBT = Path(sys.executable).with_name("dbt")
ENVIRONMENT = {"GOOGLE_CLOUD_PROJECT": "some-project"}
"""What a parse needs; it asks no warehouse."""


@dataclass(frozen=True)
class Dbt:
    """dbt with one environment and one target directory, so that every run after the first one parses little."""

    target_path: Path
    environment: dict[str, str]
    project_dir: Path = PROJECT_DIR

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a dbt command to its end, whatever its exit status."""
        places = {
            "--project-dir": self.project_dir,
            "--profiles-dir": PROJECT_DIR,
            "--target-path": self.target_path,
            "--log-path": self.target_path,
        }
        options = [str(part) for pair in places.items() for part in pair]
        command = [str(DBT), "--no-use-colors", *arguments, *options]
        return subprocess.run(command, env=os.environ | self.environment, capture_output=True, text=True, timeout=800)

    def manifest(self) -> dict[str, Any]:
        return json.loads((self.target_path / "manifest.json").read_text())

    def statuses(self) -> dict[str, str]:
        """The status of each node of the last run, by the node's name."""
        results = json.loads((self.target_path / "run_results.json").read_text())["results"]
        return {result["unique_id"].split(".")[2]: result["status"] for result in results}
