"""One whole platform for the end-to-end tests: real processes on free ports, in a directory of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, sync_playwright

from sandbox import dagster_api
from sandbox.config import REPOSITORY, SandboxConfig
from sandbox.dagster_api import Asset
from sandbox.services.bigquery import client
from sandbox.stack import stack
from tests import stand_ins

SCALE = "0.2"
EXPLO = ["explo/on_call_load", "explo/post_incident_follow_through", "explo/time_spent_on_incidents"]
"""The dashboards that customers see."""
CHROMIUM_ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@dataclass(frozen=True)
class Platform:
    """A running platform, used as a person would: by its commands, its UI's API and its vendors' APIs."""

    config: SandboxConfig
    environment: dict[str, str]
    demo: str = ""
    """What the first `sandbox demo` printed."""
    switched_on: Mapping[str, bool] = field(default_factory=dict[str, bool])
    """The schedules and sensors, and whether they ran after the demo, before the tests stopped the schedules."""

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

    def ingest(self) -> str:
        """Run the job of the hourly schedule; return its final status."""
        run_id = dagster_api.launch(self.config, job="ingest")
        status = ""
        for status, _events in dagster_api.follow(self.config, run_id, timeout=240):  # noqa: B007
            pass
        return status

    def assets(self) -> dict[str, Asset]:
        return {asset.key: asset for asset in dagster_api.assets(self.config)}

    def pages(self) -> list[dict[str, Any]]:
        return httpx.get(f"{self.config.url('incident_io')}/_inspect/pages", timeout=10).raise_for_status().json()

    def alert_events(self) -> list[dict[str, Any]]:
        return httpx.get(f"{self.config.url('incident_io')}/_inspect/events", timeout=10).raise_for_status().json()

    def open_incidents(self) -> list[dict[str, Any]]:
        headers = {"Authorization": "Bearer local-incident_io-key"}
        url = f"{self.config.url('incident_io')}/v2/incidents"
        live = {"status_category[one_of]": "live"}
        return httpx.get(url, params=live, headers=headers, timeout=10).raise_for_status().json()["incidents"]

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Rows of the warehouse."""
        return [tuple(row.values()) for row in client(self.config).query_and_wait(statement)]

    @contextmanager
    def still(self) -> Generator[None]:
        """Production itself builds nothing until the end of the block: what is written to then, a test has written to."""
        with dagster_api.switched_off(self.config, "downstream"):
            wait_for(lambda: not dagster_api.under_way(self.config), 900, "the runs before end")
            yield

    def supervisor(self):
        return stack(self.config)


wait_for = partial(stand_ins.wait_for, every=0.5)


@pytest.fixture(scope="package")
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
        demo = running.sandbox("demo", "--scale", SCALE)
        switched_on = dagster_api.switched_on(config)
        # Whatever the minute at which the tests run: an hourly run in the midst of one would change what it counts.
        dagster_api.stop_schedules(config)
        wait_for(lambda: not dagster_api.under_way(config), 300, "the runs of the schedules end")
        yield replace(running, demo=demo, switched_on=switched_on)
    finally:
        running.sandbox("down")


@pytest.fixture(scope="package")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A page of a headless Chromium: the system's, or else the one that `playwright install chromium` has left."""
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next((path for name in names if (path := shutil.which(name))), None)
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("chromium"), executable_path=program, headless=True, args=CHROMIUM_ARGUMENTS,
            viewport={"width": 1900, "height": 1100},
        )  # fmt: skip
        yield context.new_page()
        context.close()


@pytest.fixture(autouse=True)
def mended(platform: Platform) -> Iterator[None]:
    yield
    platform.sandbox("mend")
    platform.sandbox("clock", "reset")
