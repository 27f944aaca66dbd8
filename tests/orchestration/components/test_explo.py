"""Explo's dashboards and customers against the stand-in, their datasets against the warehouse's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from google.cloud import bigquery

from orchestration.components.explo import ExploDashboards, explo
from orchestration.components.explo_customers import CUSTOMERS, keep_in_step
from orchestration.components.explo_tenants import CHECK
from orchestration.components.saved_state import StateIncomplete
from orchestration.lineage import runs
from orchestration.lineage.asset_graph import graph_of
from orchestration.lineage.failures import FailedUnit, from_metadata
from orchestration.lineage.graph import AUDIENCE_TAG
from orchestration.settings import DBT_PROJECT, settings
from orchestration.vendors.waiting import SyncFailed
from sandbox.config import PROJECT
from sandbox.vendors.context import VendorContext
from sandbox.vendors.explo import content, state
from sandbox.vendors.store import Store
from tests.orchestration.wire import reply
from tests.product_events.faulty import network
from tests.stand_ins import Vendors

pytestmark = pytest.mark.usefixtures("configured")
ORGANISATIONS = {"org_1": "Acme", "org_2": "Globex", "org_3": "Initech", "org_4": "Umbrella"}
SPENT, LOAD, THROUGH = (
    dg.AssetKey(["explo", slug]) for slug in ("time_spent_on_incidents", "on_call_load", "post_incident_follow_through")
)
MARTS = ("insights.time_spent_on_incidents_v2", "insights.pages_by_responder", "insights.post_incident_task_completion")
DAY = date(2026, 6, 1)


def load(table: str, rows: list[dict[str, Any]]) -> None:
    client = bigquery.Client(project=PROJECT)
    client.create_dataset(table.split(".", maxsplit=1)[0], exists_ok=True)
    kinds = {str: "STRING", int: "INTEGER", float: "FLOAT"}
    schema = [
        bigquery.SchemaField(name, "DATE" if "month" in name or "week" in name or name == "declared_on" else kinds[type(value)])
        for name, value in rows[0].items()
    ]  # fmt: skip
    config = bigquery.LoadJobConfig(schema=schema, write_disposition="WRITE_TRUNCATE")
    client.load_table_from_json(rows, table, job_config=config).result()


def organisations(names: dict[str, str]) -> None:
    load("core.organisations", [{"organisation_id": id_, "organisation_name": name} for id_, name in names.items()])


@pytest.fixture(scope="module")
def marts(vendors: Vendors) -> None:
    organisations(ORGANISATIONS)
    day, tenants = DAY.isoformat(), list(enumerate(ORGANISATIONS, 1))
    load(MARTS[0], [
        {"organisation_id": tenant, "declared_on": day, "severity": severity, "incidents_declared": number, "incidents_resolved": number,
         "minutes_worked": 10 * number, "minutes_to_resolve": 1.5 * number}
        for number, tenant in tenants for severity in ("minor", "critical")
    ])  # fmt: skip
    load(MARTS[1], [
        {"organisation_id": tenant, "user_id": f"user_{number}", "paged_month": day, "pages": number, "out_of_hours_pages": 1}
        for number, tenant in tenants
    ])  # fmt: skip
    load(MARTS[2], [
        {"organisation_id": tenant, "created_week": day, "tasks_created": number, "tasks_done_on_time": 1, "tasks_done_late": 0,
         "tasks_open": 0, "completion_rate": 0.5}
        for number, tenant in tenants
    ])  # fmt: skip


@pytest.fixture
def store(vendors: Vendors) -> Iterator[Store]:
    """Explo's memory, as it was before the test when it is over."""
    store = VendorContext.of(vendors.config).store
    yield store
    own = ", ".join(f"'{one.embed_id}'" for one in state.DASHBOARDS)
    for table in ("explo_dataset", "explo_dashboard"):
        store.execute(f"delete from {table} where embed_id not in ({own})")
    store.execute("delete from explo_customer")
    for one in state.DASHBOARDS:
        store.execute("delete from explo_dataset where embed_id = ?", (one.embed_id,))
        for dataset in one.datasets:
            state.edit(store, one.embed_id, dataset.name, dataset.query)


@pytest.fixture
def component(marts: None, store: Store) -> ExploDashboards:
    made = ExploDashboards(owners=["insights@example.com"], sampled_tenants=1)
    made.refresh()
    return made


def definitions(component: ExploDashboards) -> dg.Definitions:
    return component.definitions(component.saved())


@dataclass
class Ran:
    """What a run came to: its checks by asset, the metadata of what it made, the units that failed."""

    checks: dict[dg.AssetKey, dg.AssetCheckEvaluation] = field(default_factory=dict)
    made: dict[str, Any] = field(default_factory=dict)
    failed: list[FailedUnit] = field(default_factory=list)

    def said(self, key: dg.AssetKey) -> str:
        return self.checks[key].description or ""


def read(result: dg.ExecuteInProcessResult) -> Ran:
    ran = Ran()
    for event in result.all_events:
        if event.is_step_materialization:
            ran.made = {name: value.value for name, value in event.materialization.metadata.items()}
        elif event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            ran.checks[event.asset_check_evaluation_data.asset_key] = event.asset_check_evaluation_data
        elif event.is_step_failure and (data := event.step_failure_data.user_failure_data):
            ran.failed = from_metadata({name: value.value for name, value in data.metadata.items()}) or []
    return ran


def check(component: ExploDashboards) -> Ran:
    """Run the job of the checks."""
    job = definitions(component).resolve_job_def("explo_tenants")
    return read(job.execute_in_process(raise_on_error=False))


def sync(component: ExploDashboards) -> Ran:
    assets = [asset for asset in (definitions(component).assets or []) if isinstance(asset, dg.AssetsDefinition)]
    return read(dg.materialize(assets, raise_on_error=False))


def specs(component: ExploDashboards) -> dict[str, dg.AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in definitions(component).resolve_all_asset_specs()}


def upstream(spec: dg.AssetSpec) -> list[str]:
    return sorted(dep.asset_key.to_user_string() for dep in spec.deps)


def test_dashboards_are_joined_to_what_their_datasets_read(component: ExploDashboards) -> None:
    found = specs(component)[LOAD.to_user_string()]
    assert upstream(found) == ["insights/pages_by_responder", "insights/time_spent_on_incidents_v2"]
    assert (found.group_name, found.tags[AUDIENCE_TAG], found.owners) == (
        "analytics",
        "customer",
        ["insights@example.com"],
    )
    assert found.metadata["dashboard"].value == "https://app.explo.co/embed_id/JQvCTLT76V"


def test_the_companys_dashboards_read_what_dbts_exposures_declare(component: ExploDashboards) -> None:
    exposures = yaml.safe_load((DBT_PROJECT / "models/marts/_exposures.yml").read_text())["exposures"]
    declared = {
        f"explo/{one['config']['meta']['slug']}": sorted(f"insights/{_table(ref)}" for ref in one["depends_on"])
        for one in exposures
        if one["config"]["meta"]["vendor"] == "explo"
    }
    found = {key: upstream(spec) for key, spec in specs(component).items() if key.startswith("explo/")}
    assert found.pop("explo/customers") == ["core/organisations"]
    assert found == declared


def _table(ref: str) -> str:
    found = re.match(r"ref\('(\w+)'(?:, v=(\d))?\)", ref)
    assert found
    return f"{found[1]}_v{found[2]}" if found[2] else found[1]


def test_any_number_of_dashboards_is_found_with_all_that_they_read(component: ExploDashboards, store: Store) -> None:
    truth = content.add_dashboards(store, 60, (*MARTS, "insights.time_spent_on_incidents"), seed=7)
    component.refresh()
    found = {one.url.rpartition("/")[2]: one for one in component.consumers(component.saved()) if one.url}
    assert {id_: sorted(".".join(key.path) for key in found[id_].reads) for id_ in truth} == truth
    assert [one.unknown for one in found.values() if one.unknown] == []
    assert len({one.key for one in found.values()} | {CUSTOMERS}) == 64


def test_a_renamed_dashboard_stays_the_same_asset(component: ExploDashboards, store: Store) -> None:
    store.execute("update explo_dashboard set name = 'Pages' where slug = 'on_call_load'")
    try:
        component.refresh()
        assert specs(component)[LOAD.to_user_string()].description == "Pages"
    finally:
        store.execute("update explo_dashboard set name = 'On-call load' where slug = 'on_call_load'")


def test_what_one_dataset_hides_does_not_hide_what_the_others_read(component: ExploDashboards, store: Store) -> None:
    state.edit(store, "Lw8kPz3QnB", "By name", "select * from insights.{{customer.table.raw()}}")
    component.refresh()
    [through] = [one for one in component.consumers(component.saved()) if one.key == THROUGH]
    assert [key.to_user_string() for key in through.reads] == ["insights/post_incident_task_completion"]
    assert through.unknown == (
        "Its dataset `By name` cannot be read: A variable is the name of a table that it reads.",
    )


def test_an_explo_that_lists_nothing_any_more_is_not_believed(component: ExploDashboards, store: Store) -> None:
    for table in ("explo_dashboard", "explo_dataset"):
        store.execute(f"delete from {table}")
    try:
        with pytest.raises(StateIncomplete):
            component.refresh()
    finally:
        state.prepare(store)


def customers(store: Store) -> dict[str, str]:
    return {row["provided_id"]: row["name"] for row in store.execute("select * from explo_customer")}


def test_customers_follow_the_organisations(component: ExploDashboards, store: Store) -> None:
    first = sync(component).made
    assert (first["created"], first["updated"], first["unchanged"], first["dagster/row_count"]) == (4, 0, 0, 4)
    assert customers(store) == ORGANISATIONS
    second = sync(component).made
    assert (second["created"], second["updated"], second["unchanged"]) == (0, 0, 4)
    try:
        organisations({"org_1": "Acme Ltd", "org_2": "Globex", "org_5": "Hooli"})
        third = sync(component).made
        assert (third["created"], third["updated"], third["unchanged"], third["not_in_organisations"]) == (1, 1, 1, 2)
        assert third["not_in_organisations_ids"] == "org_3, org_4"
        assert customers(store) == ORGANISATIONS | {"org_1": "Acme Ltd", "org_5": "Hooli"}
    finally:
        organisations(ORGANISATIONS)


def test_a_lost_answer_and_a_second_run_at_once_make_no_duplicate(
    component: ExploDashboards, store: Store, vendors: Vendors
) -> None:
    # Explo makes the customer, and half of its answer arrives.
    vendors.faults.add("explo", "create_customer", "truncated", times=2)
    names = {f"org_{number}": f"Organisation {number}" for number in range(12)}
    with ThreadPoolExecutor(3) as pool:
        came = [future.result() for future in [pool.submit(keep_in_step, explo(), names) for _ in range(3)]]
    assert len(store.execute("select * from explo_customer")) == 12
    assert customers(store) == names
    assert all(len(one.created) + one.unchanged == 12 for one in came)
    assert keep_in_step(explo(), names).unchanged == 12


def test_customers_of_an_explo_that_does_not_answer_are_made_the_next_time(
    component: ExploDashboards, store: Store, vendors: Vendors
) -> None:
    vendors.faults.add("explo", "create_customer", "http_500")
    ran = sync(component)
    [unit] = ran.failed
    assert (unit.unit, unit.asset_keys, unit.permanent) == ("explo/customers", ("explo/customers",), False)
    assert "create_customer/ answered 500" in unit.error
    assert ran.made == {}
    vendors.faults.remove()
    assert sync(component).made["created"] == 4


def test_a_customer_that_explo_refuses_keeps_no_other_waiting(component: ExploDashboards, store: Store) -> None:
    with pytest.raises(
        SyncFailed, match=r"1 of 3 customers could not be written. The first: org_2: .*name is required"
    ) as caught:
        keep_in_step(explo(), {"org_1": "Acme", "org_2": "", "org_3": "Initech"})
    assert caught.value.permanent
    assert customers(store) == {"org_1": "Acme", "org_3": "Initech"}


def test_good_dashboards_pass(component: ExploDashboards, store: Store) -> None:
    made = content.add_dashboards(store, 6, MARTS, seed=3)
    component.refresh()
    component.sampled_tenants = 2
    ran = check(component)
    assert [one.description for one in ran.checks.values() if not one.passed] == []
    assert (ran.failed, len(ran.checks)) == ([], 3 + len(made))
    metadata: dict[str, Any] = {name: value.value for name, value in ran.checks[LOAD].metadata.items()}
    assert metadata["seconds"].keys() == {"Pages by month", "Pages and what they were for"}
    assert len(metadata["tenants"]) == 2


@pytest.mark.parametrize(
    ("key", "dataset", "seen"),
    [
        (SPENT, "Time by day", r"the rows of all, (org_\d, )?(org_\d, )?org_\d among them"),
        (LOAD, "Pages by month", "the rows of all\\."),
    ],
    ids=["with the tenant column", "aggregated"],
)
def test_a_filter_that_somebody_took_out_is_noticed(
    key: dg.AssetKey, dataset: str, seen: str, component: ExploDashboards, vendors: Vendors
) -> None:
    # Nobody refreshes: the check reads Explo itself.
    vendors.faults.add("explo", key.path[-1])
    ran = check(component)
    assert {one for one, found in ran.checks.items() if not found.passed} == {key}
    assert (ran.failed, ran.checks[key].severity) == ([], dg.AssetCheckSeverity.ERROR)
    assert re.search(rf"dataset `{dataset}`, for org_\d: It does not ask for .*{seen}", ran.said(key))
    assert "by `organisation_id = {{customer_id}}`" in ran.said(key)
    vendors.faults.remove()
    assert check(component).checks[key].passed


LEAKS = {
    "or": "select sum(pages) as pages from insights.pages_by_responder where organisation_id = {{customer_id}} and pages > 9 or true",
    "a window": "select * from (select organisation_id = {{customer_id}} as own, sum(pages) over () as pages from"
    " `local-dev.insights.pages_by_responder`) where own",
    "a join": "select count(*) as number from insights.pages_by_responder as p join insights.post_incident_task_completion as t on true"
    " where p.organisation_id = {{customer_id}}",
    "a clause that goes": "select max(pages) + count(*) as pages from insights.pages_by_responder where true"
    " [[and organisation_id = {{customer_id}} and pages > {{least}}]]",
    "a rank": "with ranked as (select organisation_id, rank() over (order by pages desc, organisation_id) + 10 * count(*) over () as place"
    " from insights.pages_by_responder) select place from ranked where organisation_id = {{customer_id}}",
    "a union": "select pages from insights.pages_by_responder where organisation_id = {{customer_id}} union all"
    " select tasks_created from insights.post_incident_task_completion",
}
SHOWN = "select organisation_id, pages from insights.pages_by_responder where organisation_id = {{customer_id}} or true"
BROKEN = {
    "select from": "BigQuery refuses it",
    "select * from insights.nowhere": "BigQuery refuses it: .*nowhere",
    "select nothing from insights.pages_by_responder": "BigQuery refuses it: .*nothing",
    "drop table insights.pages_by_responder": "not one query, so it was not run",
    "select 1; select 2": "not one query, so it was not run",
}
UNKNOWN = {
    "select * from insights.pages_by_responder where organisation_id = {{customer_id}} and pages = {{number}}": "{{number}} has no value",
    "select rand() as r from insights.pages_by_responder where organisation_id = {{customer_id}}": "differently each time",
}


def dataset_said(ran: Ran, dataset: str) -> str:
    return next((line for line in ran.said(THROUGH).splitlines() if f"`{dataset}`" in line), "")


def test_other_customers_rows_are_noticed_also_in_sums(component: ExploDashboards, store: Store) -> None:
    for name, query in LEAKS.items():
        state.edit(store, "Lw8kPz3QnB", name, query)
    state.edit(store, "Lw8kPz3QnB", "shown", SHOWN)
    ran = check(component)
    assert not ran.checks[THROUGH].passed
    assert {name: "their rows are in what it shows" in dataset_said(ran, name) for name in LEAKS} == dict.fromkeys(
        LEAKS, True
    )
    assert re.search(r"It shows rows of org_\d, org_\d, org_\d\. In Explo", dataset_said(ran, "shown"))
    assert dataset_said(ran, "Tasks by week") == ""


def test_what_bigquery_refuses_is_told_and_what_is_no_query_is_not_run(
    component: ExploDashboards, store: Store
) -> None:
    for query in BROKEN:
        state.edit(store, "Lw8kPz3QnB", query, query)
    ran = check(component)
    assert ran.checks[THROUGH].severity is dg.AssetCheckSeverity.ERROR
    for query, expected in BROKEN.items():
        assert re.search(expected, dataset_said(ran, query)), query
    assert "Job ID" not in ran.said(THROUGH)
    assert bigquery.Client(project=PROJECT).get_table("insights.pages_by_responder").num_rows == 4


def test_what_cannot_be_proven_is_a_warning(component: ExploDashboards, store: Store) -> None:
    for query in UNKNOWN:
        state.edit(store, "Lw8kPz3QnB", query, query)
    ran = check(component)
    assert (ran.checks[THROUGH].passed, ran.checks[THROUGH].severity) == (False, dg.AssetCheckSeverity.WARN)
    for query, expected in UNKNOWN.items():
        assert expected in dataset_said(ran, query), query
    component.variables = {"number": "1"}
    assert "has no value" not in check(component).said(THROUGH)


def test_a_clause_that_leaks_once_a_viewer_has_chosen_is_noticed_where_the_choice_is_known(
    component: ExploDashboards, store: Store
) -> None:
    chosen = "select count(*) as n from insights.pages_by_responder where organisation_id = {{customer_id}} [[or user_id >= {{user}}]]"
    state.edit(store, "Lw8kPz3QnB", "chosen", chosen)
    state.edit(store, "JQvCTLT76V", "not chosen", LEAKS["a clause that goes"])
    assert check(component).checks[THROUGH].passed
    component.variables = {"user": "", "least": "0"}
    ran = check(component)
    assert "their rows are in what it shows" in dataset_said(ran, "chosen")
    # What is seen before anything is chosen is still looked at.
    assert not ran.checks[LOAD].passed


def test_a_dashboard_that_explo_no_longer_gives_is_a_warning(component: ExploDashboards, store: Store) -> None:
    store.execute("update explo_dashboard set embed_id = 'other' where slug = 'on_call_load'")
    try:
        ran = check(component)
    finally:
        store.execute("update explo_dashboard set embed_id = 'JQvCTLT76V' where slug = 'on_call_load'")
    assert (ran.checks[LOAD].passed, ran.checks[LOAD].severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "Explo does not give its datasets" in ran.said(LOAD)
    assert ran.checks[SPENT].passed


def test_a_slow_dataset_fails(component: ExploDashboards) -> None:
    component.dashboard_seconds = 0.01
    ran = check(component)
    assert {one.passed for one in ran.checks.values()} == {False}
    assert "It takes longer than 0.01 s." in ran.said(LOAD)


def test_a_dashboard_that_cannot_be_looked_at_has_not_passed_and_holds_up_no_other(
    component: ExploDashboards, vendors: Vendors
) -> None:
    vendors.faults.add("explo", "JQvCTLT76V", "http_500")
    ran = check(component)
    assert {key: one.passed for key, one in ran.checks.items()} == {SPENT: True, THROUGH: True}
    [unit] = ran.failed
    assert (unit.unit, unit.asset_keys) == ("check/explo/on_call_load/tenants", ("explo/on_call_load",))
    assert unit.awaits == ("check:explo/on_call_load:tenants",)
    assert unit.error.startswith("What customers see was not checked. Explo: GET")


def test_a_warehouse_that_does_not_answer_is_no_leak(
    component: ExploDashboards, vendors: Vendors, monkeypatch: pytest.MonkeyPatch
) -> None:
    unavailable = reply(503, {"error": {"code": 503, "message": "The warehouse is down."}})
    monkeypatch.setenv("BIGQUERY_RETRY_SECONDS", "1")
    settings.cache_clear()
    with network(vendors.config.url("bigquery")) as between:
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", between.url)
        between.query = lambda body: None if b"core.organisations" in body else unavailable
        ran = check(component)
        assert ran.checks == {}
        assert {unit.asset_keys for unit in ran.failed} == {(key.to_user_string(),) for key in (SPENT, LOAD, THROUGH)}
        between.query = lambda _body: unavailable
        said = check(component).failed[0].error
    assert "could not be asked for the organisations" in said
    assert "The warehouse is down." in said


def test_before_there_are_organisations_the_schedule_looks_at_nothing(
    component: ExploDashboards, tmp_path: Path
) -> None:
    [schedule] = [one for one in definitions(component).schedules or [] if isinstance(one, dg.ScheduleDefinition)]
    repository = definitions(component).get_repository_def()
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:

        def launched() -> int:
            context = dg.build_schedule_context(instance, repository_def=repository)
            return len(schedule.evaluate_tick(context).run_requests or [])

        assert launched() == 0
        instance.report_runless_asset_event(dg.AssetMaterialization(dg.AssetKey(["core", "organisations"])))
        assert launched() == 1


def test_a_leak_hurts_customers(component: ExploDashboards, vendors: Vendors) -> None:
    vendors.faults.add("explo", "on_call_load")
    instance = dg.DagsterInstance.ephemeral()
    checks = definitions(component)
    result = checks.resolve_job_def("explo_tenants").execute_in_process(instance=instance)
    [failed] = runs.read(instance, result.run_id, 0).checks_failed
    hurt = graph_of(checks.resolve_asset_graph()).blast_radius(failed.unit.asset_keys)
    assert [(one.key, one.audience) for one in hurt] == [("explo/on_call_load", "customer")]


def test_a_check_follows_what_its_dashboard_reads(component: ExploDashboards) -> None:
    @dg.multi_asset(specs=[dg.AssetSpec(mart.split(".")) for mart in MARTS], can_subset=True)
    def build(context):
        for key in context.selected_asset_keys:
            yield dg.MaterializeResult(asset_key=key)

    instance, checks = dg.DagsterInstance.ephemeral(), definitions(component)
    [sensor] = checks.sensors or []
    assert isinstance(sensor, dg.AutomationConditionSensorDefinition)
    graph, cursor = dg.Definitions.merge(checks, dg.Definitions(assets=[build])), None

    def requested() -> set[dg.AssetKey]:
        nonlocal cursor
        came = dg.evaluate_automation_conditions(graph, instance, sensor.asset_selection, cursor=cursor)
        cursor = came.cursor
        found = [one.key for one in came.results if not one.true_subset.is_empty]
        return {check.asset_key for check in found if isinstance(check, dg.AssetCheckKey) and check.name == CHECK}

    assert requested() == set()
    dg.materialize([build], selection=[dg.AssetKey(["insights", "pages_by_responder"])], instance=instance)
    assert (requested(), requested()) == ({LOAD}, set())
    dg.materialize([build], selection=[dg.AssetKey(["insights", "time_spent_on_incidents_v2"])], instance=instance)
    assert (requested(), requested()) == ({SPENT, LOAD}, set())
