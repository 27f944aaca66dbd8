"""Reads Dagster's event log by id: which ids exist, of which type, and the events themselves.

`get_logs_for_all_runs_by_log_id`, the public call, returns events of a type and cannot say which ids exist. It also drops every event
after one that it cannot deserialize (dagster/_core/storage/event_log/sql_event_log.py, 1.13). Dagster's storages for SQLite, PostgreSQL
and MySQL are all `SqlEventLogStorage`, so the table is read directly. Another storage is read by the public call: right, but slower.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import batched
from typing import Any

import sqlalchemy as db
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.event_log import SqlEventLogStorage, SqlEventLogStorageTable
from dagster._core.storage.event_log.base import EventLogStorage
from dagster_shared.serdes import deserialize_value

IDS_A_QUERY, RANGES_A_QUERY = 500, 100
PUBLIC_ROWS_A_QUERY = 1_000

TABLE = SqlEventLogStorageTable.c
IdRange = tuple[int, int]
"""The first and the last id of a range, both included."""


@dataclass(frozen=True)
class Row:
    """An event without its body."""

    id: int
    kind: str | None
    """The name of its type, such as `ASSET_OBSERVATION` or `PIPELINE_FAILURE`; None for a line of a log."""
    run_id: str


def read_rows_after(storage: EventLogStorage, after: int, limit: int) -> list[Row]:
    """Return the rows of all types with an id above `after`, in the order of their ids."""
    if not isinstance(storage, SqlEventLogStorage):
        return _read_public_rows(storage, after, None, limit)
    query = _select_rows().where(TABLE.id > after).order_by(TABLE.id).limit(limit)
    return _rows_of(storage, query)


def read_rows_in(storage: EventLogStorage, ranges: Sequence[IdRange], limit: int) -> list[Row]:
    """Return the rows of all types in these ranges, in the order of their ids; at most `limit` of each hundred ranges."""
    found: list[Row] = []
    if not isinstance(storage, SqlEventLogStorage):
        for first, last in ranges:
            found += _read_public_rows(storage, first - 1, last, limit)
        return found
    for some in batched(ranges, RANGES_A_QUERY, strict=False):
        within = db.or_(*(TABLE.id.between(first, last) for first, last in some))
        found += _rows_of(storage, _select_rows().where(within).order_by(TABLE.id).limit(limit))
    return found


def read_rows_of_kinds(storage: EventLogStorage, kinds: Collection[str], ids: IdRange) -> list[Row]:
    """Return the rows of these types in a range of ids, in the order of their ids."""
    if not isinstance(storage, SqlEventLogStorage):
        return [row for row in _read_public_rows(storage, ids[0] - 1, ids[1], None) if row.kind in kinds]
    query = _select_rows().where(TABLE.dagster_event_type.in_(kinds), TABLE.id.between(*ids)).order_by(TABLE.id)
    return _rows_of(storage, query)


def count_rows(storage: EventLogStorage, kinds: Collection[str], ranges: Sequence[IdRange]) -> list[int]:
    """Return the number of rows of these types in each of a few ranges.

    Dagster's index over type and id (`idx_event_type`) answers it without the rows.
    """
    if not isinstance(storage, SqlEventLogStorage):
        return [len(read_rows_of_kinds(storage, kinds, ids)) for ids in ranges]
    counts = [
        db.select(db.func.count())
        .where(TABLE.dagster_event_type.in_(kinds), TABLE.id.between(*ids))
        .scalar_subquery()
        .label(f"range_{number}")
        for number, ids in enumerate(ranges)
    ]
    with storage.index_connection() as connection:
        return [int(count) for count in connection.execute(db.select(*counts)).one()] if counts else []


def read_entries(storage: EventLogStorage, ids: Iterable[int]) -> dict[int, EventLogEntry | Exception]:
    """Return the events with these ids. One that cannot be deserialized is the error; one that is gone is left out."""
    found: dict[int, EventLogEntry | Exception] = {}
    if not isinstance(storage, SqlEventLogStorage):
        for id_ in ids:
            entries = storage.get_logs_for_all_runs_by_log_id(after_cursor=id_ - 1, limit=1)
            found[id_] = entries.get(id_) or ValueError("Dagster could not deserialize it")
        return found
    for some in batched(ids, IDS_A_QUERY, strict=False):
        query = db.select(TABLE.id, TABLE.event).where(TABLE.id.in_(some)).order_by(TABLE.id)
        with storage.index_connection() as connection:
            texts = [(int(row[0]), str(row[1])) for row in connection.execute(query)]
        for id_, text in texts:
            try:
                found[id_] = deserialize_value(text, EventLogEntry)
            except Exception as error:
                # Any version of any code in the instance has written it.
                found[id_] = error
    return found


def _select_rows() -> db.Select[Any, Any, Any]:
    return db.select(TABLE.id, TABLE.dagster_event_type, TABLE.run_id)


def _rows_of(storage: SqlEventLogStorage, query: db.Select[Any, Any, Any]) -> list[Row]:
    with storage.index_connection() as connection:
        return [Row(int(row[0]), row[1], row[2] or "") for row in connection.execute(query)]


def _read_public_rows(storage: EventLogStorage, after: int, last: int | None, limit: int | None) -> list[Row]:
    """Return the rows above `after` by the public call alone. One that cannot be deserialized looks like an id that does not exist."""
    found: list[Row] = []
    while limit is None or len(found) < limit:
        most = PUBLIC_ROWS_A_QUERY if limit is None else min(PUBLIC_ROWS_A_QUERY, limit - len(found))
        entries = storage.get_logs_for_all_runs_by_log_id(after_cursor=after, limit=most)
        for id_, entry in entries.items():
            if last is not None and id_ > last:
                return found
            event = entry.dagster_event
            found.append(Row(id_, event.event_type_value if event else None, entry.run_id))
        if len(entries) < most:
            break
        after = max(entries)
    return found
