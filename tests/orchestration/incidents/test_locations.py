"""Code locations as real code servers describe them, at the addresses of a workspace file or of Dagster's storage."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import (
    GrpcServerCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, SensorInstigatorData
from dagster._grpc.client import DagsterGrpcClient

from orchestration.incidents import alerter, locations, store
from orchestration.incidents.locations import Reader, Workspace
from orchestration.incidents.sensor import incident_alerts
from orchestration.incidents.state import State
from orchestration.lineage.graph import AUDIENCE_TAG, Consumer
from tests.stand_ins import wait_for

MODULE = "tests.orchestration.incidents.other_location"
ROOT = Path(__file__).parents[3]
STARTS_SECONDS = 240.0


@dg.asset(key=["shared", "table"], owners=["own@example.com"])
def table() -> None: ...


OWN = dg.Definitions(
    [table, dg.AssetSpec(["omni", "own"], deps=[["other", "model"]], tags={AUDIENCE_TAG: "internal"})]
).get_repository_def()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@dataclass
class Server:
    """A code server of the second code location, in a process of its own."""

    name: str
    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def origin(self) -> GrpcServerCodeLocationOrigin:
        return GrpcServerCodeLocationOrigin("127.0.0.1", self.port, None, self.name)

    def start(self, *lacks: str) -> None:
        file = self.folder / f"{self.name}.json"
        file.write_text(json.dumps(lacks))
        command = [
            str(Path(sys.executable).with_name("dagster")), "api", "grpc", "-m", MODULE, "-h", "127.0.0.1",
            "-p", str(self.port), "--location-name", self.name, "--lazy-load-user-code",
        ]  # fmt: skip
        variables = {"OTHER_LOCATION": str(file), "PYTHONPATH": str(ROOT), "DAGSTER_DISABLE_TELEMETRY": "1"}
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | variables, start_new_session=True, stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        wait_for(self._answers, STARTS_SECONDS, f"{self.name} answers")

    def _answers(self) -> bool:
        try:
            DagsterGrpcClient(port=self.port, host="127.0.0.1").list_repositories()
        except Exception:
            return False
        return True

    def stop(self) -> None:
        if self.process:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    found = tuple(Server(name, tmp_path_factory.mktemp(name)) for name in ("other", "third"))
    try:
        found[0].start()
        found[1].start("model", "daily", "rows", "watch", "consumer")
        yield found[0], found[1]
    finally:
        for one in found:
            one.stop()


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setattr(locations, "CHECK_SECONDS", 0.0)
    with dg.instance_for_test(temp_dir=str(tmp_path)) as made:
        yield made


def list_in_file(instance: dg.DagsterInstance, *servers: Server) -> None:
    entries = [{"grpc_server": {"host": "127.0.0.1", "port": one.port, "location_name": one.name}} for one in servers]
    (Path(instance.root_directory) / "workspace.yaml").write_text(yaml.safe_dump({"load_from": entries}))


def seen_in_storage(instance: dg.DagsterInstance, server: Server) -> None:
    repository = RemoteRepositoryOrigin(server.origin, "__repository__")
    state = InstigatorState(
        RemoteInstigatorOrigin(repository, "watch"), InstigatorType.SENSOR, InstigatorStatus.RUNNING, SensorInstigatorData()
    )  # fmt: skip
    instance.add_instigator_state(state)


def read(reader: Reader, instance: dg.DagsterInstance, until: str = "") -> Workspace:
    """Read until a code location is known, as the next ticks do."""
    found = reader.read(instance, OWN)
    for _try in range(60):
        if not until or (until in found.locations and until not in found.unread):
            break
        time.sleep(0.5)
        found = reader.read(instance, OWN)
    return found


@pytest.mark.parametrize("known_by", ["file", "storage"])
def test_a_failure_is_judged_by_the_graphs_of_all_code_locations(
    instance: dg.DagsterInstance, servers: tuple[Server, Server], known_by: str
) -> None:
    other, third = servers
    if known_by == "file":
        list_in_file(instance, other, third)
    else:
        seen_in_storage(instance, other)
    found = read(Reader(), instance, until="other")
    assert found.graph.blast_radius(["shared/table"]) == [
        Consumer("explo/other", "customer"),
        Consumer("omni/own", "internal"),
    ]
    assert found.graph.owners(["other/model", "shared/table"]) == ["other@example.com", "own@example.com"]
    assert found.graph.is_known("other/model")
    assert not found.graph.is_known("nowhere/table")
    assert found.locations["other"].checks == {"check:other/model:rows"}
    assert found.locations["other"].instigators == {("__repository__", "watch")}
    assert "nightly" in found.locations["other"].jobs
    assert set(found.locations["other"].partitions) == {"other/daily"}
    assert "other__model" in found.locations["other"].steps


def test_a_code_location_that_does_not_answer_costs_no_time_and_is_named(
    instance: dg.DagsterInstance, servers: tuple[Server, Server]
) -> None:
    with socket.socket() as hangs:
        # It accepts connections, and never says a word.
        hangs.bind(("127.0.0.1", 0))
        hangs.listen()
        silent = Server("silent", Path(), hangs.getsockname()[1])
        list_in_file(instance, servers[0], silent, Server("down", Path()))
        reader = Reader()
        read(reader, instance, until="other")
        began = time.monotonic()
        found = reader.read(instance, OWN)
        for _tick in range(2):
            found = reader.read(instance, OWN)
        assert time.monotonic() - began < 3 * (locations.WAIT_SECONDS + 1)
    assert set(found.unread) == {"silent", "down"}
    assert not found.is_complete
    assert found.graph.is_known("other/model")
    assert any("consumers in the code location `down`: " in one for one in found.graph.problems)
    # What the workspace file does not list, and does not answer, is gone.
    list_in_file(instance, servers[0])
    seen_in_storage(instance, Server("down", Path()))
    assert read(reader, instance, until="other").is_complete


def test_a_reloaded_code_location_is_read_again_and_one_that_does_not_load_keeps_its_graph(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    server, reader = Server("other", tmp_path), Reader()
    list_in_file(instance, server)
    try:
        server.start()
        assert read(reader, instance, until="other").graph.is_known("other/model")
        server.stop()
        server.start("code")

        def broken() -> bool:
            return "does not load" in reader.read(instance, OWN).unread.get("other", "")

        wait_for(broken, 60, "the error of its code is read")
        found = reader.read(instance, OWN)
        assert found.graph.is_known("other/model")
        assert not found.is_complete
        server.stop()
        server.start("model")
        wait_for(lambda: not reader.read(instance, OWN).graph.is_known("other/model"), 60, "the new graph is read")
        assert reader.read(instance, OWN).is_complete
    finally:
        server.stop()


@pytest.mark.parametrize("text", ["load_from: 7", "{", "load_from: [{python_module: x}]"])
def test_a_workspace_file_that_cannot_be_read_or_asked_stops_nothing(instance: dg.DagsterInstance, text: str) -> None:
    (Path(instance.root_directory) / "workspace.yaml").write_text(text)
    found = Reader().read(instance, OWN)
    assert found.graph.is_known("shared/table")
    assert found.unread
    assert not found.is_complete


def test_an_alert_sensor_does_nothing_while_another_code_location_sends_the_alerts(
    instance: dg.DagsterInstance,
) -> None:
    alerter.claim_lease(instance, "other", time.time())
    store.save(instance, store.load(instance, None), State(handled={"run:1": 1.0}))
    context = dg.build_sensor_context(instance, definitions=dg.Definitions([table], sensors=[incident_alerts]))
    result = incident_alerts.evaluate_tick(context)
    assert "The code location other sends the alerts, so orchestration does not" in (result.skip_message or "")
    # A code location that has no cursor yet leaves the other's state as it is.
    assert store.read_part(instance, "handled") == {"run:1": 1.0}
