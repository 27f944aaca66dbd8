"""Brings what the inbox holds to the warehouse every few seconds, where Segment does so by the hour."""

from __future__ import annotations

import logging
import threading
from collections import defaultdict

from google.cloud import bigquery

from sandbox.vendors.segment.destination import Destination
from sandbox.vendors.segment.inbox import Batch, Inbox
from sandbox.vendors.segment.messages import Row, rows

LOAD_SECONDS = 5.0
log = logging.getLogger(__name__)


class Loader:
    """Loads a source's batches one after the other. A batch ends when all of its tables have it; until then it is begun again."""

    def __init__(self, inbox: Inbox, client: bigquery.Client) -> None:
        self._inbox, self._client = inbox, client
        self._destinations: dict[str, Destination] = {}
        self._busy = threading.Lock()

    def start(self) -> None:
        """Load from now on, in a thread of its own."""
        threading.Thread(target=self._run, name="segment-loader", daemon=True).start()

    def load(self) -> dict[str, dict[str, int]]:
        """Load all that was received before the call; return the rows landed by it, by source and table."""
        with self._busy:
            landed: dict[str, dict[str, int]] = {}
            for source in self._inbox.sources():
                counts: dict[str, int] = defaultdict(int)
                while batch := self._inbox.claim(source):
                    for table, count in self._land(batch).items():
                        counts[table] += count
                landed[source] = dict(counts)
            return landed

    def _run(self) -> None:
        pause = threading.Event()
        while not pause.wait(LOAD_SECONDS):
            try:
                self.load()
            except Exception:
                # The warehouse may be down for a while, in one of many ways. Were this thread to end, nothing would ever land
                # again, while messages are still answered with 200.
                log.exception("a load failed; the next one begins it again")

    def _land(self, batch: Batch) -> dict[str, int]:
        if batch.source not in self._destinations:
            self._destinations[batch.source] = Destination(self._client, batch.source)
        destination = self._destinations[batch.source]
        tables = by_table(batch)
        for table, found in tables.items():
            destination.append(table, found, batch.id)
        self._inbox.end(batch)
        return {table: len(found) for table, found in tables.items()}


def by_table(batch: Batch) -> dict[str, list[Row]]:
    tables: dict[str, list[Row]] = defaultdict(list)
    for body, received_at in batch.messages:
        for table, row in rows(body, received_at, batch.loaded_at):
            tables[table].append(row)
    return dict(tables)
