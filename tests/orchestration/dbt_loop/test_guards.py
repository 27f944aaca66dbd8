from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestration.dbt_loop.guards import Relation, compatible, own_datasets, relations
from orchestration.dbt_loop.workspace import Refused, Workspace
from orchestration.settings import DbtSettings

HERE = Workspace(Path("dbt_project"), "dev", "dev_ada", "acme-dev", Path("production"))
PRODUCTION = [Relation("incidents", "acme", "core"), Relation("account", "acme-raw", "salesforce")]


def made_by(version: str, adapter: str = "bigquery") -> dict[str, Any]:
    return {"metadata": {"dbt_version": version, "adapter_type": adapter}}


@pytest.mark.parametrize("version", ["1.11.0", "1.11.16", "1.11.2rc1"])
def test_another_patch_of_dbt_agrees_on_what_has_changed(version: str) -> None:
    compatible(made_by(version), "1.11.16", "bigquery")


@pytest.mark.parametrize("version", ["1.10.4", "1.12.0", "2.11.0"])
def test_another_minor_is_refused_with_the_remedy(version: str) -> None:
    with pytest.raises(Refused, match=rf"made by dbt {version}, and this is dbt 1.11.16.*make install"):
        compatible(made_by(version), "1.11.16", "bigquery")


def test_another_adapter_is_refused() -> None:
    with pytest.raises(Refused, match="made for snowflake, and "):
        compatible(made_by("1.11.16", "snowflake"), "1.11.16", "bigquery")


def test_a_workspace_owns_its_prefix_and_what_begins_with_it() -> None:
    owned = [Relation("a", "acme-dev", "dev_ada"), Relation("b", "acme-dev", "dev_ada_core")]
    own_datasets(owned, PRODUCTION, HERE)


@pytest.mark.parametrize(
    "relation",
    [
        Relation("incidents", "acme", "core"),
        Relation("incidents", "acme-dev", "core"),
        Relation("incidents", "acme", "dev_ada_core"),
        Relation("incidents", "acme-dev", "dev_adam_core"),
        Relation("incidents", None, "dev_ada_core"),
    ],
)
def test_nothing_is_built_elsewhere(relation: Relation) -> None:
    with pytest.raises(Refused, match=rf"it would build incidents in {relation.database}.{relation.schema}\. "):
        own_datasets([Relation("fine", "acme-dev", "dev_ada_core"), relation], PRODUCTION, HERE)


def test_nobodys_datasets_are_taken_for_those_of_somebody_whose_name_is_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    values = DbtSettings.model_validate(
        {"google_cloud_project": "acme-dev", "dbt_target": "prod", "dbt_schema_prefix": None}
    )
    names = ["ada", "Ada.B", "ada_c", "ada-core"]
    found = []
    for name in names:
        monkeypatch.setenv("LOGNAME", name)
        found.append(Workspace.of(values, Path.cwd()))
    assert [one.prefix for one in found] == ["dev_ada", "dev_adab", "dev_adac", "dev_adacore"]
    for one in found:
        owners = [other for other in found if other.owns("acme-dev", f"{one.prefix}_core")]
        assert owners == [one]


def test_no_two_pull_requests_and_no_two_builds_share_a_dataset() -> None:
    values = DbtSettings.model_validate({"google_cloud_project": "acme-dev", "dbt_target": "ci"})

    def of(which: str, build: int | None = None) -> Workspace:
        return Workspace.of_pull_request(values, Path.cwd(), which, build)

    assert of("12") == of("https://github.com/acme/data/pull/12")
    every = [of("1"), of("12", 3), of("12", 31), of("add-a-source"), of("add/a.source"), of("add"), of("12-days")]
    assert [one.prefix for one in every[:3]] == ["ci_pr_1", "ci_pr_12_b3", "ci_pr_12_b31"]
    for one in every:
        assert [other for other in every if other.owns("acme-dev", f"{one.prefix}_core")] == [one]
    assert of("12").owns("acme-dev", "ci_pr_12_b3_core"), (
        "whoever drops a pull request's by hand drops those of each build"
    )
    longest = of("x" * 300, 1234567).prefix
    assert (len(longest) < 70, longest.isidentifier()) == (True, True)


def test_a_prefix_that_production_has_datasets_of_is_refused() -> None:
    with pytest.raises(Refused, match="choose another DBT_SCHEMA_PREFIX"):
        own_datasets([Relation("a", "acme-dev", "dev_ada_core")], [Relation("b", "acme-dev", "dev_ada_core")], HERE)


def test_what_is_said_of_many_is_bounded() -> None:
    with pytest.raises(Refused, match=r"m4 in x\.y and 95 more\. "):
        own_datasets([Relation(f"m{n}", "x", "y") for n in range(100)], [], HERE)


def test_sources_are_production_too() -> None:
    model = {"resource_type": "model", "name": "m", "database": "acme", "schema": "core"}
    check = {"resource_type": "test", "name": "t", "database": "acme", "schema": "dbt_test__audit"}
    source = {"resource_type": "source", "name": "s", "database": "acme-raw", "schema": "stripe"}
    found = relations({"nodes": {"m": model, "t": check}, "sources": {"s": source}})
    assert [one.dataset for one in found] == [("acme", "core"), ("acme-raw", "stripe")]
