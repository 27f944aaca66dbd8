"""SOQL as SQLite's SQL. What is outside of one object's fields, conditions, order and limits is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlglot
from sqlglot import exp
from sqlglot.errors import ParseError, TokenError

UNDERSTOOD = {"expressions", "from_", "from", "where", "order", "limit", "offset", "kind"}
TOKENS = re.compile(
    r"'(?P<text>(?:\\.|[^'\\])*)'"
    r"|(?P<time>\b\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:?\d\d))"
    r"|(?P<date>\b\d{4}-\d\d-\d\d\b)"
    r"|(?P<count>\bcount\(\s*\))",
    re.IGNORECASE,
)


class SoqlError(ValueError):
    """A query that is refused; `code` is Salesforce's."""

    def __init__(self, code: str, message: str, fields: list[str] | None = None) -> None:
        super().__init__(message)
        self.code, self.fields = code, fields or []


@dataclass(frozen=True)
class Query:
    object: str
    fields: list[str]
    """The selected fields, in order; none for COUNT()."""
    statement: str
    """The same for SQLite, on the table `salesforce_<object>`."""


def translate(text: str, objects: Mapping[str, Mapping[str, str]]) -> Query:
    """Read a query on one of the objects, given with their fields. Raises SoqlError."""
    try:
        tree = sqlglot.parse_one(TOKENS.sub(_literal, text), dialect="sqlite")
    except (ParseError, TokenError) as error:
        raise SoqlError("MALFORMED_QUERY", f"unexpected token in: {text}") from error
    if not isinstance(tree, exp.Select) or {name for name, value in tree.args.items() if value} - UNDERSTOOD:
        raise SoqlError("MALFORMED_QUERY", f"only one object a query is understood here: {text}")
    tables = list(tree.find_all(exp.Table))
    if len(tables) != 1 or len(list(tree.find_all(exp.Select))) != 1:
        raise SoqlError("MALFORMED_QUERY", f"only one object a query is understood here: {text}")
    [table] = tables
    name = next((n for n in objects if n.lower() == table.name.lower()), None)
    if name is None:
        raise SoqlError("INVALID_TYPE", f"sObject type '{table.name}' is not supported.")
    known = {field.lower(): field for field in objects[name]}
    for column in tree.find_all(exp.Column):
        if column.name.lower() not in known:
            raise SoqlError("INVALID_FIELD", f"No such column '{column.name}' on entity '{name}'.", [column.name])
    fields = _selected(tree, text, known)
    table.set("this", exp.to_identifier(f"salesforce_{name.lower()}"))
    return Query(name, fields, tree.transform(_null_safe).sql(dialect="sqlite"))


def _selected(tree: exp.Select, text: str, known: dict[str, str]) -> list[str]:
    if [type(item) for item in tree.expressions] == [exp.Count] and isinstance(tree.expressions[0].this, exp.Star):
        return []
    if not all(isinstance(item, exp.Column) for item in tree.expressions):
        raise SoqlError("MALFORMED_QUERY", f"only fields or COUNT() are understood here: {text}")
    return [known[item.name.lower()] for item in tree.expressions]


def _literal(match: re.Match[str]) -> str:
    """A token as SQLite wants it: SOQL escapes quotes by a backslash, and writes times and dates without quotes."""
    if match["time"]:
        return f"'{instant(datetime.fromisoformat(match['time']))}'"
    if match["date"]:
        return f"'{match['date']}'"
    if match["count"]:
        return "count(*)"
    plain = re.sub(r"\\(.)", r"\1", match["text"])
    return "'" + plain.replace("'", "''") + "'"


def _null_safe(node: exp.Expression) -> exp.Expression:
    """To SOQL, `= null` finds what is empty, and `!= 'x'` finds it too."""
    if isinstance(node, exp.EQ):
        return exp.Is(this=node.this, expression=node.expression)
    if isinstance(node, exp.NEQ):
        return exp.Not(this=exp.Is(this=node.this, expression=node.expression))
    return node


def instant(moment: datetime) -> str:
    """A time as Salesforce writes it, in UTC to the millisecond, so that times compare as text."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
