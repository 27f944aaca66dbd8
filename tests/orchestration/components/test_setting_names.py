"""Names in the files of `defs/`, compared with saved states."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestration.components.setting_names import DEFS, FINDERS, UnknownName, check_files
from orchestration.doctor.state_checks import NAMED, named

ACCOUNT = {
    "groups": [{"id": "g", "name": "Warehouse", "project": "my-project"}],
    "connections": [{"id": "c", "name": "product", "service": "postgres", "group": "g"}],
}
STATES: dict[str, Any] = {
    "fivetran.json": {"account": ACCOUNT},
    "hightouch.json": {"syncs": [{"slug": "weekly"}], "renamed": {"weekly": "weekly-load"}},
    "landed.json": {"web": {"pages": {}, "tracks": {}}, ":excluded": {"web": ["pages_view"]}},
    "explo.json": {"dashboards": [{"datasets": [{"query": "select 1 where {{region}} = 'x'"}]}]},
    "hex.json": {"projects": [{"project": {"categories": [{"name": "Nightly"}]}}]},
}


def write(folder: Path, kind: str, attributes: str) -> Path:
    path = folder / "stage" / "defs.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"type: orchestration.components.{kind}\nattributes: {attributes}\n")
    return path


@pytest.mark.parametrize(
    ("kind", "attributes", "unknown"),
    [
        ("fivetran.FivetranConnections", "{exclude: [fivetran_log, product, post*, Warehouse, g, my-project]}", []),
        ("fivetran.FivetranConnections", "{include: [prodct], freshness_of: {x: {}}}", ["prodct", "x"]),
        ("fivetran.FivetranConnections", "{exclude: ['service:product', 'name:product']}", ["service:product"]),
        ("hightouch.HightouchSyncs", "{cron_of: {weekly: '', weekly-load: '', week: ''}}", ["week"]),
        ("hightouch.HightouchSyncs", "{rejected_rows_of: {dayly: 1}}", ["dayly"]),
        ("landed.LandedTables", "{sources: [{name: s, datasets: [web], exclude: ['*_view'], rewritten: [x]}]}", ["x"]),
        ("landed.LandedTables", "{sources: [{name: s, datasets: [web, later], rewritten: [x]}]}", []),
        ("explo.ExploDashboards", "{variables: {region: a, country: b}}", ["country"]),
        ("hex.HexProjects", "{run_category: Nightly}", []),
        ("hex.HexProjects", "{run_category: Daily}", ["Daily"]),
        ("hex.HexProjects", "", []),
    ],
)
def test_names_that_nothing_has_are_found(tmp_path: Path, kind: str, attributes: str, unknown: list[str]) -> None:
    path = write(tmp_path, kind, attributes)
    found = check_files(STATES, tmp_path)
    assert [one.name for one in found] == unknown
    assert {one.file for one in found} <= {str(path)}
    # Of a state that was never read, nothing is known.
    assert check_files({}, tmp_path) == []


def test_a_file_that_is_no_yaml_is_left_to_the_code_location(tmp_path: Path) -> None:
    write(tmp_path, "hightouch.HightouchSyncs", "{cron_of: {week: ''}}")
    (tmp_path / "broken.yaml").write_text("type: [")
    assert [one.name for one in check_files(STATES, tmp_path)] == ["week"]


def test_every_component_whose_settings_are_compared_is_in_defs() -> None:
    text = "".join(path.read_text() for path in DEFS.rglob("*.yaml"))
    assert all(f"type: {kind}\n" in text for kind in FINDERS)


def test_the_doctor_names_the_setting_the_file_and_the_nearest_names() -> None:
    assert named([]).status == "ok"
    many = [UnknownName("cron_of", f"week{n}", "Hightouch sync", ("weekly",), "defs.yaml") for n in range(NAMED + 2)]
    outcome = named(many)
    assert outcome.status == "warning"
    assert outcome.found.startswith(
        "cron_of: `week0` in defs.yaml names no Hightouch sync. The nearest: `weekly`. Correct it, or take it out.; cron_of: "
    )
    assert outcome.found.endswith(" and 2 more")
