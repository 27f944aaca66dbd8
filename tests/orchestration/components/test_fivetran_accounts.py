"""Fivetran accounts of any size: one listing a tick, selection by patterns, names that collide, broken connections."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest
from dagster._serdes import deserialize_value
from dagster_fivetran.translator import (
    FivetranConnector,
    FivetranDestination,
    FivetranSchema,
    FivetranSchemaConfig,
    FivetranTable,
    FivetranWorkspaceData,
)

from orchestration.components.dbt import MANIFEST, DbtModels
from orchestration.components.fivetran import FivetranConnections, look_at_account
from orchestration.components.fivetran_account import Connection, Table, connections, fivetran
from orchestration.components.fivetran_collisions import resolve_collisions
from orchestration.components.fivetran_selection import Group, Listed, is_selected
from orchestration.components.outside_syncs import watch
from orchestration.components.source_checks import Freshness
from orchestration.lineage.failures import FailedUnit, from_metadata
from orchestration.settings import fivetran_settings, settings
from orchestration.vendors.fivetran import Fivetran
from orchestration.vendors.http import VendorError
from orchestration.vendors.waiting import SyncFailed, Wait
from sandbox.vendors.context import VendorContext
from sandbox.vendors.fivetran import content
from tests.orchestration.wire import reply, wire
from tests.stand_ins import Vendors

pytestmark = pytest.mark.usefixtures("configured")
NOTHING = "No sync ran without Dagster."
SIZE = 1_000


class Account:
    """Connections of the stand-in, and the sensor that looks at them, over an instance of its own."""

    def __init__(self, vendors: Vendors, size: int) -> None:
        self.vendors, self.store = vendors, VendorContext.of(vendors.config).store
        truth = content.add_connections(self.store, size)
        self.found = [
            Connection(f"{name}_conn", name, tuple(Table(name, t.split(".")[1], name, t.split(".")[1]) for t in tables))
            for name, tables in truth.items()
        ]
        self.instance = dg.DagsterInstance.ephemeral()
        self.cursor: str | None = None
        self.sensor = watch("fivetran_syncs", "Fivetran", lambda: look_at_account(self.found), at_once=8)

    def tick(self) -> str | None:
        tick = self.sensor.evaluate_tick(dg.build_sensor_context(self.instance, cursor=self.cursor))
        self.cursor = tick.cursor
        return tick.skip_message

    def sync(self, number: int) -> None:
        """Let Fivetran sync a connection by itself."""
        path = f"/v1/connections/{self.found[number].id}/sync"
        self.vendors.fivetran.post(path, json={"force": False}).raise_for_status()

    def fail(self, number: int, kind: str = "sync_failure", reason: str = "The source did not answer.") -> None:
        self.vendors.faults.add("fivetran", self.found[number].name, kind, {"reason": reason}, times=1)
        self.sync(number)

    def delete(self, number: int) -> None:
        self.vendors.fivetran.delete(f"/v1/connections/{self.found[number].id}").raise_for_status()

    def write(self, number: int, **values: Any) -> None:
        """Change what Fivetran's API says of a connection."""
        for column, value in values.items():
            self.store.execute(
                f"update fivetran_connection set {column} = ? where id = ?", (value, self.found[number].id)
            )

    def reports(self) -> dict[str, list[FailedUnit]]:
        """The failures that were reported, by unit."""
        found: dict[str, list[FailedUnit]] = {}
        for own in self.found:
            for record in self.instance.fetch_observations(own.tables[0].key, limit=20).records:
                assert record.asset_observation is not None
                metadata = {name: value.value for name, value in record.asset_observation.metadata.items()}
                for unit in from_metadata(metadata) or ():
                    found.setdefault(unit.unit, []).append(unit)
        return found

    def requests(self) -> list[str]:
        return [one for one in self.vendors.requests("fivetran") if one.startswith("GET /v1/connections")]


@pytest.fixture
def account(vendors: Vendors, request: pytest.FixtureRequest) -> Iterator[Account]:
    made = Account(vendors, getattr(request, "param", 20))
    assert made.tick() == NOTHING
    yield made
    made.store.execute("delete from fivetran_connection where service = ?", (content.SERVICE,))
    made.store.execute("delete from fivetran_sync")


@pytest.mark.parametrize("account", [SIZE], indirect=True)
def test_a_tick_over_a_thousand_connections_reports_each_of_ten_failures_once(account: Account) -> None:
    for number in (0, 499, 999):
        account.delete(number)
    account.fail(100)
    account.fail(200, "broken_credentials", "The password was rotated.")
    account.fail(201, "broken_credentials", "The token has expired.")
    account.vendors.faults.add("fivetran", account.found[300].name, "broken")
    account.fail(300)
    account.write(400, succeeded_at="yesterday")
    account.fail(500)
    account.write(500, paused=1)
    account.fail(600)
    account.write(600, tasks=json.dumps([{"code": "resync_table_warning", "message": "Resync", "details": None}]))
    account.sync(700)
    account.vendors.faults.add("fivetran", kind="slow", params={"seconds": 0.1})
    before = len(account.requests())
    began = time.monotonic()
    said = account.tick()
    took = time.monotonic() - began
    assert took < 5, f"{took:.1f} s"
    # The listing, of which a page has 1,000, and each connection that it lacks.
    assert len(account.requests()) - before == 2 + 3
    reports = account.reports()
    bad = (0, 499, 999, 100, 200, 201, 300, 400, 500, 600)
    assert {unit: len(found) for unit, found in reports.items()} == {
        f"fivetran/{account.found[number].name}": 1 for number in bad
    }
    assert said is not None
    assert said.count(" failed") == 6
    assert f"fivetran/{account.found[700].name} succeeded" in said
    [gone] = reports[f"fivetran/{account.found[499].name}"]
    assert "Fivetran has no connection `sheet_00499` (sheet_00499_conn) any more" in gone.error
    assert "Run `dataplatform refresh`" in gone.error
    assert gone.asset_keys == ("sheet_00499/table_0",)
    assert "The password was rotated." in reports[f"fivetran/{account.found[200].name}"][0].error
    assert "succeeded_at" in reports[f"fivetran/{account.found[400].name}"][0].error
    # The same account, the next ticks, and a sensor that has lost its cursor.
    assert account.tick() == NOTHING
    account.cursor = None
    assert account.tick() == account.tick() == NOTHING
    assert account.reports() == reports


def test_a_connection_that_comes_back_is_reported_by_its_last_sync(account: Account) -> None:
    row = dict(account.store.execute("select * from fivetran_connection where id = ?", (account.found[3].id,))[0])
    account.delete(3)
    assert account.tick() == f"{NOTHING} Reported: fivetran/sheet_00003 was deleted."
    names, places = ", ".join(row), ", ".join("?" * len(row))
    account.store.execute(f"insert into fivetran_connection ({names}) values ({places})", tuple(row.values()))
    assert account.tick() == "Without Dagster: fivetran/sheet_00003 succeeded."
    key = account.found[3].tables[0].key
    assert account.instance.get_latest_materialization_event(key) is not None
    # Deleted again, it is reported again.
    account.delete(3)
    assert account.tick() == f"{NOTHING} Reported: fivetran/sheet_00003 was deleted."
    assert len(account.reports()["fivetran/sheet_00003"]) == 2


def test_a_connection_that_was_deleted_before_the_first_tick_is_reported(account: Account) -> None:
    account.delete(1)
    account.cursor = None
    assert account.tick() == f"{NOTHING} Reported: fivetran/sheet_00001 was deleted."


def test_values_that_can_be_read_again_are_judged_by_the_last_sync(account: Account) -> None:
    before = account.vendors.connection(account.found[2].id)["succeeded_at"]
    account.write(2, succeeded_at="2026-13-45")
    assert account.tick() == f"{NOTHING} Reported: fivetran/sheet_00002 cannot be read."
    assert account.tick() == NOTHING
    account.write(2, succeeded_at=before)
    assert account.tick() == "Without Dagster: fivetran/sheet_00002 succeeded."
    assert account.tick() == NOTHING


def listed(name: str, **changes: Any) -> dict[str, Any]:
    status = {"setup_state": "connected", "sync_state": "scheduled"}
    base = {"id": f"{name}_id", "schema": name, "service": "s", "group_id": "g", "paused": False, "status": status}
    return base | {"succeeded_at": "2026-11-23T03:00:00Z"} | changes


def page(*items: Any, cursor: str | None = None) -> bytes:
    return reply(200, {"code": "Success", "data": {"items": list(items)} | ({"next_cursor": cursor} if cursor else {})})


def platform_of(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("FIVETRAN_API_URL", url)
    settings.cache_clear()


def own(name: str) -> Connection:
    return Connection(f"{name}_id", name, (Table(name, "t", name, "t"),))


def test_what_was_listed_before_the_listing_broke_off_is_judged_and_the_rest_is_not_taken_for_deleted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    instance, found = dg.DagsterInstance.ephemeral(), [own("b"), own("a")]
    sensor = watch("s", "Fivetran", lambda: look_at_account(found), at_once=8)
    whole = page(listed("a"), listed("b"))
    broken_off = [page(listed("a", failed_at="2026-11-23T05:00:00Z"), cursor="2"), reply(403, {"message": "no"})]
    with wire(whole, *broken_off, whole) as server:
        platform_of(monkeypatch, server.url)
        first = sensor.evaluate_tick(dg.build_sensor_context(instance))
        tick = sensor.evaluate_tick(dg.build_sensor_context(instance, cursor=first.cursor))
        assert str(tick.skip_message).startswith("Without Dagster: fivetran/a failed. 1 could not be looked at: ")
        again = sensor.evaluate_tick(dg.build_sensor_context(instance, cursor=tick.cursor))
        assert again.skip_message == NOTHING
    assert not instance.fetch_observations(found[0].tables[0].key, limit=5).records


@pytest.mark.parametrize(
    "answers",
    [
        (reply(401, {"message": "no"}),),
        (reply(200, {"data": {}}),),
        (page({"id": "x"}, cursor="1"), page({"id": "y"}, cursor="1")),
    ],
    ids=["refused", "no page", "pages without an end"],
)
def test_an_account_that_cannot_be_listed_fails_the_tick(
    monkeypatch: pytest.MonkeyPatch, answers: tuple[bytes, ...]
) -> None:
    sensor = watch("s", "Fivetran", lambda: look_at_account([own("a")]), at_once=8)
    with wire(*answers) as server:
        platform_of(monkeypatch, server.url)
        with pytest.raises(VendorError, match="Fivetran"):
            sensor.evaluate_tick(dg.build_sensor_context(dg.DagsterInstance.ephemeral()))


def test_a_connection_that_the_listing_lacks_and_fivetran_has_is_not_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    instance = dg.DagsterInstance.ephemeral()
    sensor = watch("s", "Fivetran", lambda: look_at_account([own("a"), own("b")]), at_once=8)
    alone = reply(200, {"data": listed("b", failed_at="2026-11-23T05:00:00Z")})
    with wire(page(listed("a"), listed("b")), page(listed("a")), alone) as server:
        platform_of(monkeypatch, server.url)
        first = sensor.evaluate_tick(dg.build_sensor_context(instance))
        tick = sensor.evaluate_tick(dg.build_sensor_context(instance, cursor=first.cursor))
    assert tick.skip_message == "Without Dagster: fivetran/b failed."


@pytest.mark.parametrize(
    "odd",
    [
        {"succeeded_at": "2026-11-23T03:00:00", "failed_at": None},
        {"status": {"setup_state": "connected", "sync_state": "scheduled", "tasks": None, "warnings": None}},
        {"status": {"setup_state": "connected", "sync_state": "x", "tasks": [{"code": None, "message": None}]}},
    ],
    ids=["no time zone", "no tasks", "an empty task"],
)
def test_values_that_may_be_left_out_are_no_fault(odd: dict[str, Any]) -> None:
    with wire(page(listed("a", **odd))) as server:
        found = Fivetran(server.url, "k", "s").list_connections()
    assert (list(found.connections), found.unreadable) == (["a_id"], {})


# Selection


GROUP = Group("g_1", "Analytics", "my-project")
SHOP = Listed("c", "shop_eu", "postgres", GROUP)


@pytest.mark.parametrize(
    ("include", "exclude", "selected"),
    [
        ((), (), True),
        (["shop_*"], (), True),
        (["postgres"], (), True),
        (["Analytics"], (), True),
        (["g_1"], (), True),
        (["my-*"], (), True),
        (["other"], (), False),
        (["other", "shop_eu"], (), True),
        (["name:shop_eu"], (), True),
        (["service:shop_eu"], (), False),
        (["group:Ana*"], (), True),
        (["group:g_?"], (), True),
        (["project:my-project"], (), True),
        (["project:g_1"], (), False),
        (["analytics"], (), False),
        ((), ["postgres"], False),
        ((), ["project:my-project"], False),
        (["shop_*"], ["group:Analytics"], False),
        ((), ["salesforce"], True),
    ],
)
def test_a_connection_is_selected_by_patterns(include: list[str], exclude: list[str], selected: bool) -> None:
    assert is_selected(SHOP, include, exclude) is selected


def schemas(dataset: str, *tables: str) -> bytes:
    found = {name: {"name_in_destination": name, "enabled": True, "columns": {}} for name in tables}
    kept = {dataset: {"name_in_destination": dataset, "enabled": True, "tables": found}}
    return reply(200, {"code": "Success", "data": {"schemas": kept}})


COLUMNS = reply(200, {"code": "Success", "data": {"columns": {"id": {"name_in_destination": "id", "enabled": True}}}})


def destination(project: str) -> bytes:
    return reply(200, {"data": {"id": "x", "service": "big_query", "config": {"project_id": project}}})


def two_destinations(first: str, second: str) -> list[bytes]:
    """An account with two destinations, each with a connection `shop`, in the order of their groups."""

    def of_group(group: str) -> list[bytes]:
        return [page(listed("shop", id=f"shop_{group}", group_id=group)), schemas("shop", "orders", "users")]

    def described(group: str) -> bytes:
        project = "local-dev" if group == "prod" else "other-project"
        return reply(200, {"data": {"id": group, "service": "big_query", "config": {"project_id": project}}})

    groups = page({"id": first, "name": first.title()}, {"id": second, "name": second.title()})
    return [groups, described(first), described(second), *of_group(first), *of_group(second), COLUMNS]


def refreshed(monkeypatch: pytest.MonkeyPatch, component: FivetranConnections, *answers: bytes) -> list[str]:
    """The requests of a refresh from a Fivetran that answers so."""
    with wire(*answers) as server:
        platform_of(monkeypatch, server.url)
        component.refresh()
        return [line.split()[1] for line in server.requests]


def keys_of(component: FivetranConnections) -> dict[str, str]:
    """The assets of the saved state, by key, with the project that each lands in."""
    specs = component.definitions(component.saved()).resolve_all_asset_specs()
    return {spec.key.to_user_string(): spec.metadata["dagster/table_name"].split(".")[0] for spec in specs}


@pytest.mark.parametrize("order", [("prod", "archive"), ("archive", "prod")])
def test_two_destinations_with_one_schema_name_are_named_and_the_platforms_own_project_wins(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, order: tuple[str, str]
) -> None:
    component = FivetranConnections()
    refreshed(monkeypatch, component, *two_destinations(*order))
    assert keys_of(component) == {"shop/orders": "local-dev", "shop/users": "local-dev"}
    [finding] = component.findings(component.saved())
    assert (finding.kind, finding.key, finding.wrong) == ("collision", "shop", True)
    for named in ("`shop` (shop_prod)", "`shop` (shop_archive)", "`Prod`", "`Archive`", "`exclude: [`group:archive`]`"):
        assert named in finding.why
    assert finding.why in caplog.text
    assert "The connection `shop` (shop_prod) of the destination `Prod`" in finding.why


def test_a_table_that_dbt_builds_too_is_dbts_asset_and_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    component = FivetranConnections()
    refreshed(monkeypatch, component, *two_destinations("prod", "archive"))
    model = {"resource_type": "model", "name": "orders", "schema": "shop", "config": {"schema": "shop"}}
    manifest = DbtModels.state_path() / MANIFEST
    manifest.parent.mkdir(parents=True)
    nodes = {"model.p.orders": model | {"original_file_path": "models/orders.sql"}}
    manifest.write_text(json.dumps({"nodes": nodes, "sources": {}, "exposures": {}}))
    assert keys_of(component) == {"shop/users": "local-dev"}
    [finding] = [one for one in component.findings(component.saved()) if one.key == "shop/orders"]
    assert finding.why == (
        "The connection `shop` (shop_prod) and dbt both write the table `shop.orders`. It is the asset of dbt's node alone. "
        "Deselect the table in Fivetran, or give dbt's node another schema or alias."
    )


def test_an_excluded_destination_is_asked_for_nothing_and_collides_with_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    component = FivetranConnections(exclude=["group:Archive"])
    answers = two_destinations("prod", "archive")
    del answers[2], answers[4:6]
    requests = refreshed(monkeypatch, component, *answers)
    assert not any("archive" in request for request in requests)
    assert component.findings(component.saved()) == []
    component = FivetranConnections(include=["project:other-project"])
    refreshed(monkeypatch, component, *[one for at, one in enumerate(two_destinations("prod", "archive")) if at != 4])
    assert set(keys_of(component).values()) == {"other-project"}
    assert component.findings(component.saved()) == []


def workspace(*found: tuple[str, str, str, str, list[str]]) -> FivetranWorkspaceData:
    """Connections by id, name, group, dataset and tables. The group `prod` lands in the project of the settings."""
    return FivetranWorkspaceData(
        connectors_by_id={
            id_: FivetranConnector(
                id=id_, name=name, service="s", group_id=group, setup_state="connected", sync_state="scheduled",
                paused=False, succeeded_at=None, failed_at=None,
            )
            for id_, name, group, _, _ in found
        },
        destinations_by_id={
            group: FivetranDestination(id=group, database="local-dev" if group == "prod" else group, service="big_query")
            for _, _, group, _, _ in found
        },
        schema_configs_by_connector_id={
            id_: FivetranSchemaConfig(schemas={"s": FivetranSchema(enabled=True, name_in_destination=dataset, tables={
                table: FivetranTable(enabled=True, name_in_destination=table, columns={}) for table in tables
            })})
            for id_, _, _, dataset, tables in found
        },
    )  # fmt: skip


def test_the_rest_of_an_account_goes_on_beside_a_collision() -> None:
    rows = [
        ("a", "crm", "archive", "crm", ["account", "old"]),
        ("b", "crm", "prod", "crm", ["account"]),
        ("c", "shop", "archive", "shop", ["orders"]),
        ("d", "app", "prod", "app_eu", ["users", "teams"]),
        ("e", "app_eu", "prod", "app_eu", ["users", "plans"]),
        ("f", "lake", "w", "lake", ["x"]),
        ("g", "lake", "v", "lake", ["x"]),
    ]
    seen = set[str]()
    for order in (rows, rows[::-1], sorted(rows, key=lambda row: row[3][::-1])):
        state, collisions = resolve_collisions(workspace(*order))
        kept = {own.name: [t.key.to_user_string() for t in own.tables] for own in connections(state) if own.tables}
        seen.add(repr((sorted(kept.items()), collisions)))
        assert kept == {
            "crm": ["crm/account"],
            "shop": ["shop/orders"],
            "app": ["app_eu/users", "app_eu/teams"],
            "app_eu": ["app_eu/plans"],
            "lake": ["lake/x"],
        }
        assert {(one.kept, one.left_out, one.tables) for one in collisions} == {
            ("b", "a", ("account", "old")),
            ("d", "e", ("users",)),
            ("f", "g", ("x",)),
        }
    assert len(seen) == 1


def test_connections_with_one_name_have_names_of_their_own() -> None:
    state = workspace(("a", "crm", "archive", "crm_old", ["account"]), ("b", "crm", "prod", "crm", ["account"]))
    assert {own.id: own.name for own in connections(state)} == {"a": "crm@archive", "b": "crm"}


def test_a_state_of_an_earlier_version_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    component = FivetranConnections(exclude=["nothing_like_it"])
    component.save(dg.serialize_value(workspace(("a", "crm", "prod", "crm", ["account"]))))
    assert keys_of(component) == {"crm/account": "local-dev"}
    assert component.findings(component.saved()) == []
    assert deserialize_value(component.saved(), FivetranWorkspaceData).connectors_by_id.keys() == {"a"}


# Settings


def test_settings_that_name_what_the_account_does_not_have_are_findings(vendors: Vendors, caplog: Any) -> None:
    component = FivetranConnections(
        exclude=["fivetran_log", "salesforc", "group:Warehose", "zend*"],
        freshness_of={"prodct": Freshness(1, 2), "stripe": Freshness(1, 2)},
    )
    component.refresh()
    found = component.findings(component.saved())
    assert {one.kind for one in found} == {"setting"}
    assert [(one.key, one.why.split()[0]) for one in found] == [
        ("exclude", "`salesforc`"),
        ("exclude", "`group:Warehose`"),
        ("freshness_of", "`prodct`"),
    ]
    salesforce, group, product = (one.why for one in found)
    assert "orchestration/defs/ingestion/defs.yaml" in salesforce
    assert "The nearest: `salesforce`" in salesforce
    assert "`Warehouse`" in group
    assert "The nearest: `product`" in product
    assert all(one.why in caplog.text for one in found)


# A broken connection


def shown(setup_state: str, **changes: Any) -> bytes:
    tasks = [{"code": changes.pop("task"), "message": "Reconnect"}] if "task" in changes else []
    status = {"setup_state": setup_state, "sync_state": "scheduled", "tasks": tasks}
    return reply(200, {"data": listed("shop", status=status, **changes)})


def sync(server_url: str, **limits: float) -> Any:
    wait = Wait(60, "", lambda _: None, lambda _: None)
    return Fivetran(server_url, "k", "s", **limits).sync("shop_id", wait)


TRIGGERED = reply(200, {"code": "Success", "message": "Sync has been triggered"})


def posts(requests: list[str]) -> int:
    return sum(line.startswith("POST") for line in requests)


def test_a_broken_connection_is_triggered_once_and_its_success_counts() -> None:
    ended = shown("connected", succeeded_at="2026-11-23T04:00:00Z")
    with wire(shown("broken"), TRIGGERED, shown("broken"), ended) as server:
        assert sync(server.url).connection.status.setup_state == "connected"
        assert posts(server.requests) == 1


def test_a_broken_connection_whose_sync_fails_is_a_failure_for_a_person() -> None:
    ended = shown("broken", failed_at="2026-11-23T04:00:00Z")
    with wire(shown("broken"), TRIGGERED, ended) as server:
        with pytest.raises(SyncFailed, match="gives no reason") as caught:
            sync(server.url)
        assert posts(server.requests) == 1
    assert caught.value.permanent
    assert caught.value.sync == "fivetran/shop_id/2026-11-23T04:00:00+00:00"


@pytest.mark.parametrize("code", ["reconnect", "Reconnect", "reconnect_source"])
def test_a_broken_connection_that_has_to_be_reconnected_is_not_triggered(code: str) -> None:
    with wire(shown("broken", task=code)) as server:
        with pytest.raises(SyncFailed, match=r"is broken in Fivetran\. Reconnect") as caught:
            sync(server.url)
        assert posts(server.requests) == 0
    assert caught.value.permanent


@pytest.mark.parametrize("code", ["resync_table_warning", "", None])
def test_other_tasks_do_not_keep_a_broken_connection_from_being_tried(code: str | None) -> None:
    ended = shown("connected", succeeded_at="2026-11-23T04:00:00Z")
    with wire(shown("broken", task=code), TRIGGERED, ended) as server:
        sync(server.url)
        assert posts(server.requests) == 1


def test_a_connection_whose_set_up_was_never_finished_is_not_triggered() -> None:
    with wire(shown("incomplete")) as server:
        with pytest.raises(SyncFailed, match="is incomplete in Fivetran"):
            sync(server.url)
        assert posts(server.requests) == 0


def test_a_broken_connection_that_fivetran_does_not_start_is_not_waited_for_until_the_time_limit() -> None:
    with wire(shown("broken"), TRIGGERED, shown("broken")) as server:
        with pytest.raises(SyncFailed, match="the sync that was triggered has not started") as caught:
            sync(server.url, broken_start_seconds=0.2)
        assert posts(server.requests) == 1
    assert caught.value.permanent


def test_a_broken_connection_whose_trigger_is_refused_is_not_triggered_again() -> None:
    with wire(shown("broken"), reply(409, {"message": "Connection is broken"})) as server:
        with pytest.raises(VendorError, match="409"):
            sync(server.url)
        assert posts(server.requests) == 1


def test_a_sync_clears_the_mark_of_a_broken_connection(account: Account) -> None:
    account.vendors.faults.add("fivetran", "sheet_00005", "broken")
    client = fivetran()
    assert client.connection("sheet_00005_conn").is_broken
    synced = client.sync("sheet_00005_conn", Wait(30, "", lambda _: None))
    assert not synced.connection.is_broken
    account.vendors.faults.add("fivetran", "sheet_00006", "broken", {"starts": 0})
    with pytest.raises(SyncFailed, match="has not started"):
        _ = Fivetran(
            str(fivetran_settings().fivetran_api_url),
            fivetran_settings().fivetran_api_key,
            fivetran_settings().fivetran_api_secret.get_secret_value(),
            broken_start_seconds=0.5,
        ).sync("sheet_00006_conn", Wait(30, "", lambda _: None))
