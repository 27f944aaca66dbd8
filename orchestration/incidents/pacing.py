"""How many alert events may go to incident.io, so that it need not refuse any. Pure.

An alert source accepts 120 events a minute, then answers 429 (https://docs.incident.io/incidents/auto-create). The limit is a token
bucket that refills continuously (https://docs.incident.io/api-reference/introduction); whether an alert source's is one, too, is
unverified. `MOST` in any minute is within a bucket, a sliding window and a fixed window alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

WINDOW_SECONDS = 60.0
MOST = 115
"""Alert events in any minute. Some room is left for an event of a tick that was not saved, and for people who try the source out."""
MOST_INTERNAL = 100
"""From so many on, alerts that customers do not see wait: a customer-facing one need not wait for a storm of them."""
DEFAULT_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 10.0, 900.0
"""After a 429 without a time, and the longest that is believed."""


@dataclass(frozen=True)
class Pace:
    """What was accepted in the last minute, and what incident.io has asked for. Times are in seconds since the epoch."""

    times: tuple[float, ...] = ()
    """Of the events that were accepted in the last minute; the latest one is kept for longer."""
    wait_until: float = 0.0
    """incident.io has answered 429, and asked that nothing is sent before."""
    limited_since: float = 0.0
    """Since when no tick has passed without a 429; 0 if the last one did."""

    @property
    def last_accepted(self) -> float:
        return self.times[-1] if self.times else 0.0

    def holds_back(self, now: float, *, customer_facing: bool, channel: str = "incident.io") -> str:
        """Why an event is not sent now, to stay below the limit; empty if it may be sent."""
        # A time that is yet to come was written while this machine's clock was ahead.
        within = sum(now - WINDOW_SECONDS < moment <= now for moment in self.times)
        if within < (MOST if customer_facing else MOST_INTERNAL):
            return ""
        return f"{within} alert events were sent in the last minute, which is as many as {channel} should get."

    def asked_to_wait(self, now: float, channel: str = "incident.io") -> str:
        """Why nothing is sent now, since incident.io has asked for it; empty otherwise."""
        if not now < self.wait_until <= now + LONGEST_WAIT_SECONDS:
            return ""
        return f"{channel} answers 429 and asks to wait for {math.ceil(self.wait_until - now)} seconds."

    def accepted(self, now: float) -> Pace:
        """The pace after one more event was accepted."""
        kept = tuple(moment for moment in self.times if now - WINDOW_SECONDS < moment <= now)
        return replace(self, times=(*kept, now))

    def limited(self, now: float, retry_after: float | None) -> Pace:
        """The pace after a 429. `retry_after` is in seconds, or None if the answer has no time."""
        wait = min(retry_after or DEFAULT_WAIT_SECONDS, LONGEST_WAIT_SECONDS)
        return replace(self, wait_until=now + wait, limited_since=min(self.limited_since or now, now))

    def unlimited(self) -> Pace:
        """The pace after events were accepted and none was answered with 429."""
        return replace(self, wait_until=0.0, limited_since=0.0)

    def keeps_out(self, now: float, seconds: float, *, customer_facing: bool) -> bool:
        """Whether 429s have kept an event out that has waited for `seconds`.

        They have if they have gone on for `seconds` and nothing was accepted in that time, or if the event is customer-facing: such
        events go first, so that the source has accepted too few even for them. An internal one waits for its turn.
        """
        if not self.limited_since or now - self.limited_since < seconds:
            return False
        # Of this tick, which began at `now`, or before; one that is later was written while this machine's clock was ahead.
        return customer_facing or not now - seconds < self.last_accepted < now + WINDOW_SECONDS
