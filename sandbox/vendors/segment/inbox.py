"""Messages that Segment has answered for, until they are in the warehouse; and the batches in which they go there."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sandbox.vendors.store import Store

MOST_MESSAGES = 20_000
"""In one batch."""

SCHEMA = """
create table if not exists segment_message (
    id integer primary key, source text not null, received_at text not null, body text not null, batch text
);
create index if not exists segment_message_batch on segment_message (source, batch);
create table if not exists segment_batch (
    number integer primary key, id text not null unique, source text not null, loaded_at text not null, ended_at text
);
create table if not exists segment_rejected (
    id integer primary key, source text, received_at text not null, reason text not null, body text not null
);
create table if not exists segment_history (only_one integer primary key check (only_one = 1), seeded_at text not null);
"""


@dataclass(frozen=True)
class Batch:
    """Messages of one source that are loaded together. A batch that was not ended is loaded again, with the same `id` and `loaded_at`."""

    id: str
    source: str
    loaded_at: datetime
    messages: list[tuple[dict[str, Any], datetime]]
    """Bodies, and when each was received."""


class Inbox:
    def __init__(self, store: Store) -> None:
        self._store = store
        store.script(SCHEMA)

    def accept(self, source: str, body: dict[str, Any], received_at: datetime) -> None:
        """Keep a message; call it within the store's transaction where others have to be kept with it."""
        self._store.execute(
            "insert into segment_message (source, received_at, body) values (?, ?, ?)",
            (source, received_at.isoformat(), json.dumps(body)),
        )

    def reject(self, source: str | None, body: Any, reason: str, received_at: datetime) -> None:
        self._store.execute(
            "insert into segment_rejected (source, received_at, reason, body) values (?, ?, ?, ?)",
            (source, received_at.isoformat(), reason, json.dumps(body)),
        )

    def rejected(self) -> list[dict[str, Any]]:
        """What was answered with 200 and dropped, oldest first, as Segment's debugger shows it."""
        found = self._store.execute("select * from segment_rejected order by id")
        return [dict(row) | {"body": json.loads(row["body"])} for row in found]

    def sources(self) -> list[str]:
        """Those that have something to load."""
        return [row["source"] for row in self._store.execute("select distinct source from segment_message")]

    def claim(self, source: str) -> Batch | None:
        """The source's batch that was begun and not ended, else a new one of its waiting messages; None where there are none."""
        with self._store.transaction():
            begun = self._store.execute(
                "select * from segment_batch where source = ? and ended_at is null", (source,)
            ) or self._begin(source)
        if not begun:
            return None
        found = self._store.execute(
            "select body, received_at from segment_message where batch = ? order by id", (begun[0]["id"],)
        )
        messages = [(json.loads(row["body"]), datetime.fromisoformat(row["received_at"])) for row in found]
        return Batch(begun[0]["id"], source, datetime.fromisoformat(begun[0]["loaded_at"]), messages)

    def end(self, batch: Batch) -> None:
        """All of it is in the warehouse."""
        with self._store.transaction():
            self._store.execute("delete from segment_message where batch = ?", (batch.id,))
            self._store.execute(
                "update segment_batch set ended_at = ? where id = ?", (datetime.now(UTC).isoformat(), batch.id)
            )

    def seeded(self) -> bool:
        """Whether the history is in the warehouse."""
        return bool(self._store.execute("select 1 from segment_history"))

    def note_seeded(self) -> None:
        self._store.execute(
            "insert or ignore into segment_history values (1, ?)", (datetime.now(UTC).isoformat(timespec="seconds"),)
        )

    def _begin(self, source: str) -> list[Any]:
        waiting = self._store.execute("select 1 from segment_message where source = ? and batch is null", (source,))
        if not waiting:
            return []
        [last] = self._store.execute("select max(loaded_at) as at from segment_batch where source = ?", (source,))
        now = datetime.now(UTC)
        # A load is recognised by its `loaded_at`, so no two batches of a source have the same.
        if last["at"]:
            now = max(now, datetime.fromisoformat(last["at"]) + timedelta(microseconds=1))
        batch = uuid.uuid4().hex
        self._store.execute(
            "update segment_message set batch = ? where id in"
            " (select id from segment_message where source = ? and batch is null order by id limit ?)",
            (batch, source, MOST_MESSAGES),
        )
        return self._store.execute(
            "insert into segment_batch (id, source, loaded_at) values (?, ?, ?) returning *",
            (batch, source, now.isoformat(timespec="microseconds")),
        )
