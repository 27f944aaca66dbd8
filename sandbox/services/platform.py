"""Dagster as three supervised processes: the code server, the daemon and the webserver, as in production.

The workspace names a running code server: with a Python module in it instead, the daemon starts every code server anew
about once a minute.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil

from sandbox.config import HOST, SandboxConfig
from sandbox.env_file import environment
from sandbox.services import postgres

LOCATION = "orchestration"


class PreparationError(RuntimeError):
    """State or manifest could not be made; the message carries what the command printed."""


def dagster_home(config: SandboxConfig) -> Path:
    return config.root / "dagster"


def platform_environment(config: SandboxConfig) -> dict[str, str]:
    return environment(config) | {
        "DAGSTER_HOME": str(dagster_home(config)),
        # psycopg2 by name: SQLAlchemy 2.1 would take psycopg, which dagster-postgres does not use.
        "DAGSTER_POSTGRES_URL": postgres.dsn(config, postgres.DAGSTER).replace("postgresql:", "postgresql+psycopg2:"),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        "PYTHONWARNINGS": "ignore",
    }


def prepare(config: SandboxConfig) -> None:
    """Lay the instance's files, and read the vendors' state and the dbt manifest where they are missing or out of date."""
    home = dagster_home(config)
    home.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(__file__).with_name("dagster.yaml"), home / "dagster.yaml")
    (home / "workspace.yaml").write_text(
        f"load_from:\n  - grpc_server: {{host: {HOST}, port: {config.port('code_server')}, location_name: {LOCATION}}}\n"
    )
    command = [sys.executable, "-m", "orchestration.cli", "refresh", "--if-stale"]
    result = subprocess.run(
        command,
        cwd=config.root,
        env=os.environ | platform_environment(config),
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise PreparationError(f"`dataplatform refresh` failed:\n{result.stdout}{result.stderr}")


def code_server(config: SandboxConfig) -> list[str]:
    return [
        *_dagster("dagster"), "code-server", "start", "-m", "orchestration.definitions",
        "-h", HOST, "-p", str(config.port("code_server")), "--location-name", LOCATION,
    ]  # fmt: skip


def daemon(config: SandboxConfig) -> list[str]:
    return [*_dagster("dagster-daemon"), "run", "-w", str(dagster_home(config) / "workspace.yaml")]


def webserver(config: SandboxConfig) -> list[str]:
    return [
        sys.executable, "-m", "sandbox.services.webserver", "-h", HOST, "-p", str(config.port("dagster")),
        "-w", str(dagster_home(config) / "workspace.yaml"),
    ]  # fmt: skip


def code_server_healthy(config: SandboxConfig) -> None:
    """Raise while the code server does not serve, by gRPC's standard health protocol."""
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with grpc.insecure_channel(f"{HOST}:{config.port('code_server')}") as channel:
        request = health_pb2.HealthCheckRequest(service="DagsterApi")
        # gRPC gives a stub its methods as it is made.
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answer = stub.Check(request, timeout=5)
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        raise RuntimeError("the code server is still loading")


def webserver_healthy(config: SandboxConfig) -> None:
    """Raise while the UI does not serve the code location, with the location's own error if it has one."""
    query = (
        "{workspaceOrError{... on Workspace{locationEntries{loadStatus "
        "locationOrLoadError{__typename ... on PythonError{message}}}}}}"
    )
    entries = graphql(config, query)["workspaceOrError"]["locationEntries"]
    for entry in entries:
        loaded = entry["locationOrLoadError"]
        if loaded and loaded["__typename"] == "PythonError":
            raise RuntimeError(loaded["message"])
    if [entry["loadStatus"] for entry in entries] != ["LOADED"]:
        raise RuntimeError("the code location is still loading")


def daemon_healthy(config: SandboxConfig, pid: int | None) -> None:
    """Raise while the daemon which runs as `pid` has not sent a heartbeat of its own.

    Dagster's `healthy` flag stays true for half an hour after a kill, so only a beat younger than the process counts.
    """
    if pid is None:
        raise RuntimeError("the daemon does not run")
    query = "{instance{daemonHealth{allDaemonStatuses{daemonType lastHeartbeatTime}}}}"
    statuses = graphql(config, query)["instance"]["daemonHealth"]["allDaemonStatuses"]
    beats = {status["daemonType"]: status["lastHeartbeatTime"] or 0 for status in statuses}
    started = psutil.Process(pid).create_time()
    late = [name for name in ("SENSOR", "SCHEDULER", "QUEUED_RUN_COORDINATOR") if beats.get(name, 0) < started]
    if late:
        raise RuntimeError(
            f"no heartbeat yet of {', '.join(late)} since {datetime.fromtimestamp(started, UTC):%H:%M:%S}"
        )


def graphql(config: SandboxConfig, query: str, variables: dict[str, object] | None = None) -> dict[str, Any]:
    """The `data` of a query to the webserver. Raises for transport errors and for GraphQL errors alike."""
    answer = httpx.post(
        f"{config.url('dagster')}/graphql", json={"query": query, "variables": variables or {}}, timeout=30
    )
    # The webserver answers a query that breaks off with 500, and says why in the body.
    body = answer.json() if answer.headers.get("content-type", "").startswith("application/json") else {}
    if body.get("errors"):
        raise RuntimeError(f"GraphQL: {body['errors'][0]['message']}")
    answer.raise_for_status()
    return body["data"]


def _dagster(name: str) -> list[str]:
    return [str(Path(sys.executable).with_name(name))]
