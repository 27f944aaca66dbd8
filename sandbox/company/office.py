"""Keeps the company's billing and support in the product database's schema `company_state`, where nothing of the product's own is.

There they move in the same transaction as the product's rows, and the stand-ins for Stripe and Zendesk hold nothing that a restart could lose.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row

from sandbox.company import billing, support
from sandbox.company.history import Row

Connection = psycopg.Connection[dict[str, Any]]


@contextmanager
def opened(dsn: str) -> Iterator[Connection]:
    """A connection whose rows are dictionaries; commits at the end. Raises psycopg.OperationalError where nothing listens."""
    with psycopg.connect(dsn, row_factory=dict_row) as connection:
        yield connection


def prepare(connection: Connection) -> None:
    """Create the tables and fill them from the product's rows, once. A company without its history has nothing to fill them with."""
    # Who comes second waits here, and finds the rows.
    connection.execute("lock table company_state.clock in exclusive mode")
    connection.execute((billing.SCHEMA + support.SCHEMA).encode())
    if connection.execute("select 1 from company_state.support_users limit 1").fetchone():
        return
    clock = connection.execute("select seed, now from company_state.clock").fetchone()
    if clock is None:
        return
    rows = {
        table: connection.execute(f"select * from {table} order by id".encode()).fetchall()
        for table in ("organisations", "users", "subscriptions")
    }
    made = billing.billing(clock["seed"], rows, clock["now"]) | support.support(clock["seed"], rows, clock["now"])
    for table, lines in made.items():
        load(connection, table, lines)


def load(connection: Connection, table: str, rows: list[Row]) -> None:
    """Copy rows into a table of `company_state`, in the order of their last change."""
    if not rows:
        return
    ordered = sorted(rows, key=lambda row: row.get("updated_at") or row["created_at"])
    columns = list(rows[0])
    statement = f"copy company_state.{table} ({', '.join(columns)}) from stdin"
    with connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
        for row in ordered:
            copy.write_row([row[column] for column in columns])


def now(connection: Connection) -> datetime:
    """The company's hour; whoever asks is alone with it until the transaction ends, so that changes come in one order."""
    clock = connection.execute("select now from company_state.clock for update").fetchone()
    assert clock is not None, "the company has no history"
    return clock["now"]
