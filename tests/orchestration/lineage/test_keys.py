from __future__ import annotations

import pytest
from sqlglot.errors import ParseError

from orchestration.lineage import keys


def node(**fields: object) -> dict[str, object]:
    return {
        "resource_type": "model",
        "schema": "dev_ada_insights",
        "name": "m",
        "config": {"schema": "insights"},
        **fields,
    }


@pytest.mark.parametrize(
    ("dbt_node", "key"),
    [
        (node(), "insights/m"),
        (node(config={"schema": None}, schema="plain"), "plain/m"),
        (
            node(resource_type="source", schema="salesforce", identifier="account", name="accounts"),
            "salesforce/account",
        ),
        (node(alias="m_v2", version=2), "insights/m_v2"),
        (node(resource_type="seed", config={"schema": "seeds"}), "seeds/m"),
    ],
)
def test_a_node_of_dbt_is_named_by_its_place_without_the_environments_prefix(dbt_node, key: str) -> None:
    assert keys.dbt_node(dbt_node).to_user_string() == key


@pytest.mark.parametrize(
    ("sql", "read"),
    [
        ("select * from `local-dev.sales.account_health`", ["sales/account_health"]),
        ("select 1 from `p`.`b`.`y` join a.x using (id)", ["a/x", "b/y"]),
        ("with recent as (select * from a.x) select * from recent, unnest([1]) join a.x using (id)", ["a/x"]),
        ("select (select max(n) from c.z) from a.x where id in (select id from b.y)", ["a/x", "b/y", "c/z"]),
        ("select 1", []),
    ],
)
def test_the_tables_of_a_query(sql: str, read: list[str]) -> None:
    assert [key.to_user_string() for key in keys.tables_read(sql)] == read


def test_sql_that_cannot_be_parsed_is_an_error() -> None:
    with pytest.raises(ParseError):
        keys.tables_read("select from where")


def test_a_named_table() -> None:
    assert keys.table_named("`p.sales.account_health`") == keys.table("sales", "account_health")
    assert keys.table_named("sales.account_health") == keys.table("sales", "account_health")
    with pytest.raises(ValueError, match="'account_health' has no dataset"):
        keys.table_named("account_health")


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("On-call load", "on_call_load"),
        ("  Umsätze (2026) & Q1/Q2 🎉 ", "umsatze_2026_q1_q2"),
        ("🎉", "unnamed"),
        ("", "unnamed"),
    ],
)
def test_a_slug_has_letters_and_digits_only(name: str, slug: str) -> None:
    assert keys.slug(name) == slug


def test_slugs_are_kept_when_names_change_and_told_apart_where_names_do_not() -> None:
    kept = keys.slugs({"a1": "Load", "b2": "load!", "c3": "Other"}, {})
    assert kept == {"a1": "load", "b2": "load_b2", "c3": "other"}
    later = keys.slugs({"b2": "Renamed", "c3": "Load", "d4": "Load"}, kept)
    assert later == {"b2": "load_b2", "c3": "other", "d4": "load"}


def test_a_vendors_own_slugs_are_kept_as_they_are() -> None:
    kept = {"1": "weekly-load"}
    found = keys.slugs({"1": "renamed", "2": "weekly-load", "3": "Other-One"}, kept, str)
    assert found == {"1": "weekly-load", "2": "weekly-load_2", "3": "Other-One"}
