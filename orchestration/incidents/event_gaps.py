"""Track the ids of the event log that were skipped, and the number of events in each block of ids. Pure. Times are in seconds since the epoch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from orchestration.incidents.event_log import Row
from orchestration.incidents.state import Block, Gap

GAP_SECONDS = 3600.0
"""How long a skipped id is looked for at every tick. Until it is a day old, the sweep would still find it."""
MOST_GAPS = 500
"""The newest are kept. More exist where a sequence of PostgreSQL caches ids; the sweep then finds what the others hide."""
SWEEP_SECONDS = 300.0
"""How often the events and the runs of the last day are compared with what was read."""
SWEPT_SECONDS = 24 * 3600.0
"""How far back they are compared, from the beginning of a block. What was judged is remembered for longer: `signals.HANDLED_SECONDS`."""
BLOCK_IDS, BLOCK_SECONDS = 10_000, 3600.0
"""A block of ids ends when it has so many or has begun so long ago. A day with 500,000 events has about 75."""
MOST_BLOCKS = 1_000


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


def extend_blocks(blocks: Sequence[Block], rows: Sequence[Row], events: int, after: int, now: float) -> list[Block]:
    """Return the blocks with all ids above `after` up to the last of the rows, among which were so many events."""
    if not rows:
        return list(blocks)
    last = blocks[-1] if blocks else None
    if last and last.last == after and last.last - last.first < BLOCK_IDS and now - BLOCK_SECONDS < last.since <= now:
        return [*blocks[:-1], replace(last, last=rows[-1].id, events=last.events + events)]
    return [*blocks, Block(after + 1, rows[-1].id, events, now)]


def count_late(blocks: Sequence[Block], ids: Iterable[int]) -> list[Block]:
    """Return the blocks with these events counted, which appeared in them late."""
    ids = tuple(ids)
    if not ids:
        return list(blocks)
    return [
        replace(block, events=block.events + sum(block.first <= id_ <= block.last for id_ in ids)) for block in blocks
    ]


def keep_blocks(blocks: Sequence[Block], now: float) -> tuple[Block, ...]:
    """Return the blocks that have begun in the last day, at most `MOST_BLOCKS`."""
    return tuple(block for block in blocks if block.since > now - SWEPT_SECONDS)[-MOST_BLOCKS:]
