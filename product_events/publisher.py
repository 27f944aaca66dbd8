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

While BigQuery does not take a table's rows, each publisher appends that table's events to one block, up to `block_bytes`, and then begins the
next: the number of files depends on the bytes that wait, not on how long the outage is or how often processes start. Small blocks are united
in one request when they are sent. `publish` never lists the folder: the sender's thread does, and keeps the sum of the disk blocks in use.

When the folder holds `spool_bytes`, `publish` waits until `block_seconds` after that moment, and from then on raises SpoolFull at once. Events that
it refuses are counted: in the log every minute, in `refused`, and as a row for each table in `dead_letters` when there is room again.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from google.cloud.bigquery import Client

from product_events.delivery import Delivery, backoff, retry_after
from product_events.registry import DEAD_LETTERS, Registry, registry
from product_events.rows import Malformed, Row, Submission, dead_letter, exact_text, new_id
from product_events.spool import DEFERRED, Block, Segment, Spool, count_lines

log = logging.getLogger(__name__)

BLOCKS_OF_A_REQUEST = 100
"""Small blocks that are united in one request; each is an open file while the request is under way."""
TURN_SECONDS = 1.0
"""How long the sender drains before it looks at the folder again."""
SCAN_SHARE = 20
"""A scan of the folder is repeated only after this many times the seconds that the last one took."""
REFUSALS_LOG_SECONDS = 60.0
ROOM_SHARE = 0.9
"""Refused events are reported when less than this share of the spool is in use."""
LINES_AT_A_TIME = 50
"""Lines that the sender's thread reads before it lets `publish` go on in another thread."""
COUNT_SECONDS = 2.0
"""How long the events that were not delivered are counted for the message about them."""


class Undelivered(RuntimeError):
    """Events are not in BigQuery yet. They are in `folder`, and the next publisher that opens it sends them.

    `count` is their number, or a part of it where `complete` is false: to count a large backlog takes too long.
    """

    def __init__(self, count: int, folder: Path, reason: str, complete: bool = True) -> None:
        number = f"{count}" if complete else f"At least {count}"
        super().__init__(f"{number} events are not delivered and stay in {folder}: {reason or 'there was no time to'}")
        self.count = count
        self.folder = folder
        self.complete = complete


class SpoolFull(RuntimeError):
    """The event was not accepted: more waits for delivery than the spool may hold."""


@dataclass(frozen=True)
class Limits:
    """Limits of one publisher.

    A batch is sent at the first of `batch_events`, `batch_bytes` and `batch_seconds`. While BigQuery does not take a table's rows, they wait in
    blocks of `block_bytes`. `spool_bytes` bounds what waits on the disk, counted in whole disk blocks and with the files of other publishers
    on the folder, which are measured once a second. A day of 100 events a second of 300 bytes takes 2.6 GB.
    """

    batch_events: int = 500
    batch_bytes: int = 1024 * 1024
    batch_seconds: float = 1.0
    call_seconds: float = 15.0
    first_backoff_seconds: float = 0.25
    backoff_seconds: float = 30.0
    spool_bytes: int = 256 * 1024 * 1024
    block_seconds: float = 5.0
    flush_seconds: float = 30.0
    block_bytes: int = 8 * 1024 * 1024


@dataclass(frozen=True)
class Published:
    """An event that was accepted; `problem` is why it goes to the dead letters, where it does."""

    event_id: str
    problem: str | None = None


@dataclass(frozen=True)
class _Pause:
    """How long a lane is left alone."""

    failures: int
    until: float
    reason: str


@dataclass
class _Lane:
    """The blocks of one table, or those with its rows that BigQuery put off. Lanes do not wait for each other."""

    name: str
    open: Segment | None = None
    full: list[Segment] = field(default_factory=list[Segment])
    waiting: deque[Path] = field(default_factory=deque[Path])
    """Blocks that may be sent, the oldest first. For the sender's thread alone, as `held`."""
    held: Block | None = None
    """The block of which a part was sent."""
    small: list[Path] = field(default_factory=list[Path])
    """Blocks that can be continued instead of a new one."""
    pause: _Pause | None = None
    flowing: bool = False
    """Whether BigQuery took the last rows."""

    @property
    def table(self) -> str:
        return self.name.removesuffix(DEFERRED)

    @property
    def deferred(self) -> bool:
        return self.name.endswith(DEFERRED)


type _Part = tuple[Block, list[bytes]]


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
        folder = spool_dir or _temporary_folder()
        self._temporary = None if spool_dir else folder
        # A folder a dataset: what waits for one must not be sent to another.
        self._spool = Spool(folder / f"{project}.{dataset}")
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._lanes: dict[str, _Lane] = {}
        self._accepted = 0
        # The blocks that this publisher answers for, each with the number of the first event in it; 0 for what was found in the folder.
        self._own: dict[Path, int] = {}
        self._next_scan = 0.0
        self._scan_folder()
        self._own = {path: 0 for lane in self._lanes.values() for path in lane.waiting if self._is_free(path)}
        self._full_since: float | None = None
        self._refused = 0
        self._unreported: Counter[str] = Counter()
        self._first_refusal = self._last_refusal = self._clock()
        self._next_refusal_log = 0.0
        self._unreadable: set[Path] = set()
        self._closed = False
        self._stopping = False
        self._work = threading.Event()
        self._round_done = threading.Condition()
        self._sender = threading.Thread(target=self._send_until_stopped, name="product-events", daemon=True)
        self._sender.start()

    @property
    def refused(self) -> int:
        """The number of events for which `publish` raised SpoolFull."""
        return self._refused

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

        Raises SpoolFull when too much has waited for delivery for `block_seconds`, OSError when the disk fails, and RuntimeError when
        the publisher is closed, or was made by the process that forked this one.
        """
        self._check_open()
        now = self._clock()
        identifier = new_id() if event_id is None else event_id
        moment = now if occurred_at is None else occurred_at
        submission = Submission(identifier, name, version, properties, organisation_id, user_id, moment)
        try:
            row, problem, target = submission.row(self._registry, now), None, exact_text(name)
        except Malformed as error:
            row, target = submission.dead_letter(str(error)), DEAD_LETTERS
            problem = str(row["reason"])
            log.warning("%s %s is a dead letter: %s", row["event_name"], row["event_id"], problem)
        self._accept_line(target, _encode_rows([row]))
        return Published(identifier, problem)

    def flush(self, seconds: float | None = None) -> None:
        """Wait until everything accepted so far, and what was found in the folder, is in BigQuery or with another publisher on the folder.

        What BigQuery refuses is waited for until it is in the dead letters. Raises Undelivered after `seconds`.
        """
        self._check_process()
        deadline = time.monotonic() + (self._limits.flush_seconds if seconds is None else seconds)
        with self._lock:
            last = self._accepted
        while self._is_pending(last):
            if time.monotonic() > deadline:
                raise self._undelivered()
            self._work.set()
            with self._round_done:
                self._round_done.wait(0.05)

    def close(self, seconds: float | None = None) -> None:
        """Flush and stop. Raises Undelivered. A second call does nothing, and neither does one in a forked process."""
        if os.getpid() != self._process:
            return
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
        with self._lock:
            segments = [segment for lane in self._lanes.values() for segment in (*lane.full, lane.open) if segment]
            for lane in self._lanes.values():
                lane.open, lane.full = None, []
        for segment in segments:
            self._seal_segment(segment)
        if self._is_pending(self._accepted):
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

    def _check_process(self) -> None:
        # Before any lock: a fork copies a lock that another thread holds, and no one releases the copy.
        if os.getpid() != self._process:
            raise RuntimeError("another process made this publisher and forked this one: make it after forking")

    def _check_open(self) -> None:
        self._check_process()
        if self._closed:
            raise RuntimeError("this publisher is closed")

    def _accept_line(self, name: str, line: bytes) -> None:
        """Append a line to the open block of a lane, when the spool has room for it. Raises SpoolFull and OSError."""
        while True:
            with self._lock:
                self._check_open()
                lane = self._lane_of(name)
                if lane.open is None:
                    lane.open = self._continue_block(lane)
                growth = self._spool.growth(lane.open, len(line))
                if not growth or self._spool.used + growth <= self._limits.spool_bytes:
                    self._full_since = None if growth else self._full_since
                    self._accepted += 1
                    self._append_lines(lane, line, self._accepted, self._durable)
                    return
                now = time.monotonic()
                self._full_since = self._full_since or now
                if now - self._full_since >= self._limits.block_seconds:
                    self._refuse_event(name, now)
            self._work.set()
            with self._round_done:
                self._round_done.wait(0.05)

    def _refuse_event(self, name: str, now: float) -> None:
        """Count an event that is not accepted, and raise SpoolFull. With the lock."""
        moment = self._clock()
        if not self._unreported:
            self._first_refusal = moment
        self._last_refusal = moment
        self._unreported[name] += 1
        self._refused += 1
        message = f"{self._spool.folder} holds {self._spool.used} bytes: {self._reasons()}"
        if now >= self._next_refusal_log:
            self._next_refusal_log = now + REFUSALS_LOG_SECONDS
            log.error("%d events were refused so far: %s", self._refused, message)
        raise SpoolFull(message)

    def _append_lines(self, lane: _Lane, lines: bytes, first: int, durable: bool) -> Segment:
        """Append whole lines to the lane's open block. With the lock. Raises OSError."""
        segment = lane.open
        if segment is None:
            segment = lane.open = self._continue_block(lane) or self._spool.segment(lane.name, durable)
        self._own[segment.path] = min(self._own.get(segment.path, first), first)
        rows, size = segment.rows, segment.size
        self._spool.append(segment, lines, durable)
        limits = self._limits
        if segment.size >= limits.block_bytes:
            lane.open = None
            lane.full.append(segment)
        if rows < limits.batch_events <= segment.rows or size < limits.batch_bytes <= segment.size or lane.open is None:
            self._work.set()
        return segment

    def _continue_block(self, lane: _Lane) -> Segment | None:
        # While nothing is delivered, events are added to the block that was tried last, and processes that come and go continue each
        # other's blocks, instead of leaving one each.
        while lane.small and not lane.flowing:
            segment = self._spool.reopen(lane.small.pop(), self._limits.block_bytes)
            if segment:
                return segment
        return None

    def _lane_of(self, name: str) -> _Lane:
        lane = self._lanes.get(name)
        if lane is None:
            # A new dictionary, so that the sender's thread may go through the one that it has.
            lane = _Lane(name)
            self._lanes = {**self._lanes, name: lane}
        return lane

    def _is_pending(self, last: int) -> bool:
        """Ask for the blocks with events up to the number `last` to be sent; return whether one of them is still there."""
        with self._lock:
            paths = [path for path, first in self._own.items() if first <= last]
            for lane in self._lanes.values():
                if lane.open and self._own.get(lane.open.path, 0) <= last:
                    lane.open.seal_requested = True
        for path in paths:
            if path.exists():
                return True
            with self._lock:
                self._own.pop(path, None)
        # Rows that were put off, or refused, have moved to another block before theirs was deleted.
        with self._lock:
            return (self._closed and bool(self._unreported) and self._sender.is_alive()) or any(
                first <= last for first in self._own.values()
            )

    def _undelivered(self) -> Undelivered:
        with self._lock:
            paths = list(self._own)
        deadline = time.monotonic() + COUNT_SECONDS
        total, complete = 0, True
        for path in paths:
            count = count_lines(path, deadline)
            if count is None:
                complete = False
                break
            total += count
        return Undelivered(total, self._spool.folder, self._reasons(), complete)

    def _reasons(self) -> str:
        return "; ".join(sorted({lane.pause.reason for lane in self._lanes.values() if lane.pause}))

    def _is_free(self, path: Path) -> bool:
        try:
            with self._spool.claim(path) as block:
                return block is not None
        except OSError:
            return False

    # What follows runs in the sender's thread alone.

    def _send_until_stopped(self) -> None:
        while not self._stopping:
            self._work.wait(self._idle_seconds())
            self._work.clear()
            try:
                self._send_round()
            except Exception:
                # The disk, as a rule. Whatever it was: were this thread to end, every later event would wait for ever, and
                # no one would be notified. The blocks stay, and the next round tries again.
                log.exception("product events wait in %s", self._spool.folder)
                time.sleep(self._limits.first_backoff_seconds)
        for lane in self._lanes.values():
            if lane.held:
                lane.held.release()

    def _idle_seconds(self) -> float:
        now = time.monotonic()
        pauses = [lane.pause.until - now for lane in self._lanes.values() if lane.pause and lane.pause.until > now]
        return min([self._limits.batch_seconds, *pauses])

    def _send_round(self) -> None:
        """Send what waits: one request of each lane in turn, so that a large backlog of one table does not delay the others."""
        if time.monotonic() >= self._next_scan:
            self._scan_folder()
        self._report_refusals()
        end = time.monotonic() + TURN_SECONDS
        busy = True
        while busy and time.monotonic() < end:
            busy = False
            for lane in self._lanes.values():
                if self._stopping:
                    return
                began = time.thread_time()
                if self._take_turn(lane):
                    busy = True
                    if not self._closed:
                        # Half of the time at most, so that a large backlog leaves the interpreter to the product's own threads.
                        time.sleep(time.thread_time() - began)
                with self._round_done:
                    self._round_done.notify_all()
        if busy:
            self._work.set()

    def _scan_folder(self) -> None:
        began = time.monotonic()
        listing = self._spool.scan(self._limits.block_bytes // 2)
        ended = time.monotonic()
        self._next_scan = ended + max(self._limits.batch_seconds, SCAN_SHARE * (ended - began))
        with self._lock:
            for name in listing.blocks:
                self._lane_of(name)
            for lane in self._lanes.values():
                lane.small = listing.small.get(lane.name, [])
                mine = {segment.path for segment in (*lane.full, lane.open) if segment}
                mine |= {lane.held.path} if lane.held else set()
                lane.waiting = deque(path for path in listing.blocks.get(lane.name, []) if path not in mine)

    def _take_turn(self, lane: _Lane) -> bool:
        """Send one request of a lane; return whether there may be another to send."""
        with self._lock:
            full, lane.full = lane.full, []
        for segment in full:
            self._seal_segment(segment)
            lane.waiting.append(segment.path)
        now = time.monotonic()
        if lane.pause and now < lane.pause.until:
            return False
        parts: list[_Part] = []
        try:
            self._gather_lines(lane, parts)
            if not parts and self._seal_open(lane, now):
                self._gather_lines(lane, parts)
            if not parts:
                return False
            went_on = self._send_parts(lane, parts)
        except Exception as error:
            # Whatever it was, the blocks stay. A missing table or permission may be there at the next attempt.
            self._give_back(lane, parts)
            self._set_pause(lane, error)
            return False
        return went_on

    def _seal_open(self, lane: _Lane, now: float) -> bool:
        """Seal the lane's open block when it is due, which it is only when no other block of the lane waits."""
        limits = self._limits
        with self._lock:
            segment = lane.open
            if segment is None or not (
                lane.pause
                or segment.seal_requested
                or segment.rows >= limits.batch_events
                or segment.size >= limits.batch_bytes
                or now - segment.opened >= limits.batch_seconds
            ):
                return False
            lane.open = None
        self._seal_segment(segment)
        lane.waiting.append(segment.path)
        return True

    def _seal_segment(self, segment: Segment) -> None:
        try:
            segment.seal()
        except OSError:
            log.exception("%s may be lost if this machine stops before it is sent", segment.path)

    def _gather_lines(self, lane: _Lane, parts: list[_Part]) -> None:
        """Add the lines of the next request, with their blocks, to `parts`."""
        rows, size = self._limits.batch_events, self._limits.batch_bytes
        while rows > 0 and size > 0 and len(parts) < BLOCKS_OF_A_REQUEST:
            block = lane.held or self._next_block(lane)
            if block is None:
                return
            lane.held = None
            lines: list[bytes] = []
            parts.append((block, lines))
            lines += block.read(rows, size)
            rows -= len(lines)
            size -= sum(len(line) for line in lines)

    def _next_block(self, lane: _Lane) -> Block | None:
        while lane.waiting:
            path = lane.waiting.popleft()
            try:
                block = self._spool.take(path)
            except OSError as error:
                # One file that cannot be opened must not stop the others.
                if path not in self._unreadable:
                    log.error("%s cannot be sent: %s", path, error)  # noqa: TRY400
                self._unreadable.add(path)
                continue
            if block:
                return block
        return None

    def _give_back(self, lane: _Lane, parts: Sequence[_Part]) -> None:
        """Leave blocks that were not sent to the next attempt of any process."""
        paths = [block.path for block, _ in parts if not block.released]
        for block, _ in parts:
            block.release()
        lane.waiting.extendleft(reversed(paths))
        with self._lock:
            lane.small = [*lane.small, *paths]

    def _set_pause(self, lane: _Lane, error: Exception) -> None:
        failures = lane.pause.failures + 1 if lane.pause else 1
        asked, limits = retry_after(error), self._limits
        wait = backoff(failures, limits.first_backoff_seconds, limits.backoff_seconds) if asked is None else asked
        reason = f"{lane.table}: {type(error).__name__}: {error}"
        lane.flowing = False
        lane.pause = _Pause(failures, time.monotonic() + wait, reason)
        log.warning("attempt %d failed, the next one is in %.1f s: %s", failures, wait, reason)

    def _send_parts(self, lane: _Lane, parts: Sequence[_Part]) -> bool:
        """Deliver lines and leave them out of their blocks; return whether the lane may go on. Raises whatever stopped the request."""
        lines = [line for _, read in parts for line in read]
        if not lines:
            self._finish_blocks(lane, parts)
            return True
        rows, dead = _read_rows(lane.table, lines)
        later: list[Row] = []
        for row, reason in self._delivery.insert(lane.table, rows, self._clock()):
            if reason is None or lane.table == DEAD_LETTERS:
                later.append(row)
            else:
                dead.append(dead_letter(row.get("event_id"), lane.table, row.get("event_version"), row, reason))
        with self._lock:
            first = min([self._accepted, *(self._own[block.path] for block, _ in parts if block.path in self._own)])
        self._keep_dead_letters(dead, first)
        if later:
            self._put_off(lane, later, first, len(rows))
        self._finish_blocks(lane, parts)
        if later and len(later) == len(rows) and lane.deferred:
            # The rows are at the end of the lane now: other ones are tried next time.
            return False
        lane.pause = None
        lane.flowing = True
        return True

    def _finish_blocks(self, lane: _Lane, parts: Sequence[_Part]) -> None:
        for block, _ in parts:
            if block.finished:
                self._spool.delete(block)
                with self._lock:
                    self._own.pop(block.path, None)
            else:
                block.mark_sent()
                lane.held = block

    def _keep_dead_letters(self, dead: Sequence[Row], first: int) -> None:
        """Keep dead letters. Raises OSError, or what BigQuery answers, where they are neither on the disk nor in BigQuery."""
        if not dead:
            return
        for row in dead:
            log.warning("%s %s is a dead letter: %s", row["event_name"], row["event_id"], row["reason"])
        try:
            self._keep_rows(DEAD_LETTERS, dead, first)
        except OSError:
            # On a full disk the deliveries must go on, because they make room on it.
            if self._delivery.insert(DEAD_LETTERS, dead, self._clock()):
                raise

    def _put_off(self, lane: _Lane, rows: Sequence[Row], first: int, of: int) -> None:
        """Move rows that BigQuery may take later to the table's deferred blocks, where they delay no others. Raises OSError."""
        name = lane.table + DEFERRED
        self._keep_rows(name, rows, first)
        with self._lock:
            deferred = self._lane_of(name)
        if (deferred is lane and len(rows) == of) or (deferred is not lane and not deferred.pause):
            self._set_pause(deferred, _PutOff(f"BigQuery does not take {len(rows)} of {of} rows yet"))

    def _keep_rows(self, name: str, rows: Sequence[Row], first: int) -> None:
        """Append rows to a lane's open block, and bring them to the disk. The spool's limit does not hold for them. Raises OSError."""
        lines = _encode_rows(rows)
        with self._lock:
            segment = self._append_lines(self._lane_of(name), lines, first, False)
        # Only this thread closes segments. Without the lock, so that `publish` does not wait for the disk.
        os.fsync(segment.handle)
        self._spool.sync()

    def _report_refusals(self) -> None:
        """Write a dead letter with the number of refused events of each table, when there is room, or at the end."""
        has_room = self._spool.used <= ROOM_SHARE * self._limits.spool_bytes
        if not self._unreported or not (has_room or self._closed):
            return
        with self._lock:
            counts, self._unreported = self._unreported, Counter()
            since, until = self._first_refusal.isoformat(), self._last_refusal.isoformat()
        reports = [
            dead_letter(
                new_id(),
                name,
                None,
                {"refused": count, "first": since, "last": until},
                f"the spool was full: {count} events were refused from {since} to {until} and are lost",
            )
            for name, count in counts.items()
        ]
        try:
            self._keep_rows(DEAD_LETTERS, reports, self._accepted)
        except OSError:
            if not self._closed:
                with self._lock:
                    self._unreported += counts
            log.exception("%d events were refused from %s to %s and are lost", counts.total(), since, until)


class _PutOff(RuntimeError):
    """BigQuery took a batch but for some of its rows, and may take those later."""


def _temporary_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="product-events-"))
    # The umask may have taken the owner's own permissions.
    folder.chmod(0o700)
    return folder


def _encode_rows(rows: Sequence[Row]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def _read_rows(table: str, lines: Sequence[bytes]) -> tuple[list[Row], list[Row]]:
    """The rows of lines, and a dead letter for each line that is none: half of one, after a crash of the machine."""
    rows: list[Row] = []
    dead: list[Row] = []
    for number, line in enumerate(lines):
        if number % LINES_AT_A_TIME == 0:
            let_other_threads_run()
        try:
            row = json.loads(line, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict):
            rows.append(cast(Row, row))
        else:
            text = line.decode(errors="backslashreplace")
            dead.append(dead_letter(None, table, None, text, "its line in the spool cannot be read"))
    return rows, dead


def let_other_threads_run() -> None:
    """Release the interpreter's lock, which a thread that computes otherwise keeps for 5 ms (sys.getswitchinterval)."""
    time.sleep(0)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
