"""A whole demo with BIGQUERY_LOCATION=EU and a project of their own for the sources, as a company in Europe has it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.config import PROJECT, REPOSITORY, SandboxConfig
from sandbox.services.bigquery import client

RAW = "acme-sources"
LANDED = {
    "dataplatform", "incident_io", "mobile", "product_events", "product_public", "salesforce", "stripe", "web_app", "website",
    "zendesk",
}  # fmt: skip
BUILT = {
    "core", "data_platform", "finance", "hightouch_audit", "insights", "intermediate", "product", "sales", "snapshots", "staging",
    "support",
}  # fmt: skip


@pytest.fixture
def european(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SandboxConfig]:
    """A sandbox whose variables are set for it and for every process that it starts."""
    given = {"SANDBOX_DIR": str(tmp_path / "sandbox"), "SANDBOX_PORTS": "free"}
    for name, value in (given | {"BIGQUERY_LOCATION": "EU", "BIGQUERY_RAW_PROJECT": RAW}).items():
        monkeypatch.setenv(name, value)
    yield SandboxConfig.load()
    run("down")


def run(*arguments: str) -> str:
    command = [str(Path(sys.executable).with_name("sandbox")), *arguments]
    done = subprocess.run(command, env=os.environ, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(f"sandbox {' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_demo_runs_in_europe_with_the_sources_in_a_project_of_their_own(
    european: SandboxConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    print(run("demo", "--scale", "0.1"))
    warehouse = client(european)
    found = {
        (project, dataset.dataset_id): str(warehouse.get_dataset(dataset.reference).location)
        for project in (PROJECT, RAW)
        for dataset in warehouse.list_datasets(project)
    }
    for (project, dataset), location in sorted(found.items()):
        print(f"{project}.{dataset}: {location}")
    assert {dataset for project, dataset in found if project == RAW} == LANDED
    assert {dataset for project, dataset in found if project == PROJECT} == BUILT
    assert set(found.values()) == {"EU"}
    # A second start has the same location without the variables, and lands an hour more in the same project.
    monkeypatch.delenv("BIGQUERY_LOCATION")
    monkeypatch.delenv("BIGQUERY_RAW_PROJECT")
    run("tick")
    assert {dataset.dataset_id for dataset in warehouse.list_datasets(PROJECT)} == BUILT
