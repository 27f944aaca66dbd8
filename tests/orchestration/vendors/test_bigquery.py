from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from google.cloud import bigquery

from orchestration.vendors.bigquery import Landed, Warehouse
from sandbox.config import PROJECT, SandboxConfig
from tests.orchestration.wire import refused_port

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def warehouse(company: SandboxConfig) -> Warehouse:
    client = bigquery.Client(project=PROJECT)
    client.create_dataset("counted", exists_ok=True)
    for name, hours in {"some": "0, 1, 1", "none": ""}.items():
        client.query(
            f"create or replace table counted.{name} as select timestamp_add(timestamp '2026-03-02 12:00:00', interval h hour)"
            f" as _fivetran_synced from unnest(cast([{hours}] as array<int64>)) as h"
        ).result(timeout=60)
    return Warehouse(PROJECT, "US")


def test_rows_written_since_are_counted_by_the_loaders_own_times(warehouse: Warehouse) -> None:
    tables = ["some", "none", "not_there_yet"]
    assert warehouse.newest("counted", tables) == {"some": NOON.replace(hour=13)}
    assert warehouse.landed("counted", tables, {"some": NOON}) == {"some": Landed(3, 2), "none": Landed(0, 0)}
    assert warehouse.landed("counted", tables, {"some": NOON.replace(hour=13)})["some"] == Landed(3, 0)
    assert warehouse.landed("counted", tables, {})["some"] == Landed(3, 3)


def test_a_dataset_that_does_not_exist_yet_has_no_tables(warehouse: Warehouse) -> None:
    assert warehouse.newest("nowhere", ["some"]) == {}
    assert warehouse.landed("nowhere", ["some"], {}) == {}


def test_a_bigquery_that_cannot_be_reached_is_an_error_and_not_a_long_silence(company, monkeypatch) -> None:
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", f"http://127.0.0.1:{refused_port()}")
    began = time.monotonic()
    with pytest.raises(Exception, match=r"(?i)timeout of 1\.0s exceeded|refused"):
        Warehouse(PROJECT, "US", retry_seconds=1).newest("counted", ["some"])
    assert time.monotonic() - began < 20
