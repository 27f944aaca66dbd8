"""What answers dbt in the place of BigQuery: for the compilation of models, and for unit tests."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from dbt_common.exceptions import DbtDatabaseError

from googlesql import Column, NotJudgedError, RejectedError
from orchestration.dbt_loop.check_compile import ASKS, WarehouseAskedError
from orchestration.dbt_loop.check_sql import Judge, Node

CREATED = re.compile(r"create\s+(?:or\s+replace\s+)?(?:temp\s+)?table\s+([`\w.-]+)", re.IGNORECASE)


class Declarations:
    """The warehouse while models compile: it has the columns of the YAML, and no tables yet, or those of incremental models."""

    def __init__(self, nodes: Iterable[Node], existing: Iterable[Node] = ()) -> None:
        self._nodes = {node.table: node for node in nodes if node.table}
        self._existing = {tuple((node.table or "").rsplit(".", 2)[1:]) for node in existing}

    def columns(self, database: str, schema: str, name: str) -> Sequence[Column] | None:
        node = self._nodes.get(f"{database}.{schema}.{name}")
        if node is None or not node.columns or any(column.type is None for column in node.columns):
            return None
        return [Column(column.name, column.type or "") for column in node.columns]

    def exists(self, schema: str, name: str) -> bool:
        return (schema, name) in self._existing

    def execute(self, node: str, sql: str) -> Sequence[Column]:
        raise WarehouseAskedError(f"{ASKS} while it compiles: {' '.join(sql.split())[:100]}")


class UnitTests:
    """The warehouse while unit tests run: each statement is analyzed, and returns no rows."""

    def __init__(self, judge: Judge, tested: Mapping[str, str]) -> None:
        """`tested` are the tables of the models that unit tests are of, by the tests' ids."""
        self._judge, self._tested = judge, tested
        self._made: dict[tuple[str, str], Sequence[Column]] = {}
        self.rejected: dict[str, str] = {}
        self.not_judged: dict[str, str] = {}
        self.statements: dict[str, str] = {}
        """The last statement of each: the one that compares."""

    def columns(self, database: str, schema: str, name: str) -> Sequence[Column] | None:
        if (schema, name) in self._made:
            return self._made[schema, name]
        relation = self._judge.catalog.find(schema, name)
        if relation is not None and relation.columns is None:
            raise WarehouseAskedError(f"{ASKS} for the columns of `{schema}.{name}`: {relation.reason}")
        return relation.columns if relation else None

    def exists(self, schema: str, name: str) -> bool:
        return False

    def execute(self, node: str, sql: str) -> Sequence[Column]:
        made = CREATED.search(sql)
        if made is None:
            return self._analyze(node, sql)
        # dbt makes a table only to see the model's columns. Where they are known, the statement that compares says the rest.
        relation = self._judge.catalog.find(*self._tested[node].rsplit(".", 2)[1:])
        columns = relation.columns if relation and relation.columns else self._analyze(node, sql)
        _, schema, name = made[1].replace("`", "").rsplit(".", 2)
        self._made[schema, name] = columns
        return []

    def _analyze(self, node: str, sql: str) -> Sequence[Column]:
        try:
            columns = self._judge.analyze(sql).columns
        except RejectedError as error:
            self.rejected[node] = error.message
            raise DbtDatabaseError(str(error)) from None
        except NotJudgedError as error:
            self.not_judged[node] = str(error)
            raise DbtDatabaseError(str(error)) from None
        self.statements[node] = sql
        return columns
