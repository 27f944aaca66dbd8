"""What the product database says of the company, for those who imitate what its people do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg
from psycopg.rows import DictRow, dict_row

from sandbox.company.history import Rows

READ = ("organisations", "users", "subscriptions", "escalations", "pages", "incidents")


@dataclass(frozen=True)
class Product:
    seed: int
    now: datetime
    """The company's own hour, or this machine's where the company is ahead of it."""
    rows: Rows


def read(dsn: str) -> Product:
    """The seed, the hour and the rows, by table and id. The history has to be there: see `seed`."""
    with psycopg.Connection[DictRow].connect(dsn, row_factory=dict_row) as connection:
        clock = connection.execute("select seed, now from company_state.clock").fetchone()
        assert clock is not None
        rows = {table: connection.execute(f"select * from {table} order by id".encode()).fetchall() for table in READ}
    return Product(clock["seed"], min(clock["now"].astimezone(UTC), datetime.now(UTC)), rows)
