from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from orchestration.components import automation
from orchestration.components.dbt import MANIFEST, DbtModels
from orchestration.components.hightouch import HightouchState, HightouchSyncs, tables_of
from orchestration.components.outside_syncs import RECHECKED
from orchestration.lineage.failures import FailedUnit, from_metadata
from orchestration.lineage.graph import AUDIENCE_TAG
from orchestration.settings import settings
from orchestration.vendors.hightouch import Hightouch, Model, Sync
from orchestration.vendors.http import VendorError
from orchestration.vendors.waiting import SyncFailed, Wait
from sandbox.vendors import rate_limits
from sandbox.vendors.context import VendorContext
from sandbox.vendors.hightouch.content import add_syncs
from tests.orchestration.wire import RESET, reply, wire
from tests.stand_ins import Mart, Vendors

pytestmark = pytest.mark.usefixtures("configured")
KEY = dg.AssetKey(["hightouch", "salesforce_account_health"])
WEEKLY = dg.AssetKey(["hightouch", "slack_weekly_support_load"])
TABLES = ["sales.account_health", "core.organisations", "core.incidents", "insights.time_spent_on_incidents_v2"]
NOTHING = "No sync ran without Dagster."
RUN = {"id": 7, "status": "success", "createdAt": "2026-11-23T03:00:00Z"}


@pytest.fixture
def component(vendors: Vendors) -> HightouchSyncs:
    made = HightouchSyncs(owners=["revenue@example.com"])
    made.refresh()
    return made


def definitions(component: HightouchSyncs) -> dg.Definitions:
    return component.definitions(component.saved())


def materialize(
    component: HightouchSyncs, instance: dg.DagsterInstance | None = None, config: Any = None, *, raises: bool = False
) -> dg.ExecuteInProcessResult:
    """A run of the sync to Salesforce."""
    assets = list(definitions(component).assets or [])
    instance = instance or dg.DagsterInstance.ephemeral()
    return dg.materialize(assets, instance=instance, selection=[KEY], run_config=config, raise_on_error=raises)


def run(
    component: HightouchSyncs, instance: dg.DagsterInstance | None = None, config: Any = None
) -> tuple[dict[str, object], list[FailedUnit]]:
    """The metadata of the materialization, or none; and the units that failed."""
    metadata: dict[str, object] = {}
    failed: list[FailedUnit] = []
    for event in materialize(component, instance, config).all_events:
        if event.is_step_materialization:
            metadata = {name: value.value for name, value in event.materialization.metadata.items()}
        elif event.is_step_failure:
            data = event.step_failure_data.user_failure_data
            assert data is not None
            failed = from_metadata({name: value.value for name, value in data.metadata.items()}) or []
    return metadata, failed


def checked(component: HightouchSyncs) -> tuple[dg.AssetCheckEvaluation, dict[str, object]]:
    """The check of a run that succeeded, and the metadata of its materialization."""
    result = materialize(component)
    assert result.success
    [check] = result.get_asset_check_evaluations()
    [made] = result.asset_materializations_for_node("hightouch")
    return check, {name: value.value for name, value in made.metadata.items()}


def upstream(spec: dg.AssetSpec) -> list[str]:
    return sorted(dep.asset_key.to_user_string() for dep in spec.deps)


def test_a_sync_is_joined_to_the_table_that_its_model_reads(component: HightouchSyncs) -> None:
    specs = {spec.key: spec for spec in definitions(component).resolve_all_asset_specs()}
    assert upstream(specs[KEY]) == ["sales/account_health"]
    assert (specs[KEY].group_name, specs[KEY].tags[AUDIENCE_TAG]) == ("activation", "internal")
    assert specs[KEY].kinds == {"hightouch", "salesforce"}
    assert (upstream(specs[WEEKLY]), specs[WEEKLY].kinds) == (["support/support_load_by_week"], {"hightouch", "slack"})


def test_every_sync_is_joined_however_its_model_says_what_it_reads(component: HightouchSyncs, vendors: Vendors) -> None:
    before = {spec.key for spec in definitions(component).resolve_all_asset_specs()}
    truth = add_syncs(VendorContext.of(vendors.config).store, 40, TABLES, seed=1)
    came = component.refresh()
    assert (len(came.new), came.gone) == (40, ())
    specs = {spec.key: spec for spec in definitions(component).resolve_all_asset_specs()}
    new = specs.keys() - before
    found = {key.path[-1]: upstream(specs[key]) for key in new if key.path[0] == "hightouch"}
    assert found == {slug: [table.replace(".", "/") for table in tables] for slug, tables in truth.items()}


@pytest.mark.long
def test_a_refresh_outlives_the_rate_limit(component: HightouchSyncs, vendors: Vendors) -> None:
    """A refresh sends three requests. Hightouch does not say when to come back."""
    store = VendorContext.of(vendors.config).store
    rate_limits.override(store, "hightouch", "requests", 3, 5)
    try:
        for _ in range(2):
            assert component.refresh().gone == ()
    finally:
        rate_limits.reset(store)


@pytest.mark.parametrize(
    "model", [{"id": 1, "raw": {"sql": "select {% if x %} from"}}, {"id": 1, "table": {"name": "users"}}, {"id": 2}]
)
def test_a_sync_whose_model_cannot_be_read_stays_without_upstream(
    model: dict[str, object], component: HightouchSyncs
) -> None:
    sync = {"id": 1, "slug": "odd", "modelId": 1, "destinationId": 9}
    state = HightouchState.model_validate(
        {"syncs": [sync], "models": [model | {"slug": "m", "name": "M"}], "destinations": []}
    )
    component.save(state.model_dump_json())
    [spec] = definitions(component).resolve_all_asset_specs()
    assert (spec.key.to_user_string(), list(spec.deps)) == ("hightouch/odd", [])


def test_only_what_changed_is_sent(component: HightouchSyncs, mart: Mart) -> None:
    metadata, failed = run(component)
    assert (metadata["rows_synced"], metadata["dagster/row_count"], failed) == (0, len(mart.rows), [])
    for row in list(mart.rows.values())[:2]:
        row["open_tasks"] = 99
    mart.write()
    assert run(component)[0]["rows_synced"] == 2


def test_rejected_rows_are_a_failed_check_that_quotes_three_of_them(
    component: HightouchSyncs, mart: Mart, vendors: Vendors
) -> None:
    vendors.faults.add("hightouch", KEY.path[-1], "rejected_rows", {"count": 4}, times=1)
    for row in list(mart.rows.values())[:5]:
        row["open_tasks"] = 98
    mart.write()
    check, metadata = checked(component)
    assert (check.passed, check.severity, check.check_name) == (False, dg.AssetCheckSeverity.ERROR, "rejected_rows")
    first, *quoted, more = (check.description or "").split("\n")
    assert f"rejected 4 of {len(mart.rows)} rows" in first
    assert len(quoted) == 3
    for line in quoted:
        row, _, reason = line.partition(": ")
        assert row in mart.rows
        assert reason == "FIELD_CUSTOM_VALIDATION_EXCEPTION: the destination rejected this row"
    assert more.startswith("All of them: hightouch_audit.sync_changelog")
    assert (metadata["rows_planned"], metadata["rows_changed"], metadata["rows_rejected"]) == (5, 1, 4)

    check, metadata = checked(component)
    assert (check.passed, metadata["rows_synced"], metadata["rows_rejected"]) == (True, 4, 0)


def test_so_many_rejected_rows_as_a_sync_may_have_are_no_failure(
    component: HightouchSyncs, mart: Mart, vendors: Vendors
) -> None:
    component.rejected_rows_of = {KEY.path[-1]: 1}
    vendors.faults.add("hightouch", KEY.path[-1], "rejected_rows", {"count": 1}, times=1)
    for row in list(mart.rows.values())[:2]:
        row["open_tasks"] = 96
    mart.write()
    check, _ = checked(component)
    assert (check.passed, check.metadata["rejected"].value) == (True, 1)
    checked(component)


def test_every_row_is_sent_where_the_run_says_so(component: HightouchSyncs, mart: Mart, vendors: Vendors) -> None:
    config = {"ops": {"hightouch": {"config": {"full_resync": [KEY.path[-1]]}}}}
    assert run(component, config=config)[0]["rows_planned"] == len(mart.rows)
    before = vendors.hightouch.get("/api/v1/syncs/1/runs").json()["data"][-1]["id"]
    with pytest.raises(dg.Failure, match="full_resync names nobody, which Hightouch has no enabled sync of; it has"):
        materialize(component, config={"ops": {"hightouch": {"config": {"full_resync": ["nobody"]}}}}, raises=True)
    assert vendors.hightouch.get("/api/v1/syncs/1/runs").json()["data"][-1]["id"] == before


def test_a_sync_with_hours_of_its_own_runs_then_and_the_others_when_what_they_read_has_changed() -> None:
    made = HightouchSyncs(cron_of={WEEKLY.path[-1]: "0 9 * * 1"})
    made.refresh()
    specs = {spec.key: spec for spec in definitions(made).resolve_all_asset_specs()}
    read = {key: [dep.asset_key for dep in spec.deps] for key, spec in specs.items()}
    assert specs[KEY].automation_condition == automation.when_read_changes(read[KEY])
    assert specs[WEEKLY].automation_condition == automation.on_cron("0 9 * * 1", read[WEEKLY])


def test_a_sync_that_also_reads_what_nothing_lands_is_not_blocked_by_it() -> None:
    @dg.asset
    def mart() -> None: ...

    instance, noon = dg.DagsterInstance.ephemeral(), datetime(2026, 11, 24, 12, tzinfo=UTC)
    for condition, waits in (
        (automation.when_read_changes([dg.AssetKey("mart"), dg.AssetKey("sheet")]), False),
        (dg.AutomationCondition.eager(), True),
    ):
        sync = dg.AssetSpec(f"sync_{waits}", deps=["mart", "sheet"], automation_condition=condition)

        @dg.multi_asset(specs=[sync], name=f"run_{waits}")
        def run_sync() -> None: ...

        defs = dg.Definitions([mart, run_sync])
        instance.report_runless_asset_event(dg.AssetMaterialization("mart"))
        first = dg.evaluate_automation_conditions(defs, instance, evaluation_time=noon)
        instance.report_runless_asset_event(dg.AssetMaterialization("mart"))
        later = noon + timedelta(minutes=1)
        second = dg.evaluate_automation_conditions(defs, instance, evaluation_time=later, cursor=first.cursor)
        assert second.total_requested == (0 if waits else 1)


def test_a_failed_run_carries_the_vendors_reason(component: HightouchSyncs, mart: Mart, vendors: Vendors) -> None:
    vendors.faults.add("hightouch", "salesforce_account_health", "sync_failure", {"reason": "Token expired."}, times=1)
    metadata, [failure] = run(component)
    assert metadata == {}
    assert "failed: Token expired." in failure.error
    assert failure.asset_keys == ("hightouch/salesforce_account_health",)


def test_an_interrupted_run_is_followed_into_the_one_that_resumes_it(
    component: HightouchSyncs, mart: Mart, vendors: Vendors
) -> None:
    for row in list(mart.rows.values())[:2]:
        row["open_tasks"] = 95
    mart.write()
    vendors.faults.add("hightouch", "salesforce_account_health", "interrupted", times=2)
    metadata, failed = run(component)
    assert (metadata["rows_synced"], failed) == (2, [])
    newest = vendors.hightouch.get("/api/v1/syncs/1/runs").json()["data"][-3:]
    assert [one["status"] for one in newest] == ["interrupted", "interrupted", "success"]


def test_an_interrupted_run_that_nothing_resumes_fails_at_the_time_limit() -> None:
    interrupted = RUN | {"status": "interrupted"}
    listing, started = reply(200, {"data": [interrupted]}), reply(200, {"id": "7"})
    with wire(listing, started, listing) as server:
        sync = Sync(id=1, slug="s", model_id=1, destination_id=1)
        with pytest.raises(SyncFailed, match="run 7 interrupted, which a new run will resume, and not finished within"):
            Hightouch(server.url, "k").sync(sync, Wait(2, "Raise it.", lambda _text: None, lambda _seconds: None))


def test_an_interrupted_run_outside_of_dagster_is_no_failure(
    component: HightouchSyncs, mart: Mart, vendors: Vendors
) -> None:
    watch = Watch(component)
    watch.look()
    vendors.faults.add("hightouch", "salesforce_account_health", "interrupted", times=1)
    interrupted = vendors.run()
    assert interrupted["status"] == "interrupted"
    vendors.ran(str(interrupted["id"] + 1))
    assert watch.look() == "Without Dagster: hightouch/salesforce_account_health succeeded."
    assert watch.told() == []


@pytest.mark.parametrize(
    ("model", "reads", "unknown"),
    [
        ({"dbt_cloud": {"compiledSql": "select * from `p.sales.deals`", "dbtUniqueId": "model.x.y"}}, ["sales/deals"], ""),
        ({"dbt_cloud": {"compiledSql": "", "dbtUniqueId": "model.x.y"}}, [], "dbt Cloud's `model.x.y`"),
        ({"visual": {"parentId": 2, "filter": {"any": []}}}, ["core/organisations"], ""),
        ({"visual": {"parentId": 9, "filter": {}}}, [], "filters model 9, which Hightouch does not list"),
        ({"visual": {"parentId": 1, "filter": {}}}, [], "filters model 1"),
        ({"custom": {"query": {"base": "Airtable"}}}, [], "is a custom query, of a source without SQL"),
        ({"queryType": "decision"}, [], "of a kind that is not known: decision"),
    ],
)  # fmt: skip
def test_every_kind_of_model_is_joined_where_it_can_be_and_named_where_not(
    component: HightouchSyncs, model: dict[str, Any], reads: list[str], unknown: str
) -> None:
    sync = {"id": 1, "slug": "odd", "modelId": 1, "destinationId": 9}
    parent = {"id": 2, "slug": "p", "name": "P", "table": {"name": "core.organisations"}}
    models = [{"id": 1, "slug": "m", "name": "M", **model}, parent]
    state = HightouchState.model_validate({"syncs": [sync], "models": models, "destinations": []})
    [consumer] = component.consumers(HightouchState.model_validate_json(state.model_dump_json()).model_dump_json())
    assert [key.to_user_string() for key in consumer.reads] == reads
    assert unknown in " ".join(consumer.unknown)
    assert bool(consumer.unknown) == bool(unknown)


def test_a_model_of_dbt_cloud_is_the_table_of_our_dbt_model(component: HightouchSyncs) -> None:
    node = {
        "resource_type": "model",
        "schema": "sales",
        "name": "deals",
        "alias": "deals",
        "config": {"schema": "sales"},
        "original_file_path": "models/deals.sql",
    }
    manifest = DbtModels.state_path() / MANIFEST
    manifest.parent.mkdir(parents=True, exist_ok=True)
    manifest.write_text(json.dumps({"nodes": {"model.x.deals": node}, "sources": {}, "exposures": {}}))
    cloud = {"dbtUniqueId": "model.x.deals", "compiledSql": "select 1 from `raw.deals`", "name": "deals"}
    model = Model.model_validate({"id": 1, "slug": "m", "name": "M", "dbt_cloud": cloud})
    assert tables_of(model, {}) == [dg.AssetKey(["sales", "deals"])]


def test_a_sync_that_reads_production_under_dbts_own_schema_names_is_joined_to_the_model(
    component: HightouchSyncs,
) -> None:
    def node(schema: str, configured: str | None, name: str) -> dict[str, Any]:
        place = {"schema": schema, "name": name, "alias": name, "config": {"schema": configured}}
        return {"resource_type": "model", "original_file_path": f"models/{name}.sql", **place}

    nodes = [node("prod_sales", "sales", "deals"), node("prod_sales", "sales", "leads"), node("prod", None, "people")]
    # Another model has the key that the table of `leads` would have.
    nodes.append(node("elsewhere", "prod_sales", "leads"))
    manifest = DbtModels.state_path() / MANIFEST
    manifest.parent.mkdir(parents=True, exist_ok=True)
    models = {f"model.x.{number}": node for number, node in enumerate(nodes)}
    manifest.write_text(json.dumps({"nodes": models, "sources": {}, "exposures": {}}))
    sql = "select * from prod_sales.deals, prod_sales.leads, prod.people, core.other"
    state = HightouchState.model_validate(
        {
            "syncs": [{"id": 1, "slug": "joined", "modelId": 1, "destinationId": 9}],
            "models": [{"id": 1, "slug": "m", "name": "M", "raw": {"sql": sql}}],
            "destinations": [],
        }
    )
    [consumer] = component.consumers(state.model_dump_json())
    assert {key.to_user_string() for key in consumer.reads} == {
        "sales/deals", "prod_sales/leads", "prod/people", "core/other",
    }  # fmt: skip


class Watch:
    """The sensor of syncs that ran outside of Dagster, over ticks that hand on their cursor."""

    def __init__(self, component: HightouchSyncs) -> None:
        self.instance = dg.DagsterInstance.ephemeral()
        [sensor] = definitions(component).sensors or []
        assert isinstance(sensor, dg.SensorDefinition)
        self._sensor, self._cursor = sensor, None

    def look(self) -> str | None:
        tick = self._sensor.evaluate_tick(dg.build_sensor_context(self.instance, cursor=self._cursor))
        self._cursor = tick.cursor
        return tick.skip_message

    def told(self) -> list[FailedUnit]:
        """The failures that it has reported, the newest first."""
        seen = [record.asset_observation for record in self.instance.fetch_observations(KEY, limit=10).records]
        found = [from_metadata({name: value.value for name, value in one.metadata.items()}) for one in seen if one]
        return [unit for units in found for unit in units or ()]


def test_a_sync_that_hightouch_runs_by_itself_is_noticed_once(
    component: HightouchSyncs, mart: Mart, vendors: Vendors
) -> None:
    watch = Watch(component)
    # The first look says nothing of what was before it.
    assert watch.look() == watch.look() == NOTHING
    vendors.faults.add("hightouch", "salesforce_account_health", "sync_failure", {"reason": "Token expired."}, times=1)
    assert vendors.run()["status"] == "failed"
    assert watch.look() == "Without Dagster: hightouch/salesforce_account_health failed."
    assert watch.look() == NOTHING
    [unit] = watch.told()
    assert (unit.unit, unit.asset_keys) == ("hightouch/salesforce_account_health", (KEY.to_user_string(),))
    assert unit.error.endswith("failed: Token expired.")
    assert watch.instance.get_latest_materialization_event(KEY) is None
    vendors.run()
    assert watch.look() == "Without Dagster: hightouch/salesforce_account_health succeeded."
    assert watch.look() == NOTHING
    assert watch.instance.get_latest_materialization_event(KEY) is not None
    assert len(watch.told()) == 1


def test_rows_that_a_sync_outside_of_dagster_had_rejected_are_a_failure(
    component: HightouchSyncs, mart: Mart, vendors: Vendors
) -> None:
    watch = Watch(component)
    watch.look()
    vendors.faults.add("hightouch", "salesforce_account_health", "rejected_rows", {"count": 1}, times=1)
    for row in list(mart.rows.values())[:2]:
        row["open_tasks"] = 97
    mart.write()
    assert vendors.run()["status"] == "warning"
    assert watch.look() == "Without Dagster: hightouch/salesforce_account_health failed."
    [unit] = watch.told()
    assert f"rejected 1 of {len(mart.rows)} rows" in unit.error
    assert watch.instance.get_latest_materialization_event(KEY) is None


def test_so_many_rejected_rows_as_a_sync_may_have_are_none_outside_of_dagster_either(
    component: HightouchSyncs, mart: Mart, vendors: Vendors
) -> None:
    component.rejected_rows_of = {KEY.path[-1]: 1}
    watch = Watch(component)
    watch.look()
    vendors.faults.add("hightouch", "salesforce_account_health", "rejected_rows", {"count": 1}, times=1)
    for row in list(mart.rows.values())[:2]:
        row["open_tasks"] = 98
    mart.write()
    assert vendors.run()["status"] == "warning"
    assert watch.look() == "Without Dagster: hightouch/salesforce_account_health succeeded."
    assert watch.told() == []


def test_a_sync_that_a_run_of_dagster_asked_for_is_its_own(
    component: HightouchSyncs, mart: Mart, vendors: Vendors
) -> None:
    watch = Watch(component)
    watch.look()
    vendors.faults.add("hightouch", "salesforce_account_health", "sync_failure", times=1)
    assert run(component, watch.instance)[1]
    assert watch.look() == NOTHING
    assert run(component, watch.instance)[1] == []
    assert watch.look() == NOTHING
    assert watch.told() == []


def test_a_look_at_a_hightouch_that_does_not_answer_fails_the_tick_and_loses_nothing(
    component: HightouchSyncs, mart: Mart, vendors: Vendors
) -> None:
    watch = Watch(component)
    watch.look()
    vendors.faults.add("hightouch", "salesforce_account_health", "sync_failure", times=1)
    vendors.run()
    vendors.faults.add("hightouch", kind="http_500")
    with pytest.raises(VendorError, match="answered 500"):
        watch.look()
    vendors.faults.remove("hightouch")
    assert watch.look() == "Without Dagster: hightouch/salesforce_account_health failed."


def test_a_trigger_whose_answer_is_lost_is_not_sent_again_and_its_run_is_found() -> None:
    older = RUN | {"id": 6}
    with wire(reply(200, {"data": [older]}), RESET, reply(200, {"data": [older, RUN]})) as server:
        assert Hightouch(server.url, "k").trigger(1) == 7
        assert [line.split()[0] for line in server.requests] == ["GET", "POST", "GET"]


def test_a_trigger_that_started_nothing_is_an_error() -> None:
    with wire(reply(200, {"data": [RUN]}), reply(502, "<h1>Bad Gateway</h1>"), reply(200, {"data": [RUN]})) as server:
        with pytest.raises(VendorError, match="502: Bad Gateway"):
            Hightouch(server.url, "k").trigger(1)
        assert sum(line.startswith("POST") for line in server.requests) == 1


@pytest.mark.parametrize("listed", [[9, 8], [8, 9]], ids=["newest first", "oldest first"])
def test_the_newest_run_is_found_in_either_order(listed: list[int]) -> None:
    with wire(reply(200, {"data": [RUN | {"id": number} for number in listed], "hasMore": False})) as server:
        found = Hightouch(server.url, "k").newest_run(1)
        assert found is not None
        assert found.id == 9
        assert "orderBy=id&orderDirection=desc" in server.requests[0]


def test_where_runs_come_oldest_first_whatever_is_asked_the_newest_is_looked_for_among_the_recent() -> None:
    oldest = reply(200, {"data": [RUN | {"id": 1}, RUN | {"id": 2}], "hasMore": True})
    recent = [reply(200, {"data": [RUN | {"id": number}], "hasMore": number < 9}) for number in (8, 9)]
    with wire(oldest, *recent) as server:
        found = Hightouch(server.url, "k").newest_run(1)
        assert found is not None
        assert found.id == 9
        assert ["within=10080" in line for line in server.requests] == [False, True, True]
        assert "offset=1" in server.requests[-1]


def test_a_run_that_is_not_listed_yet_is_no_error() -> None:
    with wire(reply(200, {"data": []})) as server:
        assert Hightouch(server.url, "k").run(1, 7) is None


def test_a_run_that_still_queries_has_no_counts() -> None:
    querying = RUN | {"status": "querying", "querySize": None, "completionRatio": None, "failedRows": None}
    with wire(reply(200, {"data": [querying]})) as server:
        found = Hightouch(server.url, "k").run(1, 7)
        assert found is not None
        assert (found.status, found.query_size, found.failed_rows) == ("querying", None, None)


def rename(vendors: Vendors, number: int, slug: str) -> None:
    """Give a sync of the stand-in another slug, as a person does in Hightouch."""
    store = VendorContext.of(vendors.config).store
    [row] = store.execute("select definition from hightouch_sync where id = ?", (number,))
    definition = json.dumps(json.loads(row["definition"]) | {"slug": slug})
    store.execute("update hightouch_sync set slug = ?, definition = ? where id = ?", (slug, definition, number))


@pytest.mark.parametrize("named", [WEEKLY.path[-1], "weekly-load"], ids=["old slug", "new slug"])
def test_a_renamed_sync_keeps_its_asset_and_its_settings(
    vendors: Vendors, named: str, caplog: pytest.LogCaptureFixture
) -> None:
    component = HightouchSyncs(cron_of={named: "0 9 * * 1"}, rejected_rows_of={named: 5})
    component.refresh()
    rename(vendors, 2, "weekly-load")
    try:
        caplog.clear()
        came = component.refresh()
        assert (came.new, came.gone) == ((), ())
        [weekly] = [spec for spec in definitions(component).resolve_all_asset_specs() if spec.key == WEEKLY]
        read = [dep.asset_key for dep in weekly.deps]
        assert weekly.automation_condition == automation.on_cron("0 9 * * 1", read)
        assert component.findings(component.saved()) == []
        assert caplog.text == ""
        # Another sync gets the slug that is free at the vendor: it does not take the asset.
        rename(vendors, 1, WEEKLY.path[-1])
        came = component.refresh()
        assert (came.new, came.gone) == ((), ())
    finally:
        rename(vendors, 1, KEY.path[-1])
        rename(vendors, 2, WEEKLY.path[-1])


def test_settings_that_name_no_sync_are_findings(vendors: Vendors, caplog: pytest.LogCaptureFixture) -> None:
    component = HightouchSyncs(cron_of={"slack_weekly_support_lod": "0 9 * * 1"}, rejected_rows_of={KEY.path[-1]: 1})
    component.refresh()
    [finding] = component.findings(component.saved())
    assert (finding.kind, finding.key) == ("setting", "cron_of")
    assert finding.why == (
        "`slack_weekly_support_lod` in orchestration/defs/activation/defs.yaml names no Hightouch sync. The nearest: "
        "`slack_weekly_support_load`. Correct it, or take it out."
    )
    assert finding.why in caplog.text


@pytest.fixture
def workspace(vendors: Vendors) -> Iterator[Vendors]:
    """A workspace of 60 more syncs, which are gone after the test. It has no rate limit."""
    store = VendorContext.of(vendors.config).store
    rate_limits.override(store, "hightouch", "requests", 100_000)
    known = ", ".join(str(row["id"]) for row in store.execute("select id from hightouch_sync"))
    add_syncs(store, 60, TABLES, seed=5)
    yield vendors
    rate_limits.reset(store)
    for table, column in (("sync", "id"), ("model", "id"), ("run", "sync")):
        store.execute(f"delete from hightouch_{table} where {column} not in ({known})")


def asked(vendors: Vendors, since: int) -> list[str]:
    return [one for one in vendors.requests("hightouch")[since:] if one.endswith("/runs")]


def test_a_tick_asks_only_for_syncs_that_have_run_since_the_last_one_and_some_others_in_turn(
    workspace: Vendors, mart: Mart
) -> None:
    component = HightouchSyncs()
    component.refresh()
    watch = Watch(component)
    assert watch.look() == NOTHING
    seen: set[str] = set()
    for _ in range(2):
        since = len(workspace.requests("hightouch"))
        assert watch.look() == NOTHING
        found = asked(workspace, since)
        assert len(found) == RECHECKED
        assert not seen & set(found)
        seen |= set(found)
    workspace.faults.add("hightouch", KEY.path[-1], "sync_failure", {"reason": "Token expired."}, times=1)
    assert workspace.run()["status"] == "failed"
    since = len(workspace.requests("hightouch"))
    assert watch.look() == "Without Dagster: hightouch/salesforce_account_health failed."
    assert len(asked(workspace, since)) in {RECHECKED, RECHECKED + 1}
    assert watch.look() == NOTHING


def test_a_sync_that_was_deleted_in_hightouch_is_reported_once(workspace: Vendors) -> None:
    component = HightouchSyncs()
    component.refresh()
    watch = Watch(component)
    watch.look()
    store = VendorContext.of(workspace.config).store
    [row] = store.execute("select max(id) as id from hightouch_sync where json_extract(definition, '$.disabled') = 0")
    store.execute("delete from hightouch_sync where id = ?", (row["id"],))
    assert watch.look() == f"{NOTHING} Reported: hightouch/sync_{row['id']} was deleted."
    assert watch.look() == NOTHING
    [record] = watch.instance.fetch_observations(dg.AssetKey(["hightouch", f"sync_{row['id']}"]), limit=5).records
    assert record.asset_observation is not None
    assert "Run `dataplatform refresh`" in str(record.asset_observation.description)


def test_runs_that_cannot_be_read_are_a_failure_of_their_sync_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def sync(number: int, at: str) -> dict[str, Any]:
        return {
            "id": number,
            "slug": f"s{number}",
            "modelId": 1,
            "destinationId": 1,
            "status": "success",
            "lastRunAt": at,
        }

    ended = RUN | {"finishedAt": "2026-11-23T03:01:00Z"}
    later = ended | {"id": 8, "status": "failed", "error": "no", "finishedAt": "2026-11-23T04:01:00Z"}
    listing = [reply(200, {"data": [sync(1, at), sync(2, at)], "hasMore": False}) for at in ("a", "b")]
    good, bad = (reply(200, {"data": [one]}) for one in (later, ended | {"id": "x"}))
    component = HightouchSyncs()
    component.save(
        HightouchState.model_validate(
            {"syncs": [sync(1, "a"), sync(2, "a")], "models": [], "destinations": []}
        ).model_dump_json()
    )
    component_watch = Watch(component)
    first = [listing[0], *[reply(200, {"data": [ended]})] * 2]
    with wire(*first, listing[1], bad, bad) as server:
        monkeypatch.setenv("HIGHTOUCH_API_URL", server.url)
        settings.cache_clear()
        assert component_watch.look() == NOTHING
        assert component_watch.look() == (
            f"{NOTHING} Reported: hightouch/s1 cannot be read, hightouch/s2 cannot be read."
        )
    with wire(listing[1], good, good) as server:
        monkeypatch.setenv("HIGHTOUCH_API_URL", server.url)
        settings.cache_clear()
        assert component_watch.look() == "Without Dagster: hightouch/s1 failed, hightouch/s2 failed."
