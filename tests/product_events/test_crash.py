"""A publisher that is killed at any of its calls to the file system: nothing that it accepted is lost, and little is sent twice."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

from sandbox.config import PROJECT
from tests.orchestration.wire import reply
from tests.product_events.conftest import DATASET, Tables, publisher
from tests.product_events.crashing import LIMITS
from tests.product_events.faulty import Network

LAST = 75
"""Later calls are of kinds that came before: a block is opened, written, sealed, sent in parts and deleted by then."""


def test_a_process_that_is_killed_at_any_call_loses_nothing(tables: Tables, spool: Path, between: Network) -> None:
    def run(first: int, end: int) -> list[str]:
        command = [sys.executable, "-m", "tests.product_events.crashing"]
        arguments = [PROJECT, DATASET, str(spool), tables.organisation, str(first), str(end)]
        result = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=240)
        assert "failed" not in result.stdout, result.stderr
        return result.stdout.splitlines()

    # First while BigQuery is down: each process continues the block of the one before.
    between.judge = lambda _body: reply(503, {"error": {"message": "down"}})
    said = run(1, 25)
    between.judge = lambda _body: None
    said += run(1, LAST)
    publisher(spool).close()
    accepted = [line for line in said if line != "survived"]
    dead = tables.rows("dead_letters")
    arrived = set(tables.ids()) | {row["event_id"] for row in dead if row["event_id"]}
    assert set(accepted) <= arrived
    assert len(accepted) > 150
    # Half lines are dead letters of their own, one at most for each process.
    assert len([row for row in dead if row["event_id"] is None]) <= LAST + 25
    assert [path.name for path in spool.rglob("*") if path.is_file()] == []
    # An event is sent again only where it was under way when its process was killed, or when BigQuery was down.
    delivered = Counter(row for row in between.sent)
    assert sum(delivered.values()) - len(delivered) <= (LAST + 25) * 3 * LIMITS.batch_events
