"""Sends what waits, in order, and remembers what did not get through."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from orchestration.incidents.state import Waiting
from orchestration.vendors.http import VendorError
from orchestration.vendors.incident_io import AlertEvent

PERMANENT = range(400, 500)
NOT_OF_THE_EVENT = {401, 403, 408, 429}
"""Answers of the 400s which the next event would get as well."""


@dataclass(frozen=True)
class Delivered:
    sent: tuple[AlertEvent, ...]
    waiting: tuple[Waiting, ...]
    problems: tuple[str, ...]


def deliver(
    waiting: tuple[Waiting, ...],
    send: Callable[[AlertEvent], None],
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> Delivered:
    """Send the events in order, for at most `seconds` (the call under way is finished); what is not sent stays in order.

    At most one event of an alert is sent: a tick that is repeated, because its process died before the cursor was saved,
    then only repeats the state that the alert has already. Without that, a repeated `firing` could follow a `resolved` and
    page somebody a second time.

    When incident.io cannot be reached, the rest waits. Alerts whose event has failed before go last: one that incident.io cannot
    take, for whatever reason, holds up no other.
    """
    sent: list[AlertEvent] = []
    left: list[Waiting] = []
    problems: list[str] = []
    held: set[str] = set()
    began, reachable = clock(), True
    attempts: dict[str, int] = {}
    for item in waiting:
        key = item.event.deduplication_key
        attempts[key] = max(attempts.get(key, 0), item.attempts)
    for item in sorted(waiting, key=lambda item: attempts[item.event.deduplication_key]):
        key = item.event.deduplication_key
        if not reachable or key in held or clock() - began > seconds:
            left.append(item)
            held.add(key)
            continue
        held.add(key)
        try:
            send(item.event)
        except VendorError as error:
            left.append(replace(item, attempts=item.attempts + 1))
            problems.append(str(error))
            reachable = error.status in PERMANENT and error.status not in NOT_OF_THE_EVENT
        else:
            sent.append(item.event)
    return Delivered(tuple(sent), tuple(left), tuple(problems))
