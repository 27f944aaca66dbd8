"""What the assets of the chaos are told to do, and what they say they did: files, which no part of the platform reads.

An order is a file named after what it is for. A step appends to the journal before it does what it was told, so that the journal has the
truth even where the process dies in the next moment.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

DIRECTORY = "CHAOS_DIR"
HANG_SECONDS = 600.0

Do = Literal["fail", "hang", "kill", "observe", "misreport"]
"""`observe` writes a record that cannot be read and goes on; `misreport` fails with such a report."""


@dataclass(frozen=True)
class Order:
    do: Do
    error: str = ""
    once: bool = False
    """It is gone when it has been obeyed."""
    permanent: bool = False
    number: int = 0
    """Which of the records of `hostile.py` is written."""


@dataclass(frozen=True)
class Entry:
    """A line of the journal."""

    run_id: str
    key: str
    did: str
    """`pass`, or what was ordered."""
    at: float


class Orders:
    def __init__(self, root: Path) -> None:
        self._orders, self._journal = root / "orders", root / "journal.jsonl"
        self._orders.mkdir(parents=True, exist_ok=True)

    @classmethod
    def of_environment(cls) -> Orders:
        return cls(Path(os.environ[DIRECTORY]))

    def give(
        self,
        key: str,
        do: Do = "fail",
        error: str | None = None,
        *,
        once: bool = False,
        permanent: bool = False,
        number: int = 0,
    ) -> None:
        order = Order(do, error if error is not None else words(key), once, permanent, number)
        file = self._file(key)
        temporary = file.with_suffix(".new")
        temporary.write_text(json.dumps(asdict(order)))
        temporary.replace(file)

    def withdraw(self, key: str) -> None:
        self._file(key).unlink(missing_ok=True)

    def has(self, key: str) -> bool:
        return self._file(key).exists()

    def read(self, key: str) -> Order | None:
        try:
            return Order(**json.loads(self._file(key).read_text()))
        except FileNotFoundError:
            return None

    def obey(self, key: str, run_id: str) -> Order | None:
        """Do what was ordered; the order, where it is to fail, which is the caller's part."""
        order = self.read(key)
        self._note(Entry(run_id, key, order.do if order else "pass", time.time()))
        if order is None:
            return None
        if order.once:
            self.withdraw(key)
        if order.do == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if order.do == "hang":
            # In small pieces, so that whoever cancels it need not wait; it goes on as soon as the order is withdrawn.
            end = time.monotonic() + HANG_SECONDS
            while self.has(key) and time.monotonic() < end:
                time.sleep(0.1)
            return None
        return order

    def journal(self) -> list[Entry]:
        if not self._journal.exists():
            return []
        return [Entry(**json.loads(line)) for line in self._journal.read_text().splitlines()]

    def _note(self, entry: Entry) -> None:
        # One write of a short line to a file opened for appending: lines of several processes do not mix.
        with self._journal.open("a") as file:
            file.write(json.dumps(asdict(entry)) + "\n")

    def _file(self, key: str) -> Path:
        return self._orders / f"{key.replace('/', '--')}.json"


def words(key: str) -> str:
    """An error of the key's own, in words of its own: no two failures are to look like one cause."""
    digest = hashlib.sha256(key.encode()).hexdigest()[:10]
    return f"the {''.join(chr(ord('g') + int(digit, 16)) for digit in digest)} does not turn"
