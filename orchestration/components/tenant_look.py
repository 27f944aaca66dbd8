"""One look at one query as one tenant: what it shows is compared with what it shows where there is no other tenant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlglot import exp
from sqlglot.errors import SqlglotError

from orchestration.lineage import tenants
from orchestration.lineage.tenants import NotOneQuery, Rendered, Rows
from orchestration.vendors.bigquery_tenants import Answer, QueryRefused, TenantQueries, TooSlow

ROUNDS = 2
"""How often two results have to differ before that is a leak: a table may be rebuilt between the two."""
COMPARED_SECONDS = 120.0


@dataclass(frozen=True)
class Problem:
    """What is wrong, in words that say how to mend it. One that is not `certain` says that nothing could be proven."""

    text: str
    certain: bool = True


@dataclass(frozen=True)
class Found:
    problem: Problem | None
    seconds: float = 0


@dataclass(frozen=True)
class Look:
    """Looks at queries in one warehouse. Its calls raise what BigQuery's client raises where BigQuery cannot be asked."""

    queries: TenantQueries
    column: str
    seconds: float
    columns: dict[str, set[str] | None] = field(default_factory=dict[str, "set[str] | None"])
    """Of the tables that were met so far."""

    def at(self, template: str, tenant: str, values: Mapping[str, str]) -> Found:
        """Run a query of Explo's as a tenant, and look at what it shows."""
        seconds = 0.0
        try:
            query, tree = self._prepared(template, values)
            answer = self._answer(query)
            seconds = answer.seconds
            self._judge(template, query, tree, tenant, answer)
        except _Met as met:
            return Found(met.problem, seconds)
        return Found(None, seconds)

    def _prepared(self, template: str, values: Mapping[str, str]) -> tuple[Rendered, exp.Query]:
        query = tenants.render(template, values)
        if query.missing:
            raise _Met(
                f"{{{{{query.missing[0]}}}}} has no value before a viewer gives it one. Put its clause in [[ ]], or give it one in "
                "`variables` of defs/analytics/defs.yaml.",
                certain=False,
            )
        try:
            return query, tenants.parse(query.sql)
        except NotOneQuery as error:
            raise _Met("It is not one query, so it was not run. Make it a single select.") from error
        except SqlglotError as error:
            if refusal := self.queries.refusal(query.sql, query.parameters):
                raise _Met(f"BigQuery refuses it: {refusal} Mend it in Explo.") from error
            raise _Met(f"It cannot be read, so it was not run: {error}", certain=False) from error

    def _answer(self, query: Rendered) -> Answer:
        try:
            return self.queries.answer(query.sql, query.parameters, self.seconds)
        except QueryRefused as error:
            raise _Met(f"BigQuery refuses it: {error} Mend it in Explo.") from error
        except TooSlow as error:
            raise _Met(
                f"It takes longer than {self.seconds:g} s. Have a mart count what it counts, or raise `dashboard_seconds` in "
                "defs/analytics/defs.yaml."
            ) from error

    def _judge(self, template: str, query: Rendered, tree: exp.Query, tenant: str, answer: Answer) -> None:
        known = {table: self._columns(table) for table in sorted(tenants.tables(tree))}
        shared = [table for table, columns in known.items() if columns and self.column.lower() in columns]
        unknown = [table for table, columns in known.items() if columns is None and table not in tenants.arrays(tree)]
        ids = tenants.others(_rows(answer), self.column, tenant)
        mend = (
            f"In Explo, filter {' and '.join(shared) or 'it'} by `{self.column} = {{{{customer_id}}}}`, and put what `or` joins in "
            "brackets of its own."
        )
        if shared and not tenants.for_tenant(template):
            shown = f", {', '.join(ids)} among them" if ids else ""
            raise _Met(f"It does not ask for {{{{customer_id}}}}, so that it shows the rows of all{shown}. {mend}")
        if ids:
            raise _Met(f"It shows rows of {', '.join(ids)}. {mend}")
        if unknown:
            raise _Met(
                f"It reads {', '.join(unknown)}, whose columns are not known: whose rows it shows is not either.",
                certain=False,
            )
        if shared and self._differs(query, tenants.narrowed(tree, shared, self.column), tenant, answer):
            raise _Met(
                f"It comes out differently where there are no other customers: their rows are in what it shows. {mend}"
            )

    def _differs(self, query: Rendered, narrow: str, tenant: str, answer: Answer) -> bool:
        """Whether other tenants' rows have a part in a result: without them it is another one, each time."""
        first, steady = _rows(answer), True
        parameters = {**query.parameters, tenants.TENANT: tenant}
        for _ in range(ROUNDS):
            try:
                alone = _rows(self.queries.answer(narrow, parameters, COMPARED_SECONDS))
                if tenants.same(first, alone):
                    return False
                again = _rows(self.queries.answer(query.sql, query.parameters, COMPARED_SECONDS))
            except (QueryRefused, TooSlow) as error:
                why = str(error) or f"that takes longer than {COMPARED_SECONDS:g} s"
                raise _Met(f"It could not be compared with the customer's rows alone: {why}", certain=False) from error
            if first.total == alone.total and not first.whole:
                raise _Met(f"It has {first.total} rows, too many to compare.", certain=False)
            steady = steady and tenants.same(first, again)
            first = again
        if not steady:
            raise _Met("It comes out differently each time, so that nobody can tell whose rows it has.", certain=False)
        return True

    def _columns(self, table: str) -> set[str] | None:
        if table not in self.columns:
            self.columns[table] = self.queries.columns(table)
        return self.columns[table]


class _Met(Exception):
    def __init__(self, text: str, *, certain: bool = True) -> None:
        super().__init__(text)
        self.problem = Problem(text, certain)


def _rows(answer: Answer) -> Rows:
    return Rows(answer.columns, answer.rows, answer.total)
