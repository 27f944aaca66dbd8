"""Keeping to a vendor's limit of so many requests in so many seconds, before it has to say so."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

MARGIN_SECONDS = 0.5
"""One request may take longer to the vendor than another, so that they arrive closer together than they were sent."""


@dataclass
class Pace:
    """At most `requests` in any `seconds`, all at once if they like; the next one waits until the oldest is that long ago.

    Threads may share one: their requests wait for each other.
    """

    requests: int
    seconds: float
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _sent: deque[float] = field(default_factory=deque[float], init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def wait(self) -> None:
        """Return when one more request may be sent."""
        if (pause := self.reserve(self.clock())) > 0:
            self.sleep(pause)

    def reserve(self, now: float) -> float:
        """Keep a place for one request, and return in how many seconds it is."""
        with self._lock:
            at = now
            if len(self._sent) >= self.requests:
                at = max(now, self._sent.popleft() + self.seconds + MARGIN_SECONDS)
            self._sent.append(at)
            return at - now


@cache
def shared_pace(account: str, requests: int, seconds: float) -> Pace:
    """Return the one pace that this process has for an account of a vendor, which all its clients share.

    Other processes may use the same account, so a client still has to wait where the vendor answers 429.
    """
    return Pace(requests, seconds)
