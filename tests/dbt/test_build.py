"""The whole project built against the warehouse stand-in, from a small company's raw tables."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import psycopg
import pytest
import uvicorn
from google.cloud import bigquery

from sandbox.company.seed import seed
from sandbox.company.tick import tick
from sandbox.config import HOST, PROJECT, SandboxConfig
from sandbox.env_file import environment
from sandbox.services import postgres
from sandbox.stack import stack
from sandbox.vendors import salesforce
from sandbox.vendors.context import VendorContext
from sandbox.vendors.fivetran.destination import Destination
from sandbox.vendors.fivetran.sources import PostgresSource, SalesforceSource
from tests.dbt.project import Dbt

UNTIL = datetime(2026, 11, 2, 15, tzinfo=UTC)
Row = dict[str, Any]


@dataclass(frozen=True)
class Company:
    """A small company: its product database and Salesforce org, the warehouse, and dbt on it."""

    config: SandboxConfig
    dbt: Dbt

    def land(self) -> None:
        """Load every raw table anew, as Fivetran's first sync does."""
        synced = datetime.now(UTC)
        for source in (PostgresSource(self.config, "product"), SalesforceSource(self.config, "salesforce")):
            destination = Destination(source.dataset)
            for table in source.tables():
                destination.replace(table, source.changes(table, None).rows, synced)

    def build(self, *arguments: str) -> None:
        done = self.dbt.run("build", *arguments)
        assert done.returncode == 0, done.stdout

    def query(self, statement: str) -> list[Row]:
        """Rows of the warehouse."""
        return [dict(row) for row in bigquery.Client(project=PROJECT).query_and_wait(statement)]

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """Rows of the product database."""
        with psycopg.connect(postgres.dsn(self.config)) as connection:
            return connection.execute(statement.encode()).fetchall()

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
            with serving_salesforce(config):
                company = Company(config, Dbt(tmp_path_factory.mktemp("target"), {}))
                company.land()
                company.build()
                yield company
        finally:
            supervisor.down(lambda _name: None)


@contextmanager
def serving_salesforce(config: SandboxConfig) -> Iterator[None]:
    app = salesforce.build(VendorContext.of(config))
    options = uvicorn.Config(app, host=HOST, port=config.port("salesforce"), log_level="warning")
    server = uvicorn.Server(options)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        assert time.monotonic() < deadline, "Salesforce does not start"
        time.sleep(0.05)
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(timeout=10)


def test_everything_is_built_and_no_test_fails_or_warns(company: Company) -> None:
    statuses = company.dbt.statuses()
    assert {name: status for name, status in statuses.items() if status not in {"success", "pass", "no-op"}} == {}
    assert list(statuses.values()).count("pass") > 80


def test_the_insights_agree_with_the_product_database(company: Company) -> None:
    spent = company.query("""
        select organisation_id, sum(incidents_declared) as incidents, sum(minutes_worked) as minutes
        from insights.time_spent_on_incidents group by organisation_id order by organisation_id""")
    assert [tuple(row.values()) for row in spent] == company.sql("""
        select i.organisation_id, count(distinct i.id), coalesce(sum(p.minutes_worked), 0)
        from incidents i left join incident_participants p on p.incident_id = i.id
        where i.status <> 'declined' group by 1 order by 1""")

    pages = company.query("""
        select organisation_id, user_id, sum(pages) as pages, sum(out_of_hours_pages) as out_of_hours
        from insights.pages_by_responder group by organisation_id, user_id order by organisation_id, user_id""")
    assert [tuple(row.values()) for row in pages] == company.sql("""
        select e.organisation_id, p.user_id, count(*), count(*) filter (where p.out_of_hours)
        from pages p join escalations e on e.id = p.escalation_id group by 1, 2 order by 1, 2""")

    weeks = company.query("""
        select organisation_id, cast(created_week as string) as week, tasks_created, tasks_done_late
        from insights.post_incident_task_completion order by organisation_id, created_week""")
    assert [tuple(row.values()) for row in weeks] == company.sql("""
        select t.organisation_id, date_trunc('week', t.created_at at time zone o.timezone)::date::text, count(*),
            count(*) filter (where t.status = 'done' and t.completed_at > t.due_at)
        from post_incident_tasks t join organisations o on o.id = t.organisation_id group by 1, 2 order by 1, 2""")


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
