"""The publisher of product events.

    with Publisher("my-project", spool_dir=Path("/var/lib/product/events")) as publisher:
        publisher.publish("insight_viewed", 1, {"insight": "on_call_load", "load_ms": 840}, organisation_id="org_0001")

What it guarantees, from the moment when `publish` returns:

- The event is in a file below `spool_dir`, and outlives the process (kill -9 too). With `durable=True` it is on the disk itself, and
  outlives the machine; that costs an fsync an event. Whatever is in the folder is sent by any publisher that runs on it, or by the
  next one, and leaves it only when BigQuery has acknowledged it. Without a `spool_dir` the folder is a temporary one that nobody
  else looks into.
- It reaches its event's table at least once. Rows that are one event share `event_id`; BigQuery drops most of the repeats, dbt the rest.
- What does not fit the registry, or what BigQuery refuses of a batch, reaches `dead_letters` with the reason instead.
- Nothing else happens to it: `publish` raises where it cannot keep an event, and `close` where it could not deliver one.

Events wait in files, not in memory. `received_at` is when an event was sent, and not when it was accepted: rows of an hour's outage
arrive with the hour at which the warehouse first has them, which is what late arrivals are counted by.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from google.cloud.bigquery import Client

from product_events.delivery import Delivery, backoff, retry_after
from product_events.registry import DEAD_LETTERS, Registry, registry
from product_events.rows import Malformed, Row, Submission, dead_letter, new_id
from product_events.spool import Batch, Segment, Spool, table_of

log = logging.getLogger(__name__)


class Undelivered(RuntimeError):
    """Events are not in BigQuery yet. They are in `folder`, and the next publisher that opens it sends them."""

    def __init__(self, count: int, folder: Path, reason: str) -> None:
        super().__init__(f"{count} events are not delivered and stay in {folder}: {reason or 'there was no time to'}")
        self.count = count
        self.folder = folder


class SpoolFull(RuntimeError):
    """The event was not accepted: more wait for delivery than the spool may hold."""


class _PutOff(RuntimeError):
    """BigQuery took a batch but for some of its rows, and may take those later."""


@dataclass(frozen=True)
class Limits:
    """A batch is sent at the first of its three limits; `spool_bytes` bounds what waits, for other publishers on the folder too."""

    batch_events: int = 500
    batch_bytes: int = 1024 * 1024
    batch_seconds: float = 1.0
    call_seconds: float = 15.0
    first_backoff_seconds: float = 0.25
    backoff_seconds: float = 30.0
    spool_bytes: int = 256 * 1024 * 1024
    block_seconds: float = 5.0
    flush_seconds: float = 30.0


@dataclass(frozen=True)
class Published:
    """An event that was accepted; `problem` is why it goes to the dead letters, where it does."""

    event_id: str
    problem: str | None = None


@dataclass(frozen=True)
class _Pause:
    """How long a table, or a batch with rows that were put off, is left alone."""

    failures: int
    until: float
    reason: str


class Publisher:
    """Publishes events from any thread of one process. Make it after forking."""

    def __init__(
        self,
        project: str,
        dataset: str = "product_events",
        *,
        spool_dir: Path | None = None,
        durable: bool = False,
        events: Registry | None = None,
        limits: Limits | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Raises RegistryError, OSError for the folder, and google.auth's exceptions for missing credentials."""
        self._registry = events or registry()
        self._durable, self._limits, self._clock = durable, limits or Limits(), clock
        self._client = Client(project=project)
        self._delivery = Delivery(self._client, dataset, self._limits.call_seconds)
        folder = spool_dir or Path(tempfile.mkdtemp(prefix="product-events-"))
        self._temporary = None if spool_dir else folder
        # A folder a dataset: what waits for one must not be sent to another.
        self._spool = Spool(folder / f"{project}.{dataset}")
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._open: dict[str, Segment] = {}
        self._own = {path for path in self._spool.batches() if self._is_free(path)}
        self._pauses: dict[str, _Pause] = {}
        self._closed = False
        self._stopping = False
        self._work = threading.Event()
        self._round_done = threading.Condition()
        self._sender = threading.Thread(target=self._run, name="product-events", daemon=True)
        self._sender.start()

    def publish(
        self,
        name: str,
        version: int,
        properties: Mapping[str, Any],
        *,
        organisation_id: str,
        user_id: str | None = None,
        occurred_at: datetime | None = None,
        event_id: str | None = None,
    ) -> Published:
        """Accept an event. What is wrong with it is in the answer and in the dead letters, and raises nothing.

        Raises SpoolFull when too much has waited for delivery for `block_seconds`, and OSError when the disk fails.
        """
        now = self._clock()
        identifier = new_id() if event_id is None else event_id
        moment = now if occurred_at is None else occurred_at
        submission = Submission(identifier, name, version, properties, organisation_id, user_id, moment)
        try:
            row, problem = submission.row(self._registry, now), None
        except Malformed as error:
            problem = str(error)
            row = submission.dead_letter(problem)
            log.warning("%s %s is a dead letter: %s", name, identifier, problem)
        target = DEAD_LETTERS if problem else name
        self._await_room(target)
        with self._lock:
            self._check_open()
            self._append(target, row, self._durable)
        return Published(identifier, problem)

    def flush(self, seconds: float | None = None) -> None:
        """Wait until everything accepted so far, and what was found in the folder, is in BigQuery. Raises Undelivered."""
        deadline = time.monotonic() + (self._limits.flush_seconds if seconds is None else seconds)
        # What BigQuery refuses of the first round's rows becomes the dead letters of the second.
        for _ in range(2):
            batches = self._sealed()
            while any(path.exists() for path in batches):
                if time.monotonic() > deadline:
                    raise self._undelivered()
                self._work.set()
                with self._round_done:
                    self._round_done.wait(0.05)

    def close(self, seconds: float | None = None) -> None:
        """Flush and stop. Raises Undelivered; a second call does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        try:
            self.flush(seconds)
        except Undelivered:
            log.debug("closing with events in %s", self._spool.folder)
        self._stopping = True
        self._work.set()
        self._sender.join(2 * self._limits.call_seconds)
        self._client.close()
        if self._sealed():
            raise self._undelivered()
        if self._temporary:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except Undelivered as undelivered:
            if error is None:
                raise
            log.exception("%s", undelivered)  # noqa: TRY401

    def _check_open(self) -> None:
        if self._closed or os.getpid() != self._process:
            raise RuntimeError("this publisher is closed, or another process made it and forked this one")

    def _await_room(self, target: str) -> None:
        deadline = time.monotonic() + self._limits.block_seconds
        # Looked at for a new batch only: the ones that are being written have a bound of their own.
        while target not in self._open and self._spool.size() >= self._limits.spool_bytes:
            self._check_open()
            if time.monotonic() > deadline:
                raise SpoolFull(f"{self._spool.folder} holds {self._spool.size()} bytes: {self._reasons()}")
            self._work.set()
            with self._round_done:
                self._round_done.wait(0.05)

    def _append(self, target: str, row: Row, durable: bool) -> None:
        segment = self._open.get(target)
        if segment is None:
            segment = self._open[target] = self._spool.segment(target)
            self._own.add(segment.path)
        segment.append(json.dumps(row).encode() + b"\n", durable)
        if segment.rows >= self._limits.batch_events or segment.size >= self._limits.batch_bytes:
            self._seal([target])

    def _seal(self, targets: Iterable[str]) -> None:
        for target in list(targets):
            self._open.pop(target).seal()
            self._work.set()

    def _sealed(self) -> list[Path]:
        """Seal what is being written; return the batches that this publisher answers for and that are not in BigQuery."""
        with self._lock:
            self._seal(self._open)
            self._own = {path for path in self._own if path.exists()}
            return list(self._own)

    def _undelivered(self) -> Undelivered:
        count = 0
        for path in self._sealed():
            try:
                count += path.read_bytes().count(b"\n")
            except FileNotFoundError:
                continue
        return Undelivered(count, self._spool.folder, self._reasons())

    def _reasons(self) -> str:
        return "; ".join(sorted({pause.reason for pause in list(self._pauses.values())}))

    def _is_free(self, path: Path) -> bool:
        with self._spool.claim(path) as batch:
            return batch is not None

    def _run(self) -> None:
        while not self._stopping:
            self._work.wait(self._idle_seconds())
            self._work.clear()
            try:
                self._round()
            except Exception:
                # The disk, as a rule. Whatever it was: were this thread to end, every later event would wait for ever, and
                # nobody would hear of it. The batches stay, and the next round tries again.
                log.exception("product events wait in %s", self._spool.folder)
                time.sleep(self._limits.first_backoff_seconds)

    def _idle_seconds(self) -> float:
        now = time.monotonic()
        return min([self._limits.batch_seconds, *(p.until - now for p in self._pauses.values() if p.until > now)])

    def _round(self) -> None:
        aged = time.monotonic() - self._limits.batch_seconds
        with self._lock:
            self._seal(target for target, segment in self._open.items() if segment.opened <= aged)
        batches = self._spool.batches()
        self._forget(batches)
        for path in batches:
            if self._stopping:
                return
            self._attempt(path)
            with self._round_done:
                self._round_done.notify_all()

    def _forget(self, batches: list[Path]) -> None:
        """Of a publisher that runs for months: what is gone, whoever sent it."""
        known = {key for path in batches for key in (table_of(path), path.name)}
        for key in self._pauses.keys() - known:
            del self._pauses[key]
        with self._lock:
            self._own -= {path for path in self._own.difference(batches) if not path.exists()}

    def _attempt(self, path: Path) -> None:
        table = table_of(path)
        now = time.monotonic()
        if any(key in self._pauses and now < self._pauses[key].until for key in (table, path.name)):
            return
        with self._spool.claim(path) as batch:
            if batch is None:
                return
            try:
                self._send(table, batch)
            except _PutOff as error:
                self._pause(path.name, error)
            except Exception as error:
                # Whatever it was, the batch stays. A missing table or permission may be there at the next attempt.
                self._pause(table, error)
            else:
                self._pauses.pop(table, None)
                self._pauses.pop(path.name, None)

    def _pause(self, key: str, error: Exception) -> None:
        failures = self._pauses[key].failures + 1 if key in self._pauses else 1
        asked, limits = retry_after(error), self._limits
        wait = backoff(failures, limits.first_backoff_seconds, limits.backoff_seconds) if asked is None else asked
        reason = f"{key}: {type(error).__name__}: {error}"
        self._pauses[key] = _Pause(failures, time.monotonic() + wait, reason)
        log.warning("attempt %d failed, the next one is in %.1f s: %s", failures, wait, reason)

    def _send(self, table: str, batch: Batch) -> None:
        """Deliver a batch and delete it. Raises whatever stopped rows of it; those are still in the batch then."""
        rows, dead = _read(table, batch)
        later: list[Row] = []
        for row, reason in self._delivery.insert(table, rows, self._clock()):
            if reason is None or table == DEAD_LETTERS:
                later.append(row)
            else:
                dead.append(dead_letter(row.get("event_id"), table, row.get("event_version"), row, reason))
        for row in dead:
            log.warning("%s %s is a dead letter: %s", row["event_name"], row["event_id"], row["reason"])
            with self._lock:
                self._append(DEAD_LETTERS, row, durable=True)
        if later:
            batch.keep([json.dumps(row).encode() for row in later])
            raise _PutOff(f"BigQuery does not take {len(later)} of {len(rows)} rows yet")
        batch.delete()


def _read(table: str, batch: Batch) -> tuple[list[Row], list[Row]]:
    """The rows of a batch, and a dead letter for each line that is none: half of one, after a crash of the machine."""
    rows: list[Row] = []
    dead: list[Row] = []
    for line in batch.lines():
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if isinstance(row, dict):
            rows.append(cast(Row, row))
        else:
            text = line.decode(errors="backslashreplace")
            dead.append(dead_letter(None, table, None, text, "its line in the spool cannot be read"))
    return rows, dead
