"""A dbt project of forty models: the third to be built is one that can be broken, and so is a test of another.

    m01 ─ m02 ─┬─ m03 ─┬─ m04 ─ m05 ─ m06
               │       └─ m07 ─ m08
               └─ m09 ─ m10 … m40, with m21 made of m20

One thread builds them, so that most are still to run when the third fails.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import yaml

from orchestration.components.dbt import DBT
from orchestration.settings import DBT_PROJECT

DATASET, RAW = "forty", "raw"
BROKEN, HELD_UP = "m03", ("m04", "m05", "m06", "m07", "m08")
TESTED, BELOW_TESTED = "m20", "m21"
PARENTS: Mapping[str, str] = (
    {"m02": "m01", "m03": "m02", "m04": "m03", "m05": "m04", "m06": "m05", "m07": "m03", "m08": "m07", "m09": "m02"}
    | {f"m{number:02}": "m09" for number in range(10, 41)}
    | {"m21": "m20"}
)
MODELS = ("m01", *PARENTS)
COLUMNS = {BROKEN: "extra", TESTED: "note"}
"""The column that a model reads from the raw table of its own name."""


def write(folder: Path) -> None:
    """The project, with a profile of its own."""
    (folder / "models").mkdir(parents=True)
    shutil.copytree(DBT_PROJECT / "macros", folder / "macros")
    project = {
        "name": "forty", "version": "1.0.0", "config-version": 2, "profile": "dataplatform",
        "models": {"forty": {"+schema": DATASET, "+materialized": "table"}},
        "vars": {"late_days": 3},
    }  # fmt: skip
    (folder / "dbt_project.yml").write_text(yaml.safe_dump(project))
    profiles = yaml.safe_load((DBT_PROJECT / "profiles.yml").read_text())
    for output in profiles["dataplatform"]["outputs"].values():
        output["threads"] = 1
    (folder / "profiles.yml").write_text(yaml.safe_dump(profiles))
    for model in MODELS:
        (folder / "models" / f"{model}.sql").write_text(_sql(model))
    sources = [{"name": RAW, "tables": [{"name": model} for model in COLUMNS]}]
    not_null = {"name": COLUMNS[TESTED], "data_tests": ["not_null"]}
    models = [{"name": TESTED, "columns": [not_null]}]
    (folder / "models" / "all.yml").write_text(yaml.safe_dump({"version": 2, "sources": sources, "models": models}))


def parse(folder: Path, target: Path, environment: Mapping[str, str]) -> None:
    """Make the manifest in `target`."""
    command = [
        str(DBT), "--quiet", "parse", "--project-dir", str(folder), "--profiles-dir", str(folder),
        "--target-path", str(target), "--log-path", str(target),
    ]  # fmt: skip
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def ended_at(log: Path, model: str) -> tuple[str, int]:
    """When dbt said that a model ended (ISO 8601), and which of the models it was to end, from 1 on."""
    ended = 0
    for line in log.read_text().splitlines():
        event = json.loads(line)
        if event["info"]["name"] != "NodeFinished" or event["data"]["node_info"]["resource_type"] != "model":
            continue
        ended += 1
        if event["data"]["node_info"]["node_name"] == model:
            return event["info"]["ts"], ended
    raise AssertionError(f"{log} does not say that {model} ended")


def _sql(model: str) -> str:
    if (parent := PARENTS.get(model)) is None:
        return "select 1 as id\n"
    if (column := COLUMNS.get(model)) is None:
        return f"select id from {{{{ ref('{parent}') }}}}\n"
    return (
        f"select parent.id, own.{column}\n"
        f"from {{{{ ref('{parent}') }}}} as parent\n"
        f"left join {{{{ source('{RAW}', '{model}') }}}} as own on own.id = parent.id\n"
    )
