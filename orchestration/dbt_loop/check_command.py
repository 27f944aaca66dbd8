"""`dataplatform dbt check`: what it reads, and what it prints."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import yaml
from rich.console import Console
from rich.progress import Progress

from orchestration.dbt_loop.workspace import Refused, project_folder
from orchestration.settings import DbtSettings, SettingsError, dbt_settings

if TYPE_CHECKING:
    from orchestration.dbt_loop.check import DryRun
    from orchestration.dbt_loop.check_report import Report
    from orchestration.dbt_loop.check_sql import Consumer, Statement, Verdict

UNCONFIGURED = {"GOOGLE_CLOUD_PROJECT": "any-project", "DBT_TARGET": "prod"}
"""What stands for settings that are not set, as in CI: their values do not matter offline."""


def run(
    select: Sequence[str], variables: str, out: Callable[[str], None], *, as_json: bool, dry_run: bool = False
) -> bool:
    """Check the dbt project that the working directory is in; print the report; return whether nothing was rejected.

    Raises Refused without the analyzer, for variables that are no mapping, and where dbt cannot compile; SettingsError and
    google.api_core's exceptions for a dry run.
    """
    try:
        from orchestration.dbt_loop.check import check
    except ModuleNotFoundError as error:
        if error.name != "googlesql":
            raise
        raise Refused(
            "The package `googlesql` is not installed. Install the development environment: `make install`."
        ) from error

    values = dbt_settings() if dry_run else _settings()
    found = () if select else _consumers(values.dataplatform_state_dir)
    report = check(
        project_folder(Path.cwd()),
        values.google_cloud_project,
        _variables(variables),
        found,
        select,
        _dry_run(values) if dry_run else None,
    )
    out(json.dumps(report.as_json(), indent=1) if as_json else text(report))
    return not report.findings


def text(report: Report) -> str:
    """The report for people: each finding, then what was not judged by reason, then the counts."""
    from orchestration.dbt_loop.check_sql import tally

    lines = [str(finding) for finding in report.findings]
    reasons = tally(reason for _, reason in report.not_judged)
    if reasons:
        lines.append("Not judged:")
        lines += [f"  {count} because {reason}" for reason, count in reasons.items()]
    lines.append(
        f"{report.statements} statements analyzed, {len(report.findings)} rejected, {len(report.not_judged)} not judged"
    )
    return "\n".join(lines)


def _settings() -> DbtSettings:
    try:
        return dbt_settings()
    except SettingsError:
        # Only now, since `.env` fills in nothing that is set.
        for name, value in UNCONFIGURED.items():
            os.environ.setdefault(name, value)
        return dbt_settings()


def _consumers(state: Path) -> Iterable[Consumer]:
    if not any(state.glob("*.json")):
        return ()
    # It imports Dagster, which takes seconds.
    from orchestration.dbt_loop.check_consumers import consumers
    from orchestration.defs_tree import load_tree, read_state_names

    return consumers(state, read_state_names(load_tree()))


def _dry_run(values: DbtSettings) -> DryRun:
    """What judges statements by dry runs. Made first: without credentials the command ends at once."""
    from orchestration.dbt_loop.check_dry_run import judge
    from orchestration.vendors.bigquery_project import bigquery_client

    client = bigquery_client(values.modelled_project, values.bigquery_location)

    def judge_all(statements: Sequence[Statement]) -> Verdict:
        with Progress(console=Console(stderr=True), transient=True) as progress:
            about = f"Dry runs in {values.modelled_project}, {values.bigquery_location}"
            task = progress.add_task(about, total=len(statements))
            return judge(statements, client, lambda done: progress.update(task, completed=done))

    return judge_all


def _variables(text: str) -> dict[str, Any]:
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise Refused(f"--vars is no YAML: {error}") from error
    if not isinstance(found, dict):
        raise Refused("--vars has to be a mapping, such as '{late_days: 4}'.")
    return cast("dict[str, Any]", found)
