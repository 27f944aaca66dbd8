"""BigQuery's stand-in through Google's own client: the corrections that its launcher makes, and what it must outlive."""

from __future__ import annotations

import subprocess
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import psutil
import pytest
from google.api_core.exceptions import InternalServerError, NotFound
from google.cloud import bigquery

from orchestration.vendors.bigquery import Look, query_of
from product_events.tables import apply
from sandbox.config import PROJECT, SandboxConfig
from sandbox.services import warehouse
from sandbox.stack import stack


@pytest.fixture(scope="module")
def client(company: SandboxConfig) -> bigquery.Client:
    return bigquery.Client(project=PROJECT)


@pytest.fixture
def dataset(client: bigquery.Client) -> Iterator[str]:
    name = f"t_{uuid4().hex[:8]}"
    client.create_dataset(name)
    yield name
    client.delete_dataset(name, delete_contents=True)


def rows(client: bigquery.Client, query: str) -> list[tuple[object, ...]]:
    return [tuple(row.values()) for row in client.query(query).result(timeout=60)]


def test_create_table_as_tells_where_it_wrote(client: bigquery.Client, dataset: str) -> None:
    job = client.query(f"create table {dataset}.made as select 1 as n union all select 2")
    job.result(timeout=60)
    assert job.destination is not None
    assert (job.destination.dataset_id, job.destination.table_id) == (dataset, "made")
    assert sorted(rows(client, f"select n from {dataset}.made")) == [(1,), (2,)]


def test_a_view_has_no_such_destination_and_is_read_like_a_table(client: bigquery.Client, dataset: str) -> None:
    client.query(f"create table {dataset}.made as select 1 as n").result(timeout=60)
    assert (
        list(client.query(f"create or replace view {dataset}.seen as select n + 1 as m from {dataset}.made").result())
        == []
    )
    assert rows(client, f"select m from {dataset}.seen") == [(2,)]


def test_a_table_knows_how_many_rows_it_has_left(client: bigquery.Client, dataset: str) -> None:
    client.query(f"create table {dataset}.made as select n from unnest([1, 2, 3]) as n").result(timeout=60)
    client.query(f"delete from {dataset}.made where n = 2").result(timeout=60)
    assert client.get_table(f"{dataset}.made").num_rows == 2


def test_variables_are_set_from_a_struct(client: bigquery.Client, dataset: str) -> None:
    script = """
        declare days array<date>;
        set (days) = (select as struct array_agg(distinct d) from unnest([date '2026-01-01', date '2026-01-02']) as d);
        select array_length(days)
    """
    assert rows(client, script) == [(2,)]


def test_listings_keep_up_with_what_is_made_and_dropped(client: bigquery.Client, dataset: str) -> None:
    for number in range(3):
        client.query(f"create table {dataset}.t{number} as select {number} as n").result(timeout=60)
    client.query(f"create view {dataset}.v as select n from {dataset}.t0").result(timeout=60)
    client.delete_table(f"{dataset}.t1")
    client.query(f"create or replace table {dataset}.t2 as select 'text' as other").result(timeout=60)
    listed = {table.table_id: table.table_type for table in client.list_tables(dataset)}
    assert listed == {"t0": "TABLE", "t2": "TABLE", "v": "VIEW"}
    assert client.get_table(f"{dataset}.t2").num_rows == 1
    with pytest.raises(Exception, match="t1"):
        rows(client, f"select * from {dataset}.t1")


def test_columns_have_their_modes_and_the_hidden_one_stays_hidden(client: bigquery.Client, dataset: str) -> None:
    client.query(f"create table {dataset}.made (id int64 not null, name string)").result(timeout=60)
    client.query(f"create view {dataset}.seen as select id from {dataset}.made").result(timeout=60)
    client.query(f"create table {dataset}.landed (n int64) partition by _PARTITIONDATE").result(timeout=60)
    client.query(f"insert into {dataset}.landed (n) values (1)").result(timeout=60)
    columns = {
        table: [(field.name, field.mode) for field in client.get_table(f"{dataset}.{table}").schema]
        for table in ("made", "seen", "landed")
    }
    assert columns == {
        "made": [("id", "REQUIRED"), ("name", "NULLABLE")],
        "seen": [("id", "NULLABLE")],
        "landed": [("n", "NULLABLE")],
    }
    assert rows(client, f"select * from {dataset}.landed") == [(1,)]
    with pytest.raises(NotFound, match="not_there"):
        client.get_table(f"{dataset}.not_there")


def test_a_script_sees_the_temporary_table_that_it_made(client: bigquery.Client, dataset: str) -> None:
    script = "create temp table passing as select 7 as n; select n from passing"
    assert rows(client, script) == [(7,)]


def test_tables_are_made_side_by_side(client: bigquery.Client, dataset: str) -> None:
    """Where transactions create tables at the same time, a DuckLake of another version has given the database up."""

    def make(number: int) -> None:
        for rows_wanted in range(1, 9):
            statement = f"create or replace table {dataset}.t{number} as select n from unnest(generate_array(1, {rows_wanted})) as n"
            client.query(statement, job_retry=None).result(timeout=60, job_retry=None)

    with ThreadPoolExecutor(12) as threads:
        deque(threads.map(make, range(12)), maxlen=0)
    assert rows(client, f"select count(*) from {dataset}.t7") == [(8,)]


def test_a_union_of_windows_over_empty_tables_leaves_the_database_whole(client: bigquery.Client, dataset: str) -> None:
    """With several threads to a query, most of these have made DuckDB give the database up."""
    apply(client, dataset)
    tables = sorted(table.table_id for table in client.list_tables(dataset))
    looks = [Look(table, written="received_at", day="received_at", keys=["event_id"]) for table in tables]
    query = "\nunion all\n".join(query_of(dataset, look, number) for number, look in enumerate(looks))
    for _ in range(10):
        answer = client.query(query, job_retry=None).result(timeout=60, job_retry=None)
        assert {row["name"] for row in answer} == {*tables}


def test_killed_at_once_it_comes_back_with_what_it_acknowledged(tmp_path_factory, monkeypatch) -> None:
    monkeypatch.setenv("SANDBOX_DIR", str(tmp_path_factory.mktemp("killed")))
    monkeypatch.setenv("SANDBOX_PORTS", "free")
    config = SandboxConfig.load()
    supervisor = stack(config, only=("warehouse",))
    try:
        supervisor.up(lambda _done: None)
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", config.url("bigquery"))
        client = bigquery.Client(project=PROJECT)
        client.create_dataset("kept")
        client.query("create table kept.t as select 1 as n").result(timeout=60)

        second = subprocess.run(warehouse.command(config), capture_output=True, text=True, timeout=60)
        assert second.returncode != 0
        assert "another warehouse uses" in second.stderr

        pid = supervisor.pid("warehouse")
        listening = [c.laddr.ip for c in psutil.Process(pid).net_connections() if c.status == psutil.CONN_LISTEN]
        assert {address.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}
        slow = client.query(
            "select count(*) from unnest(generate_array(1, 200000)) as a, unnest(generate_array(1, 200000)) as b where a * b = 7",
            job_retry=None,
        )
        assert slow.state == "RUNNING"
        supervisor.stop("warehouse", kill=True)
        supervisor.up(lambda _done: None)
        assert rows(client, "select n from kept.t") == [(1,)]
        # Clients that wait for the job learn that they have to send it again, as BigQuery says of its own troubles.
        with pytest.raises(InternalServerError, match="started anew while this job ran"):
            slow.result(timeout=60)
    finally:
        supervisor.down(lambda _name: None)


@pytest.mark.parametrize(
    "change",
    ["insert into {} values (2)", "update {} set x = 3 where true", "delete from {} where true", "truncate table {}",
     "create or replace table {} as select 1 as x"],
)  # fmt: skip
def test_a_table_was_modified_when_it_was_written_and_not_when_it_is_looked_at(
    client: bigquery.Client, dataset: str, change: str
) -> None:
    table = f"{dataset}.looks"
    client.query_and_wait(f"create or replace table {table} as select 1 as x")
    written = client.get_table(table).modified
    client.query_and_wait(f"select * from {table}")
    assert client.get_table(table).modified == written
    client.query_and_wait(change.format(table))
    assert client.get_table(table).modified > written
