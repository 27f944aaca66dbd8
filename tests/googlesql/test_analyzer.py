"""GoogleSQL's verdicts with BigQuery's dialect. Each message is Google's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from googlesql.names import split_quoted_paths
from googlesql.sql_types import UnknownTypeError, format_type, parse_type

from googlesql import Analyzer, Column, Function, Parameter, RejectedError, Table

PROJECT, DATASET = "local-dev", "shop"
TABLES = (
    Table(
        f"{PROJECT}.{DATASET}.orders",
        (
            Column("id", "INT64"), Column("customer", "STRING"), Column("amount", "NUMERIC"), Column("placed_at", "TIMESTAMP"),
            Column("tags", "ARRAY<STRING>"), Column("payload", "JSON"),
            Column("lines", "ARRAY<STRUCT<sku STRING, price FLOAT64>>"),
        ),
    ),
    Table(f"{PROJECT}.{DATASET}.events", (Column("name", "STRING"),), partition_time=True),
    Table(f"{PROJECT}.{DATASET}.day_*", (Column("name", "STRING"),), wildcard=True),
)  # fmt: skip


@pytest.fixture(scope="module")
def analyzer() -> Analyzer:
    return Analyzer()


ACCEPTED = {
    "select customer, count(*) as orders from shop.orders group by customer": ("query", "STRING, INT64"),
    "select id from `local-dev.shop.orders`": ("query", "INT64"),
    "select id from `local-dev`.shop.orders": ("query", "INT64"),
    "select id from orders": ("query", "INT64"),
    "select line.price from orders, unnest(lines) as line": ("query", "FLOAT64"),
    "select lines[safe_offset(0)].sku, tags[offset(0)] from orders": ("query", "STRING, STRING"),
    "select json_value(payload, '$.a'), payload.b from orders": ("query", "STRING, JSON"),
    "select id from orders qualify row_number() over (partition by customer order by placed_at) = 1": ("query", "INT64"),
    "from orders |> where id = 1 |> aggregate sum(amount) as total": ("query", "NUMERIC"),
    "select * except (payload), lines as items from orders where placed_at > timestamp_sub(current_timestamp(), interval 1 day)":
        ("query", "INT64, STRING, NUMERIC, TIMESTAMP, ARRAY<STRING>, ARRAY<STRUCT<sku STRING, price FLOAT64>>, "
                  "ARRAY<STRUCT<sku STRING, price FLOAT64>>"),
    "select name, _partitiontime, _partitiondate from events": ("query", "STRING, TIMESTAMP, DATE"),
    "select * from events": ("query", "STRING"),
    "select name, _table_suffix from `local-dev.shop.day_*`": ("query", "STRING, STRING"),
    "select id from orders for system_time as of timestamp_sub(current_timestamp(), interval 1 hour)": ("query", "INT64"),
    "select 1 as `rows`": ("query", "INT64"),
    "select @@project_id, @@error.message": ("query", "STRING, STRING"),
    "create or replace table shop.new_orders (id int64 not null, tags array<string>) partition by _partitiondate cluster by id":
        ("create_table", ""),
    "create table shop.copy partition by date(placed_at) options (description = 'x') as select placed_at from orders":
        ("create_table_as_select", "TIMESTAMP"),
    "create or replace view shop.seen as select id from orders": ("create_view", "INT64"),
    "merge shop.orders t using (select 1 as id) s on t.id = s.id when matched then update set customer = 'x' "
    "when not matched then insert (id) values (id)": ("merge", ""),
    "delete from shop.orders where true": ("delete", ""),
    "grant `roles/bigquery.dataViewer` on table shop.orders to 'user:a@example.com'": ("grant", ""),
}  # fmt: skip

REJECTED = {
    "select nam from events": "Unrecognized name: nam; Did you mean name? at [1:8]",
    "select o.nope\nfrom orders as o": "Name nope not found inside o at [1:10]",
    "select countif(name is null) as nulls from events": "Syntax error: Unexpected keyword NULLS at [1:33]",
    "merge shop.orders as old using shop.orders as new on false when not matched then insert row":
        "Syntax error: Unexpected keyword NEW at [1:47]",
    "select 1 as rows": "Syntax error: Unexpected keyword ROWS at [1:13]",
    "select strftime('%Y', placed_at) from orders": "Function not found: strftime at [1:8]",
    "select id from shop.nowhere": "Table not found: shop.nowhere at [1:16]",
    "create table shop.t (ratio float)": "Type not found: float at [1:28]",
    "select customer, count(*) from orders": "SELECT list expression references column customer which is neither grouped nor aggregated at [1:8]",
    "select 1 from orders where customer = 1": "No matching signature for operator = for argument types: STRING, INT64",
    "delete from shop.orders": "DELETE must have a WHERE clause at [1:1]",
    "select sum(case when id = 1 then 1 else 'x' end) from orders": "No matching signature for operator CASE",
}  # fmt: skip


@pytest.mark.parametrize("sql", ACCEPTED)
def test_accepts_what_bigquery_accepts(analyzer: Analyzer, sql: str) -> None:
    kind, types = ACCEPTED[sql]
    found = analyzer.analyze(sql, TABLES, default_project=PROJECT, default_dataset=DATASET)
    assert (found.kind, ", ".join(column.type for column in found.columns)) == (kind, types)


@pytest.mark.parametrize("sql", REJECTED)
def test_rejects_with_googles_message(analyzer: Analyzer, sql: str) -> None:
    with pytest.raises(RejectedError) as rejected:
        analyzer.analyze(sql, TABLES, default_project=PROJECT, default_dataset=DATASET)
    assert str(rejected.value).startswith(REJECTED[sql])


def test_types_that_it_parses_are_formatted_as_they_were() -> None:
    for text in (
        "INT64", "FLOAT64", "BIGNUMERIC", "JSON", "GEOGRAPHY", "INTERVAL", "RANGE<DATE>", "ARRAY<TIMESTAMP>",
        "STRUCT<a INT64, b ARRAY<STRUCT<c STRING>>>",
    ):  # fmt: skip
        assert format_type(parse_type(text)) == text
    assert format_type(parse_type("struct<`a` string(10), n numeric(10, 2)>")) == "STRUCT<a STRING, n NUMERIC>"


@pytest.mark.parametrize("text", ["FLOAT", "VARCHAR", "ARRAY<INT64", "STRUCT<>", "INT64 STRING", ""])
def test_a_text_that_names_no_type_of_ddl_is_refused(text: str) -> None:
    with pytest.raises(UnknownTypeError):
        parse_type(text)


def test_backticks_are_split_into_parts_and_only_there() -> None:
    sql = "select '`a.b`', \"`a.b`\", r'\\`c.d`' /* `e.f` */ from `p-1.d.t` -- `g.h`\n# `i.j`\njoin `example.com:p.d.u` using (`x`)"
    assert split_quoted_paths(sql) == sql.replace("`p-1.d.t`", "`p-1`.`d`.`t`").replace(
        "`example.com:p.d.u`", "`example.com:p`.`d`.`u`"
    )


def test_parameters_are_typed(analyzer: Analyzer) -> None:
    named = [Parameter("since", "TIMESTAMP"), Parameter("ids", "ARRAY<INT64>")]
    analyzer.analyze(
        "select 1 from orders where placed_at > @since and id in unnest(@ids)", TABLES,
        default_project=PROJECT, default_dataset=DATASET, parameters=named,
    )  # fmt: skip
    positional = [Parameter(None, "STRING")]
    assert analyzer.analyze("select ? as x", parameters=positional).columns == (Column("x", "STRING"),)
    with pytest.raises(RejectedError, match="Query parameter 'other' not found"):
        analyzer.analyze("select @other", parameters=named)
    with pytest.raises(RejectedError, match="No matching signature for operator >"):
        analyzer.analyze("select 1 > @since", parameters=named)


def test_variables_of_a_script_are_names(analyzer: Analyzer) -> None:
    days = [Column("days", "ARRAY<DATE>")]
    assert analyzer.analyze("select array_length(days)", variables=days).columns[0].type == "INT64"
    with pytest.raises(RejectedError, match="Unrecognized name: days"):
        analyzer.analyze("select array_length(days)")


def test_a_function_that_is_created_can_be_called(analyzer: Analyzer) -> None:
    created = analyzer.analyze("create function shop.half(x int64) as (x / 2)").function
    assert created == Function(("shop", "half"), (Column("x", "INT64"),), "FLOAT64")
    assert analyzer.analyze("select shop.half(3)", functions=[created]).columns[0].type == "FLOAT64"
    with pytest.raises(RejectedError, match=r"No matching signature for function SHOP\.HALF"):
        analyzer.analyze("select shop.half('x')", functions=[created])
    assert analyzer.analyze("create function shop.same(x any type) as (x)").function is None


def test_the_tables_of_a_statement_are_named_without_its_own_names(analyzer: Analyzer) -> None:
    sql = """
        with mine as (select * from shop.orders), recent as (select * from mine)
        select * from recent join `local-dev.shop.day_*` using (name), recent.tags, shop.INFORMATION_SCHEMA.COLUMNS
    """
    assert set(analyzer.referenced_tables(sql)) == {
        ("shop", "orders"), ("local-dev", "shop", "day_*"), ("shop", "INFORMATION_SCHEMA", "COLUMNS"),
    }  # fmt: skip


def test_a_script_is_parsed_as_a_whole(analyzer: Analyzer) -> None:
    analyzer.parse_script("declare n int64 default 1; if n = 1 then select n; end if; create temp table t as select n;")
    with pytest.raises(RejectedError, match=r"Unexpected keyword ROWS at \[2:13\]"):
        analyzer.parse_script("select 1;\nselect 1 as rows;")


@pytest.mark.parametrize("home", ["", "/proc/nowhere", None])
def test_the_compiled_module_is_kept_where_the_home_directory_takes_nothing(tmp_path: Path, home: str | None) -> None:
    """With an empty or unwritable HOME the module is kept in the temporary folder, and used from there."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("HOME", "XDG_CACHE_HOME", "GOOGLESQL_CACHE_DIR")
    }
    environment |= {"TMPDIR": str(tmp_path)} | ({} if home is None else {"HOME": home})
    # The folder only, not the module: to compile it takes half a minute of CPU.
    code = "from googlesql.service import cache_directory; print(cache_directory())"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(tmp_path / f"googlesql-{os.getuid()}")
