"""The supervisor against real processes: a small HTTP server that can be slow, die at the start, or be killed."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from sandbox.config import HOST, ConfigurationError, SandboxConfig
from sandbox.env_file import environment
from sandbox.supervisor import Service, ServiceError, Started, Supervisor


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SandboxConfig:
    monkeypatch.setenv("SANDBOX_DIR", str(tmp_path))
    monkeypatch.setenv("SANDBOX_PORTS", "free")
    return SandboxConfig.load()


def server(config: SandboxConfig, name: str = "web", port: str = "control", **changes) -> Service:
    def healthy() -> None:
        connection = http.client.HTTPConnection(HOST, config.port(port), timeout=1)
        connection.request("HEAD", "/")
        connection.getresponse()

    number = str(config.port(port))
    fields = {
        "command": lambda: [sys.executable, "-m", "http.server", number, "--bind", HOST],
        "environment": dict,
        "healthy": healthy,
        "ports": (port,),
    }
    return Service(name, **(fields | changes))


@pytest.fixture
def supervise(config: SandboxConfig):
    made: list[Supervisor] = []

    def make(*services: Service) -> Supervisor:
        made.append(Supervisor(config, list(services)))
        return made[-1]

    yield make
    for supervisor in made:
        supervisor.down(lambda _name: None)


def test_up_starts_once_and_down_stops_all(config, supervise):
    supervisor = supervise(server(config))
    seen: list[Started] = []
    supervisor.up(seen.append)
    pid = supervisor.pid("web")
    supervisor.up(seen.append)

    assert [done.state for done in seen] == ["started", "already running"]
    assert supervisor.pid("web") == pid
    assert supervisor.status() == {"web": "healthy"}
    # Where Dagster looks for a `.env`, which would win over what the sandbox gives it.
    assert psutil.Process(pid).cwd() == str(config.root)

    supervisor.down(lambda _name: None)
    assert pid is not None
    assert not psutil.pid_exists(pid)
    assert supervisor.status() == {"web": "stopped"}


def test_a_killed_service_is_started_again(config, supervise):
    supervisor = supervise(server(config))
    supervisor.up(lambda _done: None)
    first = supervisor.pid("web")
    assert first is not None
    os.kill(first, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(first)] if psutil.pid_exists(first) else [], timeout=5)
    supervisor.up(lambda _done: None)
    assert supervisor.pid("web") not in {None, first}


def test_what_a_service_starts_itself_ends_with_it(config, supervise):
    number = str(config.port("control"))
    parent = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-m', 'http.server', '{number}', '--bind', '{HOST}'])"
    )
    supervisor = supervise(server(config, command=lambda: [sys.executable, "-c", parent]))
    supervisor.up(lambda _done: None)
    supervisor.stop("web")
    with socket.socket() as probe:
        assert probe.connect_ex((HOST, config.port("control"))) != 0


def test_a_service_that_dies_is_reported_with_the_end_of_its_log(config, supervise):
    failing = server(config, command=lambda: [sys.executable, "-c", "raise SystemExit('no such warehouse')"])
    with pytest.raises(ServiceError, match=r"(?s)web ended with status 1.*no such warehouse"):
        supervise(failing).up(lambda _done: None)


@pytest.mark.parametrize("listens", [True, False])
def test_a_port_held_by_another_program_is_named_with_the_remedy(config, supervise, listens):
    with socket.socket() as holder:
        holder.bind((HOST, config.port("control")))
        if listens:
            holder.listen()
        with pytest.raises(ServiceError, match=rf"port {config.port('control')}.*SANDBOX_PORT_CONTROL"):
            supervise(server(config)).up(lambda _done: None)


def test_a_service_waits_for_the_ones_that_it_needs(config, supervise):
    begun: dict[str, float] = {}

    def noted(name: str):
        return lambda: begun.setdefault(name, time.monotonic())

    first = server(config, "first", "slack", prepare=noted("first"))
    second = server(config, "second", "control", prepare=noted("second"), after=("first",))
    healthy: dict[str, float] = {}
    supervise(second, first).up(lambda done: healthy.setdefault(done.name, time.monotonic()))
    assert begun["second"] >= healthy["first"] - 0.05


def test_a_port_that_is_no_number_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("SANDBOX_DIR", str(tmp_path))
    monkeypatch.setenv("SANDBOX_PORT_STORAGE", "many")
    with pytest.raises(ConfigurationError, match="SANDBOX_PORT_STORAGE='many'"):
        SandboxConfig.load()


def test_free_ports_are_distinct_and_no_outgoing_connections(config, monkeypatch, tmp_path):
    """The system of this test leaves 10 000 to 10 019 to servers: as many as there are services, and a few."""
    outgoing = tmp_path / "ip_local_port_range"
    outgoing.write_text("10020\t65535\n")
    monkeypatch.setattr("sandbox.config.OUTGOING_PORTS", outgoing)
    monkeypatch.setenv("SANDBOX_DIR", str(tmp_path / "another"))
    ports = SandboxConfig.load().ports
    assert len(set(ports.values())) == len(ports) == len(config.ports)
    assert set(ports.values()) <= set(range(10_000, 10_020))


def test_ports_stay_the_same_once_chosen(config):
    assert SandboxConfig.load().ports == config.ports


def test_reset_deletes_what_the_sandbox_holds_once_somebody_has_agreed(tmp_path: Path) -> None:
    root = tmp_path / "sandbox"
    (root / "storage").mkdir(parents=True)
    command = [str(Path(sys.executable).with_name("sandbox")), "reset"]
    environment = os.environ | {"SANDBOX_DIR": str(root), "SANDBOX_PORTS": "free"}
    refused = subprocess.run(command, env=environment, input="n\n", capture_output=True, text=True)
    assert (refused.returncode, root.exists()) == (1, True)
    subprocess.run([*command, "--yes"], env=environment, check=True, capture_output=True)
    assert not root.exists()


def test_location_and_raw_project_are_fixed_at_first_use(
    config: SandboxConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIGQUERY_LOCATION", "EU")
    with pytest.raises(ConfigurationError, match="BIGQUERY_LOCATION is 'EU', and this sandbox was started with 'US'"):
        SandboxConfig.load()
    monkeypatch.setenv("SANDBOX_DIR", str(config.root / "european"))
    monkeypatch.setenv("BIGQUERY_RAW_PROJECT", "acme-sources")
    first = SandboxConfig.load()
    for name in ("BIGQUERY_LOCATION", "BIGQUERY_RAW_PROJECT"):
        monkeypatch.delenv(name)
    assert SandboxConfig.load() == first
    assert (first.location, first.raw_project) == ("EU", "acme-sources")
    variables = environment(first)
    assert (variables["BIGQUERY_LOCATION"], variables["BIGQUERY_RAW_PROJECT"]) == ("EU", "acme-sources")
