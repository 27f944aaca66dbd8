"""Fivetran's stand-in against Fivetran's OpenAPI spec, and under Dagster's own integration, of which only the address is changed."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest
from dagster_fivetran import FivetranWorkspace, build_fivetran_assets_definitions
from dagster_fivetran.resources import FivetranClient

from sandbox.company.history import TABLES
from sandbox.config import SandboxConfig
from sandbox.vendors.context import VendorContext
from sandbox.vendors.fivetran import content
from tests.contracts.specs import Spec
from tests.stand_ins import Vendors

CONNECTION = "salesforce_conn"
COLUMNS = "/v1/connections/{connectionId}/schemas/{schema}/tables/{table}/columns"
ONE, GROUP = "/v1/connections/{connectionId}", "/v1/groups/{groupId}/connections"


@pytest.fixture(scope="module")
def spec() -> Spec:
    return Spec.named("fivetran")


@pytest.mark.parametrize(
    ("method", "template", "path", "body"),
    [
        ("GET", "/v1/groups", "/v1/groups", None),
        ("GET", "/v1/destinations/{destinationId}", "/v1/destinations/local_group", None),
        ("GET", "/v1/destinations/{destinationId}", "/v1/destinations/none", None),
        ("GET", "/v1/connections", "/v1/connections", None),
        ("GET", "/v1/connections", "/v1/connections?limit=1", None),
        ("GET", GROUP, "/v1/groups/local_group/connections", None),
        ("GET", ONE, "/v1/connections/product_conn", None),
        ("GET", ONE, "/v1/connections/stripe_conn", None),
        ("GET", ONE, "/v1/connections/zendesk_conn", None),
        ("GET", ONE, "/v1/connections/none", None),
        ("PATCH", ONE, f"/v1/connections/{CONNECTION}", {"sync_frequency": 60, "paused": False}),
        ("GET", ONE, "/v1/connections/platform_conn", None),
        ("GET", f"{ONE}/schemas", f"/v1/connections/{CONNECTION}/schemas", None),
        ("GET", f"{ONE}/schemas", "/v1/connections/platform_conn/schemas", None),
        ("GET", COLUMNS, f"/v1/connections/{CONNECTION}/schemas/salesforce/tables/user/columns", None),
        ("POST", f"{ONE}/schemas/reload", f"/v1/connections/{CONNECTION}/schemas/reload", {"exclude_mode": "PRESERVE"}),
        ("POST", f"{ONE}/sync", f"/v1/connections/{CONNECTION}/sync", {"force": False}),
        ("POST", f"{ONE}/sync", "/v1/connections/none/sync", {"force": False}),
    ],
)
def test_what_it_answers_is_what_the_spec_says(vendors, spec, method, template, path, body):
    if body is not None:
        spec.validate_request(method, template, body)
    spec.check(method, template, vendors.fivetran.request(method, path, json=body))


def test_a_resync_is_answered_as_the_spec_says_also_where_one_runs_and_where_there_is_no_such_table(vendors, spec):
    vendors.synced(CONNECTION)
    vendors.faults.add("fivetran", "salesforce", "slow_sync", {"seconds": 2}, times=1)
    for scope, status in (
        ({"salesforce": ["nothing"]}, 400),
        ({"salesforce": ["user"]}, 200),
        ({"salesforce": ["user"]}, 409),
    ):
        body = {"scope": scope}
        spec.validate_request("POST", f"{ONE}/resync", body)
        answer = vendors.fivetran.post(f"/v1/connections/{CONNECTION}/resync", json=body)
        assert answer.status_code == status
        spec.check("POST", f"{ONE}/resync", answer)
    refused = vendors.fivetran.post("/v1/connections/stripe_conn/resync", json={"scope": {"stripe": ["customer"]}})
    assert refused.status_code == 400
    spec.check("POST", f"{ONE}/resync", refused)
    vendors.synced(CONNECTION)
    tables = vendors.fivetran.post(f"/v1/connections/{CONNECTION}/schemas/tables/resync", json={"salesforce": ["user"]})
    spec.check("POST", f"{ONE}/schemas/tables/resync", tables)
    vendors.synced(CONNECTION)


@pytest.mark.parametrize("fault", ["broken_credentials", "broken", "paused", "reschedule"])
def test_a_connection_in_trouble_is_shown_as_the_spec_says(vendors, spec, fault):
    vendors.faults.add("fivetran", "salesforce", fault)
    if fault not in {"paused", "broken"}:
        vendors.sync(CONNECTION)
    shown = spec.check("GET", ONE, vendors.fivetran.get(f"/v1/connections/{CONNECTION}"))["data"]
    status = shown["status"]
    found = {
        "broken_credentials": status["tasks"] and status["setup_state"] == "broken",
        "broken": status["setup_state"] == "broken" and not status["tasks"],
        "paused": shown["paused"],
        "reschedule": status["sync_state"] == "rescheduled" and status["rescheduled_for"],
    }
    assert found[fault]
    vendors.faults.remove("fivetran")
    vendors.sync(CONNECTION)


def test_a_connection_is_deleted_as_the_spec_says(vendors: Vendors, spec: Spec) -> None:
    content.add_connections(VendorContext.of(vendors.config).store, 1, prefix="deleted")
    path = "/v1/connections/deleted_00000_conn"
    spec.check("GET", f"{ONE}/schemas", vendors.fivetran.get(f"{path}/schemas"))
    spec.check("POST", f"{ONE}/sync", vendors.fivetran.post(f"{path}/sync", json={"force": False}))
    for status in (200, 404):
        answer = vendors.fivetran.delete(path)
        assert answer.status_code == status
        spec.check("DELETE", ONE, answer)


def test_the_history_of_syncs_is_no_part_of_the_spec(spec):
    """The platform reads it by what Fivetran's pages say: with this, the day on which the spec has it is noticed."""
    assert f"{ONE}/sync-history" not in spec.document["paths"]


def official(config: SandboxConfig) -> FivetranWorkspace:
    """Dagster's own workspace and client, at the stand-in's address."""
    address = f"{config.url('fivetran')}/v1"

    class Client(FivetranClient):
        @property
        def api_base_url(self) -> str:
            return address

    class Workspace(FivetranWorkspace):
        def get_client(self) -> FivetranClient:
            return Client(
                api_key=self.api_key,
                api_secret=self.api_secret,
                request_max_retries=self.request_max_retries,
                request_retry_delay=self.request_retry_delay,
                request_backoff_factor=self.request_backoff_factor,
                disable_schedule_on_trigger=self.disable_schedule_on_trigger,
                retry_on_reschedule=self.retry_on_reschedule,
            )

    return Workspace(account_id="local-account", api_key="local-fivetran-key", api_secret="local-fivetran-secret")


def test_dagsters_own_assets_are_built_and_synced(vendors: Vendors):
    """The whole of dagster_fivetran: it reads the workspace, builds the assets, syncs, polls, and reports each table."""
    workspace = official(vendors.config)
    definitions = build_fivetran_assets_definitions(workspace=workspace)
    [salesforce] = [one for one in definitions if one.keys and {key.path[0] for key in one.keys} == {"salesforce"}]
    keys = {key.to_user_string() for one in definitions for key in one.keys}
    assert {f"product_public/{table}" for table in TABLES} <= keys
    assert {"salesforce/opportunity", "stripe/invoice", "zendesk/ticket"} <= keys
    before = int(vendors.sync(CONNECTION)["sync_id"])
    result = dg.materialize([salesforce], resources={"fivetran": workspace})
    made: dict[str, Any] = {
        event.asset_key.to_user_string(): event.materialization.metadata
        for event in result.all_events
        if event.is_step_materialization and event.asset_key
    }
    assert made.keys() == {key.to_user_string() for key in salesforce.keys}
    assert "salesforce/account" in made
    assert int(vendors.synced(CONNECTION)["sync_id"]) == before + 1
