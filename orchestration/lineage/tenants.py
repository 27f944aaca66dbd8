"""Whether a query shows a tenant nothing but its own rows: Explo's variables, the query narrowed to a tenant, and results compared. Pure."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, cast

import dagster as dg
import sqlglot
from sqlglot import exp

from orchestration.lineage import keys

TENANT = "tenant"
"""The query parameter that has the tenant's id."""
ID_VARIABLES = ("customer_id", "customer.provided_id", "user_group_id", "user_group.provided_id")
"""What Explo gives a tenant's id as: the first is documented today, the others were or are seen in older dashboards."""
NAME_VARIABLES = ("customer_name", "user_group_name")
MOST_QUOTED = 3

VARIABLE = re.compile(r"'\{\{\s*(?P<quoted>[^{}]+?)\s*\}\}'|\{\{\s*(?P<bare>[^{}]+?)\s*\}\}")
OPTIONAL = re.compile(r"\[\[(.*?)\]\](?!\])", re.DOTALL)
RAW = ".raw()"
PASTED = re.compile(r"[\w-]+")


class NotOneQuery(ValueError):
    """The SQL does something else than to read, or more than one thing."""


@dataclass(frozen=True)
class Rendered:
    """A query as BigQuery takes it, with its parameters. `missing` are variables without which Explo would show an error."""

    sql: str
    parameters: Mapping[str, str]
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rows:
    """A result: the names of its columns, and its rows. `total` is how many there are, of which so many may not have been read."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    total: int

    @property
    def whole(self) -> bool:
        return len(self.rows) == self.total


def variables(template: str) -> set[str]:
    """The variables of a query, without their suffixes."""
    return {_name(found)[0] for found in VARIABLE.finditer(template)}


def pastes(template: str) -> bool:
    """Whether a variable becomes part of the SQL as it is, as a name may."""
    return any(_name(found)[1] and found["bare"] for found in VARIABLE.finditer(template))


def for_tenant(template: str) -> bool:
    """Whether a query asks who looks at it."""
    return not variables(template).isdisjoint(ID_VARIABLES)


def tables_read(template: str) -> list[dg.AssetKey]:
    """The tables that a query with variables reads, those of its optional clauses too.

    Raises sqlglot's errors for what cannot be parsed, and ValueError where a variable is a table's name.
    """
    sql = VARIABLE.sub("@variable", OPTIONAL.sub(r" \1 ", template))
    for tree in sqlglot.parse(sql, dialect="bigquery"):
        for table in tree.find_all(exp.Table) if tree else ():
            if any(isinstance(part, exp.Parameter) for part in table.parts):
                raise ValueError("A variable is the name of a table that it reads.")
    return keys.tables_read(sql)


def values_for(tenant: str, name: str, more: Mapping[str, str]) -> dict[str, str]:
    """What Explo's variables are when this tenant looks; `more` are those of the dashboards themselves."""
    return {**more, **dict.fromkeys(NAME_VARIABLES, name), **dict.fromkeys(ID_VARIABLES, tenant)}


def states(template: str, tenant: str, name: str, more: Mapping[str, str]) -> list[dict[str, str]]:
    """The values with which a tenant may see a query: with those of the dashboard's own variables and, where it can do without, none."""
    given, alone = values_for(tenant, name, more), values_for(tenant, name, {})
    bare = render(template, alone)
    return [given] if bare.missing or bare.sql == render(template, given).sql else [given, alone]


def render(template: str, values: Mapping[str, str]) -> Rendered:
    """A query with the variables' values as parameters. Optional clauses, in `[[ ]]`, go where one of their variables has no value.

    A value that is to be pasted as it is (`.raw()`) is, if it cannot be anything but a name or a number.
    """
    kept = OPTIONAL.sub(lambda clause: f" {clause[1]} " if variables(clause[1]) <= values.keys() else " ", template)
    parameters: dict[str, str] = {}
    missing: list[str] = []

    def replace(found: re.Match[str]) -> str:
        name, raw = _name(found)
        if name not in values or (raw and found["bare"] and not PASTED.fullmatch(values[name])):
            missing.append(name)
            return "null"
        if raw and found["bare"]:
            return values[name]
        parameter = TENANT if name in ID_VARIABLES else f"v_{keys.slug(name)}"
        parameters[parameter] = values[name]
        return f"@{parameter}"

    return Rendered(VARIABLE.sub(replace, kept), parameters, tuple(dict.fromkeys(missing)))


def parse(sql: str) -> exp.Query:
    """The tree of one query. Raises sqlglot's errors for what cannot be parsed, and NotOneQuery for anything but one query."""
    trees = [tree for tree in sqlglot.parse(sql, dialect="bigquery") if tree]
    # Who edits a dashboard must not write to the warehouse by it.
    if len(trees) != 1 or not isinstance(trees[0], exp.Query):
        raise NotOneQuery("It is not one query.")
    return trees[0]


def tables(tree: exp.Query) -> set[str]:
    """What a query reads, as it is written: `[project.]dataset.table`, or an array in the rows of another table."""
    return {_path(table) for table in tree.find_all(exp.Table) if table.db}


def arrays(tree: exp.Query) -> set[str]:
    """Those that may be arrays: what stands where a dataset would is a table of the query."""
    read = [table for table in tree.find_all(exp.Table) if table.db]
    names = {table.alias_or_name.lower() for table in tree.find_all(exp.Table, exp.Subquery)}
    return {_path(table) for table in read if not table.catalog and table.db.lower() in names}


def narrowed(tree: exp.Query, shared: Collection[str], column: str) -> str:
    """The query as if the tables of `shared` had the rows of the tenant alone: it is told apart by `column`, and is a parameter."""
    # A table that a subquery stands for has no dataset to name its columns by.
    narrow = tree.copy()
    for read in narrow.find_all(exp.Column):
        read.set("db", None)
        read.set("catalog", None)
    for table in list(narrow.find_all(exp.Table)):
        if _path(table) not in shared:
            continue
        inner, outside = table.copy(), ("alias", "joins", "pivots", "laterals")
        for part in outside:
            inner.set(part, None)
        own = exp.EQ(this=exp.column(column), expression=exp.Parameter(this=exp.var(TENANT)))
        subquery = exp.select("*").from_(inner).where(own).subquery(table.alias_or_name)
        for part in outside[1:]:
            subquery.set(part, table.args.get(part))
        if (alias := table.args.get("alias")) is not None:
            subquery.set("alias", alias.copy())
        table.replace(subquery)
    return narrow.sql(dialect="bigquery")


def others(found: Rows, column: str, tenant: str) -> list[str]:
    """The ids of other tenants among the rows, the first three; rows of no tenant are not told apart by their id."""
    places = [place for place, name in enumerate(found.columns) if name.lower() == column.lower()]
    ids = {str(row[place]) for row in found.rows for place in places if row[place] is not None}
    return sorted(ids - {tenant})[:MOST_QUOTED]


def same(first: Rows, second: Rows) -> bool:
    """Whether two results have the same rows, in whatever order. Sums of floats may differ in their last digits."""
    return first.total == second.total and _counted(first) == _counted(second)


def sample(tenants: Iterable[str], count: int, day: date) -> list[str]:
    """So many tenants, others each day: over time each one's turn comes."""
    return sorted(tenants, key=lambda tenant: hashlib.sha256(f"{day} {tenant}".encode()).digest())[:count]


def _counted(found: Rows) -> Counter[object]:
    return Counter(tuple(_comparable(value) for value in row) for row in found.rows)


def _comparable(value: object) -> object:
    match value:
        case float():
            return f"{value:.9g}"
        case dict():
            return tuple((name, _comparable(part)) for name, part in cast("dict[str, object]", value).items())
        case list():
            return tuple(_comparable(part) for part in cast("list[object]", value))
        case _:
            return value


def _name(found: re.Match[str]) -> tuple[str, bool]:
    """A variable's name, and whether its value is to be pasted as it is."""
    name = found["quoted"] or found["bare"]
    return name.removesuffix(RAW).strip(), name.endswith(RAW)


def _path(table: exp.Table) -> str:
    return ".".join(part for part in (table.catalog, table.db, table.name) if part)
