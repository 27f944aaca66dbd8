"""A dbt project with every shape that a team's own may have: what it builds, and what is odd in it.

raw_customers (seed) = source ecom.raw_customers ─ stg_customers ─┬─ customers ─┬─ customers_snapshot
countries (seed) ─ eph_countries (ephemeral) ─────────────────────┘             ├─ dim v1, v2
sheet.targets (a source that nothing lands) ─ target_report ────────────────────┤
                                            └ sheet_only                        └─ exposures
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from orchestration.components.dbt import DBT
from orchestration.settings import DBT_PROJECT

SCHEMA = "shop"
LONG_DESCRIPTION = "A line of text. " * 20_000
OWNERS: Mapping[str, dict[str, Any]] = {
    "apostrophe": {"name": "Apostrophe", "email": "o'brien@example.com"},
    "channel": {"name": "Channel", "email": "#data-alerts"},
    "display": {"name": "Display", "email": "Ada Lovelace <ada@example.com>"},
    "long_domain": {"name": "Long", "email": "data@example.engineering"},
    "several": {"name": "Several", "email": ["ada@example.com", "o'brien@example.com"]},
    "team": {"name": "Data Platform & Friends"},
    "plain": {"name": "Plain", "email": "plain@example.com"},
}
"""dbt's groups, each with its owner."""
MODELS: Mapping[str, str] = {
    "stg_customers": "select id, name, country from {{ source('ecom', 'raw_customers') }}",
    "eph_countries": "select code, title from {{ ref('countries') }}",
    "customers": "select c.id, c.name, e.title from {{ ref('stg_customers') }} as c left join {{ ref('eph_countries') }} as e on e.code = c.country",
    "switched_off": "select 1 as id",
    "sizes": "select 1 as id",
    "ticket_notes": "select 1 as id",
    "notes_of_tickets": "select 2 as id",
    "target_report": "select c.id from {{ ref('customers') }} as c cross join {{ source('sheet', 'targets') }}",
    "sheet_only": "select target from {{ source('sheet', 'targets') }}",
    "hourly": "select 1 as id",
    "fresh": "select 1 as id",
    "by_day": "select id, day from {{ ref('days') }}",
    "days": "select 1 as id, timestamp '2026-11-01 00:00:00+00' as day",
    "dim_v1": "select id from {{ ref('customers') }}",
    "dim_v2": "select id, name from {{ ref('customers') }}",
}
STATUSES = ("o d", "o-d", "o.d", "o_d")
"""Of each dbt makes the same name of a test."""
SEEDS = {"raw_customers": "id,name,country\n1,Ada,gb\n2,Grace,us\n", "countries": "code,title\ngb,Britain\nus,States\n"}
MICROBATCH = {
    "materialized": "incremental", "incremental_strategy": "microbatch", "event_time": "day", "batch_size": "day",
    "begin": f"{datetime.now(UTC).date() - timedelta(days=1)}", "partition_by": {"field": "day", "data_type": "timestamp", "granularity": "day"},
}  # fmt: skip

CONFIGS: Mapping[str, dict[str, Any]] = {
    "stg_customers": {"materialized": "view", "group": "apostrophe"},
    "eph_countries": {"materialized": "ephemeral"},
    "customers": {"group": "channel", "tags": ["pii: yes", "größe", "plain", "a/b/c"]},
    "switched_off": {"enabled": False},
    "sizes": {"alias": "größen_tabelle", "group": "display"},
    "notes_of_tickets": {"alias": "ticket-notes", "group": "long_domain"},
    "target_report": {"group": "several"},
    "sheet_only": {"group": "team"},
    "hourly": {"meta": {"partitions": "hourly", "dagster": "yes"}},
    "fresh": {"meta": {"freshness": {"fail_hours": 4}, "dagster": {"owners": [7, "#ops", "team:x"]}}},
    "days": {"meta": {"freshness": {"warn_hours": 9, "fail_hours": "soon"}}, "event_time": "day"},
    "by_day": MICROBATCH,
}
EXPOSURES: list[dict[str, Any]] = [
    {"name": "weekly_numbers", "type": "notebook", "owner": {"name": "Somebody"}, "depends_on": ["ref('customers')", "ref('eph_countries')"]},
    {"name": "board", "type": "dashboard", "owner": {"email": "o'brien@example.com"}, "depends_on": ["ref('target_report')"],
     "config": {"meta": {"vendor": "Tableau Cloud", "slug": "Vorstand & Aufsichtsrat", "audience": "customers"}}},
    {"name": "feed", "type": "application", "owner": {"email": ["a@example.com", "#feed"]}, "depends_on": ["source('ecom', 'raw_customers')"],
     "config": {"meta": {"audience": "internal"}}},
]  # fmt: skip


def write(folder: Path, *, seeds: bool = True, other_database: str | None = None) -> None:
    """Write the project, with a profile of its own.

    Args:
        folder: Where to.
        seeds: Whether the seeds are enabled, as jaffle-shop's are by a variable.
        other_database: A second database, in which a model with an alias of the first one is built.
    """
    for name in ("models", "seeds", "snapshots", "tests"):
        (folder / name).mkdir(parents=True)
    shutil.copytree(DBT_PROJECT / "macros", folder / "macros")
    _dump(
        folder / "dbt_project.yml",
        {
            "name": "shapes", "version": "1.0.0", "config-version": 2, "profile": "dataplatform",
            "models": {"shapes": {"+schema": SCHEMA, "+materialized": "table"}, "team_package": {"+schema": "package"}},
            "seeds": {"shapes": {"+schema": "raw", "+enabled": seeds}},
            "snapshots": {"shapes": {"+schema": "snapshots"}},
            "data_tests": {"+schema": "dbt_tests"},
            "vars": {"late_days": 3},
        },
    )  # fmt: skip
    profiles = yaml.safe_load((DBT_PROJECT / "profiles.yml").read_text())
    _dump(folder / "profiles.yml", profiles)
    models = dict(MODELS)
    if other_database:
        models |= {"elsewhere": "select 3 as id", "twice": "select 4 as id"}
    if not seeds:
        models["customers"] = "select c.id, c.name, c.country as title from {{ ref('stg_customers') }} as c"
        del models["eph_countries"]
    for name, sql in models.items():
        (folder / "models" / f"{name}.sql").write_text(f"{sql}\n")
    for name, rows in SEEDS.items():
        (folder / "seeds" / f"{name}.csv").write_text(rows)
    configs = {name: config for name, config in CONFIGS.items() if name in models}
    if other_database:
        configs |= {"elsewhere": {"alias": "ledger", "database": other_database}, "twice": {"alias": "ledger"}}
    _dump(folder / "models" / "all.yml", _properties(models, configs, seeds=seeds))
    _dump(
        folder / "snapshots" / "snapshots.yml",
        {"version": 2, "snapshots": [{"name": "customers_snapshot", "relation": "ref('customers')",
         "config": {"unique_key": "id", "strategy": "check", "check_cols": "all"}}]},
    )  # fmt: skip
    (folder / "tests" / "adds_up.sql").write_text("select c.id from {{ ref('customers') }} as c join {{ ref('ticket_notes') }} using (id) where false\n")  # fmt: skip
    package = folder / "dbt_packages" / "team_package"
    (package / "models").mkdir(parents=True)
    _dump(package / "dbt_project.yml", {"name": "team_package", "version": "1.0.0", "config-version": 2})
    (package / "models" / "packaged.sql").write_text("select 1 as id\n")
    shutil.copytree(package, folder.parent / "team_package", dirs_exist_ok=True)
    _dump(folder / "packages.yml", {"packages": [{"local": "../team_package"}]})


def parse(folder: Path, target: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    """Make the manifest in `target`, and return it."""
    command = [
        str(DBT), "--quiet", "parse", "--project-dir", str(folder), "--profiles-dir", str(folder),
        "--target-path", str(target), "--log-path", str(target),
    ]  # fmt: skip
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((target / "manifest.json").read_text())


def _properties(models: Mapping[str, str], configs: Mapping[str, dict[str, Any]], *, seeds: bool) -> dict[str, Any]:
    described: list[dict[str, Any]] = [
        {"name": name, "config": config} for name, config in configs.items() if not name.startswith("dim_")
    ]
    [customers] = [one for one in described if one["name"] == "customers"]
    accepted = [{"accepted_values": {"arguments": {"values": ["Ada", "Grace", status]}}} for status in STATUSES]
    customers |= {
        "description": LONG_DESCRIPTION,
        "data_tests": [{"unique": {"name": "tickets.id-is:unique!", "arguments": {"column_name": "id"}}}],
        "columns": [
            {"name": "id", "data_tests": ["unique", {"not_null": {"config": {"severity": "warn", "store_failures": True}}},
             {"relationships": {"arguments": {"to": "ref('ticket_notes')", "field": "id"}, "config": {"severity": "warn"}}}]},
            {"name": "name", "data_tests": [*accepted, {"not_null": {"config": {"error_if": ">10", "warn_if": ">1"}}}]},
        ],
    }  # fmt: skip
    described.append({"name": "dim", "latest_version": 2, "versions": [{"v": 1}, {"v": 2}]})
    source_tests = [{"name": "id", "data_tests": ["not_null", "unique"]}] if seeds else []
    exposures = EXPOSURES if seeds else [one for one in EXPOSURES if "eph_countries" not in str(one)]
    return {
        "version": 2,
        "sources": [
            {"name": "ecom", "schema": "raw", "tables": [{"name": "raw_customers", "columns": source_tests}]},
            {"name": "sheet", "tables": [{"name": "targets"}]},
        ],
        "models": described,
        "groups": [{"name": name, "owner": owner} for name, owner in OWNERS.items()],
        "exposures": exposures,
    }


def _dump(path: Path, value: object) -> None:
    path.write_text(yaml.safe_dump(value, allow_unicode=True, sort_keys=False))
