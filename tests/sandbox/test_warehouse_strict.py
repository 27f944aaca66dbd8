"""The warehouse refuses what BigQuery refuses, with Google's messages, on every way that SQL takes into it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Iterator
from io import BytesIO
from typing import Any
from uuid import uuid4

import httpx
import pytest
from google.api_core.exceptions import BadRequest, GoogleAPICallError, NotFound
from google.cloud import bigquery

from googlesql import NotJudgedError, Table
from sandbox.config import PROJECT, SandboxConfig
from sandbox.services.warehouse import FOLDER, statements_analyzed


@pytest.fixture(scope="module")
def client(company: SandboxConfig) -> bigquery.Client:
    return bigquery.Client(project=PROJECT)


@pytest.fixture
def dataset(client: bigquery.Client) -> Iterator[str]:
    """A dataset with a table `orders`, of one row, and a table `landed` that is partitioned by ingestion time."""
    name = f"t_{uuid4().hex[:8]}"
    client.create_dataset(name)
    client.query_and_wait(f"""
        create table {name}.orders as select 1 as id, 'a' as customer, timestamp '2026-01-01' as placed_at,
            json '{{"a": 1}}' as payload, ['x'] as tags, [struct('s' as sku, 1.5 as price)] as items;
        create table {name}.landed (n int64) partition by _partitiondate;
    """)
    yield name
    client.delete_dataset(name, delete_contents=True)


def rows(client: bigquery.Client, query: str, **options: Any) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in client.query(query, **options).result(timeout=60)]


def refusal(client: bigquery.Client, query: str, **options: Any) -> str:
    """Return BigQuery's message for a statement that it refuses with 400 invalidQuery."""
    with pytest.raises(BadRequest) as refused:
        rows(client, query, **options)
    [error] = refused.value.errors
    assert error["reason"] == "invalidQuery"
    return error["message"]


def report(config: SandboxConfig) -> dict[str, Any]:
    return httpx.get(f"{config.url('bigquery')}/_strict").raise_for_status().json()


# The two statements that the platform once sent to BigQuery, as they were.
AS_NULLS = """
    select day, sum(count) over () as count, [sum(null_0) over ()] as nulls
    from (select date(placed_at) as day, count(*) as count, countif(`id` is null) as null_0 from `{}.orders` group by 1)
"""
AS_NEW = """
        merge `local-dev.{0}.orders` as old using `local-dev.{0}.orders` as new
        on old.id = new.id and old.placed_at between @first and @last
        when matched and (old.customer is distinct from new.customer) then update set customer = new.customer
        when not matched then insert (id) values (new.id)
"""


def test_reserved_words_are_refused_as_aliases(client: bigquery.Client, dataset: str) -> None:
    assert refusal(client, AS_NULLS.format(dataset)) == "Syntax error: Unexpected keyword NULLS at [2:71]"
    assert refusal(client, AS_NEW.format(dataset)) == "Syntax error: Unexpected keyword NEW at [2:99]"


def test_names_functions_and_types_that_bigquery_lacks_are_refused(client: bigquery.Client, dataset: str) -> None:
    refused = {
        "select custmer from {}.orders": "Unrecognized name: custmer; Did you mean customer? at [1:8]",
        "/* dbt */\nselect o.nope from {}.orders as o": "Name nope not found inside o at [2:10]",
        "select strftime('%Y', placed_at) from {}.orders": "Function not found: strftime at [1:8]",
        "select 1 from {}.orders where customer = 1": "No matching signature for operator = for argument types: STRING, INT64",
        "create table {}.t (ratio float)": "Type not found: float at [1:34]",
        "create table {}.t (name varchar)": "Type not found: varchar at [1:33]",
        "insert into {}.landed (m) values (1)": "Column m is not present in table",
    }
    for query, message in refused.items():
        assert refusal(client, query.format(dataset)).startswith(message)
        with pytest.raises(BadRequest) as refused_dry:
            client.query(query.format(dataset), job_config=bigquery.QueryJobConfig(dry_run=True))
        assert message in refused_dry.value.message
    assert [table.table_id for table in client.list_tables(dataset)] == ["landed", "orders"]


def test_nested_columns_and_pseudo_columns_are_known(client: bigquery.Client, dataset: str) -> None:
    nested = f"select item.price, json_value(payload.a), tags[offset(0)] from {dataset}.orders, unnest(items) as item"
    assert rows(client, nested) == [(1.5, "1", "x")]
    assert "Field name nope does not exist" in refusal(client, nested.replace("item.price", "item.nope"))
    assert rows(client, f"select n, _partitiontime, _partitiondate from {dataset}.landed") == []
    client.query_and_wait(f"create view {dataset}.seen as select items, id + 1 as next from {dataset}.orders")
    assert rows(client, f"select next, item.sku from {dataset}.seen, unnest(items) as item") == [(2, "s")]
    assert rows(client, f"select id, _table_suffix from `{PROJECT}.{dataset}.ord*`") == [(1, "ers")]


def test_a_view_of_a_table_that_is_gone_names_the_table(client: bigquery.Client, dataset: str) -> None:
    client.query_and_wait(f"create table {dataset}.gone as select 1 as n")
    client.query_and_wait(f"create view {dataset}.seen as select n from {dataset}.gone")
    client.query_and_wait(f"drop table {dataset}.gone")
    with pytest.raises(NotFound, match="gone"):
        rows(client, f"select n from {dataset}.seen")


def test_tables_are_altered(client: bigquery.Client, dataset: str) -> None:
    client.query_and_wait(f"alter table {dataset}.orders add column if not exists `note` string")
    client.query_and_wait(f"alter table `{PROJECT}.{dataset}.orders` drop column note")
    assert refusal(client, f"alter table {dataset}.orders add column ratio float").startswith("Type not found: float")
    with pytest.raises(NotFound, match=f"Table {PROJECT}:{dataset}.nowhere was not found"):
        rows(client, f"alter table {dataset}.nowhere add column note string")


def test_what_does_not_exist_is_not_found(client: bigquery.Client, dataset: str) -> None:
    with pytest.raises(NotFound, match=f"Not found: Table {PROJECT}:{dataset}.nowhere was not found in location US"):
        rows(client, f"select * from {dataset}.nowhere")
    with pytest.raises(NotFound, match=f"Not found: Dataset {PROJECT}:t_nowhere was not found in location US"):
        rows(client, "select * from t_nowhere.nowhere")
    with pytest.raises(BadRequest, match=r'Table "orders" must be qualified with a dataset'):
        rows(client, "select * from orders")
    with pytest.raises(BadRequest, match=rf"{PROJECT}:{dataset}\.nowhere_\* does not match any table"):
        rows(client, f"select * from `{dataset}.nowhere_*`")
    client.query_and_wait(f"drop table if exists {dataset}.nowhere")
    default = bigquery.QueryJobConfig(default_dataset=f"{PROJECT}.{dataset}")
    assert rows(client, "select id from orders", job_config=default) == [(1,)]


def test_parameters_have_their_types(client: bigquery.Client, dataset: str) -> None:
    config = bigquery.QueryJobConfig(
        query_parameters=[
            bigquery.ScalarQueryParameter("id", "INT64", 1),
            bigquery.ArrayQueryParameter("names", "STRING", ["a"]),
        ]
    )
    query = f"select id from {dataset}.orders where id = @id and customer in unnest(@names)"
    assert rows(client, query, job_config=config) == [(1,)]
    assert "No matching signature" in refusal(client, query.replace("id = @id", "customer = @id"), job_config=config)
    assert "Query parameter 'id' not found" in refusal(client, query)


def test_the_statements_of_a_script_are_judged_with_its_variables_and_tables(
    client: bigquery.Client, dataset: str
) -> None:
    script = f"""
        declare days array<date>;
        declare total, more int64 default 5;
        create temp function half(x float64) as (x / 2);
        set (days) = (select as struct array_agg(date(placed_at)) from {dataset}.orders);
        create temp table passing as select 7 as n;
        if array_length(days) = 1 then set total = total + 1; end if;
        for line in (select id from {dataset}.orders) do set total = total + line.id; end for;
        select half(n), total, days[offset(0)] = date '2026-01-01' from passing;
    """
    assert rows(client, script) == [(3.5, 7, True)]
    refused = {
        "set total = totl + 1": r"Unrecognized name: totl; Did you mean total? at [7:52]",
        "select as struct array_agg(day)": "Unrecognized name: day",
        "half(n, 1)": "No matching signature for function HALF",
        "if array_length(total)": "No matching signature for function ARRAY_LENGTH",
        "as select 7 as m": "Unrecognized name: n",
        "total, more float": "Type not found: float",
    }
    for wrong, message in refused.items():
        right = {"set total = totl + 1": "set total = total + 1", "select as struct array_agg(day)": "select as struct array_agg(date(placed_at))",
                 "half(n, 1)": "half(n)", "if array_length(total)": "if array_length(days)", "as select 7 as m": "as select 7 as n",
                 "total, more float": "total, more int64"}[wrong]  # fmt: skip
        assert right in script
        assert refusal(client, script.replace(right, wrong, 1)).startswith(message)


def test_a_script_that_cannot_be_parsed_runs_nothing(client: bigquery.Client, dataset: str) -> None:
    script = f"create table {dataset}.made as select 1 as n;\nif false then select 1 as rows; end if;"
    assert refusal(client, script) == "Syntax error: Unexpected keyword ROWS at [2:27]"
    assert "made" not in {table.table_id for table in client.list_tables(dataset)}


def test_functions_that_are_created_are_known(client: bigquery.Client, dataset: str) -> None:
    client.query_and_wait(f"create function {dataset}.twice(x int64) as (x * 2)")
    assert rows(client, f"select {dataset}.twice(id) from {dataset}.orders") == [(2,)]
    assert "No matching signature for function" in refusal(client, f"select {dataset}.twice('x')")
    assert refusal(client, f"select {dataset}.thrice(1)") == f"Function not found: {dataset}.thrice at [1:8]"


def test_definitions_that_come_through_the_api_are_judged(client: bigquery.Client, dataset: str) -> None:
    view = bigquery.Table(f"{PROJECT}.{dataset}.seen")
    view.view_query = f"select nope from `{PROJECT}.{dataset}.orders`"
    with pytest.raises(BadRequest, match="Unrecognized name: nope"):
        client.create_table(view)
    view.view_query = f"select id from `{PROJECT}.{dataset}.orders`"
    made = client.create_table(view)
    made.view_query = "select 1 as rows"
    with pytest.raises(BadRequest, match="Unexpected keyword ROWS"):
        client.update_table(made, ["view_query"])
    path = f"/projects/{PROJECT}/datasets/{dataset}/tables/orders/rowAccessPolicies"
    policy = {"rowAccessPolicyReference": {"policyId": "mine"}, "filterPredicate": "nope = 1", "grantees": ["allUsers"]}
    with pytest.raises(BadRequest, match="Unrecognized name: nope"):
        client._connection.api_request("POST", path, data=policy)
    with pytest.raises(BadRequest, match="Unrecognized name: nope"):
        rows(client, f"create row access policy mine on {dataset}.orders grant to ('allUsers') filter using (nope = 1)")


def test_an_answer_is_kept_until_a_table_changes(company: SandboxConfig, client: bigquery.Client, dataset: str) -> None:
    query = f"select id from {dataset}.orders where id = 12345"
    before = report(company)["cached"]
    rows(client, query)
    assert report(company)["cached"] == before
    client.query_and_wait(f"insert into {dataset}.orders (id) values (2)")
    rows(client, query)
    assert report(company)["cached"] == before + 1
    client.query_and_wait(f"create or replace table {dataset}.orders as select 'text' as id")
    assert "No matching signature" in refusal(client, query)


# Of each entry of the list a statement. Some fail in DuckDB, which has no models and no connections: they are counted all the same.
NOT_JUDGED = {
    "dynamic SQL": "execute immediate 'select 1'",
    "procedures": "create or replace procedure {0}.p() begin select 1; end; call {0}.p()",
    "table functions": "create or replace table function {0}.tf(x int64) as select x as y; select y from {0}.tf(1)",
    "functions of any type": "create or replace function {0}.same(x any type) as (x); select {0}.same(1)",
    "aggregate functions": "create or replace aggregate function {0}.total(x int64) returns int64 as (sum(x))",
    "remote functions":
        "create function {0}.far(x int64) returns int64 remote with connection `us.c` options (endpoint = 'https://e')",
    "machine learning and engine functions": "select * from ml.predict(model {0}.m, (select 1 as x))",
    "administration": "undrop schema {0}",
    "INFORMATION_SCHEMA": "select * from `region-us`.INFORMATION_SCHEMA.STREAMING_TIMELINE_BY_PROJECT",
    "indexes": "create search index i on {0}.orders(all columns)",
}  # fmt: skip


@pytest.fixture(scope="module")
def modules() -> Iterator[Any]:
    """The warehouse's own modules `strict` and `not_judged`, which need nothing of its environment but the analyzer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(FOLDER), *sys.path])
        yield importlib.import_module("strict"), importlib.import_module("not_judged")


def test_each_entry_of_the_list_is_met_and_counted(
    company: SandboxConfig, client: bigquery.Client, dataset: str, modules: Any
) -> None:
    _, not_judged = modules
    assert {entry.name for entry in not_judged.ENTRIES} == {*NOT_JUDGED}
    for name, statement in NOT_JUDGED.items():
        before = report(company)
        try:
            rows(client, statement.format(dataset))
        except GoogleAPICallError as error:
            print(f"{name}: DuckDB: {error.message[:100]}")
        after = report(company)
        assert after["not_judged"][name] > before["not_judged"].get(name, 0), name
        assert after["rejected"] == before["rejected"], name
    print(statements_analyzed(company))
    for entry in not_judged.ENTRIES:
        print(f"  {report(company)['not_judged'][entry.name]:>3} {entry.name}: {entry.reason}")


def test_what_can_not_be_judged_and_is_not_on_the_list_fails(modules: Any) -> None:
    strict, _ = modules

    class Unknowable:
        def tables(self, paths: Iterable[tuple[str, ...]]) -> tuple[Table, ...]:
            raise NotJudgedError("a table of unknown kind")

        def function(self, path: tuple[str, ...], analyze: Any) -> None:
            return None

    judge = strict.Judge()
    with pytest.raises(
        strict.UnlistedError, match=r"no entry of sandbox/warehouse/not_judged.py.*a table of unknown kind"
    ):
        judge.judge(strict.Statement("select 1 from d.t", PROJECT), Unknowable())
    assert (judge.report()["unlisted"], judge.report()["analyzed"]) == (1, 0)


def test_a_statement_names_at_most_a_thousand_tables(client: bigquery.Client, dataset: str) -> None:
    def union(count: int) -> str:
        return " union all ".join(f"select {number} from {dataset}.t{number}" for number in range(count))

    assert refusal(client, union(1001)) == "Too many tables, views and user-defined functions for query: Max: 1000"
    with pytest.raises(NotFound, match=rf"{dataset}\.t"):
        rows(client, union(1000))


def test_a_job_runs_where_its_datasets_are(client: bigquery.Client, dataset: str) -> None:
    european = bigquery.Dataset(f"{PROJECT}.{dataset}_eu")
    european.location = "EU"
    client.create_dataset(european)
    try:
        made = client.query(f"create table {dataset}_eu.t as select 1 as n")
        made.result()
        assert client.get_job(made.job_id).location == "EU"
        elsewhere = f"Not found: Dataset {PROJECT}:{dataset}_eu was not found in location US"
        with pytest.raises(NotFound, match=elsewhere):
            rows(client, f"select n from {dataset}_eu.t", location="US")
        with pytest.raises(NotFound, match="was not found in location"):
            rows(client, f"select n, id from {dataset}_eu.t cross join {dataset}.orders")
        with pytest.raises(NotFound, match=elsewhere):
            rows(client, f"create table {dataset}_eu.u as select 1 as n", location="US")
        with pytest.raises(NotFound, match=elsewhere):
            client.load_table_from_json([{"n": 2}], f"{dataset}_eu.t", location="US").result()
        with pytest.raises(NotFound, match=elsewhere):
            rows(client, f"select table_name from {dataset}_eu.INFORMATION_SCHEMA.TABLES", location="US")
        client.load_table_from_json([{"n": 2}], f"{dataset}_eu.t", location="EU").result()
        assert sorted(rows(client, f"select n from {dataset}_eu.t")) == [(1,), (2,)]
        client.query_and_wait(f"create schema {dataset}_eu2", location="EU")
        assert client.get_dataset(f"{dataset}_eu2").location == "EU"
    finally:
        for name in (f"{dataset}_eu", f"{dataset}_eu2"):
            client.delete_dataset(name, delete_contents=True, not_found_ok=True)


def test_a_job_changes_at_most_4000_partitions(client: bigquery.Client, dataset: str) -> None:
    def days(count: int) -> str:
        return f"select day from unnest(generate_date_array('2000-01-01', date_add('2000-01-01', interval {count - 1} day))) as day"

    too_many = "Too many partitions produced by query, allowed 4000, query produces at least 4001 partitions"
    assert refusal(client, f"create table {dataset}.p partition by day as {days(4001)}") == too_many
    assert "p" not in {table.table_id for table in client.list_tables(dataset)}
    client.query_and_wait(f"create table {dataset}.p partition by day as {days(4000)}")
    assert refusal(client, f"insert into {dataset}.p (day) {days(4001)}") == too_many
    merge = f"merge {dataset}.p as t using ({{}}) as s on false when not matched then insert (day) values (day)"
    assert refusal(client, merge.format(days(4001))) == too_many
    job = bigquery.LoadJobConfig(
        write_disposition="WRITE_APPEND", source_format="CSV", schema=[bigquery.SchemaField("day", "DATE")]
    )
    many = rows(client, f"select string_agg(cast(day as string), '\\n') from ({days(4001)})")[0][0]
    with pytest.raises(BadRequest, match=too_many):
        client.load_table_from_file(BytesIO(many.encode()), f"{dataset}.p", job_config=job).result()
    assert client.get_table(f"{dataset}.p").num_rows == 4000
    client.query_and_wait(f"create table {dataset}.m partition by date_trunc(day, month) as {days(5000)}")
    client.query_and_wait(merge.format(days(4000)))
    assert client.get_table(f"{dataset}.p").num_rows == 8000
