"""Which ids of the event log were skipped, and how many events each block of ids had. Pure. Times are in seconds since the epoch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from orchestration.incidents.event_log import Row
from orchestration.incidents.state import Gap

GAP_SECONDS = 3600.0
"""How long a skipped id is looked for at every tick. Until it is a day old, the sweep would still find it."""
MOST_GAPS = 500
"""The newest are kept. More exist where a sequence of PostgreSQL caches ids; the sweep then finds what the others hide."""
SWEEP_SECONDS = 300.0
"""How often the events and the runs of the last day are compared with what was read."""
SWEPT_SECONDS = 24 * 3600.0
"""How far back they are compared. What was judged is remembered for longer: see `signals.HANDLED_SECONDS`."""
BLOCK = 5_000
"""Ids of one block: about 100 blocks of a day with 500,000 events."""
MOST_BLOCKS = 1_000

Blocks = Mapping[int, tuple[int, float]]
"""By a block's number: the number of its events that were read, and when the last of them was."""


def find_gaps(rows: Sequence[Row], after: int, read_at: float, now: float) -> list[Gap]:
    """Return the ranges of ids that are missing between `after` and the last of the rows, which are in the order of their ids."""
    found: list[Gap] = []
    for row in rows:
        if row.id > after + 1:
            found.append(Gap(after + 1, row.id - 1, read_at, now))
        after = row.id
    return found


def fill_gaps(gaps: Iterable[Gap], ids: Iterable[int]) -> list[Gap]:
    """Return the gaps without these ids."""
    left: list[Gap] = list(gaps)
    for id_ in sorted(ids):
        for place, gap in enumerate(left):
            if gap.first <= id_ <= gap.last:
                parts = (replace(gap, last=id_ - 1), replace(gap, first=id_ + 1))
                left[place : place + 1] = [part for part in parts if part.first <= part.last]
                break
    return left


def keep_gaps(gaps: Sequence[Gap], now: float) -> tuple[Gap, ...]:
    """Return the gaps that are younger than an hour, at most `MOST_GAPS`."""
    return tuple(gap for gap in gaps if gap.since > now - GAP_SECONDS)[-MOST_GAPS:]


def count_read(blocks: Blocks, ids: Iterable[int], now: float) -> Blocks:
    """Return the blocks with these events counted as read now."""
    counted = dict(blocks)
    for number, count in Counter(id_ // BLOCK for id_ in ids).items():
        counted[number] = (counted.get(number, (0, now))[0] + count, now)
    return counted


def keep_blocks(blocks: Blocks, now: float) -> Blocks:
    """Return the blocks of the last day, at most `MOST_BLOCKS`."""
    young = sorted(number for number, (_count, at) in blocks.items() if at > now - SWEPT_SECONDS)
    return {number: blocks[number] for number in young[-MOST_BLOCKS:]}
