"""A sandbox with BIGQUERY_LOCATION=EU and a project of their own for the sources, as a company in Europe has it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.config import PROJECT, REPOSITORY, SandboxConfig
from sandbox.env_file import environment
from sandbox.services.bigquery import client, raw_client
from sandbox.stack import stack
from tests.dbt.project import Dbt

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
@pytest.mark.timeout(300)
def test_dbt_creates_datasets_where_its_jobs_run_and_reads_no_others(european: SandboxConfig) -> None:
    supervisor = stack(european, only=("warehouse",))
    try:
        supervisor.up(lambda _done: None)
        raw = raw_client(european)
        raw.create_dataset("stripe")
        variables = environment(european)
        dbt = Dbt(european.root / "target", variables)
        assert dbt.run("parse").returncode == 0
        declared = dbt.manifest()["sources"]["source.dataplatform.stripe.customer"]["columns"]
        columns = ", ".join(f"`{name}` {column['data_type']}" for name, column in declared.items())
        raw.query_and_wait(f"create table stripe.customer ({columns})")
        model = ("run", "--select", "stg_stripe__customers")
        assert dbt.run(*model).returncode == 0
        warehouse = client(european)
        assert warehouse.get_dataset("staging").location == raw.get_dataset("stripe").location == "EU"
        done = Dbt(european.root / "target", variables | {"BIGQUERY_LOCATION": "US"}).run(*model)
        assert done.returncode == 1
        assert f"Not found: Dataset {RAW}:stripe was not found in location US" in done.stdout
    finally:
        supervisor.down(lambda _name: None)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_demo_runs_in_europe_with_the_sources_in_a_project_of_their_own(
    european: SandboxConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    print(run("demo", "--scale", "0.1"))
    warehouse = client(european)
    # local-bigquery creates a dataset of its own at its start, which nothing uses.
    found = {
        (project, dataset.dataset_id): str(warehouse.get_dataset(dataset.reference).location)
        for project in (PROJECT, RAW)
        for dataset in warehouse.list_datasets(project)
        if dataset.dataset_id != "local"
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
    assert {dataset.dataset_id for dataset in warehouse.list_datasets(PROJECT)} - {"local"} == BUILT
