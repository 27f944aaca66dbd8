from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from sandbox.company.seed import seed
from sandbox.config import SandboxConfig
from sandbox.env_file import environment
from sandbox.services import postgres
from sandbox.stack import stack
from tests.sandbox.vendors import Vendors


@pytest.fixture(scope="session")
def session_config(tmp_path_factory: pytest.TempPathFactory) -> SandboxConfig:
    """A sandbox of the test session: a directory and free ports of its own."""
    root: Path = tmp_path_factory.mktemp("stand-ins")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SANDBOX_DIR", str(root))
        patch.setenv("SANDBOX_PORTS", "free")
        return SandboxConfig.load()


@pytest.fixture(scope="session")
def postgres_server(session_config: SandboxConfig) -> Iterator[SandboxConfig]:
    supervisor = stack(session_config, only=("postgres",))
    supervisor.up(lambda _done: None)
    yield session_config
    supervisor.down(lambda _name: None)


@pytest.fixture
def database(postgres_server: SandboxConfig, request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of an empty database of the test's own."""
    name = f"t{abs(hash(request.node.nodeid))}"
    with psycopg.connect(postgres.dsn(postgres_server, "postgres"), autocommit=True) as connection:
        connection.execute(f"create database {name}".encode())
        yield postgres.dsn(postgres_server, name)
        connection.execute(f"drop database {name} with (force)".encode())


@pytest.fixture(scope="session")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxConfig]:
    """A small company's product database and an empty warehouse; the environment points the Google clients at it."""
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
            yield config
        finally:
            supervisor.down(lambda _name: None)


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


@pytest.fixture(autouse=True)
def mended(request: pytest.FixtureRequest) -> Iterator[None]:
    """Switches off after a test the faults that it switched on."""
    yield
    if "vendors" in request.fixturenames:
        request.getfixturevalue("vendors").faults.remove()
