from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from google.api_core.exceptions import GoogleAPICallError
from google.cloud import bigquery

from orchestration.vendors.bigquery import Warehouse
from orchestration.vendors.bigquery_project import TYPES, DatasetElsewhere
from orchestration.vendors.bigquery_tables import Table, Tables
from sandbox.config import PROJECT, SandboxConfig
from tests.orchestration.wire import reply
from tests.product_events.faulty import network

DAY = datetime(2026, 3, 1, 12, 30, 0, 123456, tzinfo=UTC)


@dataclass(frozen=True)
class Row:
    name: str
    at: datetime
    number: int | None = None
    share: float | None = None
    good: bool | None = None


@dataclass(frozen=True)
class Wider(Row):
    note: str | None = None
    seats: int | None = None
    rate: float | None = None
    active: bool | None = None
    ended_at: datetime | None = None


TABLE = Table("written", "rows", Row, key="name", since="at")


@pytest.fixture
def tables(company: SandboxConfig) -> Iterator[Tables]:
    yield Tables(PROJECT, "US", 60)
    bigquery.Client(project=PROJECT).delete_dataset("written", delete_contents=True, not_found_ok=True)


def stored() -> list[tuple[Any, ...]]:
    client = bigquery.Client(project=PROJECT)
    return [tuple(row.values()) for row in client.query("select * from written.rows order by name").result()]


def names() -> list[str]:
    return [table.table_id for table in bigquery.Client(project=PROJECT).list_tables("written")]


def test_rows_are_merged_by_key_and_only_changes_count(tables: Tables) -> None:
    tables.ensure(TABLE)
    tables.ensure(TABLE)
    assert tables.merge(TABLE, []) == 0
    assert tables.merge(TABLE, [Row("a", DAY, 1, 0.5, True), Row("b", DAY)]) == 2
    assert tables.merge(TABLE, [Row("a", DAY, 1, 0.5, True), Row("b", DAY, 2), Row("c", DAY), Row("c", DAY, 3)]) == 2
    assert stored() == [("a", DAY, 1, 0.5, True), ("b", DAY, 2, None, None), ("c", DAY, 3, None, None)]
    assert (tables.number_of_rows(TABLE.path), names()) == (3, ["rows"])
    assert tables.greatest(TABLE, "number", {}) == 3
    assert tables.greatest(TABLE, "number", {"name": "a"}) == 1
    assert tables.greatest(TABLE, "number", {"name": "nobody"}) is None
    assert tables.values(TABLE, "name") == {"a", "b", "c"}


def test_a_batch_with_one_bad_row_writes_nothing(tables: Tables) -> None:
    tables.ensure(TABLE)
    tables.merge(TABLE, [Row("a", DAY, 1)])
    bad: Any = "not a number"
    with pytest.raises(GoogleAPICallError):
        tables.merge(TABLE, [Row("a", DAY, 2), Row("b", DAY, bad)])
    assert stored() == [("a", DAY, 1, None, None)]
    assert names() == ["rows"]


def test_a_table_gets_the_columns_that_it_lacks(tables: Tables) -> None:
    tables.ensure(TABLE)
    tables.merge(TABLE, [Row("a", DAY)])
    wider = Table("written", "rows", Wider, key="name", since="at")
    tables.ensure(wider)
    assert tables.merge(wider, [Wider("b", DAY, note="new", seats=2, rate=0.5, active=True, ended_at=DAY)]) == 1
    assert [row[-5:] for row in stored()] == [(None,) * 5, ("new", 2, 0.5, True, DAY)]


def test_columns_have_only_types_that_ddl_takes() -> None:
    columns = Table("written", "rows", Wider, key="name", since="at").schema()
    api_only = {"INTEGER", "FLOAT", "BOOLEAN", "RECORD"}
    assert {column.field_type for column in columns} == {"STRING", "INT64", "FLOAT64", "BOOL", "TIMESTAMP"}
    assert not api_only & set(TYPES.values())


def test_a_dataset_is_created_in_the_location_of_the_settings(company: SandboxConfig) -> None:
    client = bigquery.Client(project=PROJECT)
    try:
        Tables(PROJECT, "EU", 60).ensure(TABLE)
        assert client.get_dataset("written").location == "EU"
        Tables(PROJECT, "eu", 60).ensure(Table("written", "others", Row, key="name", since="at"))
        with pytest.raises(DatasetElsewhere) as raised:
            Tables(PROJECT, "US", 60).ensure(Table("written", "third", Row, key="name", since="at"))
    finally:
        client.delete_dataset("written", delete_contents=True)
    assert str(raised.value) == (
        f"Dataset {PROJECT}.written is in EU, and BIGQUERY_LOCATION is US. BigQuery cannot move a dataset: set BIGQUERY_LOCATION"
        " to EU, or copy its tables into a new dataset in US and delete this one."
    )


def test_a_job_that_does_not_find_a_dataset_of_another_location_says_so(
    company: SandboxConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is BigQuery's, put on the wire between client and warehouse."""
    client = bigquery.Client(project=PROJECT)
    client.create_dataset("written")
    refusal = f"Not found: Dataset {PROJECT}:written was not found in location EU"
    body = {"error": {"code": 404, "message": refusal, "errors": [{"reason": "notFound", "message": refusal}]}}
    try:
        with network(company.url("bigquery")) as between:
            monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", between.url)
            between.query = lambda _body: reply(404, body)
            with pytest.raises(DatasetElsewhere, match=r"written is in US, and BIGQUERY_LOCATION is EU"):
                Warehouse(PROJECT, "EU", 60).schemas("written")
            absent = {"error": {"code": 404, "message": refusal.replace("written", "absent")}}
            between.query = lambda _body: reply(404, absent)
            assert Warehouse(PROJECT, "EU", 60).schemas("absent") == {}
    finally:
        client.delete_dataset("written", delete_contents=True)


def test_a_table_says_how_it_is_laid_out(tables: Tables) -> None:
    tables.ensure(TABLE)
    made = bigquery.Client(project=PROJECT).get_table("written.rows")
    assert made.time_partitioning.field == "at"
    assert made.clustering_fields == ["name"]
    assert [(column.name, column.mode) for column in made.schema[:3]] == [
        ("name", "REQUIRED"), ("at", "REQUIRED"), ("number", "NULLABLE"),
    ]  # fmt: skip
