"""Asks for many things by few requests, and finds those that make a request fail. Pure: what is asked, and how, is given."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import batched

FAILED_REQUESTS = 100
"""After so many failed requests the halving ends. One bad item in a batch of 100 takes eight of them."""
FAILED_SECONDS = 600.0
"""The same for the time that failed requests have taken: each may take minutes to fail."""


@dataclass(frozen=True)
class Halved[I, T]:
    """The answers, and the items for which there is none.

    `failed` are items that failed alone, each with its error. `left` are items that were not asked for alone: `error` says why.
    """

    answers: list[T] = field(default_factory=list)  # type: ignore[reportUnknownVariableType]
    failed: list[tuple[I, Exception]] = field(default_factory=list)  # type: ignore[reportUnknownVariableType]
    left: list[I] = field(default_factory=list)  # type: ignore[reportUnknownVariableType]
    error: Exception | None = None


def ask_in_batches[I, T](
    items: Sequence[I],
    ask: Callable[[Sequence[I]], T],
    errors: tuple[type[Exception], ...],
    is_outage: Callable[[Exception], bool],
    *,
    size: int,
    failed_requests: int = FAILED_REQUESTS,
    failed_seconds: float = FAILED_SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> Halved[I, T]:
    """Ask for items in batches. A batch that fails is halved until each bad item stands alone, and the others have their answers.

    All batches are asked before the first one is halved, and all halves before the first quarter. So where everything is bad, the
    number of requests is used up before a single item is blamed.

    Args:
        ask: Asks for some items by one request.
        errors: What `ask` raises where the request fails. Other exceptions are passed on.
        is_outage: Whether an error is about the service and not about the items: then nothing more is asked for.
        size: Number of items in a batch.
        failed_requests: Number of failed requests after which the rest is left.
        failed_seconds: Seconds that failed requests may take together before the rest is left.
    """
    found = Halved[I, T]()
    waiting = deque(batched(items, size, strict=False))
    spent, error = 0.0, None
    while waiting:
        batch = waiting.popleft()
        began = clock()
        try:
            found.answers.append(ask(batch))
        except errors as problem:
            spent, failed_requests, error = spent + clock() - began, failed_requests - 1, problem
            if is_outage(problem):
                waiting.appendleft(batch)
                break
            if len(batch) == 1:
                found.failed.append((batch[0], problem))
            else:
                middle = (len(batch) + 1) // 2
                waiting += (batch[:middle], batch[middle:])
            if failed_requests <= 0 or spent > failed_seconds:
                break
    left = [item for batch in waiting for item in batch]
    return Halved(found.answers, found.failed, left, error if left else None)
