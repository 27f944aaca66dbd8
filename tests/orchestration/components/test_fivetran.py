from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import dagster as dg
import pytest

from orchestration.components.fivetran import FivetranConnections, fivetran
from orchestration.components.saved_state import StateIncomplete, StateMissing
from orchestration.lineage.failures import FailedUnit, from_metadata
from orchestration.settings import settings
from orchestration.vendors.fivetran import Fivetran
from orchestration.vendors.http import VendorError
from sandbox.company.history import TABLES
from sandbox.company.tick import Counts, tick
from sandbox.services import postgres
from tests.orchestration.wire import refused_port, reply, wire
from tests.stand_ins import Vendors, at, wait_for

pytestmark = pytest.mark.usefixtures("configured")
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


def run(component: FivetranConnections, selection: list[dg.AssetKey] | None = None) -> Ran:
    assets = list(definitions(component).assets or [])
    instance = dg.DagsterInstance.ephemeral()
    return Ran(dg.materialize(assets, selection=selection, instance=instance, raise_on_error=False))


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
    assert len(ran.materialized) == 15
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
    landed.faults.add("fivetran", "product", "sync_failure", {"reason": "The replication slot is gone."})
    ran = run(component)
    assert not ran.result.success
    assert set(ran.materialized) == {"salesforce/account", "salesforce/user", "salesforce/opportunity"}
    [failure] = ran.failed
    assert failure.unit == "fivetran/product"
    assert failure.error == "The replication slot is gone."
    assert failure.vendor_url == "https://fivetran.com/dashboard/connections/product_conn/status"
    assert set(failure.asset_keys) == {f"product_public/{table}" for table in TABLES}


def test_a_paused_connection_is_a_failure_that_says_so(component: FivetranConnections, landed: Vendors) -> None:
    landed.faults.add("fivetran", "salesforce", "paused")
    ran = run(component, [ACCOUNT])
    [failure] = ran.failed
    assert "`salesforce` is paused in Fivetran, so nothing was synced. Resume it: https://" in failure.error
    assert ran.materialized == {}


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
    assert set(ran.materialized) == {"salesforce/account", "salesforce/user", "salesforce/opportunity"}


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
    assert {failure.unit for failure in ran.failed} == {"fivetran/product", "fivetran/salesforce"}
    assert all("could not connect" in failure.error for failure in ran.failed)


def test_a_refresh_that_fails_keeps_the_last_state(component: FivetranConnections, landed: Vendors) -> None:
    before = component.state_path().read_text()
    landed.faults.add("fivetran", kind="http_500")
    with pytest.raises(VendorError, match=r"Fivetran: GET .* answered 500"):
        component.refresh()
    assert component.state_path().read_text() == before
    assert [path.name for path in component.state_path().parent.iterdir()] == ["fivetran.json"]


def page(*items: dict[str, Any]) -> bytes:
    return reply(200, {"code": "Success", "data": {"items": list(items)}})


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
    destination = {"id": "g", "service": "big_query", "config": {"project_id": "p"}}
    return [page({"id": "g"}), reply(200, {"code": "Success", "data": destination}), page(connection)]


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
    assert refreshed(monkeypatch, *listed("broken"), schemas(orders="")) == {"shop_public/orders"}


def test_a_connection_that_lost_its_tables_does_not_leave_the_graph_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    refreshed(monkeypatch, *listed("connected"), schemas(orders=""))
    with pytest.raises(StateIncomplete, match="Fivetran lists shop without tables"):
        refreshed(monkeypatch, *listed("connected"), schemas())
    assert refreshed(monkeypatch, page({"id": "g"}), listed("connected")[1], page()) == set()


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
