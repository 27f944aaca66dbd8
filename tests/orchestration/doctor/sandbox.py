"""A sandbox for the doctor: every vendor's stand-in, warehouse and bucket, mail server and Dagster's webserver, all as real processes."""

from __future__ import annotations

import contextlib
import http.server
import json
import subprocess
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import dagster as dg
import httpx
import pytest
import uvicorn
from dagster._daemon.types import DaemonHeartbeat
from google.cloud import bigquery

from orchestration.components.dbt_files import TARGET
from orchestration.components.saved_state import Stamped
from orchestration.doctor.state_checks import STATES
from sandbox.config import HOST, PROJECT, SandboxConfig
from sandbox.env_file import environment
from sandbox.services.bigquery import client
from sandbox.services.storage import BUCKET
from sandbox.stack import stack
from sandbox.vendors.context import VendorContext
from tests.mail_server import Mailbox, mail_server
from tests.on_call import OnCall, running
from tests.orchestration.processes import python

SERVED = ("fivetran", "hightouch", "omni", "explo", "hex", "incident_io", "slack")
LANDED, BUILT = ("product_public", "salesforce"), ("core", "insights")
SECONDS = "6"
LOGIN = ("dataplatform", "local-mail-password")


@dataclass
class Doctors:
    """Where the doctor is called to. `variables` are its environment; tests change copies of them."""

    config: SandboxConfig
    on_call: OnCall
    variables: Mapping[str, str]
    home: Path = field(init=False)

    def __post_init__(self) -> None:
        self.home = Path(self.variables["DATAPLATFORM_STATE_DIR"])

    def look(self, *arguments: str, **changed: str | None) -> subprocess.CompletedProcess[str]:
        """`dataplatform doctor` as somebody types it; a variable that is None is not set."""
        given = {name: value for name, value in (self.variables | changed).items() if value is not None}
        return python(self.config.root, given, "-m", "orchestration.cli", "doctor", "--timeout", SECONDS, *arguments)

    def api(self) -> httpx.Client:
        headers = {"Authorization": "Bearer local-incident_io-key"}
        return httpx.Client(base_url=self.config.url("incident_io"), headers=headers, timeout=20)

    @property
    def faults(self):
        return VendorContext.of(self.config).faults

    @property
    def warehouse(self) -> bigquery.Client:
        return client(self.config)

    def furnish(self, *, anew: bool = True) -> None:
        """Everything as it should be; `anew`, after a test."""
        if anew:
            self.faults.remove()
            self.on_call.configure()
        for dataset in (*LANDED, *BUILT):
            self.warehouse.create_dataset(dataset, exists_ok=True)
        for name in STATES:
            self.save(name, datetime.now(UTC))
        beat(self.config.root / "dagster", datetime.now(UTC))
        self.parsed(version("dbt-core"))

    def publish(self) -> None:
        """Let dbt's manifest be that of a deploy."""
        variables = self.variables | {"DATAPLATFORM_STATE_DIR": str(self.home), "DATAPLATFORM_COMMIT": "0123456789ab"}
        done = python(self.home, variables, "-m", "orchestration.cli", "dbt", "publish")
        assert done.returncode == 0, done.stderr

    def save(self, name: str, read_at: datetime) -> None:
        state: Any = {}
        if name == "landed.json":
            state = {dataset: {"t": {"id": "INTEGER"}} for dataset in LANDED}
        elif name == "hightouch.json":  # a sync that settings in defs/ name
            state = {"syncs": [{"slug": "slack_weekly_support_load"}]}
        (self.home / name).write_text(Stamped(read_at=read_at, source="a test", state=state).model_dump_json())

    def parsed(self, dbt: str, raw: str = PROJECT, more: Mapping[str, Any] = MappingProxyType({})) -> None:
        """Let dbt's manifest be one that this version of dbt has made, with the sources in this project.

        `more` has further sources and nodes.
        """
        (self.home / "dbt").mkdir(exist_ok=True)
        made = manifest(dbt, raw)
        for part in ("sources", "nodes"):
            made[part] |= more.get(part, {})
        (self.home / "dbt" / "manifest.json").write_text(json.dumps(made))


def manifest(dbt: str, raw: str) -> dict[str, Any]:
    return {
        "metadata": {"dbt_version": dbt, "adapter_type": "bigquery", "env": {TARGET: "prod"}},
        "sources": {
            f"source.p.{name}": {
                "resource_type": "source",
                "name": "t",
                "original_file_path": f"models/_{name}.yml",
                "database": raw,
                "schema": name,
                "identifier": "t",
                "source_name": name,
                "columns": {"id": {"data_type": "int64"}},
            }
            for name in LANDED
        },
        "macros": {},
        "nodes": {
            f"model.p.{name}": {
                "resource_type": "model",
                "package_name": "p",
                "original_file_path": f"models/{name}.sql",
                "name": name,
                "database": PROJECT,
                "schema": name,
                "raw_code": "select 1 as one",
                "depends_on": {"nodes": [], "macros": []},
                "config": {"materialized": "table", "schema": name},
            }
            for name in BUILT
        },
    }


@contextlib.contextmanager
def doctors(root: Path) -> Iterator[Doctors]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SANDBOX_DIR", str(root))
        patch.setenv("SANDBOX_PORTS", "free")
        config = SandboxConfig.load()
    supervisor = stack(config, only=("warehouse", "storage"))
    box = Mailbox(login=LOGIN)
    with contextlib.ExitStack() as stopping:
        stopping.callback(supervisor.down, lambda _name: None)
        stopping.enter_context(webserver(config, root / "dagster"))
        stopping.enter_context(mail_server(box))
        # Beside each other, since they wait for most of their start.
        with ThreadPoolExecutor(1) as pool:
            up = pool.submit(supervisor.up, lambda _done: None)
            on_call = stopping.enter_context(running(root, *SERVED))
            up.result()
        mail = {
            "SMTP_HOST": HOST,
            "SMTP_PORT": str(box.port),
            "SMTP_SECURITY": "none",
            "SMTP_USER": LOGIN[0],
            "SMTP_PASSWORD": LOGIN[1],
        }
        addresses = {"ALERT_MAIL_FROM": "dagster@example.com", "ALERT_MAIL_TO": "ada@example.com"}
        state = root / "state"
        state.mkdir()
        buckets = {"DATAPLATFORM_STATE_BUCKET": BUCKET, "DAGSTER_COMPUTE_LOGS_BUCKET": BUCKET}
        made = Doctors(config, on_call, environment(config) | mail | addresses | buckets)
        made.furnish(anew=False)
        made.publish()
        made.warehouse.load_table_from_json([{"id": 1}], f"{PROJECT}.{LANDED[0]}.t").result()
        yield made


@contextlib.contextmanager
def webserver(config: SandboxConfig, home: Path) -> Iterator[None]:
    """Dagster's own webserver over an empty code location, and an instance whose daemons have just beaten; in this process, which has
    its imports already."""
    from dagster._core.remote_origin import InProcessCodeLocationOrigin
    from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
    from dagster_webserver.app import create_app_from_workspace_process_context

    home.mkdir()
    location = home / "location.py"
    location.write_text(
        "import dagster as dg\n\n"
        "@dg.sensor(job_name='j', default_status=dg.DefaultSensorStatus.RUNNING)\n"
        "def incident_alerts(): ...\n\n@dg.job\ndef j(): ...\n\ndefs = dg.Definitions(sensors=[incident_alerts], jobs=[j])\n"
    )
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    origin = InProcessCodeLocationOrigin(LoadableTargetOrigin(python_file=str(location)), location_name="orchestration")
    with (
        dg.DagsterInstance.from_config(str(home)) as instance,
        WorkspaceProcessContext(instance, InProcessWorkspaceLoadTarget([origin])) as workspace,
    ):
        app = create_app_from_workspace_process_context(workspace)
        server = uvicorn.Server(
            uvicorn.Config(app, host=HOST, port=config.port("dagster"), log_level="warning", lifespan="off")
        )
        serving = threading.Thread(target=server.run, daemon=True)
        serving.start()
        try:
            yield
        finally:
            server.should_exit = True
            serving.join(timeout=20)


def beat(home: Path, at: datetime) -> None:
    """Let every daemon have beaten last at this time."""
    with dg.DagsterInstance.from_config(str(home)) as instance:
        for kind in instance.get_required_daemon_types():
            instance.add_daemon_heartbeat(DaemonHeartbeat(at.timestamp(), kind, "one", []))


@contextlib.contextmanager
def another_clock(url: str, off: timedelta) -> Iterator[str]:
    """The address of a proxy before a vendor, whose clock differs from this machine's by `off`."""

    class Proxy(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            headers = {name: self.headers[name] for name in ("Authorization",) if name in self.headers}
            answer = httpx.get(url + self.path, headers=headers, timeout=20)
            self.send_response_only(answer.status_code)
            self.send_header("Date", format_datetime(datetime.now(UTC) + off, usegmt=True))
            self.send_header("Content-Type", answer.headers["content-type"])
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, *_arguments: Any) -> None:
            """Nobody reads it."""

    with http.server.ThreadingHTTPServer((HOST, 0), Proxy) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield f"http://{HOST}:{server.server_port}"
        finally:
            server.shutdown()
