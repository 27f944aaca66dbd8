"""The vendor stand-ins as the tests use them: a real server process, spoken to over HTTP."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx
import psycopg
from google.cloud import bigquery

from sandbox.config import PROJECT, SandboxConfig
from sandbox.env_file import environment
from sandbox.services import postgres
from sandbox.vendors.context import VendorContext
from sandbox.vendors.faults import Faults

SERVED = ("fivetran", "hightouch", "salesforce", "stripe", "zendesk", "segment", "hex", "explo", "omni")


@dataclass
class Vendors:
    """A sandbox with its product database, warehouse and the stand-ins that move rows between them."""

    config: SandboxConfig
    process: subprocess.Popen[bytes] | None = None
    clients: dict[str, httpx.Client] = field(default_factory=dict)

    def start(self) -> None:
        """Start the server process and wait until every vendor answers."""
        command = [sys.executable, "-m", "sandbox.vendors.server", *SERVED]
        self.process = subprocess.Popen(command, env=os.environ | environment(self.config) | self._sandbox())
        for vendor in SERVED:
            wait_for(lambda vendor=vendor: self.listens(vendor), 60, f"{vendor} listens")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End the server process by a signal and return its exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(timeout=20)
        for client in self.clients.values():
            client.close()
        self.clients.clear()
        return status

    def listens(self, vendor: str) -> bool:
        try:
            httpx.get(f"{self.config.url(vendor)}/_inspect/none", timeout=5)
        except httpx.TransportError:
            return False
        return True

    @property
    def fivetran(self) -> httpx.Client:
        return self._client("fivetran", auth=("local-fivetran-key", "local-fivetran-secret"))

    @property
    def hightouch(self) -> httpx.Client:
        return self._client("hightouch", headers={"Authorization": "Bearer local-hightouch-key"})

    @property
    def salesforce(self) -> httpx.Client:
        return self._client("salesforce", headers={"Authorization": "Bearer local-salesforce-token"})

    @property
    def segment(self) -> httpx.Client:
        """Without a write key: what needs one gives it with the call."""
        return self._client("segment")

    @property
    def stripe(self) -> httpx.Client:
        return self._client("stripe", headers={"Authorization": "Bearer rk_test_local_stripe"})

    @property
    def zendesk(self) -> httpx.Client:
        return self._client("zendesk", auth=("fivetran@example.com/token", "local-zendesk-token"))

    @property
    def hex(self) -> httpx.Client:
        return self._client("hex", headers={"Authorization": "Bearer local-hex-token"})

    @property
    def explo(self) -> httpx.Client:
        return self._client("explo", headers={"Explo-Authorization": "Token local-explo-token"})

    @property
    def omni(self) -> httpx.Client:
        return self._client("omni", headers={"Authorization": "Bearer local-omni-key"})

    @property
    def faults(self) -> Faults:
        """The switches, reached as the command line does: by the state file that the processes share."""
        return VendorContext.of(self.config).faults

    def asked(self, vendor: str, end: str) -> list[str]:
        """The ids in the requests `…/<id>/<end>` that have reached the vendor since its server started, oldest first."""
        return [request.split("/")[-2] for request in self.requests(vendor) if request.endswith(f"/{end}")]

    def requests(self, vendor: str) -> list[str]:
        """The requests that have reached the vendor since its server started, as `GET /path`, oldest first."""
        return httpx.get(f"{self.config.url(vendor)}/_inspect/requests", timeout=30).raise_for_status().json()

    def sync(self, connection: str) -> dict[str, Any]:
        """Sync a Fivetran connection; return its record in the history when it has ended."""
        self.fivetran.post(f"/v1/connections/{connection}/sync", json={"force": False}).raise_for_status()
        return self.synced(connection)

    def synced(self, connection: str) -> dict[str, Any]:
        wait_for(lambda: self.connection(connection)["status"]["sync_state"] != "syncing", 90, "the sync ends")
        answer = self.fivetran.get(f"/v1/connections/{connection}/sync-history").raise_for_status()
        return answer.json()["data"]["items"][0]

    def connection(self, connection: str) -> dict[str, Any]:
        return self.fivetran.get(f"/v1/connections/{connection}").raise_for_status().json()["data"]

    def load(self) -> dict[str, dict[str, int]]:
        """Load what Segment has received into the warehouse; return the rows landed, by source and table."""
        return self.segment.post("/_inspect/load", timeout=120).raise_for_status().json()

    def run(self, **body: Any) -> dict[str, Any]:
        """Trigger the Hightouch sync; return the run when it has ended."""
        answer = self.hightouch.post("/api/v1/syncs/1/trigger", json=body).raise_for_status()
        return self.ran(answer.json()["id"])

    def ran(self, run: str) -> dict[str, Any]:
        def ended() -> dict[str, Any] | None:
            [found] = self.hightouch.get("/api/v1/syncs/1/runs", params={"runId": run}).json()["data"]
            return found if found["finishedAt"] else None

        return wait_for(ended, 90, f"run {run} ends")

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Rows of the warehouse."""
        rows = bigquery.Client(project=PROJECT).query(statement).result(timeout=60)
        return [tuple(row.values()) for row in rows]

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """Rows of the product database."""
        with psycopg.connect(postgres.dsn(self.config)) as connection:
            result = connection.execute(statement.encode())
            return result.fetchall() if result.description else []

    def _client(self, vendor: str, **options: Any) -> httpx.Client:
        if vendor not in self.clients:
            self.clients[vendor] = httpx.Client(base_url=self.config.url(vendor), timeout=30, **options)
        return self.clients[vendor]

    def _sandbox(self) -> dict[str, str]:
        return {"SANDBOX_DIR": str(self.config.root)}


def wait_for[T](look: Callable[[], T], seconds: float, what: str, every: float = 0.1) -> T:
    """The first true answer of `look`, asked once in `every` seconds; raises TimeoutError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (answer := look()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:.0f} s: {what}")
        time.sleep(every)
    return answer


def fill(tables: Iterable[str]) -> None:
    """Give the warehouse each of these tables (`dataset.table`), with one row."""
    warehouse = bigquery.Client(project=PROJECT)
    for table in tables:
        warehouse.create_dataset(table.split(".")[0], exists_ok=True)
        warehouse.load_table_from_json([{"id": 1}], table).result()


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


class Mart:
    """The table that the sync reads, rewritten as a dbt model would be."""

    def __init__(self, organisations: list[str]) -> None:
        self._client = bigquery.Client(project=PROJECT)
        self._client.create_dataset("sales", exists_ok=True)
        self.rows: dict[str, dict[str, Any]] = {
            organisation: {
                "organisation_id": organisation, "health_score": 40.0 + number % 50, "health_band": "watch", "incidents_28d": number,
                "open_tasks": 2, "mrr": 100.5 * number, "unmapped": number,
            }
            for number, organisation in enumerate(organisations)
        }  # fmt: skip
        self.write()

    def write(self) -> None:
        kinds = {"organisation_id": "STRING", "health_score": "FLOAT", "health_band": "STRING", "incidents_28d": "INTEGER",
                 "open_tasks": "INTEGER", "mrr": "NUMERIC", "unmapped": "INTEGER"}  # fmt: skip
        config = bigquery.LoadJobConfig(
            schema=[bigquery.SchemaField(name, kind) for name, kind in kinds.items()],
            write_disposition="WRITE_TRUNCATE",
        )
        self._client.load_table_from_json([*self.rows.values()], "sales.account_health", job_config=config).result()
