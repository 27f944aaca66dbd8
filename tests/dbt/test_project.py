"""What must hold of the project before anything runs, read from the manifest of a real parse."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.dbt.project import PROJECT_DIR, Dbt

Node = dict[str, Any]

ENVIRONMENT = {"GOOGLE_CLOUD_PROJECT": "some-project"}
MARTS = {
    "some-project.insights.time_spent_on_incidents",
    "some-project.insights.pages_by_responder",
    "some-project.insights.post_incident_task_completion",
    "some-project.sales.account_health",
}
EXPOSURES = {
    "explo_time_spent_on_incidents": ("explo", "time_spent_on_incidents", "customer"),
    "explo_on_call_load": ("explo", "on_call_load", "customer"),
    "explo_post_incident_follow_through": ("explo", "post_incident_follow_through", "customer"),
    "omni_account_health": ("omni", "account_health", "internal"),
}
# What a clock, or Hightouch's own writes to Salesforce, would move.
RESTLESS = re.compile(
    r"current_(timestamp|date|time)|\bnow\(|_fivetran_synced|system_modstamp|last_modified_date|(health|28d|tasks|mrr)\w*_c\b"
)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Node:
    """Of production, parsed with every deprecation as an error."""
    dbt = Dbt(tmp_path_factory.mktemp("prod"), ENVIRONMENT)
    parsed = dbt.run("--warn-error", "parse", "--target", "prod")
    assert parsed.returncode == 0, parsed.stdout
    return dbt.manifest()


def models(manifest: Node) -> Iterator[Node]:
    return (node for node in manifest["nodes"].values() if node["resource_type"] == "model")


def marts(manifest: Node) -> Iterator[Node]:
    return (model for model in models(manifest) if "marts" in model["fqn"])


def address(node: Node) -> str:
    return node["relation_name"].replace("`", "")


def ancestors(manifest: Node, node_id: str) -> set[str]:
    found: set[str] = set()
    waiting = [node_id]
    while waiting:
        for parent in manifest["parent_map"].get(waiting.pop(), []):
            if parent not in found:
                found.add(parent)
                waiting.append(parent)
    return found


def exposure(name: str) -> str:
    return f"exposure.dataplatform.{name}"


def test_production_has_the_schemas_that_people_know(manifest: Node) -> None:
    assert {address(mart) for mart in marts(manifest)} == MARTS
    assert {model["schema"] for model in models(manifest)} == {"staging", "intermediate", "insights", "sales"}


def test_elsewhere_every_schema_has_the_developers_prefix(tmp_path: Path) -> None:
    dbt = Dbt(tmp_path, ENVIRONMENT | {"DBT_SCHEMA_PREFIX": "ada"})
    parsed = dbt.run("parse", "--target", "dev")
    assert parsed.returncode == 0, parsed.stdout
    elsewhere = dbt.manifest()
    assert {model["schema"] for model in models(elsewhere)} == {
        "ada_staging",
        "ada_intermediate",
        "ada_insights",
        "ada_sales",
    }
    # What is read is production's, in every environment.
    assert {source["schema"] for source in elsewhere["sources"].values()} == {"product_public", "salesforce"}


def test_production_refuses_a_model_without_a_schema(tmp_path: Path) -> None:
    copy = shutil.copytree(PROJECT_DIR, tmp_path / "project", ignore=shutil.ignore_patterns("target", "logs"))
    (copy / "models" / "astray.sql").write_text("select 1 as one")
    parsed = Dbt(tmp_path / "target", ENVIRONMENT, copy).run("parse", "--target", "prod")
    assert parsed.returncode != 0
    assert "model 'astray' has no schema" in parsed.stdout


def test_every_source_and_model_is_described(manifest: Node) -> None:
    nodes = [*models(manifest), *manifest["sources"].values()]
    assert [node["name"] for node in nodes if not node["description"]] == []
    columns = [(m["name"], c["name"]) for m in models(manifest) for c in m["columns"].values() if not c["description"]]
    assert columns == []


def test_every_model_has_an_owner(manifest: Node) -> None:
    owners = {group["name"]: group["owner"] for group in manifest["groups"].values()}
    assert [model["name"] for model in models(manifest) if not owners[model["group"]]["email"]] == []


def test_marts_keep_a_contract_and_every_row_belongs_to_an_organisation(manifest: Node) -> None:
    for mart in marts(manifest):
        assert mart["config"]["contract"]["enforced"], mart["name"]
        organisation = mart["columns"]["organisation_id"]
        assert [rule["type"] for rule in organisation["constraints"]] == ["not_null"], mart["name"]


def test_each_source_table_has_one_staging_view(manifest: Node) -> None:
    views = [model for model in models(manifest) if "staging" in model["fqn"]]
    read = [source for view in views for source in view["depends_on"]["nodes"]]
    assert sorted(read) == sorted(manifest["sources"])
    beyond = {
        model["name"]
        for model in models(manifest)
        if "staging" not in model["fqn"]
        and any(parent in manifest["sources"] for parent in model["depends_on"]["nodes"])
    }
    assert beyond == set()


def test_exposures_say_what_they_are_and_who_reads_them(manifest: Node) -> None:
    found = {
        one["name"]: tuple(one["config"]["meta"][key] for key in ("vendor", "slug", "audience"))
        for one in manifest["exposures"].values()
    }
    assert found == EXPOSURES
    assert all(one["url"] and one["owner"]["email"] and one["description"] for one in manifest["exposures"].values())


@pytest.mark.parametrize("name", [name for name, (vendor, *_) in EXPOSURES.items() if vendor == "explo"])
def test_what_customers_see_comes_from_the_product_alone(manifest: Node, name: str) -> None:
    above = ancestors(manifest, exposure(name))
    assert "source.dataplatform.product.incidents" in above
    assert [node for node in above if node.startswith("source.dataplatform.salesforce.")] == []


def test_account_health_stands_still_while_its_organisations_do(manifest: Node) -> None:
    above = ancestors(manifest, exposure("omni_account_health"))
    assert "source.dataplatform.salesforce.account" in above
    code = {model["name"]: model["raw_code"] for model in models(manifest) if model["unique_id"] in above}
    assert code
    assert {name: found[0] for name, text in code.items() if (found := RESTLESS.search(text.lower()))} == {}
