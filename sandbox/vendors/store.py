"""The vendor stand-ins' memory: one SQLite file, shared by all of them and safe to read from other processes."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

Values = Sequence[Any] | Mapping[str, Any]


class Store:
    """A connection a thread, in write-ahead mode; every statement commits by itself outside of `transaction`."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._local = threading.local()

    def execute(self, statement: str, values: Values = ()) -> list[sqlite3.Row]:
        return self._connection().execute(statement, values).fetchall()

    def script(self, statements: str) -> None:
        self._connection().executescript(statements)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """What this thread executes inside happens wholly or not at all."""
        connection = self._connection()
        connection.execute("begin immediate")
        try:
            yield
        except BaseException:
            connection.execute("rollback")
            raise
        connection.execute("commit")

    def _connection(self) -> sqlite3.Connection:
        if not hasattr(self._local, "connection"):
            connection = sqlite3.connect(self._path, isolation_level=None, timeout=30)
            connection.row_factory = sqlite3.Row
            connection.execute("pragma journal_mode = wal")
            connection.execute("pragma synchronous = normal")
            self._local.connection = connection
        return self._local.connection
