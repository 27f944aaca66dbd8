"""A whole platform for the chaos: PostgreSQL, incident.io's stand-in, a code server, Dagster's daemon, each a process that can be killed.

The parts are the sandbox's own, and so is the instance's configuration.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import httpx
import psutil
import yaml
from dagster import DagsterEventType, DagsterInstance, DagsterRunStatus, RunsFilter
from dagster._core.scheduler.instigation import InstigatorState, InstigatorTick, TickStatus
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster_graphql.cli import execute_query

from orchestration.on_call.config import FILE
from sandbox.clock import Clock
from sandbox.config import HOST, REPOSITORY, SandboxConfig
from sandbox.dagster_api import LAUNCH
from sandbox.services import platform, postgres
from sandbox.supervisor import Service, Supervisor
from sandbox.vendors.context import VendorContext
from sandbox.vendors.faults import Faults
from tests import stand_ins
from tests.chaos import names
from tests.chaos.orders import DIRECTORY, Orders

POSTGRES, INCIDENT_IO, CODE_SERVER, DAEMON = "postgres", "incident-io", "code-server", "daemon"
SECOND_SERVER = "second-server"
LOCATION, SECOND_MODULE = "tests.chaos.location", "tests.chaos.second_location"
SECOND_PORT = "dagster"
"""The second code location listens on the port of the webserver, which does not run here."""
RUNS_AT_ONCE = 8
LOOK_SECONDS = 0.5
CALLED_SECONDS = 15.0
ID_TAG = "chaos/launch"
BEAT = "heartbeat:"
"""What the keys of those alerts begin with that incident.io raises by itself."""
TERMINATE = "mutation($run: String!){terminateRun(runId: $run){__typename}}"
SUNDAY_NIGHT = datetime(2026, 11, 22, 3, tzinfo=UTC)
"""Nobody works then, so that whom a page reaches says which route it took."""


@dataclass(frozen=True)
class Alert:
    """An alert as incident.io holds it, of all the events that it has had."""

    key: str
    events: tuple[Mapping[str, Any], ...]
    pages: tuple[Mapping[str, Any], ...]

    @property
    def firing(self) -> list[Mapping[str, Any]]:
        return [event for event in self.events if event["status"] == "firing"]

    @property
    def open(self) -> bool:
        return self.events[-1]["status"] == "firing"

    @property
    def first(self) -> Mapping[str, Any]:
        """The metadata with which it was opened."""
        return self.events[0]["metadata"]

    @property
    def last(self) -> Mapping[str, Any]:
        """The metadata that it has now, or had at its end."""
        return self.firing[-1]["metadata"] if self.firing else self.first

    def lives(self) -> list[list[Mapping[str, Any]]]:
        """The events from each opening to the resolving; more than one where a key was used again."""
        found: list[list[Mapping[str, Any]]] = [[]]
        for event in self.events:
            if found[-1] and found[-1][-1]["status"] == "resolved" and event["status"] == "firing":
                found.append([])
            found[-1].append(event)
        return found

    @property
    def unit(self) -> str:
        return str(self.first["unit"])

    @property
    def assets(self) -> set[str]:
        """Every asset that it was ever about."""
        return {key for event in self.firing for key in event["metadata"].get("assets", ())}

    @property
    def paged_at_once(self) -> bool:
        """An engineer's telephone rang."""
        return any(page["state"] == "sent" for page in self.pages)

    @property
    def paged_later(self) -> bool:
        """The data responder reads of it when the day begins, unless it is over by then."""
        return bool(self.pages) and not self.paged_at_once


class Platform:
    """One sandbox of the chaos' own. `module` is its code location, and `second` that of another one; `monitoring` is what
    Dagster's run monitoring has otherwise than the sandbox's."""

    def __init__(
        self,
        root: Path,
        module: str = LOCATION,
        *,
        second: str | None = None,
        monitoring: Mapping[str, int] | None = None,
        **settings: str | None,
    ) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self._monitoring, self._settings = monitoring or {}, settings
        with _environment({"SANDBOX_DIR": str(root), "SANDBOX_PORTS": "free"}):
            self.config = SandboxConfig.load()
        self._module, self._second = module, second
        self.orders = Orders(root / "chaos")
        self.supervisor = Supervisor(self.config, self._services())
        self._lock = threading.Lock()
        self._instance: DagsterInstance | None = None
        self._workspace: WorkspaceProcessContext | None = None

    @property
    def environment(self) -> dict[str, str]:
        given = platform.platform_environment(self.config) | {
            "SANDBOX_DIR": str(self.config.root),
            DIRECTORY: str(self.config.root / "chaos"),
            # The code location is a module of this repository's tests, and is not installed.
            "PYTHONPATH": str(REPOSITORY),
            **self._settings,
        }
        return {name: value for name, value in given.items() if value is not None}

    def up(self) -> None:
        """Start it, with incident.io's settings as the repository has them."""
        self.prepare()
        Clock(self.config.root).set(SUNDAY_NIGHT)
        for name in (POSTGRES, INCIDENT_IO):
            self.supervisor.start(name)
        self.apply(FILE)
        servers = (CODE_SERVER, *([SECOND_SERVER] if self._second else []))
        with ThreadPoolExecutor(len(servers)) as pool:
            list(pool.map(self.supervisor.start, servers))
        self.supervisor.start(DAEMON)

    def apply(self, on_call: Path) -> None:
        """Make incident.io as a file says, by the command that people use."""
        command = [sys.executable, "-m", "orchestration.cli", "on-call", "apply", "--file", str(on_call)]
        done = subprocess.run(
            command, cwd=REPOSITORY, env=os.environ | self.environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"`dataplatform on-call apply` failed:\n{done.stdout}{done.stderr}")

    def down(self) -> None:
        self._forget_workspace()
        if self._instance:
            self._instance.dispose()
            self._instance = None
        self.supervisor.down(lambda _name: None)

    def prepare(self) -> None:
        home = platform.dagster_home(self.config)
        home.mkdir(parents=True, exist_ok=True)
        instance = yaml.safe_load(Path(platform.__file__).with_name("dagster.yaml").read_text())
        # Some runs hang on purpose, and must not hold up the others: as many as there are at once in any of the tests.
        instance["concurrency"]["runs"]["max_concurrent_runs"] = RUNS_AT_ONCE
        instance["run_monitoring"] |= self._monitoring
        (home / "dagster.yaml").write_text(yaml.safe_dump(instance))
        locations = {platform.LOCATION: "code_server"} | ({names.SECOND_LOCATION: SECOND_PORT} if self._second else {})
        servers = [
            {"grpc_server": {"host": HOST, "port": self.config.port(port), "location_name": name}}
            for name, port in locations.items()
        ]
        (home / "workspace.yaml").write_text(yaml.safe_dump({"load_from": servers}))

    def _services(self) -> list[Service]:
        config, environment = self.config, lambda: self.environment
        server = [
            str(Path(sys.executable).with_name("dagster")), "code-server", "start", "-m", self._module,
            "-h", HOST, "-p", str(config.port("code_server")), "--location-name", platform.LOCATION,
        ]  # fmt: skip
        # This one serves also where its code does not load, and then says why, as a server in a container of its own does.
        second = [
            str(Path(sys.executable).with_name("dagster")), "api", "grpc", "--lazy-load-user-code", "-m", self._second or "",
            "-h", HOST, "-p", str(config.port(SECOND_PORT)), "--location-name", names.SECOND_LOCATION,
        ]  # fmt: skip
        return [
            Service(
                POSTGRES, lambda: postgres.command(config), lambda: postgres.environment(config),
                lambda: postgres.healthy(config), ("postgres",), prepare=lambda: postgres.prepare(config),
            ),
            Service(
                INCIDENT_IO, lambda: [sys.executable, "-m", "sandbox.vendors.server", "incident_io"], environment,
                self._incident_io_answers, ("incident_io",),
            ),
            Service(
                CODE_SERVER, lambda: server, environment, lambda: platform.code_server_healthy(config),
                ("code_server",), after=(POSTGRES, INCIDENT_IO),
            ),
            Service(
                SECOND_SERVER, lambda: second, environment, self._second_server_answers,
                (SECOND_PORT,), after=(POSTGRES, INCIDENT_IO),
            ),
            Service(
                DAEMON, lambda: platform.daemon(config), environment, self._daemon_beats, (), after=(CODE_SERVER,)
            ),
        ]  # fmt: skip

    def _second_server_answers(self) -> None:
        ports = self.config.ports | {"code_server": self.config.port(SECOND_PORT)}
        platform.code_server_healthy(replace(self.config, ports=ports))

    def _incident_io_answers(self) -> None:
        httpx.get(f"{self.config.url('incident_io')}/_inspect/none", timeout=5)

    def _daemon_beats(self) -> None:
        pid = self.supervisor.pid(DAEMON)
        if pid is None:
            raise RuntimeError("the daemon does not run")
        started = psutil.Process(pid).create_time()
        beats = {name: beat.timestamp for name, beat in self.instance.get_daemon_heartbeats().items()}
        late = [name for name in ("SENSOR", "SCHEDULER", "QUEUED_RUN_COORDINATOR") if beats.get(name, 0) < started]
        if late:
            raise RuntimeError(f"no heartbeat yet of {', '.join(late)}")

    # What is broken on purpose

    @property
    def faults(self) -> Faults:
        """incident.io's faults on the wire."""
        return self.vendors.faults

    def kill(self, name: str) -> None:
        """Kill -9 of one process; what it has started itself lives on."""
        pid = self.supervisor.pid(name)
        if pid is not None:
            process = psutil.Process(pid)
            process.kill()
            process.wait(10)

    def start(self, name: str) -> None:
        self.supervisor.start(name)

    def restart(self, name: str) -> None:
        """Kill one process and start it again, as a deployment of other code does."""
        self.kill(name)
        self.start(name)

    # Dagster, as a person with its UI has it

    @property
    def instance(self) -> DagsterInstance:
        with self._lock:
            if self._instance is None:
                with _environment(self.environment):
                    self._instance = DagsterInstance.from_config(str(platform.dagster_home(self.config)))
            return self._instance

    def launch(
        self,
        keys: Sequence[str] = (),
        job: str = "__ASSET_JOB",
        *,
        location: str = platform.LOCATION,
        ops: Sequence[str] = (),
        **tags: str,
    ) -> str:
        """Launch a run of these assets or ops or, with none, of the whole job; return its id. A platform that is out of order is waited for."""
        mark = os.urandom(8).hex()
        params = {
            "selector": {
                "repositoryName": "__repository__",
                "repositoryLocationName": location,
                "pipelineName": job,
                "assetSelection": [{"path": key.split("/")} for key in keys] or None,
                "assetCheckSelection": None,
                "solidSelection": list(ops) or None,
            },
            "mode": "default",
            "runConfigData": {},
            "executionMetadata": {
                "tags": [{"key": key, "value": value} for key, value in (tags | {ID_TAG: mark}).items()]
            },
        }
        deadline = time.monotonic() + 120
        while True:
            try:
                answer = self.graphql(LAUNCH, params=params)["launchPipelineExecution"]
                if answer["__typename"] == "LaunchRunSuccess":
                    return answer["run"]["runId"]
                problem: object = answer
            except Exception as error:
                problem = error
            # What did not answer may have been done.
            with contextlib.suppress(Exception):
                if found := self.instance.get_runs(RunsFilter(tags={ID_TAG: mark}), limit=1):
                    return found[0].run_id
            if time.monotonic() > deadline:
                raise RuntimeError(f"Dagster did not launch the run: {problem}")
            self._forget_workspace()
            time.sleep(1)

    def try_to(self, act: Callable[[], object]) -> None:
        """What a part that is out of order may refuse."""
        with contextlib.suppress(Exception):
            act()

    def cancel(self, run_id: str) -> None:
        self.graphql(TERMINATE, run=run_id)

    def graphql(self, query: str, **variables: object) -> dict[str, Any]:
        answer = execute_query(self._workspace_context(), query, variables)
        if answer.get("errors"):
            raise RuntimeError(f"GraphQL: {answer['errors'][0]['message']}")
        return answer["data"]

    def run(
        self, keys: Sequence[str] = (), job: str = "__ASSET_JOB", seconds: float = 240, **tags: str
    ) -> dg.DagsterRun:
        """Launch a run and wait for its end."""
        return self.ended(self.launch(keys, job, **tags), seconds)

    def ended(self, run_id: str, seconds: float = 240) -> dg.DagsterRun:
        """The run, when it has ended: one that took too long is cancelled first, and most often called a failure then."""
        patience = time.monotonic() + CALLED_SECONDS

        def look() -> dg.DagsterRun | None:
            nonlocal patience
            run = self.status(run_id)
            if run.status != DagsterRunStatus.CANCELED:
                patience = time.monotonic() + CALLED_SECONDS
            elif self.failed(run_id) and time.monotonic() < patience:
                return None
            return run if run.is_finished else None

        return wait_for(look, seconds, f"run {run_id} ends")

    def status(self, run_id: str) -> dg.DagsterRun:
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return run

    def failed(self, run_id: str) -> bool:
        """A run that takes too long is cancelled by Dagster, and called a failure only after that, if at all."""
        run = self.status(run_id)
        if run.status != DagsterRunStatus.CANCELED:
            return run.status == DagsterRunStatus.FAILURE
        cancelled = self.instance.get_records_for_run(run_id, of_type=DagsterEventType.RUN_CANCELING).records
        return any("maximum runtime" in record.event_log_entry.message for record in cancelled)

    def started(self, run_id: str, seconds: float = 120) -> None:
        wait_for(lambda: self.status(run_id).status == DagsterRunStatus.STARTED, seconds, f"run {run_id} starts")

    def _workspace_context(self) -> WorkspaceProcessContext:
        instance = self.instance
        with self._lock:
            if self._workspace is None:
                target = WorkspaceFileTarget([str(platform.dagster_home(self.config) / "workspace.yaml")])
                self._workspace = WorkspaceProcessContext(instance, target)
            return self._workspace

    def _forget_workspace(self) -> None:
        with self._lock:
            old, self._workspace = self._workspace, None
        if old is not None:
            old.__exit__(None, None, None)

    # incident.io

    def alerts(self) -> list[Alert]:
        """Every alert that incident.io holds, in the order in which they were opened."""
        events, pages = self._inspect("events"), self.pages()
        by_key: dict[str, list[Mapping[str, Any]]] = {}
        for event in events:
            by_key.setdefault(event["deduplication_key"], []).append(event)
        return [
            Alert(key, tuple(found), tuple(page for page in pages if page["deduplication_key"] == key))
            for key, found in by_key.items()
        ]

    def alerts_of(self, unit: str) -> list[Alert]:
        return [alert for alert in self.alerts() if alert.unit == unit]

    def pages(self) -> list[dict[str, Any]]:
        """Every page that incident.io has made, the oldest first."""
        return self._inspect("pages")

    @property
    def vendors(self) -> VendorContext:
        """The vendors' shared state, as their emulators have it."""
        return VendorContext.of(self.config)

    def heartbeat(self) -> dict[str, Any]:
        """The platform's heartbeat as incident.io sees it."""
        [beat] = self._inspect("heartbeat")
        return beat

    def incidents(self) -> list[dict[str, Any]]:
        """Every incident that incident.io holds, as its API tells."""
        found: list[dict[str, Any]] = []
        headers, after = {"Authorization": f"Bearer {self.environment['INCIDENT_IO_API_KEY']}"}, {}
        with httpx.Client(base_url=self.config.url("incident_io"), headers=headers, timeout=60) as client:
            while True:
                answer = client.get("/v2/incidents", params={"page_size": 250, **after}).raise_for_status().json()
                found += answer["incidents"]
                if (last := answer["pagination_meta"].get("after")) is None:
                    return found
                after = {"after": last}

    def ticks(self, sensor: str, after: float) -> list[InstigatorTick]:
        """The ticks of a sensor or schedule that have ended, the newest first. `after` is in seconds since the epoch."""
        [state] = [one for one in self.instance.all_instigator_state() if one.instigator_name == sensor]
        return self.ticks_of(state, after)

    def ticks_of(self, state: InstigatorState, after: float) -> list[InstigatorTick]:
        """As `ticks`, where sensors of several code locations have one name."""
        ticks = self.instance.get_ticks(state.instigator_origin_id, state.selector_id, after=after)
        return [tick for tick in ticks if tick.status != TickStatus.STARTED]

    def dropped(self) -> list[dict[str, Any]]:
        """Every event that incident.io has accepted and lost."""
        return self._inspect("dropped")

    def _inspect(self, what: str) -> list[dict[str, Any]]:
        url = f"{self.config.url('incident_io')}/_inspect/{what}"
        with httpx.Client(transport=httpx.HTTPTransport(retries=10), timeout=60) as client:
            return client.get(url).raise_for_status().json()


wait_for = partial(stand_ins.wait_for, every=LOOK_SECONDS)
"""As often as a database and a server may be asked."""


@contextlib.contextmanager
def running(
    root: Path,
    module: str = LOCATION,
    *,
    second: str | None = None,
    monitoring: Mapping[str, int] | None = None,
    **settings: str | None,
) -> Iterator[Platform]:
    """A platform that is up, until the end of the block. A setting that is None is left out."""
    started = Platform(root, module, second=second, monitoring=monitoring, **settings)
    try:
        started.up()
        yield started
    finally:
        started.down()


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """These variables, for as long as something is read that reads the environment."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
