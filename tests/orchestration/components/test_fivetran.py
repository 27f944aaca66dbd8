from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from dagster import AssetCheckEvaluation
from dagster._serdes import deserialize_value
from dagster_fivetran.translator import FivetranWorkspaceData

from orchestration.components import source_checks as checks
from orchestration.components.fivetran import FivetranConnections
from orchestration.components.fivetran_account import connections, fivetran
from orchestration.components.fivetran_columns import HOURS_KNOWN, REQUESTS_AT_ONCE, read_columns
from orchestration.components.saved_state import StateIncomplete, StateMissing
from orchestration.components.source_checks import Freshness
from orchestration.lineage.failures import FailedUnit, from_metadata
from orchestration.settings import settings
from orchestration.vendors.fivetran import Fivetran
from orchestration.vendors.http import VendorError
from orchestration.vendors.waiting import Wait
from sandbox.company.history import TABLES
from sandbox.company.hours import Counts
from sandbox.company.tick import tick
from sandbox.services import postgres
from sandbox.vendors.context import VendorContext
from tests.orchestration.wire import refused_port, reply, wire
from tests.product_events.faulty import network
from tests.stand_ins import Vendors, at, wait_for

pytestmark = pytest.mark.usefixtures("configured")
NO_REASON = "Fivetran's API gives no reason. The connection's log has it: https://fivetran.com/dashboard/connections/{}_conn/status"
INCIDENTS, ACCOUNT = dg.AssetKey(["product_public", "incidents"]), dg.AssetKey(["salesforce", "account"])


@dataclass
class Ran:
    """What a run left in the event log."""

    result: dg.ExecuteInProcessResult

    @property
    def materialized(self) -> dict[str, dict[str, Any]]:
        events = self.result.all_events
        return {
            event.asset_key.to_user_string(): {k: v.value for k, v in event.materialization.metadata.items()}
            for event in events
            if event.is_step_materialization and event.asset_key
        }

    def check(self, key: dg.AssetKey, name: str) -> AssetCheckEvaluation:
        found = self.result.get_asset_check_evaluations()
        [evaluation] = [check for check in found if (check.asset_key, check.check_name) == (key, name)]
        return evaluation

    @property
    def failed(self) -> list[FailedUnit]:
        [failure] = [event for event in self.result.all_events if event.is_step_failure]
        data = failure.step_failure_data.user_failure_data
        assert data is not None
        return from_metadata({name: value.value for name, value in data.metadata.items()}) or []


@pytest.fixture
def component(vendors: Vendors) -> FivetranConnections:
    made = FivetranConnections(owners=["data@example.com"])
    made.refresh()
    return made


def definitions(component: FivetranConnections) -> dg.Definitions:
    return component.definitions(component.saved())


def keys(component: FivetranConnections, dataset: str | None = None) -> list[dg.AssetKey]:
    found = [spec.key for spec in definitions(component).resolve_all_asset_specs()]
    return [key for key in found if dataset in {None, key.path[0]}]


def run(
    component: FivetranConnections,
    selection: list[dg.AssetKey] | dg.AssetSelection | None = None,
    instance: dg.DagsterInstance | None = None,
    **config: Any,
) -> Ran:
    assets = list(definitions(component).assets or [])
    run_config = {"ops": {"fivetran": {"config": config}}} if config else None
    instance = instance or dg.DagsterInstance.ephemeral()
    return Ran(
        dg.materialize(assets, run_config=run_config, selection=selection, instance=instance, raise_on_error=False)
    )


@pytest.fixture(scope="module")
def landed(vendors: Vendors) -> Iterator[Vendors]:
    for connection in ("product_conn", "salesforce_conn"):
        vendors.sync(connection)
    return vendors


def test_each_table_that_a_connection_lands_is_an_asset(component: FivetranConnections) -> None:
    specs = {spec.key: spec for spec in definitions(component).resolve_all_asset_specs()}
    assert {key.to_user_string() for key in specs if key.path[0] == "product_public"} == {
        f"product_public/{t}" for t in TABLES
    }
    spec = specs[INCIDENTS]
    assert (spec.group_name, list(spec.owners)) == ("ingestion", ["data@example.com"])
    assert spec.metadata["dagster/table_name"] == "local-dev.product_public.incidents"
    assert spec.metadata["dagster-fivetran/connector_name"] == "product"


def test_rows_are_counted_and_a_sync_with_nothing_new_moves_none(
    component: FivetranConnections, landed: Vendors
) -> None:
    [(rows,)] = landed.query("select count(*) from product_public.incidents")
    ran = run(component)
    assert ran.result.success
    assert set(ran.materialized) == {key.to_user_string() for key in keys(component)}
    metadata = ran.materialized["product_public/incidents"]
    assert (metadata["rows_moved"], metadata["dagster/row_count"]) == (0, rows)
    assert metadata["fivetran"] == "https://fivetran.com/dashboard/connections/product_conn/status"
    assert metadata["duration_seconds"] > 0
    changed = tick(postgres.dsn(landed.config)).tables
    moved = {key: metadata["rows_moved"] for key, metadata in run(component).materialized.items()}
    for table in TABLES:
        counts = changed.get(table, Counts())
        assert moved[f"product_public/{table}"] == counts.inserted + counts.updated + counts.deleted, table


def test_connections_sync_side_by_side(component: FivetranConnections, landed: Vendors) -> None:
    for name in ("product", "salesforce"):
        landed.faults.add("fivetran", name, "slow_sync", {"seconds": 2}, times=1)
    assert run(component).result.success
    product, salesforce = (landed.synced(f"{name}_conn") for name in ("product", "salesforce"))
    assert at(product["sync_start_time"]) < at(salesforce["sync_end_time"])
    assert at(salesforce["sync_start_time"]) < at(product["sync_end_time"])


def test_one_broken_connection_is_reported_with_the_vendors_reason_and_the_other_lands(
    component: FivetranConnections, landed: Vendors
) -> None:
    landed.faults.add("fivetran", "product", "broken_credentials", {"reason": "The password was rotated."})
    ran = run(component)
    assert not ran.result.success
    assert set(ran.materialized) == {key.to_user_string() for key in keys(component) if key.path[0] != "product_public"}
    [failure] = ran.failed
    assert failure.unit == "fivetran/product"
    assert failure.error == "Reconnect: The password was rotated."
    assert failure.permanent
    assert failure.vendor_url == "https://fivetran.com/dashboard/connections/product_conn/status"
    assert set(failure.asset_keys) == {f"product_public/{table}" for table in TABLES}


def test_a_paused_connection_is_a_failure_that_says_so(component: FivetranConnections, landed: Vendors) -> None:
    landed.faults.add("fivetran", "salesforce", "paused")
    ran = run(component, [ACCOUNT])
    [failure] = ran.failed
    assert "`salesforce` is paused in Fivetran, so nothing was synced. Resume it: https://" in failure.error
    assert ran.materialized == {}


def test_an_error_that_wants_a_person_is_not_tried_again(component: FivetranConnections, landed: Vendors) -> None:
    landed.faults.add("fivetran", "salesforce", "paused")
    instance = dg.DagsterInstance.ephemeral()
    ran = run(component, [ACCOUNT], instance)
    assert [unit.permanent for unit in ran.failed] == [True]
    [record] = instance.get_run_records()
    assert record.dagster_run.tags["dagster/max_retries"] == "0"


def test_a_failure_without_a_task_is_tried_again(component: FivetranConnections, landed: Vendors) -> None:
    landed.faults.add("fivetran", "salesforce", "sync_failure", times=1)
    [unit] = run(component, [ACCOUNT]).failed
    assert (unit.error, unit.permanent) == (NO_REASON.format("salesforce"), False)


@pytest.mark.parametrize("schedule", ["auto", "manual"])
def test_a_rescheduled_sync_is_waited_for_and_started_where_fivetran_does_not(
    component: FivetranConnections, landed: Vendors, schedule: str
) -> None:
    path = "/v1/connections/salesforce_conn"
    landed.fivetran.patch(path, json={"schedule_type": schedule}).raise_for_status()
    landed.faults.add("fivetran", "salesforce", "reschedule", {"seconds": 1}, times=2)
    assert run(component, [ACCOUNT]).result.success
    assert landed.faults.active("fivetran") == []
    landed.fivetran.patch(path, json={"schedule_type": "auto"}).raise_for_status()


def test_a_sync_that_is_rescheduled_beyond_the_time_limit_fails_at_once(
    component: FivetranConnections, landed: Vendors
) -> None:
    component.sync_timeout_minutes = 1
    landed.faults.add("fivetran", "salesforce", "reschedule", {"seconds": 90}, times=1)
    ran = run(component, [ACCOUNT])
    VendorContext.of(landed.config).store.execute(
        "update fivetran_connection set sync_state = 'scheduled', rescheduled_for = null"
    )
    [unit] = ran.failed
    assert "has rescheduled the sync of `salesforce` for " in unit.error
    assert "raise `sync_timeout_minutes`" in unit.error
    assert not unit.permanent


def test_a_sync_that_fivetran_runs_by_itself_is_noticed_once(component: FivetranConnections, landed: Vendors) -> None:
    instance, cursor = dg.DagsterInstance.ephemeral(), None
    [sensor] = definitions(component).sensors or []
    assert isinstance(sensor, dg.SensorDefinition)

    def look() -> str | None:
        nonlocal cursor
        tick = sensor.evaluate_tick(dg.build_sensor_context(instance, cursor=cursor))
        cursor = tick.cursor
        return tick.skip_message

    assert look() == look() == "No sync ran without Dagster."
    landed.faults.add("fivetran", "salesforce", "sync_failure", times=1)
    landed.sync("salesforce_conn")
    assert look() == "Without Dagster: fivetran/salesforce failed."
    assert look() == "No sync ran without Dagster."
    tables = [key for key in keys(component) if key.path[0] == "salesforce"]
    [seen] = [record for table in tables for record in instance.fetch_observations(table, limit=5).records]
    assert seen.asset_observation is not None
    [unit] = from_metadata({name: value.value for name, value in seen.asset_observation.metadata.items()}) or []
    assert (unit.unit, unit.error) == ("fivetran/salesforce", NO_REASON.format("salesforce"))
    assert "salesforce/account" in unit.asset_keys
    landed.sync("salesforce_conn")
    assert look() == "Without Dagster: fivetran/salesforce succeeded."
    assert instance.get_latest_materialization_event(ACCOUNT) is not None


def test_a_sync_that_a_run_of_dagster_asked_for_is_its_own(component: FivetranConnections, landed: Vendors) -> None:
    instance = dg.DagsterInstance.ephemeral()
    [sensor] = definitions(component).sensors or []
    assert isinstance(sensor, dg.SensorDefinition)
    first = sensor.evaluate_tick(dg.build_sensor_context(instance))
    landed.faults.add("fivetran", "product", "sync_failure", times=1)
    assert not run(component, [INCIDENTS, ACCOUNT], instance).result.success
    tick = sensor.evaluate_tick(dg.build_sensor_context(instance, cursor=first.cursor))
    assert tick.skip_message == "No sync ran without Dagster."


def test_a_sync_beyond_its_time_limit_is_a_failure_that_names_the_setting(vendors: Vendors, landed: Vendors) -> None:
    landed.faults.add("fivetran", "salesforce", "slow_sync", {"seconds": 4}, times=1)
    component = FivetranConnections(sync_timeout_minutes=0)
    component.refresh()
    [failure] = run(component, [ACCOUNT]).failed
    assert "`sync_timeout_minutes`" in failure.error
    landed.synced("salesforce_conn")


def test_a_sync_that_runs_already_is_waited_for(component: FivetranConnections, landed: Vendors) -> None:
    landed.faults.add("fivetran", "salesforce", "slow_sync", {"seconds": 2}, times=1)
    landed.fivetran.post("/v1/connections/salesforce_conn/sync", json={"force": False})
    wait_for(lambda: landed.connection("salesforce_conn")["status"]["sync_state"] == "syncing", 10, "it syncs")
    assert run(component, [ACCOUNT]).result.success
    history = landed.fivetran.get("/v1/connections/salesforce_conn/sync-history").json()["data"]["items"]
    assert [sync["status"] for sync in history[:2]] == ["succeeded", "succeeded"]


def test_tables_that_were_not_asked_for_have_landed_as_well(component: FivetranConnections, landed: Vendors) -> None:
    ran = run(component, [ACCOUNT])
    assert ran.result.success
    assert set(ran.materialized) == {key.to_user_string() for key in keys(component, "salesforce")}


def test_schedules_are_left_alone_unless_told(component: FivetranConnections, landed: Vendors) -> None:
    run(component, [ACCOUNT])
    assert landed.connection("salesforce_conn")["schedule_type"] == "auto"
    component.manage_schedules = True
    run(component, [ACCOUNT])
    assert landed.connection("salesforce_conn")["schedule_type"] == "manual"


@pytest.mark.parametrize("kind", ["http_500", "http_429", "html", "truncated", "reset"])
def test_a_passing_fault_on_the_wire_is_outlived(component: FivetranConnections, landed: Vendors, kind: str) -> None:
    landed.faults.add("fivetran", kind=kind, params={"retry_after": 1} if kind == "http_429" else None, times=2)
    assert run(component, [ACCOUNT]).result.success


def test_a_fivetran_that_cannot_be_reached_fails_every_connection_by_name(
    component: FivetranConnections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIVETRAN_API_URL", f"http://127.0.0.1:{refused_port()}")
    settings.cache_clear()
    ran = run(component)
    assert {failure.unit for failure in ran.failed} >= {"fivetran/product", "fivetran/salesforce"}
    assert all("could not connect" in failure.error for failure in ran.failed)


def test_a_refresh_that_fails_keeps_the_last_state(component: FivetranConnections, landed: Vendors) -> None:
    before = component.state_path().read_text()
    landed.faults.add("fivetran", kind="http_500")
    with pytest.raises(VendorError, match=r"Fivetran: GET .* answered 500"):
        component.refresh()
    assert component.state_path().read_text() == before
    assert [path.name for path in component.state_path().parent.iterdir()] == ["fivetran.json"]


@pytest.fixture
def at_the_source(landed: Vendors) -> Iterator[Vendors]:
    """The product database, which a test may change; mended in the warehouse too."""
    yield landed
    landed.sql("drop table if exists postmortems")
    landed.sql("alter table incidents drop column if exists impact")
    landed.sync("product_conn")
    for statement in (
        "drop table if exists product_public.postmortems",
        "alter table product_public.incidents drop column if exists impact",
    ):
        landed.query(statement)


def test_a_change_at_the_source_is_a_warning_at_the_next_sync(
    component: FivetranConnections, at_the_source: Vendors
) -> None:
    instance = dg.DagsterInstance.ephemeral()
    first = run(component, [INCIDENTS], instance)
    assert first.check(INCIDENTS, "schema").passed
    types = {
        column.name: column.type
        for column in first.materialized["product_public/incidents"]["dagster/column_schema"].columns
    }
    assert (types["id"], types["created_at"]) == ("STRING", "TIMESTAMP")
    at_the_source.sql("create table postmortems (id text primary key, updated_at timestamptz default now())")
    at_the_source.sql("insert into postmortems values ('pm_1')")
    at_the_source.sql("alter table incidents add column impact text")
    at_the_source.sql(
        "update incidents set impact = 'x', updated_at = now() where id = (select min(id) from incidents)"
    )
    ran = run(component, keys(component, "product_public"), instance)
    assert ran.result.success
    schema = ran.check(INCIDENTS, "schema")
    assert (schema.passed, schema.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "column impact (STRING) is new" in (schema.description or "")
    [new] = [check for check in ran.result.get_asset_check_evaluations() if check.check_name == "new_tables"]
    assert (new.passed, new.metadata["tables"].value) == (False, ["product_public.postmortems"])
    assert "Run `dataplatform refresh`" in (new.description or "")
    looked = run(
        component, dg.AssetSelection.checks(dg.AssetCheckKey(INCIDENTS, "schema")), instance, accept_schema=True
    )
    assert (looked.materialized, looked.check(INCIDENTS, "schema").passed) == ({}, True)


def test_tables_have_the_checks_that_fit_them(component: FivetranConnections, landed: Vendors) -> None:
    ran = run(component, [ACCOUNT, INCIDENTS])
    assert ran.result.success
    names: dict[dg.AssetKey, set[str]] = {}
    for check in ran.result.get_asset_check_evaluations():
        names.setdefault(check.asset_key, set()).add(check.check_name)
    assert {"schema", "keys_not_null", "volume"} <= names[INCIDENTS]
    assert ran.check(INCIDENTS, "keys_not_null").passed
    # A new event log: the platform was off, whatever is missing.
    volume = ran.check(INCIDENTS, "volume")
    assert volume.metadata["rows"].value is not None
    assert volume.passed or volume.severity is dg.AssetCheckSeverity.WARN
    newest = ran.materialized["product_public/incidents"]["dagster/last_updated_timestamp"]
    assert datetime.now(UTC).timestamp() - newest < 3600


def test_freshness_is_that_of_the_connection(component: FivetranConnections) -> None:
    component.freshness_of = {"salesforce": Freshness(warn_hours=12, fail_hours=24)}
    specs = {spec.key: spec.freshness_policy for spec in definitions(component).resolve_all_asset_specs()}
    assert specs[INCIDENTS] == dg.FreshnessPolicy.time_window(timedelta(hours=12), timedelta(hours=3))
    assert specs[ACCOUNT] == dg.FreshnessPolicy.time_window(timedelta(hours=24), timedelta(hours=12))


def test_a_row_without_its_key_fails_the_table_that_has_landed(component: FivetranConnections, landed: Vendors) -> None:
    row = "insert into salesforce.account (id, _fivetran_synced) values (null, timestamp '2026-01-01 00:00:00')"
    landed.query(row)
    ran = run(component, [ACCOUNT])
    landed.query("delete from salesforce.account where id is null")
    assert "salesforce/account" in ran.materialized
    [unit] = ran.failed
    assert (unit.unit, unit.asset_keys) == ("check/salesforce/account", ("salesforce/account",))
    assert unit.error == "keys_not_null: Rows lack a key: id in 1 rows."


def test_a_table_or_a_whole_connection_is_read_again_when_the_run_says_so(
    component: FivetranConnections, landed: Vendors
) -> None:
    [(rows,)] = landed.query("select count(*) from product_public.incidents")
    # A row that is wrong in the warehouse and not at the source: a usual sync leaves it.
    landed.query("update product_public.incidents set name = 'wrong' where true")
    assert run(component, [INCIDENTS]).materialized["product_public/incidents"]["rows_moved"] == 0
    ran = run(component, [ACCOUNT], resync={"product": ["incidents"]})
    assert ran.result.success
    moved = {key: found["rows_moved"] for key, found in ran.materialized.items()}
    assert (moved["product_public/incidents"], moved["product_public/users"]) == (rows, 0)
    assert landed.query("select count(*) from product_public.incidents where name = 'wrong'") == [(0,)]
    assert ran.materialized["salesforce/account"]["rows_moved"] == 0
    whole = run(component, [ACCOUNT], resync={"salesforce": []})
    assert whole.materialized["salesforce/account"]["rows_moved"] > 0


def test_a_resync_of_single_tables_that_the_connector_does_not_have_is_refused_with_a_remedy(
    component: FivetranConnections, landed: Vendors
) -> None:
    landed.sync("stripe_conn")
    [unit] = run(component, keys(component, "stripe"), resync={"stripe": ["customer"]}).failed
    assert unit.permanent
    assert "does not re-sync single tables (customer) of the connection `stripe`" in unit.error
    assert "`resync: {stripe: []}`" in unit.error


@pytest.mark.parametrize(
    ("resync", "known"),
    [({"prodcut": []}, "product"), ({"product": ["incident"]}, "incidents")],
)
def test_an_unknown_name_in_a_resync_is_refused_before_anything_starts(
    component: FivetranConnections, resync: dict[str, list[str]], known: str
) -> None:
    with pytest.raises(dg.DagsterInvalidConfigError, match=known):
        run(component, [INCIDENTS], resync=resync)


def connection_is(**fields: Any) -> bytes:
    status = {
        "setup_state": "connected",
        "sync_state": "scheduled",
        "warnings": [{"code": "w", "message": "The key is old."}],
    }
    details = {"id": "c", "schema": "shop", "service": "postgres", "group_id": "g", "paused": False, "status": status}
    return reply(200, {"code": "Success", "data": {**details, **fields}})


def test_a_resync_waits_for_a_sync_that_began_in_between() -> None:
    busy = reply(409, {"code": "Conflict", "message": "syncing"})
    began = reply(200, {"code": "Success", "message": "Re-sync has been triggered successfully"})
    ended = connection_is(succeeded_at="2026-03-02T12:00:00Z")
    with wire(connection_is(), busy, connection_is(), began, ended) as server:
        said: list[str] = []
        synced = Fivetran(server.url, "k", "s").resync("c", {"public": ["orders"]}, Wait(30, "", said.append))
        assert [line.split()[0] for line in server.requests] == ["GET", "POST", "GET", "POST", "GET"]
    assert synced.connection.wishes == ["The key is old."]
    assert "shop: resync started, https://fivetran.com/dashboard/connections/c/status" in said


def test_what_fivetran_wants_done_is_a_warning_on_the_connection() -> None:
    assert checks.connection([]).passed
    verdict = checks.connection(["The key is old."])
    assert (verdict.passed, verdict.severity, verdict.description) == (
        False,
        dg.AssetCheckSeverity.WARN,
        "The key is old.",
    )


def test_a_warehouse_that_cannot_be_counted_warns_and_the_sync_is_good(
    component: FivetranConnections, landed: Vendors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIGQUERY_RETRY_SECONDS", "0.1")
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", f"http://127.0.0.1:{refused_port()}")
    settings.cache_clear()
    ran = run(component, [ACCOUNT])
    assert ran.result.success
    assert "dagster/row_count" not in ran.materialized["salesforce/account"]
    for name in ("schema", "keys_not_null"):
        check = ran.check(ACCOUNT, name)
        assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)


def test_a_table_that_bigquery_cannot_read_fails_alone_and_the_others_of_its_connection_are_counted(
    component: FivetranConnections, landed: Vendors, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = {"code": 404, "message": "Not found: Table x was not found", "errors": [{"reason": "notFound"}]}

    def answer(body: bytes) -> bytes | None:
        bad = b"as null_counts" in body and b"`salesforce.contact`" in body
        return reply(404, {"error": refused}) if bad else None

    with network(landed.config.url("bigquery")) as between:
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", between.url)
        settings.cache_clear()
        between.query = answer
        ran = run(component, [ACCOUNT])
    [unit] = ran.failed
    assert (unit.unit, unit.asset_keys, unit.permanent) == ("landed/salesforce/contact", ("salesforce/contact",), True)
    assert "BigQuery cannot read the table or view `salesforce.contact`." in unit.error
    assert set(ran.materialized) == {key.to_user_string() for key in keys(component, "salesforce")}
    assert "dagster/row_count" in ran.materialized["salesforce/account"]
    assert "dagster/row_count" not in ran.materialized["salesforce/contact"]


def page(*items: dict[str, Any]) -> bytes:
    return reply(200, {"code": "Success", "data": {"items": list(items)}})


DESTINATION = reply(
    200, {"code": "Success", "data": {"id": "g", "service": "big_query", "config": {"project_id": "p"}}}
)


def listed(setup_state: str) -> list[bytes]:
    """What Fivetran answers while its state is read, up to a connection's schemas."""
    status = {"setup_state": setup_state, "sync_state": "scheduled"}
    connection = {
        "id": "c",
        "schema": "shop",
        "service": "postgres",
        "group_id": "g",
        "paused": False,
        "status": status,
    }
    return [page({"id": "g"}), DESTINATION, page(connection)]


def schemas(**tables: str) -> bytes:
    found = {name: {"name_in_destination": name, "enabled": True, "columns": {}} for name in tables}
    kept = {"public": {"name_in_destination": "shop_public", "enabled": True, "tables": found}} if tables else {}
    return reply(200, {"code": "Success", "data": {"schemas": kept}})


def refreshed(monkeypatch: pytest.MonkeyPatch, *answers: bytes) -> set[str]:
    """The assets after a refresh from a Fivetran that answers so."""
    with wire(*answers) as server:
        monkeypatch.setenv("FIVETRAN_API_URL", server.url)
        settings.cache_clear()
        component = FivetranConnections()
        component.refresh()
        return {spec.key.to_user_string() for spec in definitions(component).resolve_all_asset_specs()}


def test_a_connection_that_is_broken_at_the_refresh_stays_in_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    # Its columns are not asked for: Fivetran answers only for a connection that is connected.
    assert refreshed(monkeypatch, *listed("broken"), schemas(orders="")) == {"shop_public/orders"}


def test_a_connection_that_lost_its_tables_does_not_leave_the_graph_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    refreshed(monkeypatch, *listed("connected"), schemas(orders=""), columns())
    with pytest.raises(StateIncomplete, match="Fivetran lists shop without tables"):
        refreshed(monkeypatch, *listed("connected"), schemas())
    assert refreshed(monkeypatch, page({"id": "g"}), DESTINATION, page()) == set()


def columns(**keys: bool) -> bytes:
    """What Fivetran answers about a table's columns: each with whether it is of the primary key."""
    found = {name: {"name_in_destination": name, "enabled": True, "is_primary_key": key} for name, key in keys.items()}
    return reply(200, {"code": "Success", "data": {"columns": found}})


def saved_keys() -> dict[str, tuple[str, ...]]:
    """The key columns of each table in the saved state."""
    state = deserialize_value(FivetranConnections().saved(), FivetranWorkspaceData)
    return {table.name: table.keys for own in connections(state) for table in own.tables}


def test_the_key_columns_are_those_that_fivetran_names(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = columns(ticket_id=True, field_name=True, id=False)
    refreshed(monkeypatch, *listed("connected"), schemas(ticket_field_history=""), answer)
    assert set(saved_keys()["ticket_field_history"]) == {"ticket_id", "field_name"}


def test_a_schema_that_fivetran_knows_by_its_dataset_only_is_asked_for_by_that(monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = reply(404, {"code": "NotFound", "message": "no schema `public`"})
    with wire(*listed("connected"), schemas(orders=""), unknown, columns(number=True)) as server:
        monkeypatch.setenv("FIVETRAN_API_URL", server.url)
        settings.cache_clear()
        FivetranConnections().refresh()
        paths = [line.split()[1] for line in server.requests[-2:]]
    assert paths == [f"/v1/connections/c/schemas/{name}/tables/orders/columns" for name in ("public", "shop_public")]
    assert saved_keys() == {"orders": ("number",)}


@pytest.mark.parametrize("status", [400, 403, 500])
def test_keys_that_cannot_be_read_are_asked_for_at_the_next_refresh(
    monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    refused = reply(status, {"code": "Whatever", "message": "not now"})
    assert refreshed(monkeypatch, *listed("connected"), schemas(orders=""), refused) == {"shop_public/orders"}
    assert saved_keys() == {"orders": ()}
    refreshed(monkeypatch, *listed("connected"), schemas(orders=""), columns(number=True))
    assert saved_keys() == {"orders": ("number",)}


def test_known_columns_are_read_again_once_a_week_and_stay_where_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    refreshed(monkeypatch, *listed("connected"), schemas(orders=""), columns(number=True))
    state = deserialize_value(FivetranConnections().saved(), FivetranWorkspaceData)
    began = datetime(2026, 3, 2, tzinfo=UTC)
    with wire(reply(403, {"code": "Forbidden", "message": "no"})) as server:
        client = Fivetran(server.url, "k", "s")
        for hour in range(HOURS_KNOWN):
            found = read_columns(client, state, state, {}, began + timedelta(hours=hour))
            assert [table.keys for own in connections(found) for table in own.tables] == [("number",)]
        assert len(server.requests) == 1


def test_a_connection_whose_source_does_not_answer_is_not_asked_for_each_table(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {f"t{number}": "" for number in range(50)}
    refused = reply(403, {"code": "Forbidden", "message": "no"})
    with wire(*listed("connected"), schemas(**names), refused) as server:
        monkeypatch.setenv("FIVETRAN_API_URL", server.url)
        settings.cache_clear()
        FivetranConnections().refresh()
        assert sum(line.split()[1].endswith("/columns") for line in server.requests) <= REQUESTS_AT_ONCE
    assert set(saved_keys().values()) == {()}


def test_a_group_without_a_destination_is_left_out(component: FivetranConnections, vendors: Vendors) -> None:
    before = component.saved()
    vendors.faults.add("fivetran", kind="group_without_destination")
    assert component.refresh().gone == ()
    assert component.saved() == before


def test_a_connection_is_left_out_by_its_name_or_its_service(component: FivetranConnections) -> None:
    """The Platform connection, which Fivetran adds to every destination, is left out unless the component says otherwise."""
    assert not keys(component, "fivetran_metadata")
    component.exclude = ["sales*", "zendesk"]
    came = component.refresh()
    assert "fivetran_metadata/log" in came.new
    assert {key.split("/")[0] for key in came.gone} == {"salesforce", "zendesk"}


def test_a_table_whose_key_is_not_known_passes_with_a_note(component: FivetranConnections, landed: Vendors) -> None:
    """No column is taken for the key because of its name: of Fivetran's own tables, many have no `id`."""
    state = component.saved().replace('"is_primary_key": true', '"is_primary_key": false')
    assert state != component.saved()
    component.save(state)
    check = run(component, dg.AssetSelection.checks(dg.AssetCheckKey(ACCOUNT, "keys_not_null"))).check(
        ACCOUNT, "keys_not_null"
    )
    assert (check.passed, check.description) == (True, "Not checked: Fivetran names no key column of this table.")


def test_without_any_state_the_location_does_not_load_and_names_the_command(vendors: Vendors) -> None:
    with pytest.raises(StateMissing, match="run `dataplatform refresh`"):
        definitions(FivetranConnections())


def test_listings_are_read_to_their_last_page(vendors: Vendors) -> None:
    first = reply(200, {"code": "Success", "data": {"items": [{"id": "a"}], "next_cursor": "x"}})
    last = reply(200, {"code": "Success", "data": {"items": [{"id": "b"}]}})
    with wire(first, last) as server:
        assert [item["id"] for item in Fivetran(server.url, "k", "s").items("connections")] == ["a", "b"]
        assert "cursor=x" in server.requests[1]


def test_an_unknown_connection_is_asked_for_once(landed: Vendors) -> None:
    with pytest.raises(VendorError, match=r"answered 404: Cannot find connection") as caught:
        fivetran().connection("no_such")
    assert caught.value.status == 404
