"""Models of a source whose table, or one of its columns, does not exist yet, as Dagster runs them."""

from __future__ import annotations

import os
import shutil
import subprocess
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster_dbt import DbtProject
from google.cloud import bigquery

from orchestration.components.dbt import DBT, DbtModels
from orchestration.settings import DBT_PROJECT
from sandbox.config import PROJECT

pytestmark = pytest.mark.long

# `app.opened` has no column `seconds`, and there is no `app.closed`.
COLUMNS = [{"name": "id", "data_type": "string"}, {"name": "seconds", "data_type": "int64"}]
MODELS = {
    "stg_opened": "select id, seconds from {{ landed_table('app', 'opened') }}",
    "stg_closed": "select id, seconds from {{ landed_table('app', 'closed') }}",
    "counts": "select count(*) as number from {{ ref('stg_opened') }} cross join {{ ref('stg_closed') }}",
}
DAY = date(2026, 11, 2)


@pytest.fixture
def models(configured: None, tmp_path: Path) -> dg.Definitions:
    """The platform's dbt component over a project of three models."""
    folder, target = tmp_path / "project", DbtModels.state_path()
    (folder / "models").mkdir(parents=True)
    shutil.copytree(DBT_PROJECT / "macros", folder / "macros")
    project = {
        "name": "small", "version": "1.0.0", "config-version": 2, "profile": "dataplatform",
        "models": {"small": {"+schema": "small", "+materialized": "table", "+meta": {"partitions": "daily"}}}, "vars": {"late_days": 3},
    }  # fmt: skip
    (folder / "dbt_project.yml").write_text(yaml.safe_dump(project))
    shutil.copy(DBT_PROJECT / "profiles.yml", folder / "profiles.yml")
    for name, sql in MODELS.items():
        (folder / "models" / f"{name}.sql").write_text(f"{sql}\n")
    sources = [{"name": "app", "tables": [{"name": name, "columns": COLUMNS} for name in ("opened", "closed")]}]
    (folder / "models" / "all.yml").write_text(yaml.safe_dump({"version": 2, "sources": sources}))
    client = bigquery.Client(project=PROJECT)
    client.create_dataset("app", exists_ok=True)
    client.query_and_wait("create or replace table app.opened as select 'a' as id")
    places = ["--project-dir", folder, "--profiles-dir", folder, "--target-path", target, "--log-path", target]
    done = subprocess.run(
        [DBT, "--quiet", "parse", *places], env=os.environ | {"DBT_TARGET": "prod"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    dbt = DbtModels(project=DbtProject(folder, target_path=target, profiles_dir=folder, target="prod"))
    dbt.events_since = f"{DAY:%F}"
    return dg.build_defs_for_component(dbt)


def test_the_run_succeeds_and_its_log_warns_of_the_table_and_of_the_column(models: dg.Definitions) -> None:
    instance = dg.DagsterInstance.ephemeral()
    job = models.resolve_implicit_global_asset_job_def()

    result = job.execute_in_process(instance=instance, partition_key=f"{DAY:%F}")

    assert result.success
    warnings = [entry.user_message for entry in instance.all_logs(result.run_id) if entry.level == 30]
    assert sorted(warning.removesuffix("\n") for warning in warnings) == [
        f"Source table `app.closed` ({PROJECT}.app.closed) does not exist yet: `stg_closed` reads it as an empty table.",
        f"Source table `app.opened` ({PROJECT}.app.opened) does not have the column `seconds` yet:"
        " `stg_opened` reads null instead.",
    ]
    client = bigquery.Client(project=PROJECT)
    [opened] = client.query_and_wait("select id, seconds from small.stg_opened")
    assert tuple(opened.values()) == ("a", None)
    kinds = {field.name: field.field_type for field in client.get_table("small.stg_closed").schema}
    assert kinds == {"id": "STRING", "seconds": "INTEGER"}


def test_a_new_day_is_built_although_the_table_was_never_observed(models: dg.Definitions) -> None:
    instance, noon = dg.DagsterInstance.ephemeral(), datetime.combine(DAY, time(12), UTC)
    first = dg.evaluate_automation_conditions(models, instance, evaluation_time=noon)
    second = dg.evaluate_automation_conditions(
        models, instance, evaluation_time=noon + timedelta(days=1), cursor=first.cursor
    )
    requested = {result.key.to_user_string() for result in second.results if not result.true_subset.is_empty}
    assert requested == {f"small/{name}" for name in MODELS}
