"""The time that one tick has: made once, and handed to every stage of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Deadline:
    """A moment by which a stage starts no more work. What is left over is done in the next tick.

    It is measured with a monotonic clock, since the machine's clock may be set while a tick runs.
    """

    at: float
    """By `clock`."""
    clock: Callable[[], float] = field(default=time.monotonic, repr=False, compare=False)

    @classmethod
    def within(cls, seconds: float, clock: Callable[[], float] = time.monotonic) -> Deadline:
        """Return the deadline that is `seconds` from now."""
        return cls(clock() + seconds, clock)

    def remaining(self) -> float:
        """Return the seconds that are left, and 0 after the deadline."""
        return max(0.0, self.at - self.clock())

    def passed(self) -> bool:
        """Return whether no time is left."""
        return self.remaining() <= 0

    def share(self, seconds: float) -> Deadline:
        """Return the deadline of one stage, which may take `seconds` of the remaining time."""
        return Deadline(min(self.at, self.clock() + seconds), self.clock)
