from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from sandbox.config import SandboxConfig
from sandbox.services import postgres
from sandbox.stack import stack


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
