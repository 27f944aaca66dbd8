from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any, ClassVar, override

import dagster as dg
import pytest
from dagster_dbt import DbtProject

from orchestration.components.dbt import MANIFEST as MANIFEST_FILE
from orchestration.components.dbt import PARTIAL_PARSE, DbtModels, linked, partition_arguments
from orchestration.components.dbt_events import NodeLog, of_statement, skipped
from orchestration.components.dbt_exposures import exposure
from orchestration.components.dbt_failures import failed_node, failed_units, permanent
from orchestration.settings import REPOSITORY


def model(name: str) -> dict[str, Any]:
    return {
        "unique_id": f"model.p.{name}",
        "resource_type": "model",
        "name": name,
        "schema": "s",
        "config": {"schema": "s"},
    }


def check(name: str, on: str | None, reads: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "unique_id": f"test.p.{name}", "resource_type": "test", "name": name, "attached_node": on and f"model.p.{on}",
        "depends_on": {"nodes": [f"model.p.{read}" for read in reads]},
    }  # fmt: skip


NODES = [
    model("a"),
    model("b"),
    model("c"),
    model("other"),
    check("not_null_a", "a"),
    check("adds_up", None, ("b", "a")),
]
MANIFEST: dict[str, Any] = {
    "nodes": {node["unique_id"]: node for node in NODES},
    "sources": {},
    "exposures": {"exposure.p.e": {"unique_id": "exposure.p.e", "resource_type": "exposure", "name": "e"}},
    "child_map": {
        "model.p.a": ["test.p.not_null_a", "model.p.b"],
        "model.p.b": ["model.p.c"],
        "model.p.c": ["exposure.p.e"],
    },
}


def result(unique_id: str, status: str, message: str | None = None) -> dict[str, Any]:
    return {"unique_id": unique_id, "status": status, "message": message}


def test_a_model_in_error_is_a_unit_with_what_it_holds_up() -> None:
    [unit] = failed_units(
        MANIFEST,
        [
            result("model.p.a", "error", "Database Error\n  no such column"),
            result("model.p.b", "skipped"),
            result("model.p.c", "skipped"),
            result("test.p.not_null_a", "skipped"),
            result("exposure.p.e", "skipped"),
            result("model.p.other", "success"),
        ],
    )
    assert (unit.unit, unit.asset_keys) == ("dbt/s/a", ("s/a",))
    assert unit.error == "Database Error\n  no such column"
    assert unit.held_up == ("s/b", "s/c")


def test_a_failed_test_counts_against_its_model() -> None:
    [unit] = failed_units(
        MANIFEST, [result("model.p.a", "success"), result("test.p.not_null_a", "fail", "Got 3 results")]
    )
    assert (unit.unit, unit.error) == ("dbt/s/a", "test not_null_a fail: Got 3 results")


def test_a_test_on_no_model_counts_against_the_first_that_it_reads() -> None:
    [unit] = failed_units(MANIFEST, [result("test.p.adds_up", "fail")])
    assert unit.unit == "dbt/s/b"


def test_a_test_says_of_which_model_it_is() -> None:
    named = check("adds_up", None, ("b", "a")) | {"config": {"meta": {"dagster": {"ref": {"name": "c"}}}}}
    manifest = MANIFEST | {"nodes": MANIFEST["nodes"] | {named["unique_id"]: named}}
    [unit] = failed_units(manifest, [result("test.p.adds_up", "fail")])
    assert unit.unit == "dbt/s/c"


def test_several_failures_of_a_model_are_one_unit() -> None:
    [unit] = failed_units(MANIFEST, [result("test.p.not_null_a", "fail", "x"), result("model.p.a", "error", "y")])
    assert unit.error == "test not_null_a fail: x y"


def test_a_failed_test_on_a_source_counts_against_the_models_that_read_it() -> None:
    source = {"unique_id": "source.p.raw.t", "resource_type": "source", "name": "t", "schema": "raw", "identifier": "t"}
    on_source = check("fresh", None) | {"depends_on": {"nodes": ["source.p.raw.t"]}}
    manifest = MANIFEST | {
        "sources": {"source.p.raw.t": source},
        "nodes": MANIFEST["nodes"] | {"test.p.fresh": on_source},
        "child_map": MANIFEST["child_map"] | {"source.p.raw.t": ["model.p.a", "test.p.fresh"]},
    }
    [unit] = failed_units(manifest, [result("test.p.fresh", "fail", "x"), result("model.p.a", "skipped")])
    assert (unit.unit, unit.asset_keys) == ("dbt/raw/t", ("s/a",))


def test_a_hook_that_fails_keeps_its_error_and_names_what_was_not_built() -> None:
    [unit] = failed_units(
        MANIFEST, [result("operation.p.on-run-start-0", "error", "no"), result("model.p.a", "skipped")]
    )
    assert (unit.unit, unit.asset_keys, unit.error) == ("dbt/operation.p.on-run-start-0", ("s/a",), "no")


def with_nodes(*nodes: dict[str, Any], children: dict[str, list[str]]) -> dict[str, Any]:
    """The manifest with more nodes; `children` replaces the children of the nodes that it names."""
    functions = {node["unique_id"]: node for node in nodes if node["resource_type"] == "function"}
    others = {node["unique_id"]: node for node in nodes if node["unique_id"] not in functions}
    return MANIFEST | {
        "nodes": MANIFEST["nodes"] | others,
        "functions": functions,
        "child_map": MANIFEST["child_map"] | children,
    }


def test_a_test_on_an_ephemeral_model_counts_against_the_nearest_assets_below() -> None:
    ephemeral = model("e") | {"config": {"schema": "s", "materialized": "ephemeral"}}
    second = model("e2") | {"config": {"schema": "s", "materialized": "ephemeral"}}
    manifest = with_nodes(
        ephemeral, second, check("unique_e", "e"),
        children={"model.p.e": ["test.p.unique_e", "model.p.e2"], "model.p.e2": ["model.p.a", "model.p.other"]},
    )  # fmt: skip
    failed = result("test.p.unique_e", "fail", "Got 2 results")
    skipped = [result(f"model.p.{name}", "skipped") for name in "abc"]
    [unit] = failed_units(manifest, [failed, *skipped])
    assert (unit.unit, unit.asset_keys, unit.held_up) == ("dbt/s/e", ("s/a", "s/other"), ("s/b", "s/c"))
    early = failed_node(manifest, failed, {"s/a", "s/b", "s/c", "s/other"})
    assert early is not None
    assert (early.unit, early.asset_keys, early.held_up) == (unit.unit, unit.asset_keys, unit.held_up)


def test_a_function_that_fails_names_only_what_is_below_it() -> None:
    function = {"unique_id": "function.p.f", "resource_type": "function", "name": "f", "schema": "s", "config": {}}
    manifest = with_nodes(function, children={"function.p.f": ["model.p.other"]})
    results = [
        result("function.p.f", "error", "Database Error in function f (functions/f.sql)\n  Syntax error: x"),
        result("model.p.other", "skipped"),
        result("model.p.a", "error", "Database Error"),
        result("model.p.b", "skipped"),
        result("model.p.c", "skipped"),
    ]
    units = {unit.unit: unit for unit in failed_units(manifest, results)}
    assert units["dbt/function.p.f"].asset_keys == ("s/other",)
    assert units["dbt/s/a"].held_up == ("s/b", "s/c")


def test_a_hook_does_not_claim_what_another_failure_has_skipped() -> None:
    results = [
        result("model.p.a", "error", "Database Error"),
        result("model.p.b", "skipped"),
        result("operation.p.on-run-end-0", "error", "no"),
    ]
    units = {unit.unit: unit for unit in failed_units(MANIFEST, results)}
    assert units["dbt/operation.p.on-run-end-0"].asset_keys == ()


def test_a_microbatch_model_names_its_failed_batches_and_their_reason() -> None:
    batches = [[f"2026-11-0{day}T00:00:00+00:00", f"2026-11-0{day + 1}T00:00:00+00:00"] for day in range(1, 8)]
    partial = result("model.p.a", "partial success", "PARTIAL SUCCESS (3/10)") | {"batch_results": {"failed": batches}}
    [unit] = failed_units(MANIFEST, [partial], {"model.p.a": ["Bad double value: x", "Bad double value: x"]})
    assert unit.error == (
        "PARTIAL SUCCESS (3/10). Failed batches: 2026-11-01T00:00:00+00:00, 2026-11-02T00:00:00+00:00, 2026-11-03T00:00:00+00:00, "
        "2026-11-04T00:00:00+00:00, 2026-11-05T00:00:00+00:00 and 2 more\nBad double value: «value»"
    )
    assert not unit.permanent


IN_CONTRACTS = "Database Error in model contracts (models/marts/contracts.sql)\n  "


@pytest.mark.parametrize(
    "message",
    [
        f"{IN_CONTRACTS}Retrying the job may solve the problem.\n  compiled code at target/run/contracts.sql",
        f"{IN_CONTRACTS}The job encountered an internal error during execution and was unable to complete successfully.",
        f"{IN_CONTRACTS}Not found: Job local-dev:US.0a1b was not found",
        f"{IN_CONTRACTS}503 POST https://bigquery.googleapis.com/bigquery/v2/projects/p/jobs: Visibility check was unavailable.",
        f"{IN_CONTRACTS}Not found: Table p:core.incidents__dbt_tmp was not found in location US",
        f"{IN_CONTRACTS}Exceeded rate limits: too many table update operations for this table.",
        f"{IN_CONTRACTS}Could not serialize access to table p:core.not_found due to concurrent update",
        "Database Error in model syntax_error (models/syntax error/access_denied.sql)\n  Bad double value: does not exist",
        "Database Error in model a (models/a.sql)\n  Division by zero: 'Unrecognized name: x'",
    ],
)
def test_what_a_later_try_may_not_get_is_tried_again(message: str) -> None:
    assert not permanent({"status": "error", "message": message})


@pytest.mark.parametrize(
    "message",
    [
        "Compilation Error in model a (models/a.sql)\n  depends on a node named 'timed out' which was not found",
        f"{IN_CONTRACTS}Unrecognized name: nam; Did you mean name? at [3:4]",
        f"{IN_CONTRACTS}Syntax error: Unexpected keyword NULLS at [1:18]\n  compiled code at target/run/timeout.sql",
        f"{IN_CONTRACTS}Access Denied: Table p:core.retrying: User does not have permission to query table p:core.retrying",
        f"{IN_CONTRACTS}Not found: Table p:core.incidents was not found in location US",
        f"{IN_CONTRACTS}No matching signature for function SUM for argument types: STRING.",
        f"{IN_CONTRACTS}This model has an enforced contract that failed.\n  Please ensure the name, data_type, and number",
        f"{IN_CONTRACTS}Name connection_id not found inside t at [2:3]",
    ],
)
def test_what_the_same_sql_gets_again_is_permanent(message: str) -> None:
    assert permanent({"status": "error", "message": message})


def test_a_microbatch_model_is_permanent_only_if_each_of_its_batches_is() -> None:
    error = {"status": "error", "message": "ERROR"}
    assert permanent(error, ["Syntax error: x", "Unrecognized name: y"])
    assert not permanent(error, ["Syntax error: x", "Retrying the job may solve the problem"])


def test_warnings_and_what_was_only_skipped_are_no_failures() -> None:
    assert failed_units(MANIFEST, [result("test.p.not_null_a", "warn"), result("model.p.b", "skipped")]) == []


@pytest.mark.parametrize(
    ("meta", "key", "audience", "changes"),
    [
        ({}, "dashboard/load", "internal", 2),
        ({"vendor": "explo", "slug": "x"}, "explo/x", "internal", 1),
        ({"vendor": "explo", "slug": "x", "audience": "everybody"}, "explo/x", "customer", 1),
        ({"audience": "customer"}, "dashboard/load", "customer", 1),
        ({"vendor": ["explo"], "slug": 7, "audience": "internal"}, "dashboard/7", "internal", 1),
    ],
)
def test_an_exposure_that_does_not_say_who_reads_it_is_an_asset_by_its_kind_and_name(
    meta: dict[str, Any], key: str, audience: str, changes: int
) -> None:
    node = {"name": "load", "type": "dashboard", "original_file_path": "models/e.yml", "config": {"meta": meta}}
    found = exposure(MANIFEST, node)
    assert (found.key.to_user_string(), found.audience, len(found.changes)) == (key, audience, changes)


def test_an_exposure_of_a_metric_reads_the_model_below_it() -> None:
    manifest = MANIFEST | {
        "metrics": {"metric.p.m": {"depends_on": {"nodes": ["semantic_model.p.s"]}}},
        "semantic_models": {"semantic_model.p.s": {"depends_on": {"nodes": ["model.p.b"]}}},
    }
    node = {
        "name": "load", "original_file_path": "models/e.yml", "owner": {"email": "a@example.com"},
        "depends_on": {"nodes": ["metric.p.m", "model.p.a"]},
        "config": {"meta": {"vendor": "omni", "slug": "load", "audience": "internal"}},
    }  # fmt: skip
    assert {key.to_user_string() for key in exposure(manifest, node).reads} == {"s/a", "s/b"}


@pytest.mark.parametrize(
    ("tags", "days"),
    [
        ({"dagster/partition": "2026-11-02"}, ("2026-11-02", "2026-11-02")),
        (
            {
                "dagster/asset_partition_range_start": "2026-11-02",
                "dagster/asset_partition_range_end": "2026-11-08",
            },
            ("2026-11-02", "2026-11-08"),
        ),
    ],
)
def test_a_run_of_days_is_one_invocation_for_the_whole_range(tags: dict[str, str], days: tuple[str, str]) -> None:
    option, values = partition_arguments(tags)
    assert (option, json.loads(values)) == ("--vars", {"partition_start": days[0], "partition_end": days[1]})


def test_a_tag_lets_a_run_empty_its_days() -> None:
    option, values = partition_arguments({"dagster/partition": "2026-11-02", "dataplatform/allow_empty_days": "true"})
    days = {"partition_start": "2026-11-02", "partition_end": "2026-11-02"}
    assert (option, json.loads(values)) == ("--vars", days | {"allow_empty_days": True})


def test_a_run_without_days_leaves_them_to_dbt() -> None:
    assert partition_arguments({"dagster/job": "ingest"}) == []


def test_all_rows_are_known_only_of_a_table_that_was_written_wholly() -> None:
    made = {"code": "CREATE TABLE", "rows_affected": 12, "bytes_billed": 10485760, "slot_ms": 250, "job_id": "x"}
    assert of_statement(made) == {
        "bytes_billed": 10485760,
        "slot_ms": 250,
        "rows_moved": 12,
        "dagster/row_count": 12,
    }
    assert of_statement(made | {"code": "MERGE", "slot_ms": None}) == {"bytes_billed": 10485760, "rows_moved": 12}


def test_the_end_of_a_node_is_read_from_a_log_that_is_still_being_written(tmp_path: Path) -> None:
    file = tmp_path / "dbt.log"
    line = json.dumps({
        "info": {"name": "NodeFinished"},
        "data": {"node_info": {"unique_id": "model.p.a"}, "run_result": {"message": "ok"}},
    }).encode()  # fmt: skip
    noise = json.dumps({"info": {"name": "SQLQuery"}, "data": {"sql": 'select "NodeFinished"'}}).encode()

    def write() -> None:
        with file.open("wb", buffering=0) as log:
            for part in (noise + b"\n" + line[:20], line[20:], b"\n"):
                time.sleep(0.05)
                log.write(part)

    writer = threading.Thread(target=write)
    writer.start()
    assert NodeLog(file).result("model.p.a") == {"message": "ok"}
    writer.join()


def test_a_skipped_model_says_which_ancestor_stopped_it() -> None:
    remark = skipped("insights/load", "staging/pages", "no such column")
    assert remark.asset_key == dg.AssetKey(["insights", "load"])
    assert remark.description == "Not built: `staging/pages` failed."
    assert remark.metadata["error"].value == "no such column"


@pytest.mark.parametrize(
    ("code_url", "link"),
    [
        (
            "https://github.com/acme/data/tree/main",
            "https://github.com/acme/data/tree/main/dbt_project/models/a.sql#L1",
        ),
        (
            "https://gitlab.com/acme/team/data/-/tree/main",
            "https://gitlab.com/acme/team/data/-/tree/main/dbt_project/models/a.sql#L1",
        ),
    ],
)
def test_a_model_is_linked_to_its_file_in_the_repository(code_url: str, link: str) -> None:
    here = dg.LocalFileCodeReference(file_path=str(REPOSITORY / "dbt_project" / "models" / "a.sql"), line_number=1)

    @dg.asset(metadata={"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=[here])})
    def a() -> None: ...

    [found] = linked([a], code_url)
    [reference] = found.metadata_by_key[dg.AssetKey("a")]["dagster/code_references"].code_references
    assert reference.url == link


class Parsed(DbtModels):
    """dbt's models, whose parse leaves `manifest`."""

    manifest: ClassVar[dict[str, Any]]

    @override
    def write_state_to_path(self, state_path: Path) -> None:
        (state_path / MANIFEST_FILE).write_text(json.dumps(self.manifest))
        (state_path / PARTIAL_PARSE).touch()


@pytest.mark.usefixtures("configured")
def test_a_parse_with_an_exposure_that_says_nothing_is_taken() -> None:
    dbt, good = Parsed(project=DbtProject(REPOSITORY / "dbt_project")), {"nodes": {}, "sources": {}, "exposures": {}}
    Parsed.manifest = good
    dbt.refresh()
    load = {"name": "load", "original_file_path": "models/e.yml", "owner": {}, "depends_on": {"nodes": []}}
    Parsed.manifest = good | {"exposures": {"exposure.p.load": load}}
    dbt.refresh()
    assert json.loads(DbtModels.manifest_path().read_text()) == Parsed.manifest


@pytest.mark.usefixtures("configured")
def test_the_first_seed_does_not_stop_a_refresh() -> None:
    dbt = Parsed(project=DbtProject(REPOSITORY / "dbt_project"))
    seed = model("s") | {"unique_id": "seed.p.s", "resource_type": "seed", "depends_on": {"macros": []}}
    for nodes in ({}, {"seed.p.s": seed}, {"seed.p.s": seed}):
        Parsed.manifest = {"nodes": nodes, "sources": {}, "exposures": {}}
        came = dbt.refresh()
    assert came.assets == 1
