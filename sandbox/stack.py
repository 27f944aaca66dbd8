"""Which services make up a sandbox, and what each waits for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from sandbox.config import SandboxConfig
from sandbox.env_file import environment
from sandbox.services import platform, postgres, storage, vendors, warehouse
from sandbox.supervisor import Service, Supervisor


def stack(
    config: SandboxConfig, *, scale: float = 1.0, with_platform: bool = True, only: tuple[str, ...] = ()
) -> Supervisor:
    """The supervisor of this sandbox: the stand-ins (or `only` some), and Dagster as well unless told otherwise."""
    services = [
        Service(
            "warehouse",
            partial(warehouse.command, config),
            partial(warehouse.environment, config),
            partial(warehouse.healthy, config),
            ("bigquery", "bigquery_grpc"),
            prepare=partial(warehouse.prepare, config),
        ),
        Service(
            "storage",
            partial(storage.command, config),
            partial(storage.environment, config),
            partial(storage.healthy, config),
            ("storage",),
            prepare=partial(storage.prepare, config),
        ),
        Service(
            "postgres",
            partial(postgres.command, config),
            partial(postgres.environment, config),
            partial(postgres.healthy, config),
            ("postgres",),
            prepare=partial(postgres.prepare, config),
        ),
        Service(
            "vendors",
            partial(vendors.command, config),
            partial(environment, config),
            partial(vendors.healthy, config),
            vendors.PORTS,
            prepare=partial(vendors.prepare, config, scale),
            after=("postgres", "warehouse"),
            furnish=partial(vendors.furnish, config),
        ),
    ]
    if with_platform:
        services += _platform(config, lambda name: supervisor.pid(name))  # noqa: PLW0108  (bound below)
    supervisor = Supervisor(config, [service for service in services if not only or service.name in only])
    return supervisor


def _platform(config: SandboxConfig, pid_of: Callable[[str], int | None]) -> list[Service]:
    of_platform = partial(platform.platform_environment, config)
    return [
        Service(
            "code-server",
            partial(platform.code_server, config),
            of_platform,
            partial(platform.code_server_healthy, config),
            ("code_server",),
            prepare=partial(platform.prepare, config),
            after=("vendors",),
        ),
        Service(
            "webserver",
            partial(platform.webserver, config),
            of_platform,
            partial(platform.webserver_healthy, config),
            ("dagster",),
            after=("code-server",),
        ),
        Service(
            "daemon",
            partial(platform.daemon, config),
            of_platform,
            lambda: platform.daemon_healthy(config, pid_of("daemon")),
            (),
            after=("webserver",),
        ),
    ]
