"""Judge each statement with Google's own analyzer, against the tables that exist, before DuckDB runs it.

Decisions only: `enforcement.py` says which statements come here, `schema.py` which tables exist.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from not_judged import Entry, entry_of_answer, entry_of_statement

from googlesql import Analysis, Analyzer, Column, Function, NotJudgedError, Parameter, RejectedError, Table

CACHED_ANSWERS = 4096
KEPT_REJECTIONS = 20
FUNCTIONS_TRIED = 50
NOT_FOUND = "Function not found: "
# https://cloud.google.com/bigquery/quotas#query_jobs: "Tables referenced per query". Tables behind a view are not counted here.
TABLES_OF_A_QUERY = 1000
TABLE_FUNCTION_NOT_FOUND = "Table-valued function not found: "


@dataclass(frozen=True)
class Statement:
    """One statement, with what its names and parameters mean."""

    sql: str
    project: str
    dataset: str | None = None
    parameters: tuple[Parameter, ...] = ()
    variables: tuple[Column, ...] = ()


class Schema(Protocol):
    """What exists, as one statement sees it."""

    def tables(self, paths: Iterable[tuple[str, ...]]) -> tuple[Table, ...]:
        """Return those of the tables that exist. Raises NotJudgedError for a table whose columns are not known."""
        ...

    def function(self, path: tuple[str, ...], analyze: Callable[[str], Analysis]) -> Function | None:
        """Return the user-defined function, or None where there is none. Raises NotJudgedError for one without fixed types."""
        ...


class UnlistedError(Exception):
    """The analyzer cannot judge a statement, and no entry of not_judged.py covers it."""


class Judge:
    """The analyzer with a cache of its answers and counters. Safe for threads."""

    def __init__(self) -> None:
        self._analyzer = Analyzer()
        self._answers: _Cache = _Cache()
        self._paths: _Cache = _Cache()
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._not_judged: Counter[str] = Counter()
        self._rejections: list[dict[str, str]] = []
        self._seconds = 0.0

    def judge(self, statement: Statement, schema: Schema) -> Analysis | None:
        """Return the analysis of a statement, or None for one that is on the list of what is not judged.

        Raises:
            RejectedError: GoogleSQL rejects the statement.
            UnlistedError: GoogleSQL cannot judge the statement, and it is not on the list.
        """
        began = time.perf_counter()
        try:
            if entry := entry_of_statement(statement.sql):
                return self._pass_unjudged(entry)
            analysis = self._analyze(statement, schema)
            self._count(analyzed=1)
            return analysis
        except RejectedError as error:
            if entry := entry_of_answer(error.message):
                return self._pass_unjudged(entry)
            self._count(analyzed=1, rejected=1)
            with self._lock:
                self._rejections.append({"message": str(error), "statement": statement.sql[:2000]})
                del self._rejections[:-KEPT_REJECTIONS]
            raise
        except NotJudgedError as error:
            if entry := entry_of_answer(str(error)):
                return self._pass_unjudged(entry)
            self._count(unlisted=1)
            raise UnlistedError(
                f"The analyzer cannot judge this statement, and no entry of sandbox/warehouse/not_judged.py covers it: {error}"
            ) from None
        finally:
            with self._lock:
                self._seconds += time.perf_counter() - began

    def parse_script(self, sql: str) -> None:
        """Parse a whole script, as BigQuery does before it runs the first statement. Raises RejectedError."""
        try:
            self._analyzer.parse_script(sql)
        except RejectedError as error:
            self._count(analyzed=1, rejected=1)
            with self._lock:
                self._rejections.append({"message": str(error), "statement": sql[:2000]})
            raise

    def report(self) -> dict[str, Any]:
        """Return the counters: statements analyzed (of these: rejected, answered from the cache) and not judged, by entry."""
        with self._lock:
            return {
                **{name: self._counts[name] for name in ("analyzed", "cached", "rejected", "unlisted")},
                "not_judged": dict(sorted(self._not_judged.items())),
                "seconds": round(self._seconds, 3),
                "rejections": list(self._rejections),
            }

    def pass_unjudged(self, sql: str) -> None:
        """Count a statement that the list covers by its text, and that is not judged for this."""
        entry = entry_of_statement(sql)
        if entry is None:
            raise UnlistedError(f"no entry of sandbox/warehouse/not_judged.py covers {sql[:200]!r}")
        self._pass_unjudged(entry)

    def referenced_tables(self, sql: str) -> tuple[tuple[str, ...], ...]:
        """Return the paths of the tables that a statement names. Raises RejectedError."""
        return self._paths.get(sql, lambda: tuple(dict.fromkeys(self._analyzer.referenced_tables(sql))))

    def _analyze(self, statement: Statement, schema: Schema) -> Analysis:
        paths = self.referenced_tables(statement.sql)
        if len(paths) > TABLES_OF_A_QUERY:
            raise RejectedError(
                f"Too many tables, views and user-defined functions for query: Max: {TABLES_OF_A_QUERY}"
            )
        tables = schema.tables(paths)
        functions: dict[tuple[str, ...], Function] = {}
        for _ in range(FUNCTIONS_TRIED):
            try:
                return self._answer(statement, tables, tuple(functions.values()))
            except RejectedError as error:
                path = _missing_function(error.message)
                if path is None or path in functions:
                    raise
                function = schema.function(path, self._analyzer.analyze)
                if function is None:
                    raise
                functions[path] = function
        raise NotJudgedError(f"more than {FUNCTIONS_TRIED} user-defined functions in one statement")

    def _answer(self, statement: Statement, tables: tuple[Table, ...], functions: tuple[Function, ...]) -> Analysis:
        key = (statement, tables, functions)
        hit = True

        def analyze() -> Analysis | RejectedError:
            nonlocal hit
            hit = False
            try:
                return self._analyzer.analyze(
                    statement.sql, tables,
                    default_project=statement.project, default_dataset=statement.dataset,
                    functions=functions, parameters=statement.parameters, variables=statement.variables,
                )  # fmt: skip
            except RejectedError as error:
                return error

        answer = self._answers.get(key, analyze)
        self._count(cached=int(hit))
        if isinstance(answer, RejectedError):
            raise RejectedError(answer.message, answer.line, answer.column)
        return answer

    def _pass_unjudged(self, entry: Entry) -> None:
        with self._lock:
            self._not_judged[entry.name] += 1

    def _count(self, **counts: int) -> None:
        with self._lock:
            self._counts.update(counts)


def _missing_function(message: str) -> tuple[str, ...] | None:
    for prefix in (NOT_FOUND, TABLE_FUNCTION_NOT_FOUND):
        if message.startswith(prefix):
            return split_path(message.removeprefix(prefix))
    return None


def split_path(text: str) -> tuple[str, ...]:
    """Return the parts of a path as the analyzer writes it: `` `local-dev`.d.t ``, with an advice after a semicolon."""
    return tuple(part.strip("`") for part in text.split(";", maxsplit=1)[0].strip().split("."))


class _Cache:
    """The answers that were used last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = make()
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > CACHED_ANSWERS:
                self._kept.popitem(last=False)
        return made
