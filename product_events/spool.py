"""Blocks of rows on disk: events that were accepted and are not in BigQuery yet.

A block is a file `<table>.<time>-<random>.jsonl`, one row a line. Rows that BigQuery does not take yet, and may take later, are in blocks
`<table>.<time>-<random>.deferred.jsonl`. Whoever writes or sends a block holds an exclusive flock on it, which the kernel releases when the
process dies. A block that no one holds may be sent, or appended to, by any process of the same user. The folder must be on a local disk.

Other files of the folder: `<block>.sent` has the number of bytes of a block that are in BigQuery already, and `*.new` is a block that is being
created. What a killed process leaves of either is removed by the next scan. The folder is 0700 and each file 0600, whatever the umask is.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import stat
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

log = logging.getLogger(__name__)

SUFFIX = ".jsonl"
DEFERRED = ".deferred"
UNFINISHED = ".new"
SENT = ".sent"
MAX_LINE = 16 * 1024 * 1024
"""A longer line is no row: it is read in parts of this many bytes."""
STAT_BLOCK = 512
"""The unit of st_blocks, whatever the file system's own block is (man 3type stat)."""


@dataclass
class Segment:
    """A block that is being written. Not safe for threads."""

    path: Path
    handle: int
    size: int = 0
    rows: int = 0
    opened: float = field(default_factory=time.monotonic)
    seal_requested: bool = False

    def append(self, line: bytes, durable: bool) -> None:
        """Add a line, or several; on the disk itself when `durable`. Raises OSError, and the block is as before in that case."""
        try:
            _write(self.handle, line)
            if durable:
                os.fsync(self.handle)
        except OSError:
            os.ftruncate(self.handle, self.size)
            raise
        self.rows += line.count(b"\n")
        self.size += len(line)

    def seal(self) -> None:
        """Bring the block to the disk and let any process send it. Raises OSError of the disk; the block can be sent all the same."""
        try:
            os.fsync(self.handle)
        finally:
            # Closing alone does not unlock a block whose descriptor a forked child has inherited.
            fcntl.flock(self.handle, fcntl.LOCK_UN)
            os.close(self.handle)


class Block:
    """A block that this process alone may send. Not safe for threads."""

    def __init__(self, path: Path, handle: int) -> None:
        self.path = path
        self._end = os.fstat(handle).st_size
        self._position = self._sent = self._read_progress(handle)
        self._file = os.fdopen(handle, "rb")
        self._file.seek(self._sent)

    @property
    def finished(self) -> bool:
        """True after every line was read."""
        return self._position >= self._end

    def read(self, rows: int, size: int) -> list[bytes]:
        """Return the next lines without their ends: at most `rows`, and no further one after `size` bytes."""
        lines: list[bytes] = []
        limit = self._position + size
        while len(lines) < rows and self._position < limit:
            line = self._file.readline(MAX_LINE)
            if not line:
                self._position = self._end
                break
            self._position += len(line)
            lines.append(line.removesuffix(b"\n"))
        return lines

    def lines(self) -> list[bytes]:
        """Return all lines that are left."""
        return self.read(self._end + 1, self._end + 1)

    def mark_sent(self) -> None:
        """Note that what was read so far is in BigQuery, so that it is not sent again after a restart or by another process."""
        self._sent = self._position
        # Without the note rows are sent twice at worst: a full disk must not stop the deliveries that make room on it.
        with contextlib.suppress(OSError):
            handle = os.open(_progress_path(self.path), os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                os.fchmod(handle, 0o600)
                os.pwrite(handle, b"%020d" % self._sent, 0)
            finally:
                os.close(handle)

    @property
    def released(self) -> bool:
        """True when another process may take the block."""
        return self._file.closed

    def delete(self) -> int:
        """Remove and release the block; return the bytes that this frees on the disk. Raises OSError."""
        freed = os.fstat(self._file.fileno()).st_blocks * STAT_BLOCK
        self.path.unlink()
        if self._sent:
            _progress_path(self.path).unlink(missing_ok=True)
        self.release()
        return freed

    def release(self) -> None:
        """Let any process send the block. A second call does nothing."""
        if not self._file.closed:
            fcntl.flock(self._file.fileno(), fcntl.LOCK_UN)
            self._file.close()

    def _read_progress(self, handle: int) -> int:
        try:
            sent = int(_progress_path(self.path).read_bytes())
        except (OSError, ValueError):
            return 0
        # A line's end is before the position, or the note is not of this block.
        if not 0 < sent <= self._end or os.pread(handle, 1, sent - 1) != b"\n":
            return 0
        return sent


@dataclass(frozen=True)
class Listing:
    """The result of a scan: the blocks of each lane, the oldest first, and those of them with less than `small` bytes."""

    blocks: dict[str, list[Path]]
    small: dict[str, list[Path]]


class Spool:
    """A folder of blocks, which processes of one user may share.

    `used` is a sum that is kept up to date by what this process writes and deletes, and corrected by each scan for what others do: to
    read it costs nothing.
    """

    def __init__(self, folder: Path) -> None:
        """Create the folder where it is missing. Raises OSError."""
        self.folder = folder
        _make_private(folder)
        self._unit = os.statvfs(folder).f_frsize or 4096
        self._lock = threading.Lock()
        self._used = self._changes = 0

    @property
    def used(self) -> int:
        """Bytes that the folder takes on the disk: whole disk blocks, not the lengths of files."""
        return self._used

    def growth(self, segment: Segment | None, length: int) -> int:
        """Return the bytes on the disk that so many more in a block take; in a new block where there is none."""
        size = segment.size if segment else 0
        return self._round_to_blocks(size + length) - self._round_to_blocks(size)

    def append(self, segment: Segment, line: bytes, durable: bool) -> None:
        """Add a line to a block. Raises OSError, and the block is as before in that case."""
        growth = self.growth(segment, len(line))
        segment.append(line, durable)
        self._add_to_used(growth)

    def delete(self, block: Block) -> None:
        """Remove a block that was sent. Raises OSError."""
        self._add_to_used(-block.delete())

    def segment(self, lane: str, durable: bool = False) -> Segment:
        """Begin a block; with its name on the disk itself when `durable`. Raises OSError."""
        table, _, deferred = lane.partition(".")
        path = self.folder / f"{table}.{time.time_ns()}-{uuid4().hex}{deferred and '.' + deferred}{SUFFIX}"
        # Locked before it bears a name that others look for.
        unnamed = path.with_suffix(UNFINISHED)
        while True:
            handle = os.open(unnamed, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                os.fchmod(handle, 0o600)
                fcntl.flock(handle, fcntl.LOCK_EX)
                unnamed.rename(path)
            except FileNotFoundError:
                # The scan of another process removed it before it was locked, as if a killed process had left it.
                os.close(handle)
                continue
            except OSError:
                os.close(handle)
                unnamed.unlink(missing_ok=True)
                raise
            if durable:
                self.sync()
            return Segment(path, handle)

    def reopen(self, path: Path, largest: int) -> Segment | None:
        """Continue a block that no one holds and that is smaller than `largest` bytes; None where that cannot be done."""
        try:
            handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return None
        try:
            if _lock(handle):
                status = os.fstat(handle)
                if status.st_nlink > 0 and stat.S_ISREG(status.st_mode) and status.st_size < largest:
                    segment = Segment(path, handle, status.st_size)
                    # A line that a killed process left without an end must not take the next one along.
                    if status.st_size and os.pread(handle, 1, status.st_size - 1) != b"\n":
                        segment.append(b"\n", False)
                    return segment
        except OSError:
            log.debug("%s cannot be continued", path, exc_info=True)
        os.close(handle)
        return None

    def take(self, path: Path) -> Block | None:
        """Return the block for this process alone; None where another holder has it or has sent it. Raises OSError."""
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        try:
            # What was opened just before its last holder deleted it is no block any more.
            if _lock(handle) and os.fstat(handle).st_nlink > 0:
                return Block(path, handle)
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
        return None

    @contextmanager
    def claim(self, path: Path) -> Generator[Block | None]:
        """Hold the block during a `with` statement; None where another holder has it or has sent it. Raises OSError."""
        block = self.take(path)
        try:
            yield block
        finally:
            if block:
                block.release()

    def batches(self) -> list[Path]:
        """Return every block, the oldest first, also those that a process holds."""
        return sorted(self.folder.glob(f"*{SUFFIX}"), key=_creation_order)

    def scan(self, small: int = 0) -> Listing:
        """List the folder, measure it, make its files private, and remove what killed processes left. Raises OSError.

        Costs a stat for each file; nothing that runs once an event calls it.
        """
        listing = Listing({}, {})
        before = self._changes
        # The first disk block of an empty folder is not counted: it waits for nothing.
        total = max(0, self.folder.stat().st_blocks * STAT_BLOCK - self._unit)
        with os.scandir(self.folder) as entries:
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                total += status.st_blocks * STAT_BLOCK
                if not stat.S_ISREG(status.st_mode):
                    continue
                path = self.folder / entry.name
                _restrict_mode(path, status.st_mode, 0o600)
                if entry.name.endswith(SUFFIX):
                    listing.blocks.setdefault(lane_of(path), []).append(path)
                    if status.st_size < small:
                        listing.small.setdefault(lane_of(path), []).append(path)
                elif entry.name.endswith(SENT):
                    # Names are not used twice: where the block is gone, it was sent.
                    if not path.with_suffix("").exists():
                        path.unlink(missing_ok=True)
                elif entry.name.endswith(UNFINISHED):
                    self._remove_abandoned(path)
        for paths in (*listing.blocks.values(), *listing.small.values()):
            paths.sort(key=_creation_order)
        with self._lock:
            # What this process wrote meanwhile may be counted twice until the next scan, and is never missed.
            self._used = max(0, total + max(0, self._changes - before))
        return listing

    def size(self) -> int:
        """Measure the folder: bytes on the disk. Costs a stat for each file. Raises OSError."""
        self.scan()
        return self._used

    def _remove_abandoned(self, path: Path) -> None:
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                if _lock(handle):
                    path.unlink(missing_ok=True)
            finally:
                os.close(handle)

    def _add_to_used(self, change: int) -> None:
        with self._lock:
            self._changes += change
            self._used = max(0, self._used + change)

    def _round_to_blocks(self, size: int) -> int:
        return -(-size // self._unit) * self._unit

    def sync(self) -> None:
        """Bring the names of the blocks to the disk. Raises OSError."""
        handle = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def table_of(path: Path) -> str:
    """Return the table that a block is for."""
    return path.name.partition(".")[0]


def lane_of(path: Path) -> str:
    """Return the lane of a block: its table's name, with `.deferred` for rows that were put off."""
    return table_of(path) + DEFERRED * path.name.endswith(DEFERRED + SUFFIX)


def count_lines(path: Path, deadline: float) -> int | None:
    """Count the lines of a block that are not sent; None where that takes longer than until `deadline`, of time.monotonic()."""
    count = 0
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return 0
    try:
        with contextlib.suppress(OSError, ValueError):
            os.lseek(handle, int(_progress_path(path).read_bytes()), os.SEEK_SET)
        while chunk := os.read(handle, 1024 * 1024):
            if time.monotonic() > deadline:
                return None
            count += chunk.count(b"\n")
    finally:
        os.close(handle)
    return count


def _progress_path(path: Path) -> Path:
    return path.with_name(path.name + SENT)


def _creation_order(path: Path) -> str:
    return path.name.partition(".")[2]


def _make_private(folder: Path) -> None:
    """Create a folder, and those above it that are missing, for this user alone."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(mode=0o700, exist_ok=True)
        # The umask may have taken the owner's own permissions.
        path.chmod(0o700)
    _restrict_mode(folder, folder.stat().st_mode, 0o700)


def _restrict_mode(path: Path, mode: int, wanted: int) -> None:
    if stat.S_IMODE(mode) == wanted:
        return
    try:
        path.chmod(wanted)
    except FileNotFoundError:
        return
    except PermissionError:
        log.warning("%s is readable by other users: it is another user's, and its mode is %o", path, stat.S_IMODE(mode))


def _write(handle: int, data: bytes) -> None:
    # A disk that is getting full takes a part first, and refuses the rest.
    while data:
        data = data[os.write(handle, data) :]


def _lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
