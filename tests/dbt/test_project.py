"""What must hold of the project before anything runs, read from the manifest of a real parse."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.dbt.project import ENVIRONMENT, PROJECT_DIR, Dbt

Node = dict[str, Any]

MARTS = {"core", "insights", "product", "sales", "finance", "support", "data_platform"}
LANDED = {
    "product_public",
    "salesforce",
    "stripe",
    "zendesk",
    "website",
    "web_app",
    "mobile",
    "product_events",
    "dataplatform",
    "incident_io",
}
EXPOSURES = {
    "explo_time_spent_on_incidents": ("explo", "time_spent_on_incidents", "customer"),
    "explo_on_call_load": ("explo", "on_call_load", "customer"),
    "explo_post_incident_follow_through": ("explo", "post_incident_follow_through", "customer"),
    "omni_account_health": ("omni", "account_health", "internal"),
    "omni_sales_pipeline": ("omni", "sales_pipeline", "internal"),
    "omni_finance_overview": ("omni", "finance_overview", "internal"),
    "omni_support_overview": ("omni", "support_overview", "internal"),
    "hex_churn_analysis": ("hex", "churn_analysis", "internal"),
}
# What a clock, or Hightouch's own writes to Salesforce, would move.
RESTLESS = re.compile(
    r"current_(timestamp|date|time)|\bnow\(|_fivetran_synced|system_modstamp|last_modified_date|(health|28d|tasks|mrr)\w*_c\b"
)


def nodes(manifest: Node, kind: str) -> Iterator[Node]:
    return (node for node in manifest["nodes"].values() if node["resource_type"] == kind)


def models(manifest: Node) -> Iterator[Node]:
    return nodes(manifest, "model")


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
    assert {mart["schema"] for mart in marts(manifest)} == MARTS
    astray = {address(mart) for mart in marts(manifest) if mart["schema"] != mart["fqn"][2]}
    assert astray == set()
    assert {model["schema"] for model in models(manifest)} == {"staging", "intermediate"} | MARTS
    assert {node["schema"] for node in nodes(manifest, "snapshot")} == {"snapshots"}


@pytest.mark.long
def test_elsewhere_every_schema_has_the_developers_prefix(tmp_path: Path) -> None:
    dbt = Dbt(tmp_path, ENVIRONMENT | {"DBT_SCHEMA_PREFIX": "ada"})
    parsed = dbt.run("parse", "--target", "dev")
    assert parsed.returncode == 0, parsed.stdout
    elsewhere = dbt.manifest()
    built = [*models(elsewhere), *nodes(elsewhere, "snapshot")]
    assert {node["schema"] for node in built} == {
        f"ada_{schema}" for schema in {"staging", "intermediate", "snapshots"} | MARTS
    }
    assert [node["name"] for node in built if node["config"]["hours_to_expiration"] != 336] == []
    # What is read is production's, in every environment.
    assert {source["schema"] for source in elsewhere["sources"].values()} == LANDED


@pytest.mark.long
def test_production_refuses_a_model_without_a_schema(tmp_path: Path) -> None:
    copy = shutil.copytree(PROJECT_DIR, tmp_path / "project", ignore=shutil.ignore_patterns("target", "logs"))
    (copy / "models" / "astray.sql").write_text("select 1 as one")
    parsed = Dbt(tmp_path / "target", ENVIRONMENT, copy).run("parse", "--target", "prod")
    assert parsed.returncode != 0
    assert "model 'astray' has no schema" in parsed.stdout


def test_every_model_has_an_owner(manifest: Node) -> None:
    owners = {group["name"]: group["owner"] for group in manifest["groups"].values()}
    assert [model["name"] for model in models(manifest) if not owners[model["group"]]["email"]] == []


def test_every_row_that_customers_see_belongs_to_an_organisation(manifest: Node) -> None:
    for mart in marts(manifest):
        if mart["schema"] == "insights":
            rules = mart["columns"]["organisation_id"]["constraints"]
            assert [rule["type"] for rule in rules] == ["not_null"], mart["name"]


def test_models_of_events_are_built_by_day(manifest: Node) -> None:
    daily = [model for model in models(manifest) if model["config"]["materialized"] == "incremental"]
    assert "stg_segment_web_app__pages" in {model["name"] for model in daily}
    for model in daily:
        config = model["config"]
        assert config["incremental_strategy"] == "insert_overwrite", model["name"]
        assert config["partition_by"]["data_type"] == "date", model["name"]
        assert config["meta"]["partitions"] == "daily", model["name"]
        # Asked when the statement runs: a manifest that was parsed yesterday is used today.
        assert config["partitions"][0] == "current_date('UTC')", model["name"]


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
