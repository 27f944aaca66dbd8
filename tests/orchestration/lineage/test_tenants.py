"""Explo's variables, and queries narrowed to one tenant. What BigQuery makes of them is in the tests of the component."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

import pytest
import sqlglot
from sqlglot.errors import SqlglotError

from orchestration.lineage import tenants
from orchestration.lineage.tenants import NotOneQuery, Rows

DAY = date(2026, 6, 1)
VALUES = tenants.values_for("org_1", "Acme", {"severity": "minor"})


def rows(*values: object) -> Rows:
    return Rows(["organisation_id"], [(value,) for value in values], len(values))


@pytest.mark.parametrize(
    "variable",
    ["{{customer_id}}", "{{ customer_id }}", "'{{customer_id}}'", "{{customer.provided_id}}", "{{ user_group.provided_id }}",
     "{{user_group_id}}", "'{{customer_id.raw()}}'", "'{{ customer_id.raw() }}'"],
)  # fmt: skip
def test_whoever_looks_is_a_parameter_however_the_variable_is_written(variable: str) -> None:
    query = tenants.render(f"select * from a.t where organisation_id = {variable}", VALUES)
    assert query.sql == "select * from a.t where organisation_id = @tenant"
    assert (query.parameters, query.missing) == ({"tenant": "org_1"}, ())
    assert tenants.for_tenant(variable)


@pytest.mark.parametrize(
    ("template", "sql"),
    [
        ("select 1 [[where a = {{customer_id}}]]", "select 1  where a = @tenant "),
        ("select 1 where true [[and a = {{unset}}]]", "select 1 where true  "),
        ("select 1 [[where a = {{customer_id}} and b = {{unset}}]]", "select 1  "),
        ("select 1 [[where a = b[offset(0)]]] limit 1", "select 1  where a = b[offset(0)]  limit 1"),
        ("select 1\n[[where\n a = {{severity}}]]", "select 1\n where\n a = @v_severity "),
        ("select * from t.x_{{customer_id.raw()}}", "select * from t.x_org_1"),
        ("select '{{customer_name}}'", "select @v_customer_name"),
    ],
)
def test_an_optional_clause_goes_with_a_variable_that_has_no_value(template: str, sql: str) -> None:
    assert tenants.render(template, VALUES).sql == sql


def test_a_query_is_seen_with_and_without_what_a_viewer_may_set() -> None:
    def sqls(template: str) -> list[str]:
        return [
            tenants.render(template, values).sql for values in tenants.states(template, "org_1", "Acme", {"n": "1"})
        ]

    assert sqls("select {{customer_id}} [[limit {{n}}]]") == ["select @tenant  limit @v_n ", "select @tenant  "]
    assert sqls("select {{customer_id}} [[limit {{other}}]]") == ["select @tenant  "]
    assert sqls("select {{n}}") == ["select @v_n"]


def test_what_is_missing_is_named_and_text_is_never_pasted() -> None:
    assert tenants.render("select {{unset}}, {{ other.raw() }}, {{unset}}", VALUES).missing == ("unset", "other")
    hostile = tenants.values_for("x' or 'a' = 'a", "Acme", {})
    assert tenants.render("select {{customer_id.raw()}}", hostile).missing == ("customer_id",)
    assert tenants.render("select {{customer_id}}", hostile).parameters == {"tenant": "x' or 'a' = 'a"}


def test_tables_are_found_in_optional_clauses_and_beside_variables() -> None:
    query = (
        "select * from `local-dev.a.b` where x in ({{many}}) [[and y in (select y from a.c where z = '{{e.raw()}}')]]"
    )
    assert [key.to_user_string() for key in tenants.tables_read(query)] == ["a/b", "a/c"]
    for broken in ("select * from a.{{name.raw()}}", "select * from {{place.raw()}}.t", "select from"):
        with pytest.raises((SqlglotError, ValueError)):
            tenants.tables_read(broken)


@pytest.mark.parametrize(
    "sql", ["drop table a.t", "select 1; select 2", "delete from a.t where true", "create table a.t as select 1", "", "-- nothing"]
)  # fmt: skip
def test_only_one_query_is_run(sql: str) -> None:
    with pytest.raises(NotOneQuery):
        tenants.parse(sql)


@pytest.mark.parametrize(
    "sql", ["select 1", "(select 1) union all (select 2)", "with a as (select 1) select * from a;"]
)
def test_a_query_may_be_written_in_several_ways(sql: str) -> None:
    tenants.parse(sql)


OWN = "(SELECT * FROM a.t WHERE organisation_id = @tenant)"


@pytest.mark.parametrize(
    ("sql", "narrow"),
    [
        ("select * from a.t", f"SELECT * FROM {OWN} AS t"),
        ("select x.n from a.t as x", f"SELECT x.n FROM {OWN} AS x"),
        ("select a.t.n from a.t", f"SELECT t.n FROM {OWN} AS t"),
        ("select * from a.t cross join a.other", f"SELECT * FROM {OWN} AS t CROSS JOIN a.other"),
        ("select * from a.t join a.t as u using (n)", f"SELECT * FROM {OWN} AS t JOIN {OWN} AS u USING (n)"),
        ("select * from (a.other join a.t on true)", f"SELECT * FROM (a.other JOIN {OWN} AS t ON TRUE)"),
        ("select * from a.t, t.tags as tag", f"SELECT * FROM {OWN} AS t, t.tags AS tag"),
        ("with t as (select * from a.t) select * from t", f"WITH t AS (SELECT * FROM {OWN} AS t) SELECT * FROM t"),
        ("select (select max(n) from a.t) as m", f"SELECT (SELECT max(n) FROM {OWN} AS t) AS m"),
        ("select * from a.t union all select * from a.t", f"SELECT * FROM {OWN} AS t UNION ALL SELECT * FROM {OWN} AS t"),
        ("select * from a.t pivot(sum(n) for m in ('x'))", f"SELECT * FROM {OWN} AS t PIVOT(sum(n) FOR m IN ('x'))"),
        (
            "select * from (a.t join a.t as u on true)",
            f"SELECT * FROM ({OWN} AS t JOIN {OWN} AS u ON TRUE)",
        ),
    ],
)  # fmt: skip
def test_a_tables_rows_are_narrowed_wherever_it_is_read(sql: str, narrow: str) -> None:
    found = tenants.narrowed(tenants.parse(sql), {"a.t"}, "organisation_id")
    assert sqlglot.parse_one(found, dialect="bigquery") == sqlglot.parse_one(narrow, dialect="bigquery"), found


def test_arrays_are_told_from_tables_where_that_can_be() -> None:
    tree = tenants.parse("select * from a.t as x left join x.tags on true, `p.x.u` join b.v on true")
    assert tenants.tables(tree) == {"a.t", "x.tags", "p.x.u", "b.v"}
    assert tenants.arrays(tree) == {"x.tags"}


def test_results_are_compared_as_bags_of_rows() -> None:
    assert tenants.same(rows(1, 2, 2), rows(2, 1, 2))
    assert not tenants.same(rows(1, 2, 2), rows(1, 1, 2))
    assert tenants.same(rows(0.1 + 0.2, None), rows(None, 0.3))
    assert not tenants.same(rows(Decimal("0.3")), rows(Decimal("0.30000001")))
    nested = [{"a": [1.0, {"b": 0.1 + 0.2}]}, [DAY]]
    assert tenants.same(rows(*nested), rows([DAY], {"a": [1.0, {"b": 0.3}]}))


def test_other_tenants_are_quoted_by_their_id_and_no_more_than_three() -> None:
    found = Rows(["n", "Organisation_ID"], [(n, f"org_{n}") for n in range(9)] + [(10, None)], 10)
    assert tenants.others(found, "organisation_id", "org_1") == ["org_0", "org_2", "org_3"]
    assert tenants.others(rows("org_1", None), "organisation_id", "org_1") == []
    assert tenants.others(rows("org_2"), "another_column", "org_1") == []


def test_over_time_each_tenant_has_its_turn() -> None:
    everyone = {f"org_{n}" for n in range(20)}
    days = [tenants.sample(everyone, 3, DAY + timedelta(days=n)) for n in range(60)]
    assert days[0] == tenants.sample(sorted(everyone), 3, DAY)
    assert {len(day) for day in days} == {3}
    assert set().union(*days) == everyone
    assert tenants.sample(["a"], 3, DAY) == ["a"]
