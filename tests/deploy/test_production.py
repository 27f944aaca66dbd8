"""The instance of production, as deploy/dagster.yaml has it: its processes die, and its runs go on.

PostgreSQL is real, Cloud Storage and the Docker engine are stand-ins; the clients of both are the real ones, and so is every Dagster process.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from google.cloud import storage as cloud_storage

from sandbox import dagster_api
from sandbox.config import HOST, PROJECT, REPOSITORY, SandboxConfig
from sandbox.services import platform, postgres, storage
from sandbox.supervisor import Service, Supervisor
from tests.deploy.docker_engine import DockerEngine
from tests.deploy.location import GATE, SAID
from tests.orchestration.processes import python
from tests.stand_ins import wait_for

IMAGE = "registry.example.com/dataplatform:tested"
INSTANCE = REPOSITORY / "deploy" / "dagster.yaml"
RUNS = "{runsOrError{... on Runs{results{runId status tags{key value}}}}}"
LOGS = """
query($key: [String!]!){capturedLogs(logKey: $key){stdout}}
"""
KEYS = """
query($run: ID!){logsForRun(runId: $run){... on EventConnection{events{... on LogsCapturedEvent{fileKey}}}}}
"""


class Production:
    """All of compose.yaml that is Dagster's, but for the containers around it."""

    def __init__(self, root: Path, engine: DockerEngine, config: SandboxConfig, inherited: Mapping[str, str]) -> None:
        self.root, self.engine, self.config, self._inherited = root, engine, config, inherited
        self.supervisor = Supervisor(config, self._services())

    @property
    def gate(self) -> Path:
        return Path(self._inherited[GATE])

    def up(self) -> None:
        home = platform.dagster_home(self.config)
        home.mkdir(parents=True)
        shutil.copy(INSTANCE, home / "dagster.yaml")
        server = f"{{host: {HOST}, port: {self.config.port('code_server')}, location_name: {platform.LOCATION}}}"
        (home / "workspace.yaml").write_text(f"load_from:\n  - grpc_server: {server}\n")
        self.supervisor.up(lambda _done: None)

    def down(self) -> None:
        self.engine.close()
        self.kill("daemon", "webserver", "code-location", "storage", "postgres")

    def kill(self, *names: str) -> None:
        """Kill -9, of a service and of all that it has started: a container's death is that of every process in it."""
        for name in names:
            self.supervisor.stop(name, kill=True)

    def start(self, *names: str) -> None:
        for name in names:
            self.supervisor.start(name)

    def launch(self, job: str) -> str:
        return dagster_api.launch(self.config, job=job)

    def run(self, run_id: str) -> dict[str, Any]:
        """Its status, and its tags by key."""
        [found] = [
            run for run in platform.graphql(self.config, RUNS)["runsOrError"]["results"] if run["runId"] == run_id
        ]
        return {"status": found["status"], **{tag["key"]: tag["value"] for tag in found["tags"]}}

    def becomes(self, run_id: str, *statuses: str, seconds: float = 120) -> str:
        def look() -> str | None:
            status = self.run(run_id)["status"]
            return status if status in statuses else None

        return wait_for(look, seconds, f"run {run_id} is {' or '.join(statuses)}")

    def stdout(self, run_id: str) -> str:
        """What the UI shows of a run's output."""
        events = platform.graphql(self.config, KEYS, {"run": run_id})["logsForRun"]["events"]
        [step] = [event["fileKey"] for event in events if event.get("fileKey")]
        return platform.graphql(self.config, LOGS, {"key": [run_id, "compute_logs", step]})["capturedLogs"]["stdout"]

    def _services(self) -> list[Service]:
        config = self.config
        return [
            Service(
                "postgres", partial(postgres.command, config), partial(postgres.environment, config),
                partial(postgres.healthy, config), ("postgres",), prepare=partial(postgres.prepare, config),
            ),
            Service(
                "storage", partial(storage.command, config), partial(storage.environment, config),
                partial(storage.healthy, config), ("storage",), prepare=partial(storage.prepare, config),
            ),
            Service(
                "code-location", self._code_location, lambda: {**self._of_instance(), "DAGSTER_CURRENT_IMAGE": IMAGE},
                partial(platform.code_server_healthy, config), ("code_server",), after=("postgres", "storage"),
            ),
            Service(
                "webserver", partial(platform.webserver, config), self._of_controller,
                partial(platform.webserver_healthy, config), ("dagster",), after=("code-location",),
            ),
            Service(
                # That a run is taken from the queue says that it works, and sooner than its heartbeats do.
                "daemon", partial(platform.daemon, config), self._of_controller, lambda: None, (), after=("webserver",),
            ),
        ]  # fmt: skip

    def _code_location(self) -> list[str]:
        return [
            str(Path(sys.executable).with_name("dagster")), "code-server", "start", "-m", "tests.deploy.location",
            "-h", HOST, "-p", str(self.config.port("code_server")), "--location-name", platform.LOCATION,
        ]  # fmt: skip

    def _of_instance(self) -> dict[str, str]:
        return {
            **self._inherited,
            "DAGSTER_HOME": str(platform.dagster_home(self.config)),
            "DAGSTER_POSTGRES_URL": postgres.dsn(self.config, postgres.DAGSTER).replace(
                "postgresql:", "postgresql+psycopg2:"
            ),
            "DAGSTER_COMPUTE_LOGS_BUCKET": storage.BUCKET,
            "DATAPLATFORM_STATE_BUCKET": storage.BUCKET,
        }

    def _of_controller(self) -> dict[str, str]:
        return {**self._of_instance(), "DOCKER_HOST": self.engine.url}


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    root = tmp_path_factory.mktemp("production")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SANDBOX_DIR", str(root))
        patch.setenv("SANDBOX_PORTS", "free")
        config = SandboxConfig.load()
    # What an image has, and what its machine gives it: where Google is, and who one is there.
    image = {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "HOME": str(root),
        "PYTHONPATH": str(REPOSITORY),
        "PYTHONWARNINGS": "ignore",
        "DAGSTER_HOME": str(platform.dagster_home(config)),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "STORAGE_EMULATOR_HOST": config.url("storage"),
        "GOOGLE_CLOUD_PROJECT": PROJECT,
        # Google's client would look for a machine's identity for nine seconds; the stand-in asks for none.
        "NO_GCE_CHECK": "true",
        GATE: str(root / "gate"),
    }
    engine = DockerEngine(IMAGE, "dataplatform", image, root)
    running = Production(root, engine, config, image)
    try:
        running.up()
        yield running
    finally:
        running.down()


@pytest.mark.long
def test_runs_in_containers_and_the_queue_outlive_webserver_daemon_and_code_location(production: Production) -> None:
    waiting = production.launch("wait")
    production.becomes(waiting, "STARTED")
    production.kill("daemon", "webserver", "code-location")
    production.start("code-location", "webserver")
    queued = production.launch("speak")
    time.sleep(3)
    assert production.run(queued)["status"] == "QUEUED", "nobody takes it while the daemon is dead"
    production.start("daemon")
    assert production.becomes(queued, "SUCCESS", "FAILURE") == "SUCCESS"
    assert production.run(waiting)["status"] == "STARTED"
    production.gate.touch()

    tags = production.run(queued)
    assert tags["dagster/image"] == IMAGE
    wanted = production.engine.containers[tags["docker/container_id"]].wanted
    launcher = yaml.safe_load(INSTANCE.read_text())["run_launcher"]["config"]
    assert wanted["HostConfig"]["Binds"] == launcher["container_kwargs"]["volumes"]
    assert wanted["HostConfig"]["Memory"] == 2 * 2**30
    assert wanted["Healthcheck"]["Test"] == ["NONE"], "else the image's, of a code server"
    assert {pair.split("=")[0] for pair in wanted["Env"]} == {*launcher["env_vars"], "DAGSTER_RUN_JOB_NAME"}
    assert SAID in production.stdout(queued)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", production.config.url("storage"))
        blobs = cloud_storage.Client(project=PROJECT).list_blobs(
            storage.BUCKET, prefix=f"compute-logs/storage/{queued}"
        )
        assert [blob for blob in blobs if SAID in blob.download_as_text()]

    assert production.becomes(waiting, "SUCCESS", "FAILURE") == "SUCCESS"


@pytest.mark.long
def test_a_pod_of_the_code_location_has_the_instance_by_the_storages_address_alone(production: Production) -> None:
    """What docs/production.md has of Kubernetes: its chart mounts the instance into every pod but this one."""
    bare = {"DAGSTER_HOME": production._of_instance()["DAGSTER_HOME"]}
    mutes = ("-m", "orchestration.cli", "incidents", "mutes")
    without = python(production.root, bare, *mutes)
    assert (without.returncode, "DAGSTER_POSTGRES_URL" in without.stdout + without.stderr) == (1, True), without
    address = bare | {"DAGSTER_POSTGRES_URL": production._of_instance()["DAGSTER_POSTGRES_URL"]}
    given = python(production.root, address, *mutes)
    assert given.returncode == 0, given.stdout + given.stderr
    pools = python(production.root, address, "-m", "dagster", "instance", "concurrency", "set", "hightouch", "2")
    assert pools.returncode == 0, pools.stdout + pools.stderr


@pytest.mark.long
def test_a_container_that_dies_is_noticed_and_a_run_that_is_cancelled_ends(production: Production) -> None:
    production.gate.unlink(missing_ok=True)
    dying, cancelled = production.launch("wait"), production.launch("wait")
    for run_id in (dying, cancelled):
        production.becomes(run_id, "STARTED")
    container = production.engine.containers[production.run(dying)["docker/container_id"]]
    assert container.process is not None
    os.killpg(container.process.pid, 9)
    stop = "mutation($run: String!){terminateRun(runId: $run){__typename}}"
    platform.graphql(production.config, stop, {"run": cancelled})
    assert production.becomes(cancelled, "CANCELED", "FAILURE") == "CANCELED"
    assert production.becomes(dying, "FAILURE", "SUCCESS") == "FAILURE"


@pytest.mark.long
def test_the_daemon_takes_the_queue_up_when_it_is_killed_in_the_middle(production: Production) -> None:
    production.gate.touch()
    runs = [production.launch("speak") for _ in range(4)]
    production.kill("daemon")
    production.start("daemon")
    for run_id in runs:
        assert production.becomes(run_id, "SUCCESS", "FAILURE") == "SUCCESS"


@pytest.mark.long
def test_who_may_only_look_can_look_and_launches_nothing(production: Production) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SANDBOX_DIR", str(production.root / "viewer"))
        patch.setenv("SANDBOX_PORTS", "free")
        viewer = SandboxConfig.load()
    command = [
        str(Path(sys.executable).with_name("dagster-webserver")), "--read-only", "-h", HOST,
        "-p", str(viewer.port("dagster")), "-w", str(platform.dagster_home(production.config) / "workspace.yaml"),
    ]  # fmt: skip
    process = subprocess.Popen(command, env={**os.environ, **production._of_instance()}, start_new_session=True)
    try:
        answers: Callable[[], object] = partial(_or_none, partial(platform.webserver_healthy, viewer))
        wait_for(answers, 90, "the read-only webserver answers")
        assert platform.graphql(viewer, RUNS)["runsOrError"]["results"]
        with pytest.raises(RuntimeError, match=r"(?i)unauthorized|permission"):
            dagster_api.launch(viewer, job="speak")
    finally:
        for child in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
            child.kill()
        process.wait(10)


def _or_none(look: Callable[[], object]) -> object:
    try:
        look()
    except Exception:
        return None
    return True
