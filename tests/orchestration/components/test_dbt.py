from __future__ import annotations

from typing import Any

import pytest

from orchestration.components.dbt import failed_units
from orchestration.components.exposures import ExposureError, asset_spec


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
    assert unit.error == "Database Error no such column"
    assert unit.held_up == ("s/b", "s/c")


def test_a_failed_test_counts_against_its_model() -> None:
    [unit] = failed_units(
        MANIFEST, [result("model.p.a", "success"), result("test.p.not_null_a", "fail", "Got 3 results")]
    )
    assert (unit.unit, unit.error) == ("dbt/s/a", "test not_null_a fail: Got 3 results")


def test_a_test_on_no_model_counts_against_the_first_that_it_reads() -> None:
    [unit] = failed_units(MANIFEST, [result("test.p.adds_up", "fail")])
    assert unit.unit == "dbt/s/b"


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
    exposure = {"name": "load", "original_file_path": "models/e.yml", "config": {"meta": meta}}
    with pytest.raises(ExposureError, match=r"`load` in models/e.yml needs config.meta with vendor, slug and audience"):
        asset_spec(MANIFEST, exposure)
