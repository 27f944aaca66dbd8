"""The events' tables in the company's warehouse, and one organisation a test to tell its rows by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from google.cloud import bigquery

from product_events.publisher import Limits, Publisher
from product_events.tables import apply
from sandbox.config import PROJECT, SandboxConfig
from tests.orchestration.wire import refused_port
from tests.product_events.faulty import Network, network

DATASET = "published"
QUICK = Limits(batch_seconds=0.1, first_backoff_seconds=0.05, backoff_seconds=0.2, flush_seconds=15)


@dataclass
class Tables:
    """What BigQuery holds of one organisation."""

    client: bigquery.Client
    organisation: str

    def rows(self, table: str) -> list[dict[str, Any]]:
        mine = "strpos(payload, @organisation) > 0" if table == "dead_letters" else "organisation_id = @organisation"
        parameter = bigquery.ScalarQueryParameter("organisation", "STRING", self.organisation)
        job = self.client.query(
            f"select * from {DATASET}.{table} where {mine} order by event_id",
            job_config=bigquery.QueryJobConfig(query_parameters=[parameter]),
        )
        return [dict(row) for row in job.result(timeout=60)]

    def ids(self, table: str = "insight_viewed") -> list[str]:
        return [row["event_id"] for row in self.rows(table)]


@pytest.fixture(scope="module")
def warehouse(company: SandboxConfig) -> bigquery.Client:
    client = bigquery.Client(project=PROJECT)
    apply(client, DATASET)
    return client


@pytest.fixture
def tables(warehouse: bigquery.Client) -> Tables:
    return Tables(warehouse, f"org_{uuid4().hex[:12]}")


@pytest.fixture
def view(tables: Tables) -> Callable[..., str]:
    """Publishes one good event and returns its id."""

    def publish(publisher: Publisher, load_ms: int = 1, **more: Any) -> str:
        properties = {"insight": "on_call_load", "load_ms": load_ms}
        done = publisher.publish("insight_viewed", 1, properties, organisation_id=tables.organisation, **more)
        assert done.problem is None
        return done.event_id

    return publish


@pytest.fixture
def between(company: SandboxConfig, warehouse: bigquery.Client, monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    """What a publisher made by this test talks through."""
    with network(company.url("bigquery")) as between:
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", between.url)
        yield between


@pytest.fixture
def unreachable(warehouse: bigquery.Client) -> Callable[[], pytest.MonkeyPatch]:
    """Makes BigQuery unreachable for publishers that are made until the answer is undone."""

    def cut() -> pytest.MonkeyPatch:
        patch = pytest.MonkeyPatch()
        patch.setenv("BIGQUERY_EMULATOR_HOST", f"http://127.0.0.1:{refused_port()}")
        return patch

    return cut


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def publisher(spool: Path, **options: Any) -> Publisher:
    return Publisher(PROJECT, DATASET, spool_dir=spool, **({"limits": QUICK} | options))
