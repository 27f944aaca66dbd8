"""Fixtures that the tests of the platform and of the stand-ins share."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from google.cloud import bigquery

from sandbox.company.seed import seed
from sandbox.config import PROJECT, SandboxConfig
from sandbox.env_file import environment
from sandbox.services import postgres
from sandbox.stack import stack
from tests.stand_ins import Mart, Vendors

# Who is started in the background by a shell ignores SIGINT. Dagster gives SIGTERM the same handler, and what the tests start then
# would inherit that, and end only when it is killed after ten seconds.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The `.env` that `make demo` has left in this checkout would fill in what a test takes away.
os.environ["PYTHON_DOTENV_DISABLED"] = "true"


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Give a session of root's a folder of its own.

    PostgreSQL then runs as another user, to whom every further session of pytest would close the folder that they share.
    """
    if os.geteuid() == 0 and config.option.basetemp is None:
        config.option.basetemp = tempfile.mkdtemp(prefix="dataplatform-tests-")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    folder = session.config.option.basetemp
    if exitstatus == 0 and Path(folder or "").name.startswith("dataplatform-tests-"):
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxConfig]:
    """A small company's product database and a warehouse; the environment points the Google clients at it."""
    root = tmp_path_factory.mktemp("company")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SANDBOX_DIR", str(root))
        patch.setenv("SANDBOX_PORTS", "free")
        config = SandboxConfig.load()
        patch.delenv("SANDBOX_DIR")
        patch.delenv("SANDBOX_PORTS")
        for name, value in environment(config).items():
            patch.setenv(name, value)
        supervisor = stack(config, only=("postgres", "warehouse"))
        try:
            supervisor.up(lambda _done: None)
            seed(postgres.dsn(config), scale=0.1, until=datetime(2026, 3, 2, 9, tzinfo=UTC))
            with psycopg.connect(postgres.dsn(config, "postgres"), autocommit=True) as connection:
                connection.execute(f"create database seeded template {postgres.DATABASE}".encode())
            yield config
        finally:
            supervisor.down(lambda _name: None)


@pytest.fixture(scope="module")
def company(servers: SandboxConfig) -> SandboxConfig:
    """The servers with the product database as it was seeded and nothing in the warehouse, whatever module ran before."""
    with psycopg.connect(postgres.dsn(servers, "postgres"), autocommit=True) as connection:
        connection.execute(f"drop database {postgres.DATABASE} with (force)".encode())
        connection.execute(f"create database {postgres.DATABASE} template seeded".encode())
    warehouse = bigquery.Client(project=PROJECT)
    for dataset in list(warehouse.list_datasets()):
        warehouse.delete_dataset(dataset.reference, delete_contents=True)
    return servers


@pytest.fixture(scope="module")
def vendors(company: SandboxConfig) -> Iterator[Vendors]:
    """Fivetran, Hightouch and Salesforce that know of no sync yet, in a server process of the test module's own."""
    shutil.rmtree(company.root / "vendors", ignore_errors=True)
    running = Vendors(company)
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxConfig]:
    """Cloud Storage's stand-in alone, with an empty bucket."""
    with running_alone("storage", tmp_path_factory.mktemp("storage")) as config:
        yield config


@pytest.fixture(scope="module")
def postgres_alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxConfig]:
    """PostgreSQL alone, without databases of the sandbox."""
    with running_alone("postgres", tmp_path_factory.mktemp("postgres")) as config:
        yield config


@contextmanager
def running_alone(service: str, root: Path) -> Iterator[SandboxConfig]:
    """Run one service of the sandbox, on ports of its own, until the end of the block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SANDBOX_DIR", str(root))
        patch.setenv("SANDBOX_PORTS", "free")
        config = SandboxConfig.load()
    supervisor = stack(config, only=(service,))
    try:
        supervisor.up(lambda _done: None)
        yield config
    finally:
        supervisor.down(lambda _name: None)


@pytest.fixture(autouse=True)
def mended(request: pytest.FixtureRequest) -> Iterator[None]:
    """Switches off after a test the faults that it switched on."""
    yield
    if "vendors" in request.fixturenames:
        request.getfixturevalue("vendors").faults.remove()


@pytest.fixture
def organisations(vendors: Vendors) -> list[str]:
    query = "SELECT Organisation_Id__c FROM Account WHERE Organisation_Id__c != null ORDER BY Organisation_Id__c"
    answer = vendors.salesforce.get("/services/data/v59.0/query", params={"q": query})
    return [record["Organisation_Id__c"] for record in answer.json()["records"]]


@pytest.fixture
def mart(vendors: Vendors, organisations: list[str]) -> Mart:
    """The mart, every row of it synced."""
    mart = Mart(organisations)
    assert vendors.run(fullResync=True)["status"] == "success"
    return mart
