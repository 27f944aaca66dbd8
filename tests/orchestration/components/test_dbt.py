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
from orchestration.components.dbt_exposures import ExposureError, exposure
from orchestration.components.dbt_failures import failed_units
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


def test_warnings_and_what_was_only_skipped_are_no_failures() -> None:
    assert failed_units(MANIFEST, [result("test.p.not_null_a", "warn"), result("model.p.b", "skipped")]) == []


@pytest.mark.parametrize(
    "meta", [{}, {"vendor": "explo", "slug": "x"}, {"vendor": "explo", "slug": "x", "audience": "everybody"}]
)
def test_an_exposure_that_does_not_say_who_reads_it_is_an_error_by_name(meta: dict[str, str]) -> None:
    node = {"name": "load", "original_file_path": "models/e.yml", "config": {"meta": meta}}
    with pytest.raises(ExposureError, match=r"`load` in models/e.yml needs config.meta with vendor, slug and audience"):
        exposure(MANIFEST, node)


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
def test_a_parse_with_an_exposure_that_is_no_asset_leaves_the_last_manifest() -> None:
    dbt, good = Parsed(project=DbtProject(REPOSITORY / "dbt_project")), {"nodes": {}, "sources": {}, "exposures": {}}
    Parsed.manifest = good
    dbt.refresh()
    load = {"name": "load", "original_file_path": "models/e.yml", "owner": {}, "depends_on": {"nodes": []}}
    Parsed.manifest = good | {"exposures": {"exposure.p.load": load}}
    with pytest.raises(ExposureError, match="`load` in models/e"):
        dbt.refresh()
    assert json.loads(DbtModels.manifest_path().read_text()) == good
