"""The whole project built against the warehouse stand-in, from a small company's raw tables."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import psycopg
import pytest
import uvicorn
from google.cloud import bigquery

from orchestration.components import platform_history
from orchestration.vendors.bigquery_tables import Tables
from sandbox.company.product_events import seed_product_events
from sandbox.company.seed import seed
from sandbox.company.tick import tick
from sandbox.config import HOST, PROJECT, SandboxConfig
from sandbox.env_file import environment
from sandbox.services import postgres
from sandbox.stack import stack
from sandbox.vendors import salesforce, stripe, zendesk
from sandbox.vendors.context import VendorContext
from sandbox.vendors.fivetran.destination import Destination
from sandbox.vendors.fivetran.sync import source_of
from sandbox.vendors.segment.history import seed_history
from tests.dbt.project import Dbt

pytestmark = pytest.mark.long

UNTIL = datetime(2026, 11, 2, 15, tzinfo=UTC)
CONNECTIONS = (("postgres", "product"), ("salesforce", "salesforce"), ("stripe", "stripe"), ("zendesk", "zendesk"))
"""Service and name of each Fivetran connection."""
Row = dict[str, Any]


@dataclass(frozen=True)
class Company:
    """A small company: its product database and the services around it, the warehouse, and dbt on it."""

    config: SandboxConfig
    dbt: Dbt

    def land(self) -> None:
        """Load every table of Fivetran's anew, as its first sync does."""
        synced = datetime.now(UTC)
        context = VendorContext.of(self.config)
        for connection in CONNECTIONS:
            with closing(source_of(context, *connection)) as source:
                destination = Destination(source.dataset)
                for table in source.tables():
                    destination.replace(table, source.changes(table, None, set()).rows, synced)

    def land_events(self) -> None:
        """Land what Segment and the product's publisher had sent, and make the tables of the platform's own history."""
        seed_history(self.config)
        seed_product_events(self.config)
        own = Tables(PROJECT, "US", 60)
        for table in platform_history.TABLES:
            own.ensure(table)

    def build(self, *arguments: str) -> None:
        done = self.dbt.run("build", *arguments)
        assert done.returncode == 0, done.stdout

    def query(self, statement: str) -> list[Row]:
        """Rows of the warehouse."""
        return [dict(row) for row in bigquery.Client(project=PROJECT).query_and_wait(statement)]

    def account_health(self) -> dict[str, Row]:
        return {row["organisation_id"]: row for row in self.query("select * from sales.account_health")}


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    """Landed and built once; the tests below go on from what the ones before them left."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SANDBOX_DIR", str(tmp_path_factory.mktemp("dbt-sandbox")))
        patch.setenv("SANDBOX_PORTS", "free")
        config = SandboxConfig.load()
        for name, value in environment(config).items():
            patch.setenv(name, value)
        supervisor = stack(config, only=("postgres", "warehouse"))
        try:
            supervisor.up(lambda _done: None)
            seed(postgres.dsn(config), scale=0.1, until=UNTIL)
            with serving(config):
                company = Company(config, Dbt(tmp_path_factory.mktemp("target"), {}))
                company.land()
                company.land_events()
                company.build()
                yield company
        finally:
            supervisor.down(lambda _name: None)


@contextmanager
def serving(config: SandboxConfig) -> Iterator[None]:
    """The services around the product, each on its port."""
    context = VendorContext.of(config)
    with ExitStack() as stack:
        for module in (salesforce, stripe, zendesk):
            port = config.port(module.__name__.rpartition(".")[2])
            stack.enter_context(listening(module.build(context), port))
        yield


@contextmanager
def listening(app: Any, port: int) -> Iterator[None]:
    server = uvicorn.Server(uvicorn.Config(app, host=HOST, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        assert time.monotonic() < deadline, f"nothing listens on {port}"
        time.sleep(0.05)
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(timeout=10)


@pytest.mark.timeout(900)
def test_everything_is_built_and_no_test_fails_or_warns(company: Company) -> None:
    statuses = company.dbt.statuses()
    assert {name: status for name, status in statuses.items() if status not in {"success", "pass", "no-op"}} == {}
    assert list(statuses.values()).count("pass") > 80


def test_tickets_are_resolved_when_the_desk_solved_them_and_deleted_ones_are_gone(company: Company) -> None:
    with psycopg.connect(postgres.dsn(company.config)) as connection:
        solved = dict(
            connection.execute(
                "select t.id, date_trunc('second', max(c.created_at)) from company_state.support_tickets t"
                " join company_state.support_changes c on c.ticket_id = t.id"
                " where t.status in ('solved', 'closed') and c.field_name = 'status' and c.value = 'solved' group by t.id"
            ).fetchall()
        )
    shown = {
        row["ticket_id"]: row["resolved_at"]
        for row in company.query("select ticket_id, resolved_at from support.tickets where is_resolved")
    }
    assert shown == solved
    assert len(shown) > 20

    gone = min(shown)
    zendesk_api = f"{company.config.url('zendesk')}/api/v2/tickets/{gone}.json"
    httpx.delete(zendesk_api, auth=(f"{zendesk.EMAIL}/token", zendesk.TOKEN)).raise_for_status()
    company.land()
    company.build("--select", "+tickets", "--exclude-resource-type", "unit_test")
    left = {row["ticket_id"] for row in company.query("select ticket_id from support.tickets where is_resolved")}
    assert left == shown.keys() - {gone}


def test_a_customers_health_moves_with_nobody_elses_and_not_with_its_own_salesforce_fields(company: Company) -> None:
    before = company.account_health()
    assert len(before) > 1

    ticked = tick(postgres.dsn(company.config))
    client = httpx.Client(
        base_url=f"{company.config.url('salesforce')}/services/data/v59.0/sobjects/Account",
        headers={"Authorization": f"Bearer {salesforce.TOKEN}"},
    )
    for row in before.values():
        fields = {"Health_Score__c": row["health_score"], "Open_Tasks__c": row["open_tasks"]}
        client.patch(f"/{row['salesforce_account_id']}", json=fields).raise_for_status()
    company.land()
    company.build("--select", "+account_health", "--exclude-resource-type", "test", "unit_test")

    after = company.account_health()
    changed = {key for key in before | after if before.get(key) != after.get(key)}
    assert before.keys() - ticked.organisations, "everybody had a busy hour: nothing could be seen"
    assert changed
    assert changed <= ticked.organisations


def test_rubbish_in_a_column_stops_before_what_customers_see(company: Company) -> None:
    company.query("update product_public.incidents set severity = '???' where true")
    count = "select count(*) as rubbish from insights.time_spent_on_incidents where severity = '???'"

    built = company.dbt.run("build", "--select", "stg_product__incidents", "time_spent_on_incidents")

    assert built.returncode == 1
    failed = [name for name, status in company.dbt.statuses().items() if status == "fail"]
    assert [name for name in failed if "severity" in name] == failed
    assert failed
    assert company.dbt.statuses()["time_spent_on_incidents"] == "skipped"
    assert company.query(count) == [{"rubbish": 0}]
