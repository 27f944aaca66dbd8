"""One whole platform for the end-to-end tests: real processes on free ports, in a directory of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from sandbox import dagster_api
from sandbox.config import REPOSITORY, SandboxConfig
from sandbox.dagster_api import Asset
from sandbox.stack import stack

SCALE = "0.3"


@dataclass(frozen=True)
class Platform:
    """A running platform, used as a person would: by its commands, its UI's API and its vendors' APIs."""

    config: SandboxConfig
    environment: dict[str, str]
    demo: str = ""
    """What the first `sandbox demo` printed."""

    def sandbox(self, *arguments: str, check: bool = True) -> str:
        """What `sandbox <arguments>` printed. Fails the test, with the output, on another exit status than 0."""
        result = subprocess.run(
            [str(Path(sys.executable).with_name("sandbox")), *arguments],
            env=self.environment,
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
        )
        if check and result.returncode:
            pytest.fail(f"sandbox {' '.join(arguments)}: {result.returncode}\n{result.stdout}{result.stderr}")
        return result.stdout + result.stderr

    def materialize(self, *keys: str) -> tuple[str, str]:
        """Run these assets; return the run's id and its final status."""
        return self._followed(dagster_api.launch(self.config, list(keys)))

    def ingest(self) -> tuple[str, str]:
        """Run the job of the hourly schedule; return the run's id and its final status."""
        return self._followed(dagster_api.launch(self.config, job="ingest"))

    def _followed(self, run_id: str) -> tuple[str, str]:
        status = ""
        for status, _events in dagster_api.follow(self.config, run_id, timeout=240):  # noqa: B007
            pass
        return run_id, status

    def assets(self) -> dict[str, Asset]:
        return {asset.key: asset for asset in dagster_api.assets(self.config)}

    def pages(self) -> list[dict[str, Any]]:
        return httpx.get(f"{self.config.url('incident_io')}/_inspect/pages", timeout=10).raise_for_status().json()

    def alert_events(self) -> list[dict[str, Any]]:
        return httpx.get(f"{self.config.url('incident_io')}/_inspect/events", timeout=10).raise_for_status().json()

    def incidents(self, **filters: str) -> list[dict[str, Any]]:
        headers = {"Authorization": "Bearer local-incident_io-key"}
        url = f"{self.config.url('incident_io')}/v2/incidents"
        return httpx.get(url, params=filters, headers=headers, timeout=10).raise_for_status().json()["incidents"]

    def supervisor(self):
        return stack(self.config)


def wait_for[T](look: Callable[[], T], seconds: float, what: str) -> T:
    """The first true answer of `look`. Fails the test after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (answer := look()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.5)
    return answer


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    root = tmp_path_factory.mktemp("platform")
    environment = os.environ | {"SANDBOX_DIR": str(root), "SANDBOX_PORTS": "free", "COLUMNS": "160"}
    for name in ("SANDBOX_DIR", "SANDBOX_PORTS"):
        os.environ[name] = environment[name]
    try:
        config = SandboxConfig.load()
    finally:
        for name in ("SANDBOX_DIR", "SANDBOX_PORTS"):
            del os.environ[name]
    running = Platform(config, environment)
    try:
        yield replace(running, demo=running.sandbox("demo", "--scale", SCALE))
    finally:
        running.sandbox("down")
