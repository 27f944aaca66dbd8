"""Every shape of dbt project: what the project of `tests/chaos/shapes.py` becomes in Dagster, parsed by dbt and loaded in a fresh process."""

from __future__ import annotations

import copy
import itertools
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster_dbt import DbtProject

from orchestration.components import automation, dbt_nodes, landed_step
from orchestration.components import dagster_values as values
from orchestration.components.consumers import unreported
from orchestration.components.dbt import DbtModels, stages_before
from orchestration.components.dbt_exposures import read
from orchestration.components.graph_findings import unlanded
from orchestration.components.landed import LandedTables
from orchestration.components.landed_step import LandedSource
from orchestration.components.source_checks import Freshness
from orchestration.lineage import keys
from orchestration.lineage.asset_graph import graph_of
from orchestration.lineage.dbt_keys import resolve_keys
from sandbox.config import PROJECT
from tests.chaos import shapes
from tests.orchestration.processes import python

ENVIRONMENT = {"GOOGLE_CLOUD_PROJECT": PROJECT, "DBT_TARGET": "prod"}
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The project, with a second database, and its manifest."""
    root = tmp_path_factory.mktemp("shapes")
    shapes.write(root / "project", other_database="other-project")
    return root, shapes.parse(root / "project", root / "target", ENVIRONMENT)


@pytest.fixture
def models(configured: None, project: tuple[Path, dict[str, Any]]) -> dg.Definitions:
    """The platform's dbt component over it."""
    root, manifest = project
    return definitions_of(root, manifest)


def definitions_of(root: Path, manifest: dict[str, Any]) -> dg.Definitions:
    target = DbtModels.state_path()
    target.mkdir(parents=True, exist_ok=True)
    (target / "manifest.json").write_text(json.dumps(manifest))
    dbt = DbtProject(root / "project", target_path=target, profiles_dir=root / "project", target="prod")
    return dg.Definitions.merge(
        dg.build_defs_for_component(DbtModels(project=dbt)), dg.Definitions(assets=unreported([]))
    )


def graph(defs: dg.Definitions) -> Any:
    dg.Definitions.validate_loadable(defs)
    return defs.resolve_asset_graph()


def key(text: str) -> dg.AssetKey:
    return dg.AssetKey.from_user_string(text)


def test_the_graph_has_each_table_once_and_nothing_that_is_not_built(models: dg.Definitions) -> None:
    found = graph(models)
    built = {one.to_user_string() for one in found.materializable_asset_keys}
    assert built == {
        "raw/raw_customers", "raw/countries", "shop/stg_customers", "shop/customers", "shop/grossen_tabelle_61bb", "shop/ticket_notes",
        "shop/ticket-notes_2eec", "shop/target_report", "shop/sheet_only", "shop/hourly", "shop/fresh", "shop/by_day", "shop/days",
        "shop/dim_v1", "shop/dim_v2", "snapshots/customers_snapshot", "package/packaged", "shop/ledger", "other-project/shop/ledger",
    }  # fmt: skip


def test_what_reads_a_source_that_a_seed_builds_reads_the_seed(models: dg.Definitions) -> None:
    found = graph(models)
    assert found.get(key("shop/stg_customers")).parent_keys == {key("raw/raw_customers")}
    assert found.get(key("shop/customers")).parent_keys == {key("shop/stg_customers"), key("raw/countries")}


def test_without_seeds_the_source_is_a_table_that_nothing_lands(configured: None, tmp_path: Path) -> None:
    shapes.write(tmp_path / "project", seeds=False)
    manifest = shapes.parse(tmp_path / "project", tmp_path / "target", ENVIRONMENT)
    found = graph(definitions_of(tmp_path, manifest))
    assert not found.get(key("raw/raw_customers")).is_executable
    assert key("raw/countries") not in found.get_all_asset_keys()
    wrong = {finding.key for finding in unlanded(found, dbt_nodes.read_nodes(DbtModels.manifest_path()))}
    assert wrong == {"shop/stg_customers", "shop/target_report", "shop/sheet_only"}


def test_owners_that_dagster_cannot_hold_are_text_and_alerts_name_them_all_the_same(models: dg.Definitions) -> None:
    found = graph(models)
    owners = {
        name: tuple(found.get(key(f"shop/{name}")).owners or ()) for name in ("stg_customers", "customers", "fresh")
    }
    assert owners == {
        "stg_customers": (), "customers": ("team:#data-alerts",), "fresh": ("team:7", "team:#ops", "team:x"),
    }  # fmt: skip
    told = {one.removeprefix("shop/"): asset.owners for one, asset in graph_of(found).assets.items()}
    assert told["stg_customers"] == ("o'brien@example.com",)
    assert told["grossen_tabelle_61bb"] == ("ada@example.com",)
    assert told["ticket-notes_2eec"] == ("data@example.engineering",)
    assert told["target_report"] == ("ada@example.com", "o'brien@example.com")
    assert told["sheet_only"] == ("team:Data Platform & Friends",)


def test_odd_values_are_shown_otherwise_and_named_with_their_file(models: dg.Definitions) -> None:
    found = graph(models)
    customers = found.get(key("shop/customers"))
    assert {"pii__yes", "gr__e", "plain", "a_b_c"} <= customers.tags.keys()
    assert len(customers.description) <= values.LONGEST_DESCRIPTION + 1
    assert found.get(key("shop/hourly")).partitions_def is None
    assert found.get(key("shop/fresh")).freshness_policy.fail_window.to_timedelta() == timedelta(hours=4)
    assert found.get(key("shop/fresh")).freshness_policy.warn_window is None
    assert found.get(key("shop/days")).freshness_policy is None
    changes = [f"{name}: {change}" for name, change in dbt_nodes.read_nodes(DbtModels.manifest_path()).changes()]
    for part in (
        "`hourly` in models/hourly.sql: config.meta.partitions is 'hourly'",
        "`hourly` in models/hourly.sql: meta.dagster is 'yes'",
        "`days` in models/days.sql: freshness is {'warn_hours': 9, 'fail_hours': 'soon'}",
        "`stg_customers` in models/stg_customers.sql: Dagster has no owners like o'brien@example.com",
        "`sizes` in models/sizes.sql: its asset is shop/grossen_tabelle_61bb",
        "`tickets.id-is:unique!` is shown as",
    ):
        assert any(
            part in change.replace("the test 'tickets.id-is:unique!'", "`tickets.id-is:unique!`") for change in changes
        ), part


def test_tests_with_one_name_are_checks_of_their_own(models: dg.Definitions) -> None:
    found = graph(models)
    names = {one.name for one in found.asset_check_keys if one.asset_key == key("shop/customers")}
    accepted = {name for name in names if name.startswith("accepted_values")}
    assert len(accepted) == len(shapes.STATUSES)
    assert "tickets_id_is_unique_" in names
    assert {"unique_customers_id", "not_null_customers_id", "not_null_customers_name"} <= names


def test_exposures_of_no_vendor_are_assets_by_their_kind_and_name(models: dg.Definitions) -> None:
    assets = graph_of(graph(models)).assets
    found = {one: assets[one] for one in assets if assets[one].audience}
    board_key = "Tableau_Cloud_385c/Vorstand_Aufsichtsrat_72da"
    assert found.keys() == {"notebook/weekly_numbers", board_key, "application/feed"}
    numbers = assets["notebook/weekly_numbers"]
    assert (numbers.audience, numbers.parents) == ("internal", {"shop/customers", "raw/countries"})
    assert numbers.owners == ("team:Somebody",)
    board = assets[board_key]
    assert (board.audience, board.owners) == ("customer", ("o'brien@example.com",))
    feed = assets["application/feed"]
    assert (feed.parents, feed.owners) == ({"raw/raw_customers"}, ("a@example.com", "team:#feed"))


def test_the_order_of_the_nodes_changes_no_key_and_no_name(project: tuple[Path, dict[str, Any]]) -> None:
    _, manifest = project

    def told(found: dbt_nodes.Nodes) -> dict[str, str]:
        return {
            id_: node["name"] if node["resource_type"] == "test" else keys.dbt_node(node).to_user_string()
            for kind in ("nodes", "sources")
            for id_, node in found.manifest[kind].items()
        }

    first = dbt_nodes.prepare(manifest, PROJECT, PROJECT)
    backwards = copy.deepcopy(manifest)
    for kind in ("nodes", "sources"):
        backwards[kind] = dict(reversed(manifest[kind].items()))
    second = dbt_nodes.prepare(backwards, PROJECT, PROJECT)
    assert told(first) == told(second)
    assert sorted(map(str, first.collisions)) == sorted(map(str, second.collisions))


def test_collisions_are_named_with_both_files(project: tuple[Path, dict[str, Any]]) -> None:
    found = dbt_nodes.prepare(project[1], PROJECT, PROJECT)
    told = {one.key: one for one in found.collisions if not one.names[0].startswith("test")}
    assert told.keys() == {"raw/raw_customers", "shop/ledger", "shop/ticket_notes"}
    assert told["raw/raw_customers"].names == (
        "seed `raw_customers` in seeds/raw_customers.csv", "source `raw_customers` in models/all.yml",
    )  # fmt: skip
    assert {name.split(" in ")[1] for name in told["shop/ledger"].names} == {"models/elsewhere.sql", "models/twice.sql"}


def test_tables_of_sources_are_built_by_an_invocation_of_their_own(project: tuple[Path, dict[str, Any]]) -> None:
    found = dbt_nodes.prepare(project[1], PROJECT, PROJECT)
    everything = {id_ for id_, node in found.manifest["nodes"].items() if node["resource_type"] != "test"}
    assert stages_before(found, everything) == [["seed.shapes.raw_customers"]]
    assert stages_before(found, {"seed.shapes.raw_customers"}) == []
    assert stages_before(found, {"model.shapes.stg_customers", "model.shapes.customers"}) == []


def test_a_fresh_process_loads_it(configured: None, project: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    import os

    root, manifest = project
    definitions_of(root, manifest)
    code = (
        "import dagster as dg; from dagster_dbt import DbtProject; from pathlib import Path\n"
        "from orchestration.components.dbt import DbtModels\n"
        f"root = Path({str(root)!r})\n"
        "dbt = DbtProject(root / 'project', target_path=DbtModels.state_path(), profiles_dir=root / 'project', target='prod')\n"
        "defs = dg.build_defs_for_component(DbtModels(project=dbt))\n"
        "dg.Definitions.validate_loadable(defs); print(len(defs.resolve_asset_graph().materializable_asset_keys))\n"
    )
    done = python(tmp_path, dict(os.environ), "-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "19"
    assert "`hourly` in models/hourly.sql: config.meta.partitions is 'hourly'" in done.stderr


def requested(
    defs: dg.Definitions, instance: dg.DagsterInstance, at: datetime, cursor: Any = None
) -> tuple[set[str], Any]:
    evaluated = dg.evaluate_automation_conditions(defs, instance, evaluation_time=at, cursor=cursor)
    return {one.key.to_user_string() for one in evaluated.results if not one.true_subset.is_empty}, evaluated.cursor


def build(defs: dg.Definitions, instance: dg.DagsterInstance, *names: str) -> None:
    for name in names:
        instance.report_runless_asset_event(dg.AssetMaterialization(key(name)))


def test_models_below_what_nothing_lands_are_built_by_the_automation(models: dg.Definitions) -> None:
    instance = dg.DagsterInstance.ephemeral()
    first, cursor = requested(models, instance, NOON)
    assert {"raw/raw_customers", "raw/countries", "shop/sheet_only"} <= first
    # Requested once: a run that fails is not requested again at each tick.
    again, cursor = requested(models, instance, NOON + timedelta(minutes=1), cursor)
    assert not {"raw/raw_customers", "raw/countries", "shop/sheet_only"} & again
    everything = {one.to_user_string() for one in graph(models).materializable_asset_keys}
    build(models, instance, *everything)
    _, cursor = requested(models, instance, NOON + timedelta(minutes=2), cursor)
    build(models, instance, "shop/customers")
    after, cursor = requested(models, instance, NOON + timedelta(minutes=3), cursor)
    assert {"shop/target_report", "shop/dim_v1", "shop/dim_v2"} <= after
    assert "shop/sheet_only" not in after
    morning, _ = requested(models, instance, NOON + timedelta(hours=19), cursor)
    assert "shop/sheet_only" in morning
    assert not {"raw/raw_customers", "shop/stg_customers", "shop/fresh"} & morning


def test_a_model_waits_for_a_source_that_is_landed_or_looked_at(models: dg.Definitions) -> None:
    @dg.observable_source_asset(key=["sheet", "targets"], group_name="ingestion")
    def looked_at() -> dg.DataVersion:
        return dg.DataVersion("1")

    @dg.asset(key=["sheet", "targets"], group_name="ingestion")
    def landed() -> None: ...

    for source in (looked_at, landed):
        defs = dg.Definitions.merge(models, dg.Definitions(assets=[source]))
        instance = dg.DagsterInstance.ephemeral()
        everything = {one.to_user_string() for one in graph(models).materializable_asset_keys}
        build(defs, instance, *everything - {"shop/sheet_only", "shop/target_report"})
        first, cursor = requested(defs, instance, NOON)
        assert not {"shop/sheet_only", "shop/target_report"} & first
        build(defs, instance, "shop/customers")
        later, _ = requested(defs, instance, NOON + timedelta(minutes=1), cursor)
        assert not {"shop/sheet_only", "shop/target_report"} & later


def test_a_seed_in_a_dataset_that_is_looked_at_is_the_asset_of_dbt_alone(models: dg.Definitions) -> None:
    raw = LandedSource(name="raw", datasets=["raw"], freshness=Freshness(warn_hours=1, fail_hours=2))
    columns = {"id": "STRING", "received_at": "TIMESTAMP"}
    looked_at = LandedTables(sources=[raw]).definitions(
        json.dumps({"raw": {"raw_customers": columns, "other": columns}})
    )
    found = graph(dg.Definitions.merge(models, looked_at))
    assert found.get(key("raw/raw_customers")).is_materializable
    assert found.get(key("raw/other")).is_observable


def test_what_the_platform_looks_at_is_in_the_group_that_the_automation_knows() -> None:
    assert automation.LANDED_GROUP == landed_step.GROUP


def node(kind: str, name: str, **fields: Any) -> dict[str, Any]:
    return {
        "unique_id": f"{kind}.p.{name}", "resource_type": kind, "name": name, "alias": name, "schema": "s", "database": "db",
        "original_file_path": f"{kind}s/{name}.sql", "config": {}, "depends_on": {"nodes": []}, **fields,
    }  # fmt: skip


def manifest_of(*nodes: dict[str, Any]) -> dict[str, Any]:
    sources = {one["unique_id"]: one for one in nodes if one["resource_type"] == "source"}
    others = {one["unique_id"]: one for one in nodes if one["unique_id"] not in sources}
    parents = {one["unique_id"]: [*one["depends_on"]["nodes"]] for one in nodes}
    children: dict[str, list[str]] = {id_: [] for id_ in parents}
    for id_, above in parents.items():
        for parent in above:
            children[parent].append(id_)
    return {
        "nodes": others, "sources": sources, "exposures": {}, "metrics": {}, "groups": {}, "child_map": children, "parent_map": parents,
        "metadata": {"adapter_type": "bigquery", "project_name": "p"},
    }  # fmt: skip


def test_a_model_that_reads_the_source_that_it_builds_stays_apart_from_it() -> None:
    source = node("source", "x", identifier="x")
    below = node("model", "y", depends_on={"nodes": ["source.p.x"]})
    builder = node("model", "x", depends_on={"nodes": ["model.p.y"]})
    found = resolve_keys(manifest_of(source, below, builder), "db", "db")
    assert found.builder_of == {}
    assert len({found.changed.get(id_, keys.table("s", "x")) for id_ in ("source.p.x", "model.p.x")}) == 2
    [collision] = found.collisions
    assert "made of itself" in collision.outcome


def test_the_landed_table_keeps_its_key_and_a_model_of_another_project_has_its_database() -> None:
    source = node("source", "account", identifier="account", schema="salesforce", database="raw")
    model = node("model", "account", schema="salesforce", database="built")
    found = resolve_keys(manifest_of(model, source), "built", "raw")
    assert {id_: one.to_user_string() for id_, one in found.changed.items()} == {
        "model.p.account": "built/salesforce/account"
    }


@pytest.mark.parametrize("names", list(itertools.permutations(("a-b", "a_b", "a.b"))))
def test_names_that_dagster_writes_alike_have_outputs_of_their_own(names: tuple[str, ...]) -> None:
    found = dbt_nodes.prepare(manifest_of(*(node("model", name) for name in names)), "db", "db")
    made = {name: keys.dbt_node(found.manifest["nodes"][f"model.p.{name}"]) for name in names}
    assert made["a_b"].to_user_string() == "s/a_b"
    assert len({one.to_python_identifier() for one in made.values()}) == 3


def test_a_check_and_an_asset_of_one_name_are_told_apart() -> None:
    orders, below = node("model", "orders"), node("model", "orders_open")
    test = node("test", "open", depends_on={"nodes": ["model.p.orders"]})
    found = dbt_nodes.prepare(manifest_of(orders, below, test), "db", "db").manifest["nodes"]
    assert found["test.p.open"]["name"] != "open"


@pytest.mark.parametrize(
    ("given", "names", "texts"),
    [
        ("ada@example.com", ("ada@example.com",), ()),
        ("o'brien@example.com", (), ("o'brien@example.com",)),
        ("Ada <ada@example.com>", ("ada@example.com",), ()),
        ("Brien <o'brien@example.com>", (), ("o'brien@example.com",)),
        ("#data", ("team:#data",), ()),
        ("Data Engineering", ("team:Data Engineering",), ()),
        ("team:core", ("team:core",), ()),
        ("team:", (), ()),
        ("a@example.com, b@example.engineering", ("a@example.com",), ("b@example.engineering",)),
        (["a@example.com", None, {"email": "b@example.com"}, ""], ("a@example.com", "b@example.com"), ()),
        (7, ("team:7",), ()),
        ("größe@example.com", (), ("größe@example.com",)),
        (None, (), ()),
    ],
)
def test_owners(given: object, names: tuple[str, ...], texts: tuple[str, ...]) -> None:
    found = values.owners(given)
    assert (found.names, found.texts) == (names, texts)
    assert (found.warning is None) == (not texts)
    dg.AssetSpec("a", owners=list(found.names), metadata=found.metadata)


@pytest.mark.parametrize("text", ["a b", "x" * 200, "größe", "a/b", "", "dagster/kind/x", "🎉", "ok"])
def test_dagster_takes_every_tag_group_check_and_kind(text: str) -> None:
    tags, _ = values.tags([text])
    dg.AssetSpec("a", tags=tags, group_name=values.group_name(text)[0], kinds=values.kinds([text] * 20))
    dg.AssetCheckSpec(values.check_name(text)[0], asset="a")


@pytest.mark.parametrize(
    "given",
    [
        {}, [], "daily", {"fail_hours": 0}, {"fail_hours": -1}, {"fail_hours": True}, {"fail_hours": float("nan")}, {"fail_hours": 1e300},
        {"warn_hours": 3}, {"fail_hours": None}, {"fail_hours": 0.001},
    ],
)  # fmt: skip
def test_a_freshness_that_cannot_be_watched_is_named(given: object) -> None:
    policy, change = values.freshness(given)
    assert policy is None
    assert change is not None
    assert repr(given) in change


def test_a_warning_that_comes_after_the_failure_is_left_out() -> None:
    policy, change = values.freshness({"warn_hours": 9, "fail_hours": 3})
    assert isinstance(policy, dg.FreshnessPolicy)
    assert change is not None


def test_exposures_without_anything_are_read(
    project: tuple[Path, dict[str, Any]], configured: None, tmp_path: Path
) -> None:
    bare = manifest_of(node("model", "a"))
    bare["exposures"] = {
        "exposure.p.e": {
            "name": "e",
            "original_file_path": "models/e.yml",
            "unique_id": "exposure.p.e",
            "resource_type": "exposure",
        }
    }
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(bare))
    assert [one.to_user_string() for one in read(path)] == ["exposure/e"]
