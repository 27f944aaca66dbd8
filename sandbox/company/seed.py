"""Gives the product database its schema and history, once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from sandbox.company.history import TABLES, Rows, history

SEED = 20260101
STATE = """
create schema if not exists company_state;
create table if not exists company_state.clock (
    only_one boolean primary key default true check (only_one), seed bigint, scale double precision, now timestamptz
);
"""


@dataclass(frozen=True)
class Seeded:
    fresh: bool
    """False where the history was there already."""
    now: datetime
    """The company's own hour."""


def seed(dsn: str, scale: float = 1.0, until: datetime | None = None, seed: int = SEED) -> Seeded:
    """Create the schema and load the history up to `until` (default: this hour), in one transaction.

    A database that has its history is left as it is, whatever the other arguments say.
    """
    hour = (until or datetime.now(UTC)).astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    with psycopg.connect(dsn) as connection:
        connection.execute(STATE)
        # Two commands that start at once: the second waits here, and then finds the first one's history.
        connection.execute("lock table company_state.clock in exclusive mode")
        row = connection.execute("select now from company_state.clock").fetchone()
        if row is not None:
            return Seeded(False, row[0])
        connection.execute(Path(__file__).with_name("schema.sql").read_bytes())
        load(connection, history(seed, scale, hour))
        connection.execute(
            "insert into company_state.clock (seed, scale, now) values (%s, %s, %s)", [seed, scale, hour]
        )
    return Seeded(True, hour)


def load(connection: psycopg.Connection, rows: Rows) -> None:
    """Copy rows into their tables, in the order that the foreign keys want."""
    for table in TABLES:
        if not rows[table]:
            continue
        columns = list(rows[table][0])
        statement = f"copy {table} ({', '.join(columns)}) from stdin"
        with connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
            for row in rows[table]:
                copy.write_row([row[column] for column in columns])
