"""A process that publishes and sends, and is gone at one of its calls to the file system, as if it were killed at that moment.

Run with the number of that call; prints the ids that were accepted before it, and `survived` where there were fewer calls.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

from product_events import spool as spool_module
from product_events.publisher import Limits, Publisher, Undelivered

CALLS = ("open", "write", "pwrite", "fsync", "ftruncate", "rename", "unlink", "fchmod")
LIMITS = Limits(batch_events=3, batch_seconds=0.02, first_backoff_seconds=0.02, backoff_seconds=0.05, block_bytes=1_200)


class CrashingOs:
    """The module `os`, but for one call that does not return."""

    def __init__(self, last: int) -> None:
        self.last, self.calls, self.lock = last, 0, threading.Lock()

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        return self.wrapped(real) if name in CALLS else real

    def wrapped(self, real: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            with self.lock:
                self.calls += 1
                if self.calls == self.last:
                    if real is os.write:
                        # Half of what was to be written.
                        os.write(arguments[0], arguments[1][: len(arguments[1]) // 2])
                    os._exit(9)
            return real(*arguments, **options)

        return call


def main(project: str, dataset: str, folder: str, organisation: str, last: int) -> None:
    crashing = CrashingOs(last)
    spool_module.os = crashing  # type: ignore[assignment]
    spool_module.Path.rename = crashing.wrapped(Path.rename)  # type: ignore[method-assign]
    spool_module.Path.unlink = crashing.wrapped(Path.unlink)  # type: ignore[method-assign]
    publisher = Publisher(project, dataset, spool_dir=Path(folder), limits=LIMITS)
    for number in range(9):
        # BigQuery refuses one of them.
        properties = {"insight": "on_call_load", "load_ms": 2**70 if number == 4 else number}
        done = publisher.publish("insight_viewed", 1, properties, organisation_id=organisation)
        os.write(1, f"{done.event_id}\n".encode())
    try:
        publisher.close(3)
    except Undelivered as error:
        os.write(2, f"{error}\n".encode())
    os.write(1, b"survived\n")
    os._exit(0)


def fork_for_each(arguments: list[str], first: int, end: int) -> None:
    """One process for each call, forked from one that has imported everything."""
    for last in range(first, end):
        child = os.fork()
        if child == 0:
            try:
                main(*arguments, last)  # type: ignore[arg-type]
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        if os.waitstatus_to_exitcode(status) not in (0, 9):
            os.write(1, f"failed at call {last}\n".encode())


if __name__ == "__main__":
    fork_for_each(sys.argv[1:5], int(sys.argv[5]), int(sys.argv[6]))
