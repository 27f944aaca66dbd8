"""Each of dbt's models as a dry run on the configured BigQuery, which costs nothing (https://cloud.google.com/bigquery/docs/running-queries#dry-run)."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

from google.api_core.exceptions import NotFound
from google.cloud import bigquery

from orchestration.components.dbt_files import FOLDER
from orchestration.doctor.bigquery_checks import ADDRESS, JOB_USER, QUERIES
from orchestration.doctor.google_errors import ERRORS, explained
from orchestration.doctor.model import Outcome, Result, failed, ok, secrets, skipped, without
from orchestration.settings import DBT_PROJECT, Settings
from orchestration.vendors.bigquery_dry_run import DryRunRejectedError, dry_run
from orchestration.vendors.bigquery_project import bigquery_client

DBT = Path(sys.executable).with_name("dbt")
NAME = "dbt: dry run"
NEEDS = (
    "GOOGLE_CLOUD_PROJECT",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "BIGQUERY_LOCATION",
    "DBT_TARGET",
    "DATAPLATFORM_STATE_DIR",
)
"""The settings without which nothing can be dry-run."""
AT_ONCE = 8
SECONDS = 60
INLINED = {"model", "snapshot"}
KEYWORDS = (
    "where|group|order|limit|join|left|right|full|inner|cross|on|using|union|intersect|except|having|qualify|window|tablesample|for"
    "|pivot|unpivot"
)
ALIASED = re.compile(rf"\s+(?:as\b|(?!(?:{KEYWORDS})\b)\w)", re.IGNORECASE)
SNAPSHOT = (
    "select *, '' as dbt_scd_id, current_timestamp() as dbt_updated_at, current_timestamp() as dbt_valid_from,"
    " current_timestamp() as dbt_valid_to from"
)
"""What dbt adds to the rows of a snapshot."""


class NotCompiled(RuntimeError):
    """dbt did not compile the project; the message has what it printed."""


def results(values: Settings, broken: Collection[str], checked: Sequence[Result]) -> list[Result]:
    """Compile the project and dry-run its models: a result for each model that fails or waits for one, and one for all."""
    began = time.monotonic()

    def result(name: str, outcome: Outcome) -> Result:
        return Result(name, without(outcome, secrets(values)), time.monotonic() - began)

    asked = [one.outcome for one in checked if one.name == QUERIES]
    if broken or not all(one.status == "ok" for one in asked):
        return [result(NAME, skipped(f"needs {', '.join(sorted(broken)) or f'`{QUERIES}`'}"))]
    try:
        manifest = _compiled(values)
        client = bigquery_client(values.modelled_project, values.bigquery_location)
        models = [node for node in manifest["nodes"].values() if _is_sql(node)]
        found = _existing(client, models)
    except NotCompiled as error:
        return [result(NAME, failed(str(error), "Run `dbt compile` in dbt_project, and see what it says"))]
    except ERRORS as error:
        return [result(NAME, explained(error, f"{JOB_USER} {values.modelled_project}", ADDRESS))]
    statements = {node["unique_id"]: statement(manifest, node, found) for node in models}

    def judge(sql: str) -> Outcome | None:
        return _dry_run(client, values, sql)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        said = dict(zip(statements, pool.map(judge, statements.values()), strict=True))
    lines = [result(name, outcome) for name, outcome in named(manifest, found, said)]
    wrong = sum(one.outcome.status == "failed" for one in lines)
    whole = f"{len(models) - len(lines)} of {len(models)} models pass"
    return [*lines, result(NAME, failed(whole, "See the models above") if wrong else ok(whole))]


def named(
    manifest: Mapping[str, Any], found: Collection[str], said: Mapping[str, Outcome | None]
) -> Iterator[tuple[str, Outcome]]:
    """Name the models that failed with their files; those that have a failed one inside were not judged.

    `said` is the failure of each, None where there was none.
    """
    for key, outcome in said.items():
        if outcome is None:
            continue
        node = manifest["nodes"][key]
        inside = [parent["name"] for parent in _inlined(manifest, node, found) if said.get(parent["unique_id"])]
        if inside:
            yield f"model: {node['name']}", skipped(f"needs `model: {inside[0]}`")
        else:
            yield (
                f"model: {node['name']}",
                failed(f"{DBT_PROJECT.name}/{node['original_file_path']}: {outcome.found}", outcome.remedy),
            )


def statement(manifest: Mapping[str, Any], node: Mapping[str, Any], found: Collection[str]) -> str:
    """Return a model's SQL, with the SQL of each parent that is not in BigQuery yet as a common table expression.

    On the first day no model has been built, and a dry run has to find all that it reads. `found` are the relations that exist.
    """
    parents = _inlined(manifest, node, found)
    if not parents:
        return _code(node)

    def rewritten(code: str) -> str:
        for parent in parents:
            code = _replaced(code, parent)
        return code

    expressions = ",\n".join(f"`{_cte(parent)}` as (\n{rewritten(_selected(parent))}\n)" for parent in parents)
    return f"with {expressions}\nselect * from (\n{rewritten(_code(node))}\n)"


def _compiled(values: Settings) -> dict[str, Any]:
    """Compile the models where nothing else compiles. Raises NotCompiled."""
    with tempfile.TemporaryDirectory(prefix="dataplatform-dry-run-") as folder:
        known = values.dataplatform_state_dir / FOLDER / "partial_parse.msgpack"
        if known.exists():
            shutil.copy(known, folder)
        command = [
            str(DBT), "--quiet", "--no-use-colors", "compile", "--project-dir", str(DBT_PROJECT), "--profiles-dir", str(DBT_PROJECT),
            "--target", values.dbt_target, "--target-path", folder, "--log-path", folder,
            "--select", "resource_type:model", "resource_type:snapshot",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NotCompiled(f"dbt cannot compile {DBT_PROJECT.name}: {done.stdout}{done.stderr}")
        return json.loads((Path(folder) / "manifest.json").read_text("utf-8"))


def _is_sql(node: Mapping[str, Any]) -> bool:
    return node["resource_type"] in INLINED and node.get("language", "sql") == "sql" and bool(node.get("relation_name"))


def _existing(client: bigquery.Client, models: Sequence[Mapping[str, Any]]) -> set[str]:
    """The relations of models that are in BigQuery, as dbt writes them in SQL."""
    there: set[tuple[str, str, str]] = set()
    for project, dataset in {(node["database"], node["schema"]) for node in models}:
        try:
            for table in cast(Any, client.list_tables(f"{project}.{dataset}", timeout=SECONDS)):
                there.add((project, dataset, table.table_id))
        except NotFound:
            continue
    return {node["relation_name"] for node in models if (node["database"], node["schema"], node["alias"]) in there}


def _inlined(manifest: Mapping[str, Any], node: Mapping[str, Any], found: Collection[str]) -> list[Mapping[str, Any]]:
    """The models above this one that are not in BigQuery, each after those that it reads itself."""
    ordered: dict[str, Mapping[str, Any]] = {}

    def visit(child: Mapping[str, Any]) -> None:
        for key in child["depends_on"]["nodes"]:
            parent = manifest["nodes"].get(key)
            if parent is None or key in ordered or parent.get("relation_name") in found:
                continue
            # An ephemeral model is in the compiled SQL of its children already, but what it reads may be missing.
            if _is_sql(parent) or parent["config"].get("materialized") == "ephemeral":
                visit(parent)
            if _is_sql(parent):
                ordered[key] = parent

    visit(node)
    return list(ordered.values())


def _cte(node: Mapping[str, Any]) -> str:
    return f"__{node['unique_id'].replace('.', '__')}"


def _selected(node: Mapping[str, Any]) -> str:
    return f"{SNAPSHOT} (\n{_code(node)}\n)" if node["resource_type"] == "snapshot" else _code(node)


def _code(node: Mapping[str, Any]) -> str:
    return str(node["compiled_code"]).strip().rstrip(";")


def _replaced(code: str, parent: Mapping[str, Any]) -> str:
    """The SQL with a relation's name replaced by that of its common table expression, known by the same alias."""
    before, *parts = code.split(parent["relation_name"])
    for part in parts:
        alias = "" if ALIASED.match(part) else f" as `{parent['alias']}`"
        before += f"`{_cte(parent)}`{alias}{part}"
    return before


def _dry_run(client: bigquery.Client, values: Settings, sql: str) -> Outcome | None:
    """What BigQuery has against a statement; None where it would run it."""
    try:
        dry_run(client, sql, retry_seconds=values.bigquery_retry_seconds)
    except DryRunRejectedError as error:
        # Without the place: lines of the compiled statement are not those of the file.
        return failed(error.message, "Change the model, its sources, or what lands in them")
    except ERRORS as error:
        return explained(error, f"{JOB_USER} {values.modelled_project}", ADDRESS)
    return None
