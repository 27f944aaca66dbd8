from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import dagster as dg
import httpx
import pytest
import yaml
from google.cloud import bigquery

from orchestration.components.graph_state import checksum
from orchestration.components.hex import HexProjects, HexState, table_of
from orchestration.components.saved_state import StateIncomplete
from orchestration.lineage.failures import FailedUnit, from_metadata
from orchestration.lineage.graph import AUDIENCE_TAG
from orchestration.vendors.http import VendorError
from sandbox.config import PROJECT, REPOSITORY
from sandbox.vendors.context import VendorContext
from sandbox.vendors.hex.catalogue import PROJECTS
from sandbox.vendors.hex.content import add_projects
from tests.stand_ins import Vendors, fill

pytestmark = pytest.mark.usefixtures("configured")
CHURN, REVIEW = PROJECTS
NEVER = "1999-12-31T00:00:00.000Z"
REVIEW_KEY, CHURN_KEY = dg.AssetKey(["hex", "weekly_reliability_review"]), dg.AssetKey(["hex", "churn_analysis"])
TABLES = [
    "core.incidents",
    "core.organisations",
    "sales.pipeline",
    "support.tickets",
    "insights.time_spent_on_incidents_v2",
]


@pytest.fixture
def component(vendors: Vendors) -> HexProjects:
    made = HexProjects(owners=["team:data"], workspace="example")
    made.refresh()
    return made


@pytest.fixture(scope="module")
def marts(vendors: Vendors) -> None:
    """Each table that the company's projects query, with one row."""
    fill({table.reads for project in PROJECTS for table in project.tables if table.reads})


def specs(component: HexProjects) -> dict[dg.AssetKey, dg.AssetSpec]:
    found: Any = component.definitions(component.saved()).resolve_all_asset_specs()
    return {spec.key: spec for spec in found}


def step(component: HexProjects) -> dg.AssetsDefinition:
    assets = component.definitions(component.saved()).assets or []
    [step] = [one for one in assets if isinstance(one, dg.AssetsDefinition)]
    return step


def run(component: HexProjects) -> tuple[dict[str, Any], list[FailedUnit], bool]:
    """The metadata of the materialization, or none; the units that failed; and whether the run is worth another try."""
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize([step(component)], instance=instance, raise_on_error=False)
        ran = instance.get_run_by_id(result.run_id)
        assert ran is not None
        metadata: dict[str, Any] = {}
        failed: list[FailedUnit] = []
        for event in result.all_events:
            if event.is_step_materialization:
                metadata = {name: value.value for name, value in event.materialization.metadata.items()}
            elif event.is_step_failure:
                data = event.step_failure_data.user_failure_data
                assert data is not None
                failed = from_metadata({name: value.value for name, value in data.metadata.items()}) or []
        return metadata, failed, ran.tags.get("dagster/max_retries") != "0"


def runs(vendors: Vendors, project: str) -> list[dict[str, Any]]:
    return vendors.hex.get(f"/api/v1/projects/{project}/runs").raise_for_status().json()["runs"]


def test_only_projects_that_are_marked_for_it_run_here(component: HexProjects) -> None:
    found = specs(component)
    assert step(component).keys == {REVIEW_KEY}
    assert (found[REVIEW_KEY].automation_condition, found[CHURN_KEY].automation_condition) == (
        dg.AutomationCondition.eager(), None,
    )  # fmt: skip
    assert step(HexProjects(run_category="Finance")).keys == {CHURN_KEY}


def test_a_project_has_what_it_reads_its_owner_and_its_page(component: HexProjects, vendors: Vendors) -> None:
    churn = specs(component)[CHURN_KEY]
    assert [dep.asset_key.to_user_string() for dep in churn.deps] == [
        "core/incidents", "core/organisations", "finance/mrr_movements", "snapshots/stripe_subscriptions_history", "support/tickets",
    ]  # fmt: skip
    assert (churn.group_name, churn.tags[AUDIENCE_TAG], churn.owners) == (
        "analytics",
        "internal",
        ["finance@example.com"],
    )
    assert churn.kinds == {"hex"}
    url = churn.metadata["dashboard"].value
    assert url == f"{vendors.config.url('hex')}/example/hex/{CHURN.id}"
    assert httpx.get(url).status_code == 200


def test_the_stand_in_has_what_the_exposures_declare() -> None:
    """So that `dataplatform lineage check` finds nothing of Hex to complain of."""
    text = (REPOSITORY / "dbt_project/models/marts/_exposures.yml").read_text("utf-8")
    declared = [one for one in yaml.safe_load(text)["exposures"] if one["config"]["meta"]["vendor"] == "hex"]
    assert {one["config"]["meta"]["slug"] for one in declared} == {"churn_analysis"}
    models = {ref.removeprefix("ref('").removesuffix("')") for one in declared for ref in one["depends_on"]}
    assert {str(table.reads).split(".")[1] for table in CHURN.tables} == models


def test_discovery_is_the_truth(component: HexProjects, vendors: Vendors) -> None:
    store = VendorContext.of(vendors.config).store
    truth = add_projects(store, 150, TABLES, seed=7)
    came = component.refresh()
    assert (came.assets, len(came.new)) == (len(truth) + 2, len(truth))
    projects = {one.key: one for one in HexState.model_validate_json(component.saved()).projects}
    for consumer in component.consumers(component.saved()):
        project = projects[consumer.key]
        if project.project.id not in truth:
            continue
        assert [".".join(key.path) for key in consumer.reads] == truth[project.project.id]
        bare = {row["spelling"] for row in store.execute(
            "select spelling from hex_table where project = ? and reads is null", (project.project.id,))}  # fmt: skip
        assert len(consumer.unknown) == len(bare)
    unowned = [one for one in projects.values() if one.project.owner and not one.project.owner.email]
    found = specs(component)
    assert {tuple(found[one.key].owners) for one in unowned} == {("team:data",)}
    # Each test reads everything anew: those after this one need not read so much.
    store.execute("delete from hex_project where id not in (?, ?)", (CHURN.id, REVIEW.id))


def test_what_nobody_has_changed_is_not_asked_again(component: HexProjects, vendors: Vendors) -> None:
    def asked() -> list[str]:
        return vendors.asked("hex", "queriedTables")

    store = VendorContext.of(vendors.config).store
    before = component.consumers(component.saved())
    earlier = asked()
    component.refresh()
    assert (asked(), component.consumers(component.saved())) == (earlier, before)
    store.execute("update hex_project set edited_at = '2026-05-05T00:00:00.000Z' where id = ?", (CHURN.id,))
    store.execute("update hex_project set published_at = '2026-05-05T00:00:00.000Z' where id = ?", (REVIEW.id,))
    component.refresh()
    assert sorted(asked()[len(earlier) :]) == [CHURN.id, REVIEW.id]


def test_a_project_that_is_renamed_keeps_its_key(component: HexProjects, vendors: Vendors) -> None:
    store = VendorContext.of(vendors.config).store
    store.execute("update hex_project set title = 'Why they leave' where id = ?", (CHURN.id,))
    came = component.refresh()
    store.execute("update hex_project set title = 'Churn analysis' where id = ?", (CHURN.id,))
    assert (came.new, came.gone, specs(component)[CHURN_KEY].description) == ((), (), "Why they leave")


def test_a_project_whose_tables_hex_keeps_to_itself_stays_and_says_why(
    component: HexProjects, vendors: Vendors
) -> None:
    before = next(one for one in component.consumers(component.saved()) if one.key == CHURN_KEY)
    last = json.loads(component.saved())
    for one in last["projects"]:
        one["project"]["last_edited_at"] = "2025-01-01T00:00:00.000Z"
    component.save(json.dumps(last))
    vendors.faults.add("hex", "/queriedTables", "http_403")
    component.refresh()
    vendors.faults.remove("hex")
    churn = next(one for one in component.consumers(component.saved()) if one.key == CHURN_KEY)
    assert len(churn.reads) == 5, "what it was known to read"
    assert churn.reads == before.reads
    assert "The key may not do that" in churn.unknown[0]


def test_a_category_that_is_given_makes_another_graph(component: HexProjects) -> None:
    known, last = checksum([component]), json.loads(component.saved())
    component.save(json.dumps(last))
    assert checksum([component]) == known, "the time of the refresh is nothing of the graph"
    for one in last["projects"]:
        if one["slug"] == "churn_analysis":
            one["project"]["categories"] = [{"name": "Run when its data lands"}]
    component.save(json.dumps(last))
    assert checksum([component]) != known


@pytest.mark.parametrize("fault", ["http_401", "http_500", "reset", "truncated"])
def test_a_hex_that_breaks_down_half_way_leaves_the_last_state(
    component: HexProjects, vendors: Vendors, fault: str
) -> None:
    before = component.saved()
    VendorContext.of(vendors.config).store.execute(
        "update hex_project set edited_at = ? where id = ?", (datetime.now(UTC).isoformat(), CHURN.id)
    )
    vendors.faults.add("hex", "/queriedTables", fault)
    with pytest.raises(VendorError, match="queriedTables"):
        component.refresh()
    vendors.faults.remove("hex")
    assert component.saved() == before


def test_a_hex_that_lists_nothing_any_more_is_not_believed(component: HexProjects, vendors: Vendors) -> None:
    store = VendorContext.of(vendors.config).store
    store.execute("update hex_project set trashed_at = ? where trashed_at is null", (NEVER,))
    with pytest.raises(StateIncomplete):
        component.refresh()
    store.execute("update hex_project set trashed_at = null where trashed_at = ?", (NEVER,))


def test_a_run_completes(component: HexProjects, vendors: Vendors, marts: None) -> None:
    metadata, failed, _again = run(component)
    assert (failed, metadata["duration_seconds"] > 0) == ([], True)
    [newest, *_] = runs(vendors, REVIEW.id)
    assert (newest["status"], metadata["hex"]) == ("COMPLETED", newest["runUrl"])


def test_a_run_that_fails_is_a_unit_with_a_link_and_the_others_go_on(
    component: HexProjects, vendors: Vendors, marts: None
) -> None:
    last = json.loads(component.saved())
    for one in last["projects"]:
        if one["slug"] == "churn_analysis":
            one["project"]["categories"] = [{"name": "Run when its data lands"}]
    component.save(json.dumps(last))
    vendors.faults.add("hex", "weekly_reliability_review", "run_failure", times=1)
    metadata, [unit], again = run(component)
    assert (unit.unit, unit.asset_keys, again) == (
        "hex/weekly_reliability_review", ("hex/weekly_reliability_review",), True,
    )  # fmt: skip
    assert "ERRORED" in unit.error
    assert runs(vendors, REVIEW.id)[0]["runUrl"] in unit.error
    assert metadata["hex"] == runs(vendors, CHURN.id)[0]["runUrl"]


def test_a_table_that_is_not_there_fails_the_run(component: HexProjects, vendors: Vendors, marts: None) -> None:
    warehouse = bigquery.Client(project=PROJECT)
    warehouse.delete_table("data_platform.asset_reliability")
    _metadata, [unit], _again = run(component)
    warehouse.load_table_from_json([{"id": 1}], "data_platform.asset_reliability").result()
    assert "ERRORED" in unit.error


def test_a_run_whose_trigger_gets_half_an_answer_runs_once(
    component: HexProjects, vendors: Vendors, marts: None
) -> None:
    before, asked = len(runs(vendors, REVIEW.id)), len(vendors.requests("hex"))
    vendors.faults.add("hex", "POST /api/v1/projects", "truncated", times=1)
    metadata, failed, _again = run(component)
    made = [one.split()[0] for one in vendors.requests("hex")[asked:] if one.endswith(f"/{REVIEW.id}/runs")]
    assert (failed, metadata["hex"]) == ([], runs(vendors, REVIEW.id)[0]["runUrl"])
    assert (made, len(runs(vendors, REVIEW.id)) - before) == (["GET", "POST", "GET"], 1)


def test_a_run_that_takes_too_long_is_cancelled_at_hex(component: HexProjects, vendors: Vendors, marts: None) -> None:
    vendors.faults.add("hex", "weekly_reliability_review", "slow_run", {"seconds": 60}, times=1)
    component.run_timeout_minutes = 0
    _metadata, [unit], _again = run(component)
    assert "raise `run_timeout_minutes`" in unit.error
    assert runs(vendors, REVIEW.id)[0]["status"] == "KILLED"


def test_a_project_that_was_never_published_is_not_tried_again(component: HexProjects, marts: None) -> None:
    last = json.loads(component.saved())
    for one in last["projects"]:
        one["project"]["last_published_at"] = None
    component.save(json.dumps(last))
    _metadata, [unit], again = run(component)
    assert ("never published" in unit.error, unit.permanent, again) == (True, True, False)


def test_a_step_that_is_cancelled_cancels_its_runs_at_hex(
    component: HexProjects, vendors: Vendors, marts: None
) -> None:
    vendors.faults.add("hex", "churn_analysis", "slow_run", {"seconds": 60}, times=1)
    projects = {one.key: one.project for one in HexState.model_validate_json(component.saved()).projects}
    context: Any = SimpleNamespace(selected_asset_keys={REVIEW_KEY, CHURN_KEY}, log=logging.getLogger("step"))
    step = component.execute(context, projects)
    assert next(step).asset_key == REVIEW_KEY
    assert runs(vendors, CHURN.id)[0]["status"] == "RUNNING"
    del step  # as an interrupt does, it closes the generator
    assert runs(vendors, CHURN.id)[0]["status"] == "KILLED"


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("`acme-prod.core.incidents`", "core/incidents"),
        ("acme-prod.core.incidents", "core/incidents"),
        ("`acme-prod`.`core`.`incidents`", "core/incidents"),
        ('"core"."incidents"', "core/incidents"),
        (" core . incidents ", "core/incidents"),
        ("[acme-prod:core.incidents]", "core/incidents"),
        ("example.com:acme.core.incidents", "core/incidents"),
    ],
)
def test_a_table_is_known_in_every_spelling(name: str, key: str) -> None:
    assert table_of(name).to_user_string() == key


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("incidents", "whose dataset"), ("", "whose dataset"), ("core.", "whose dataset"), ("`core.pages_*`", "many tables"),
        ("core.INFORMATION_SCHEMA.TABLES", "BigQuery's own"), ("region-us.information_schema.jobs", "BigQuery's own"),
    ],
)  # fmt: skip
def test_what_is_not_one_table_of_a_dataset_says_so(name: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        table_of(name)
