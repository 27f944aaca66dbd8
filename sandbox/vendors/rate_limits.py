"""Rate limits of the vendors: how many requests an emulator accepts, and when it answers 429.

Requests are counted in this process by real (monotonic) time, whatever the company's and the on-call clock say; a new process has
forgotten them. The defaults are the vendors' own. A test changes them with `override`, or with `/_control/limits`: the change is in
the state file that all processes share, and lasts until `reset`.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from sandbox.vendors.store import Store

SCHEMA = """
create table if not exists rate_limit (
    vendor text not null, name text not null, documented text not null, override text, primary key (vendor, name)
);
"""
MOST_KEYS = 1_000
"""Counters kept for each limit; the least recently used one is forgotten first."""


@dataclass(frozen=True)
class RateLimit:
    """At most `requests` in any `seconds`, for each key (an API key, a channel).

    With `burst`, a token bucket instead: it holds `burst` requests and refills continuously, by `requests` in `seconds`.
    """

    name: str
    requests: int
    seconds: float
    burst: int | None = None


class RateLimited(Exception):
    """A request over a limit. `retry_after` is in whole seconds, at least 1, as the header `Retry-After` has it."""

    def __init__(self, limit: RateLimit, key: str, wait: float) -> None:
        super().__init__(f"over the limit {limit.name}: {limit.requests} requests in {limit.seconds:g} seconds")
        self.limit, self.key = limit, key
        self.retry_after = max(1, math.ceil(wait))

    @property
    def headers(self) -> dict[str, str]:
        return {"Retry-After": str(self.retry_after)}


class UnknownLimit(ValueError):
    """No such vendor or limit; the message lists the choices."""


@dataclass
class _Counter:
    """The requests of one key, under one limit: a limit that is changed starts to count from zero."""

    limit: RateLimit
    times: deque[float] = field(default_factory=deque[float])
    spent: float = 0.0
    """Of a token bucket: the requests that have not been refilled yet, at `at`."""
    at: float = 0.0

    def wait(self, now: float) -> float:
        """Seconds until one more request is accepted; 0 if it is accepted now."""
        limit = self.limit
        if limit.requests <= 0:
            return limit.seconds
        if limit.burst is not None:
            over = self._unfilled(now) + 1 - max(1, limit.burst)
            return max(0.0, over * limit.seconds / limit.requests)
        while self.times and self.times[0] <= now - limit.seconds:
            self.times.popleft()
        if len(self.times) < limit.requests:
            return 0.0
        return self.times[-limit.requests] + limit.seconds - now

    def spend(self, now: float) -> None:
        if self.limit.burst is None:
            self.times.append(now)
        else:
            self.spent, self.at = self._unfilled(now) + 1, now

    def _unfilled(self, now: float) -> float:
        return max(0.0, self.spent - (now - self.at) * self.limit.requests / self.limit.seconds)


class RateLimits:
    """The limits of one vendor. Threads may share one."""

    def __init__(
        self, store: Store, vendor: str, *limits: RateLimit, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store, self._vendor, self._clock = store, vendor, clock
        self._counters: dict[str, dict[str, _Counter]] = defaultdict(dict)
        self._lock = threading.Lock()
        store.script(SCHEMA)
        for limit in limits:
            store.execute(
                "insert into rate_limit (vendor, name, documented) values (?, ?, ?)"
                " on conflict (vendor, name) do update set documented = excluded.documented",
                (vendor, limit.name, json.dumps(asdict(limit))),
            )

    def take(self, *names: str, key: str = "") -> None:
        """Count one request against each of the named limits, or raise RateLimited and count it against none."""
        limits = [_limit(self._store, self._vendor, name) for name in names]
        with self._lock:
            now = self._clock()
            counters = [self._counter(limit, key) for limit in limits]
            waits = [counter.wait(now) for counter in counters]
            if (longest := max(waits, default=0.0)) > 0:
                raise RateLimited(limits[waits.index(longest)], key, longest)
            for counter in counters:
                counter.spend(now)

    def _counter(self, limit: RateLimit, key: str) -> _Counter:
        counters = self._counters[limit.name]
        known = counters.pop(key, None)
        counters[key] = counter = known if known and known.limit == limit else _Counter(limit)
        if len(counters) > MOST_KEYS:
            del counters[next(iter(counters))]
        return counter


def shown(store: Store) -> list[dict[str, Any]]:
    """Return every limit with its vendor, as it is now; `documented` is the vendor's own where a test has changed it."""
    store.script(SCHEMA)
    found: list[dict[str, Any]] = []
    for row in store.execute("select * from rate_limit order by vendor, name"):
        documented = json.loads(row["documented"])
        now = json.loads(row["override"]) if row["override"] else documented
        found.append({"vendor": row["vendor"], **now, "documented": documented if row["override"] else None})
    return found


def override(
    store: Store, vendor: str, name: str, requests: int, seconds: float | None = None, burst: int | None = None
) -> None:
    """Change a limit until `reset`; `seconds` and the kind of limit stay where they are not given. Raises UnknownLimit."""
    store.script(SCHEMA)
    limit = _limit(store, vendor, name)
    changed = replace(limit, requests=requests, seconds=seconds or limit.seconds)
    if limit.burst is not None:
        changed = replace(changed, burst=requests if burst is None else burst)
    store.execute(
        "update rate_limit set override = ? where vendor = ? and name = ?", (json.dumps(asdict(changed)), vendor, name)
    )


def reset(store: Store, vendor: str | None = None, name: str | None = None) -> int:
    """Restore the vendors' own limits, of all vendors or of one, and return how many had been changed."""
    store.script(SCHEMA)
    return len(
        store.execute(
            "update rate_limit set override = null where override is not null and (?1 is null or vendor = ?1)"
            " and (?2 is null or name = ?2) returning name",
            (vendor, name),
        )
    )


def _limit(store: Store, vendor: str, name: str) -> RateLimit:
    rows = store.execute(
        "select coalesce(override, documented) as content from rate_limit where vendor = ? and name = ?", (vendor, name)
    )
    if not rows:
        known = ", ".join(f"{one['vendor']} {one['name']}" for one in shown(store)) or "none"
        raise UnknownLimit(f"{vendor} has no rate limit {name!r}; there are {known}")
    return RateLimit(**json.loads(rows[0]["content"]))
