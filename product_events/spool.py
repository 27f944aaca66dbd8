"""Batches of rows on disk: what was accepted and is not in BigQuery yet.

A batch is a file `<table>.<time>-<random>.jsonl`, a row a line. Whoever writes or sends it holds an exclusive flock on it, which the
kernel releases when the process dies: a file that nobody holds is ready to be sent by any process. The folder must be on a local disk.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

SUFFIX = ".jsonl"


@dataclass
class Segment:
    """A batch that is being written. Not safe for threads."""

    path: Path
    handle: int
    rows: int = 0
    size: int = 0
    opened: float = field(default_factory=time.monotonic)

    def append(self, line: bytes, durable: bool) -> None:
        """Add a line, on the disk itself when `durable`. Raises OSError, and then the file is as it was."""
        try:
            _write(self.handle, line)
            if durable:
                os.fsync(self.handle)
        except OSError:
            os.ftruncate(self.handle, self.size)
            raise
        self.rows += 1
        self.size += len(line)

    def seal(self) -> None:
        """Bring the batch to the disk and let others send it."""
        try:
            os.fsync(self.handle)
        finally:
            os.close(self.handle)


@dataclass(frozen=True)
class Batch:
    """A batch that this process alone may send."""

    path: Path

    def lines(self) -> list[bytes]:
        return self.path.read_bytes().splitlines()

    def delete(self) -> None:
        self.path.unlink()

    def keep(self, lines: Sequence[bytes]) -> None:
        """Leave only these lines, or the batch as it was where that fails."""
        shorter = self.path.with_suffix(".new")
        with shorter.open("wb") as file:
            file.writelines(line + b"\n" for line in lines)
            file.flush()
            os.fsync(file.fileno())
        shorter.rename(self.path)


class Spool:
    """A folder of batches, which processes may share."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def segment(self, table: str) -> Segment:
        """Begin a batch. Raises OSError."""
        path = self.folder / f"{table}.{time.time_ns()}-{uuid4().hex}{SUFFIX}"
        # Locked before it bears a name that others look for.
        unnamed = path.with_suffix(".new")
        handle = os.open(unnamed, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(handle, fcntl.LOCK_EX)
        unnamed.rename(path)
        self._sync()
        return Segment(path, handle)

    def batches(self) -> list[Path]:
        """Every batch, the oldest first, also those that somebody holds."""
        return sorted(self.folder.glob(f"*{SUFFIX}"), key=lambda path: path.name.partition(".")[2])

    @contextmanager
    def claim(self, path: Path) -> Generator[Batch | None]:
        """The batch, for this block alone; None where somebody else holds it or has sent it."""
        try:
            handle = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            yield None
            return
        try:
            # What was opened just before its last holder deleted or shortened it is no batch any more.
            mine = _lock(handle) and os.fstat(handle).st_nlink > 0
            yield Batch(path) if mine else None
        finally:
            os.close(handle)

    def size(self) -> int:
        """Bytes of all batches."""
        total = 0
        for path in self.batches():
            try:
                total += path.stat().st_size
            except FileNotFoundError:
                continue
        return total

    def _sync(self) -> None:
        handle = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def table_of(path: Path) -> str:
    """The table that a batch is for."""
    return path.name.partition(".")[0]


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
