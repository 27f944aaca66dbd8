"""`dataplatform doctor --dry-run`: every model of this project, before any was built, on a warehouse with empty sources."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from orchestration.doctor.dry_run import named, statement
from orchestration.doctor.model import failed
from sandbox.config import SandboxConfig
from sandbox.env_file import environment
from sandbox.services.bigquery import client
from sandbox.stack import stack
from tests.dbt.project import Dbt
from tests.orchestration.processes import python


def node(name: str, sql: str, *parents: str, kind: str = "model", **more: Any) -> dict[str, Any]:
    return {
        "unique_id": f"{kind}.p.{name}", "resource_type": kind, "name": name, "alias": name, "relation_name": f"`p`.`d`.`{name}`",
        "compiled_code": sql, "original_file_path": f"models/{name}.sql", "depends_on": {"nodes": list(parents)}, "config": {},
    } | more  # fmt: skip


def manifest(*nodes: dict[str, Any]) -> dict[str, Any]:
    return {"nodes": {one["unique_id"]: one for one in nodes}}


CHAIN = manifest(
    node("stg", "select id from `p`.`raw`.`t`;\n"),
    node("mid", "with stg as (select * from `p`.`d`.`stg`) select id from stg -- all", "model.p.stg"),
    node(
        "mart", "select m.id, stg.id from `p`.`d`.`mid` as m join `p`.`d`.`stg` on true", "model.p.mid", "model.p.stg"
    ),
)


def test_parents_that_are_not_built_yet_are_part_of_the_statement() -> None:
    mart = CHAIN["nodes"]["model.p.mart"]
    assert statement(CHAIN, mart, ()) == (
        "with `__model__p__stg` as (\nselect id from `p`.`raw`.`t`\n),\n"
        "`__model__p__mid` as (\nwith stg as (select * from `__model__p__stg` as `stg`) select id from stg -- all\n)\n"
        "select * from (\nselect m.id, stg.id from `__model__p__mid` as m join `__model__p__stg` as `stg` on true\n)"
    )
    # What is built is read, and nothing above it is needed.
    assert statement(CHAIN, mart, {"`p`.`d`.`mid`", "`p`.`d`.`stg`"}) == mart["compiled_code"]
    assert "__model__p__mid" not in statement(CHAIN, mart, {"`p`.`d`.`mid`"})


def test_a_snapshot_has_the_columns_that_dbt_adds_and_an_ephemeral_model_is_passed_through() -> None:
    found = manifest(
        node("stg", "select 1 as id"),
        node("gone", "select id from `p`.`d`.`stg`", "model.p.stg", relation_name=None, config={"materialized": "ephemeral"}),
        node("history", "with __dbt__cte__gone as (select id from `p`.`d`.`stg`) select id from __dbt__cte__gone", "model.p.gone",
             kind="snapshot"),
        node("mart", "select dbt_valid_to from `p`.`d`.`history`", "snapshot.p.history"),
    )  # fmt: skip
    written = statement(found, found["nodes"]["model.p.mart"], ())
    assert "as dbt_valid_to from (\nwith __dbt__cte__gone as (select id from `__model__p__stg` as `stg`)" in written


def test_a_model_with_a_failed_one_inside_is_not_judged() -> None:
    said = {
        "model.p.stg": failed("no column id", "x"),
        "model.p.mid": failed("no column id", "x"),
        "model.p.mart": None,
    }
    assert dict(named(CHAIN, (), said)) == {
        "model: stg": failed("dbt_project/models/stg.sql: no column id", "x"),
        "model: mid": dict(named(CHAIN, (), said))["model: mid"],
    }
    assert dict(named(CHAIN, (), said))["model: mid"].status == "skipped"
    assert dict(named(CHAIN, {"`p`.`d`.`stg`"}, said))["model: mid"].status == "failed"


@pytest.fixture(scope="module")
def first_day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SandboxConfig, Mapping[str, str]]]:
    """A warehouse in which every source has landed without a row, and no model was built."""
    root = tmp_path_factory.mktemp("first-day")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SANDBOX_DIR", str(root))
        patch.setenv("SANDBOX_PORTS", "free")
        config = SandboxConfig.load()
    supervisor = stack(config, only=("warehouse", "storage"))
    try:
        supervisor.up(lambda _done: None)
        dbt = Dbt(root / "state" / "dbt", environment(config))
        assert dbt.run("parse").returncode == 0
        warehouse = client(config)
        for source in dbt.manifest()["sources"].values():
            warehouse.create_dataset(source["schema"], exists_ok=True)
            columns = [f"`{name}` {column['data_type']}" for name, column in source["columns"].items()]
            by_load = " partition by _partitiondate" if source["source_name"].startswith("segment") else ""
            statement = f"create table {source['schema']}.{source['identifier']} ({', '.join(columns)}){by_load}"
            warehouse.query_and_wait(statement)
        yield config, environment(config)
    finally:
        supervisor.down(lambda _name: None)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_every_model_is_dry_run_before_any_is_built(first_day: tuple[SandboxConfig, Mapping[str, str]]) -> None:
    config, variables = first_day
    lines = doctor(config.root, variables)
    print(*(line for name, line in lines.items() if name.startswith(("model: ", "dbt: dry run"))), sep="\n")
    assert [name for name in lines if name.startswith("model: ")] == []
    assert lines["dbt: dry run"]["status"] == "ok"
    assert {line["status"] for name, line in lines.items() if name.startswith("columns: ")} == {"ok"}
    # Stripe lands without a column that a staging model reads: the model is named, and what is built on it is not judged.
    client(config).query_and_wait(
        "create or replace table stripe.invoice as select * except (amount_due) from stripe.invoice"
    )
    lines = doctor(config.root, variables)
    line = lines["model: stg_stripe__invoices"]
    print(line)
    assert line["status"] == "failed"
    assert line["found"].startswith("dbt_project/models/staging/stripe/stg_stripe__invoices.sql: ")
    assert "amount_due" in line["found"]
    assert lines["model: invoices"]["found"] == "needs `model: stg_stripe__invoices`"
    assert "model: stg_stripe__customers" not in lines
    assert "column `amount_due` of `stripe.invoice` is missing" in lines["columns: stripe"]["found"]


def doctor(folder: Path, variables: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    done = python(folder, variables, "-m", "orchestration.cli", "doctor", "--json", "--dry-run", "--timeout", "60")
    return {line["name"]: line for line in json.loads(done.stdout)}
