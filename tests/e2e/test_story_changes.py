"""Changing models beside a production that runs: a developer's loop, and two pull requests at once. With the platform of the story."""

from __future__ import annotations

import getpass
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orchestration.dbt_loop import deploys
from orchestration.settings import DbtSettings
from sandbox.config import PROJECT, REPOSITORY
from sandbox.env_file import environment
from sandbox.services.bigquery import client
from tests.dbt.project import Dbt
from tests.e2e.conftest import Platform, wait_for
from tests.e2e.worktrees import worktree
from tests.orchestration.processes import only

pytestmark = pytest.mark.timeout(600)

TICKETS, PIPELINE = "support/tickets.sql", "sales/pipeline.sql"
OURS = ("dev_", "ci_")
MINE = "dev_" + re.sub(r"[^a-z0-9]", "", getpass.getuser().lower())
PROGRAM = Path(sys.executable).with_name("dataplatform")


@pytest.fixture(scope="module", autouse=True)
def still(platform: Platform) -> Iterator[None]:
    with platform.still():
        yield


@pytest.fixture(scope="module")
def branch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A git worktree with a mart that was edited."""
    with worktree(tmp_path_factory.mktemp("branch") / "worktree") as folder:
        edit(folder, TICKETS)
        yield folder


@pytest.fixture
def pull_request(tmp_path: Path) -> Iterator[Path]:
    """Another one, with the same edit."""
    with worktree(tmp_path / "pull_request") as folder:
        edit(folder, TICKETS)
        yield folder


@pytest.fixture
def broken(tmp_path: Path) -> Iterator[Path]:
    """One with a mart that cannot be built."""
    with worktree(tmp_path / "broken") as folder:
        edit(folder, PIPELINE, "{{ config(pre_hook='select * from nowhere.at_all') }}\n")
        yield folder


def edit(folder: Path, mart: str, text: str = "{# A change. #}\n") -> None:
    """Have a mart of a checkout begin with `text`."""
    path = folder / "dbt_project" / "models" / "marts" / mart
    path.write_text(text + path.read_text())


def variables(platform: Platform) -> dict[str, str]:
    return only(environment(platform.config))


def datasets(platform: Platform) -> set[str]:
    return {found.dataset_id for found in client(platform.config).list_datasets()}


def modified(platform: Platform) -> dict[str, datetime | None]:
    """When each table of production was last written to, and each of the sources."""
    warehouse = client(platform.config)
    tables = [t for name in datasets(platform) if not name.startswith(OURS) for t in warehouse.list_tables(name)]
    return {f"{table.dataset_id}.{table.table_id}": warehouse.get_table(table).modified for table in tables}


def built(checkout: Path, target: str) -> set[str]:
    """The models that the last invocation built."""
    results = json.loads((checkout / "dbt_project" / "target" / target / "run_results.json").read_text())["results"]
    return {r["unique_id"].split(".")[2] for r in results if r["unique_id"].startswith("model.")}


def test_one_mart_is_built_with_what_is_downstream_and_the_rest_is_productions(
    platform: Platform, branch: Path
) -> None:
    assert platform.assets()["dbt/manifest"].made_at is not None, "the deploy was published"
    before, known = modified(platform), datasets(platform)
    said = subprocess.run(
        ["bash", "-c", "source scripts/dbt_aliases.sh && mfest && dbm"],
        cwd=branch, env=variables(platform), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert said.returncode == 0, said.stdout + said.stderr
    assert built(branch, "dev") == {"tickets", "support_load_by_week"}
    assert "production: commit " in said.stderr
    assert datasets(platform) - known == {f"{MINE}_support"}
    made = client(platform.config).get_table(f"{MINE}_support.tickets")
    assert made.expires is not None
    assert timedelta(days=13) < made.expires - datetime.now(UTC) < timedelta(days=15)
    assert made.num_rows == client(platform.config).get_table("support.tickets").num_rows
    assert modified(platform) == before


def test_models_and_tags_are_completed(platform: Platform, branch: Path) -> None:
    script = """source scripts/dbt_aliases.sh
    for line in "dbs support_load" "drs stg_stripe__inv" "dbs tickets +pipel"; do
      COMP_LINE="$line" COMP_POINT=${#line}; _dbt_complete; echo "${COMPREPLY[@]}"; done"""
    said = subprocess.run(["bash", "-c", script], cwd=branch, capture_output=True, text=True, check=True)
    assert said.stdout.splitlines() == ["support_load_by_week", "stg_stripe__invoices", "+pipeline"]


@pytest.mark.long
def test_a_table_of_mine_that_is_old_does_not_stand_for_productions(platform: Platform, branch: Path) -> None:
    client(platform.config).create_dataset(f"{MINE}_support", exists_ok=True)
    platform.query(f"create or replace table {MINE}_support.tickets as select * from support.tickets limit 0")
    script = "source scripts/dbt_aliases.sh && mfest && drs support_load_by_week"
    subprocess.run(["bash", "-c", script], cwd=branch, env=variables(platform), check=True)
    mine = platform.query(f"select * from {MINE}_support.support_load_by_week order by 1, 2")
    assert mine == platform.query("select * from support.support_load_by_week order by 1, 2")
    subprocess.run([str(PROGRAM), "dbt", "drop"], cwd=branch, env=variables(platform), check=True)
    assert not [name for name in datasets(platform) if name.startswith(OURS)]


@pytest.mark.long
def test_two_pull_requests_at_once_share_nothing_and_leave_nothing(
    platform: Platform, pull_request: Path, broken: Path
) -> None:
    before, folders = modified(platform), [pull_request, broken]
    running = [
        subprocess.Popen(
            [str(PROGRAM), "dbt", "ci", str(number)],
            cwd=folder, env=variables(platform), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for number, folder in enumerate(folders, 1)
    ]  # fmt: skip
    said = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0, 1], said
    assert [built(folder, "ci") for folder in folders] == [{"tickets", "support_load_by_week"}, {"pipeline"}]
    assert ["dropped: ci_pr_1_support\n" in said[0], "dropped: ci_pr_2_sales\n" in said[1]] == [True, True], said
    assert not [name for name in datasets(platform) if name.startswith("ci_")]
    assert modified(platform) == before


@pytest.mark.long
def test_a_pull_requests_job_that_is_cancelled_leaves_nothing(platform: Platform, pull_request: Path) -> None:
    process = subprocess.Popen([str(PROGRAM), "dbt", "ci", "3"], cwd=pull_request, env=variables(platform))
    wait_for(lambda: "ci_pr_3_support" in datasets(platform), 200, "it builds")
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(timeout=120) != 0
    assert not [name for name in datasets(platform) if name.startswith("ci_")]


@pytest.mark.long
def test_sources_models_and_developers_have_a_project_each_where_the_settings_say_so(
    platform: Platform, branch: Path, tmp_path: Path
) -> None:
    before, known = modified(platform), datasets(platform)
    given = variables(platform) | {
        "BIGQUERY_RAW_PROJECT": PROJECT,
        "GOOGLE_CLOUD_PROJECT": "acme-models",
        "BIGQUERY_DEV_PROJECT": "acme-development",
        "DATAPLATFORM_STATE_BUCKET": "three-projects",
        "DATAPLATFORM_STATE_DIR": str(tmp_path / "state"),
    }
    (platform.config.root / "storage" / "three-projects").mkdir()
    subprocess.run([str(PROGRAM), "refresh"], env=given, check=True)
    production = Dbt(tmp_path / "target", given)
    # Tests that read a model which is not selected would look for it in a project that has it not.
    selected = ("--select", "+support_load_by_week", "--indirect-selection", "cautious")
    done = production.run("build", *selected, "--exclude", "resource_type:unit_test")
    assert done.returncode == 0, done.stdout
    subprocess.run([str(PROGRAM), "dbt", "publish"], env=given, check=True)
    script = "source scripts/dbt_aliases.sh && mfest && dbm"
    said = subprocess.run(["bash", "-c", script], cwd=branch, env=given, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout + said.stderr
    assert built(branch, "dev") == {"tickets", "support_load_by_week"}

    def found(project: str) -> set[str]:
        return {dataset.dataset_id for dataset in client(platform.config).list_datasets(project)}

    assert found("acme-models") == {"staging", "intermediate", "support"}
    assert found("acme-development") == {f"{MINE}_support"}
    mine = "select * from `{}`.{}.support_load_by_week order by 1, 2"
    assert platform.query(mine.format("acme-development", f"{MINE}_support")) == platform.query(
        mine.format("acme-models", "support")
    )
    assert (datasets(platform), modified(platform)) == (known, before)


def test_a_job_of_ci_that_fails_on_main_is_an_incident_like_any_other(platform: Platform) -> None:
    facts = [
        "--url",
        "https://ci.example/1",
        "--commit",
        "0123456789abcdef",
        "--dagster-url",
        platform.config.url("dagster"),
    ]

    def told() -> list[str]:
        return [event["status"] for event in platform.alert_events() if event["metadata"]["unit"] == "ci/deploy"]

    subprocess.run([str(PROGRAM), "ci", "failed", "deploy", *facts], check=True)
    wait_for(lambda: told() == ["firing"], 90, "an alert")
    [event] = [event for event in platform.alert_events() if event["metadata"]["unit"] == "ci/deploy"]
    assert event["title"] == "CI job `deploy` failed"
    assert (event["metadata"]["customer_facing"], event["metadata"]["owner"]) == (False, "data-engineering@example.com")
    assert "https://ci.example/1" in event["description"]
    subprocess.run([str(PROGRAM), "ci", "passed", "deploy", *facts], check=True)
    wait_for(lambda: told() == ["firing", "resolved"], 90, "its end")


@pytest.mark.long
def test_what_ci_runs_runs_here(platform: Platform) -> None:
    """The targets that .circleci/config.yml names, but for those that need a Docker engine or a machine to deploy to."""
    given = variables(platform)
    commit = deploys.commit(DbtSettings.model_validate({name.lower(): value for name, value in given.items()}))
    for target in (
        ["definitions"], ["pull-request", "NUMBER=4"], ["pull-request-drop", "NUMBER=4"],
        ["deployed", f"COMMIT={commit}"], ["on-call-plan"],
    ):  # fmt: skip
        done = subprocess.run(
            ["make", "--silent", *target], cwd=REPOSITORY, env=given, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"make {' '.join(target)}\n{done.stdout}{done.stderr}"
