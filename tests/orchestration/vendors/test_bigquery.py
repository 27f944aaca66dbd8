from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta

import pytest
from google.api_core.exceptions import NotFound
from google.cloud import bigquery

from orchestration.vendors.bigquery import RECENT_DAYS, TABLES_A_QUERY, Counted, Look, Schema, Warehouse, query_of
from sandbox.config import PROJECT, SandboxConfig
from tests.orchestration.wire import refused_port
from tests.product_events.faulty import network

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
ONE = NOON.replace(hour=13)
MARCH = {day: date(2026, 3, day) for day in (1, 2)}


@pytest.fixture(scope="module")
def warehouse(company: SandboxConfig) -> Warehouse:
    client = bigquery.Client(project=PROJECT)
    client.create_dataset("counted", exists_ok=True)
    for name, hours in {"some": "0, 1, 1", "none": ""}.items():
        client.query(
            f"create or replace table counted.{name} as select timestamp_add(timestamp '2026-03-02 12:00:00', interval h hour)"
            f" as _fivetran_synced from unnest(cast([{hours}] as array<int64>)) as h"
        ).result(timeout=60)
    client.query(
        "create or replace table counted.events as select * from unnest([struct('a' as id, timestamp '2026-01-01 09:00:00' as `at`),"
        " ('b', timestamp '2026-03-01 23:59:59'), ('c', timestamp '2026-03-02 00:00:00'), (null, timestamp '2026-03-02 12:00:00'),"
        " ('d', timestamp '2999-01-01 00:00:00')])"
    ).result(timeout=60)
    client.query("create or replace view counted.events_view as select id from counted.events").result(timeout=60)
    return Warehouse(PROJECT, "US", 60)


def synced(table: str, since: datetime | None = None) -> Look:
    return Look(table, "_fivetran_synced", since=since)


def test_rows_written_since_are_counted_by_the_loaders_own_times(warehouse: Warehouse) -> None:
    assert warehouse.newest("counted", ["some", "none", "not_there_yet"]) == {"some": ONE}
    counted = warehouse.counted("counted", [synced("some", NOON), synced("none")])
    assert counted == {"some": Counted(3, 2, ONE), "none": Counted(0, 0, None)}
    assert warehouse.counted("counted", [synced("some", ONE)])["some"].moved == 0
    assert warehouse.counted("counted", [synced("some")])["some"].moved == 3


def test_days_are_counted_in_utc_back_from_the_newest_that_is_not_in_the_future(warehouse: Warehouse) -> None:
    counted = warehouse.counted("counted", [Look("events", "at", "at", ["id"])])["events"]
    assert (counted.rows, counted.nulls) == (5, {"id": 1})
    assert counted.days == {MARCH[1]: 1, MARCH[2]: 2, date(2999, 1, 1): 1}
    assert date(2026, 1, 1) < MARCH[2] - timedelta(days=RECENT_DAYS)


def test_a_look_at_recent_rows_still_gives_the_number_of_all(warehouse: Warehouse) -> None:
    recent = Look("events", "at", "at", ["id"], since=NOON, after=NOON - timedelta(hours=12))
    counted = warehouse.counted("counted", [recent])["events"]
    assert (counted.rows, counted.moved, counted.nulls) == (5, 1, {"id": 1})
    assert MARCH[1] not in counted.days
    none = Look("events", "at", "at", after=datetime(2999, 2, 1, tzinfo=UTC))
    assert warehouse.counted("counted", [none])["events"] == Counted(5, 0, None)


def test_a_table_partitioned_by_load_is_read_only_where_recent_rows_can_be() -> None:
    look = Look("pages", "received_at", "received_at", after=NOON, by_load=True)
    assert "_partitiontime >= timestamp_sub(@after_7, interval 1 day)" in query_of("website", look, 7)


def test_columns_come_in_order_with_their_types(warehouse: Warehouse) -> None:
    schemas = warehouse.schemas("counted")
    assert schemas["events"] == Schema({"id": "STRING", "at": "TIMESTAMP"})
    assert list(schemas) == ["events", "events_view", "none", "some"]


def test_a_dataset_that_does_not_exist_yet_has_no_tables(warehouse: Warehouse) -> None:
    assert warehouse.newest("nowhere", ["some"]) == {}
    assert warehouse.schemas("nowhere") == {}
    assert warehouse.tables("nowhere") == set()
    assert warehouse.counted("nowhere", []) == {}


def test_a_bigquery_that_cannot_be_reached_is_an_error_and_not_a_long_silence(company, monkeypatch) -> None:
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", f"http://127.0.0.1:{refused_port()}")
    began = time.monotonic()
    warehouse = Warehouse(PROJECT, "US", retry_seconds=1)
    for ask in (warehouse.tables, warehouse.schemas):
        with pytest.raises(Exception, match=r"(?i)timeout of 1\.0s exceeded|refused"):
            ask("counted")
    assert time.monotonic() - began < 20


def test_more_tables_than_a_query_takes_are_counted_by_several(
    warehouse: Warehouse, company: SandboxConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look is of one table or two; BigQuery refuses a query of more than 1,000."""
    sent: list[str] = []

    def noted(body: bytes) -> None:
        sent.append(body.decode())

    looks = [synced("some"), *(Look(f"t{number}", "_fivetran_synced") for number in range(TABLES_A_QUERY))]
    with network(company.url("bigquery")) as between:
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", between.url)
        between.query = noted
        counted = Warehouse(PROJECT, "US", 60).counted("counted", [look for look in looks if look.table == "some"])
        with pytest.raises(NotFound):
            Warehouse(PROJECT, "US", 60).counted("counted", looks)
    assert counted["some"].rows == 3
    assert max(body.count("from `counted.") for body in sent) == TABLES_A_QUERY
