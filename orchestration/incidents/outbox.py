"""Sends what waits to incident.io, and what it cannot take by other carriers. What did not get through is remembered."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Protocol

from orchestration.incidents.sizes import LAST_REDUCTION, bounded, reduced
from orchestration.vendors.http import VendorError
from orchestration.vendors.incident_io import AlertEvent

NOT_OF_THE_EVENT = {401, 403, 404, 405, 407, 408, 410, 421, 425, 426, 429}
"""Answers of the 400s which the next event would get as well: the token, the address, the time."""
FALLBACK_SECONDS = 300.0
"""So long incident.io may be away before others carry an alert."""
FIRST_PAUSE, LONGEST_PAUSE, LONGEST_PAUSE_OF_REFUSED = 1.0, 60.0, 900.0
"""Seconds. The longest is what an alert may come late when incident.io is back. One that it refuses in every form is tried seldom."""
LONGEST_ASKED = 900.0
"""A `Retry-After` beyond this is a mistake, or an outage of which nobody knows the end."""
REFUSED = LAST_REDUCTION + 1
"""`Waiting.reduced` of an event that was refused in its smallest form, too."""
REFUSED_DAYS = 7
"""So long such an event is offered again: by then somebody has mended the alert source, or the event is at fault and stays so."""


@dataclass(frozen=True)
class Waiting:
    """An event to deliver. Times are in seconds since the epoch."""

    event: AlertEvent
    since: float
    """When it was put: of a firing with newer words, when the first of them was."""
    attempts: int = 0
    """How often it was tried in vain."""
    not_before: float = 0.0
    carried: tuple[str, ...] = ()
    """What others than incident.io have told of this alert, such as `firing:slack`."""
    reduced: int = 0
    """How far it has to be reduced, for incident.io has refused it."""
    asked_until: float = 0.0
    """incident.io has asked that nothing is sent before, whichever event it is."""
    refused_since: float = 0.0
    """When it was first refused in its smallest form, whatever its words are by now."""

    @property
    def key(self) -> str:
        return self.event.deduplication_key

    def told(self, status: str) -> bool:
        """A carrier has told that the alert is `status`."""
        return any(entry.startswith(f"{status}:") for entry in self.carried)


@dataclass(frozen=True)
class Delivered:
    sent: tuple[AlertEvent, ...]
    """What incident.io has accepted."""
    waiting: tuple[Waiting, ...]
    problems: tuple[str, ...]


class Carrier(Protocol):
    """Another way to tell people of an alert."""

    @property
    def name(self) -> str: ...

    def carry(self, event: AlertEvent, why: str) -> None:
        """Tell of one event. `why` says why incident.io does not. Raises VendorError where it was not told."""
        ...


def put(waiting: tuple[Waiting, ...], event: AlertEvent, now: float) -> tuple[Waiting, ...]:
    """What waits, with an event more; `now` is in seconds since the epoch.

    It replaces the last event of its alert where that has the same status: only the newest words are worth sending. Else it goes
    behind it, so that an alert's events are told in the order in which they came to be.
    """
    event = bounded(event)
    last = max((n for n, item in enumerate(waiting) if item.key == event.deduplication_key), default=None)
    if last is None:
        return (*waiting, Waiting(event, now))
    before = waiting[last]
    if before.event.status != event.status:
        return (*waiting, Waiting(event, now, carried=before.carried if event.status == "resolved" else ()))
    return (*waiting[:last], replace(before, event=event, reduced=0), *waiting[last + 1 :])


def deliver(
    waiting: tuple[Waiting, ...],
    send: Callable[[AlertEvent], None],
    carriers: Sequence[Carrier],
    seconds: float,
    now: float,
    clock: Callable[[], float] = time.monotonic,
    fallback_seconds: float = FALLBACK_SECONDS,
) -> Delivered:
    """Send the events in order, for at most `seconds` (the call under way is finished); what is not sent stays in order.

    At most one event of an alert is sent: a tick that is repeated, because its process died before the cursor was saved,
    then only repeats the state that the alert has already. Without that, a repeated `firing` could follow a `resolved` and
    page somebody a second time.

    When incident.io cannot be reached, one event has found that out, and the rest waits. Alerts whose event has failed before go
    last: one that incident.io cannot take, for whatever reason, holds up no other. An event that it refuses is sent again in
    smaller forms, behind all others.

    What incident.io was unable to take for `fallback_seconds`, and what it refuses in every form, is told by the first of the
    `carriers` that succeeds, once for each state of the alert. It still waits for incident.io; what is refused in every form for
    `REFUSED_DAYS` is dropped, with the `resolved` behind it, and named among the problems.
    """
    tick = _Tick(list(waiting), now, seconds, clock)
    tick.send(send)
    tick.carry(carriers, fallback_seconds)
    return Delivered(tuple(tick.sent), tuple(item for item in tick.items if item), tuple(dict.fromkeys(tick.problems)))


def pause(key: str, attempts: int, longest: float) -> float:
    """Seconds before an event is tried again, a fifth more or less by its key, so that not all come back at once."""
    share = int.from_bytes(hashlib.sha256(f"{key} {attempts}".encode()).digest()[:4]) / 2**32
    return min(longest, FIRST_PAUSE * 2.0 ** min(attempts - 1, 20)) * (0.8 + 0.4 * share)


def is_of_the_event(error: VendorError) -> bool:
    """incident.io has refused this event, and may take the next one."""
    return error.status in range(400, 500) and error.status not in NOT_OF_THE_EVENT


@dataclass
class _Tick:
    """The work of one call of `deliver`. Items that were sent become None."""

    items: list[Waiting | None]
    now: float
    seconds: float
    clock: Callable[[], float]
    sent: list[AlertEvent] = field(default_factory=list[AlertEvent])
    problems: list[str] = field(default_factory=list[str])
    unreachable: bool = False

    def __post_init__(self) -> None:
        self.began = self.clock()

    def send(self, send: Callable[[AlertEvent], None]) -> None:
        self.unreachable = any(self._is_ahead(item.asked_until) for item in self.items if item)
        turns = self._turns()
        while turns and not self.unreachable and self._in_time():
            number = turns.popleft()
            if (item := self.items[number]) is None:
                continue
            try:
                send(reduced(item.event, item.reduced))
            except VendorError as error:
                self.items[number] = after = self._after(item, error)
                if is_of_the_event(error) and item.reduced < LAST_REDUCTION:
                    turns.append(number)
                self.unreachable = not is_of_the_event(error)
                if after.reduced == REFUSED and not self.unreachable and self._is_given_up(after):
                    self._drop(number, after)
            else:
                self.sent.append(item.event)
                self.items[number] = None

    def _turns(self) -> deque[int]:
        """The first event of each alert, if its time has come, in the order in which they are tried."""
        heads: dict[str, int] = {}
        failed: dict[str, int] = {}
        for number, item in enumerate(self.items):
            if item:
                heads.setdefault(item.key, number)
                failed[item.key] = max(failed.get(item.key, 0), item.attempts + item.reduced)
        due = [(key, n) for key, n in heads.items() if (item := self.items[n]) and not self._is_ahead(item.not_before)]
        return deque(number for _key, number in sorted(due, key=lambda turn: failed[turn[0]]))

    def _after(self, item: Waiting, error: VendorError) -> Waiting:
        self.problems.append(str(error))
        if is_of_the_event(error) and item.reduced < LAST_REDUCTION:
            return replace(item, reduced=item.reduced + 1)
        attempts = item.attempts + 1
        if is_of_the_event(error):
            self.problems.append(f"incident.io refuses {item.key} in every form")
            later = self.now + pause(item.key, attempts, LONGEST_PAUSE_OF_REFUSED)
            # Not later than now: a clock that was ahead would keep it for as long.
            since = min(item.refused_since or self.now, self.now)
            return replace(item, attempts=attempts, not_before=later, reduced=REFUSED, refused_since=since)
        later = self.now + pause(item.key, attempts, LONGEST_PAUSE)
        asked = self.now + min(error.retry_after, LONGEST_ASKED) if error.retry_after else 0.0
        return replace(item, attempts=attempts, not_before=later, asked_until=asked)

    def _is_given_up(self, item: Waiting) -> bool:
        return self.now - item.refused_since >= REFUSED_DAYS * 86400

    def _drop(self, number: int, item: Waiting) -> None:
        """Give an event up, and a `resolved` behind a `firing`: incident.io has no alert for it to end."""
        what = f"`{item.event.status}` of {item.key}"
        self.problems.append(f"{what} is dropped: incident.io has refused it in every form for {REFUSED_DAYS} days")
        self.items[number] = None
        behind = next((n for n, one in enumerate(self.items) if n > number and one and one.key == item.key), None)
        if behind is not None and item.event.status == "firing" and self._status(behind) == "resolved":
            self.items[behind] = None

    def _is_ahead(self, moment: float) -> bool:
        # Further ahead than any pause: this machine's clock was wrong when it was written.
        return self.now < moment <= self.now + 2 * LONGEST_ASKED

    def _in_time(self) -> bool:
        return self.clock() - self.began <= self.seconds

    def carry(self, carriers: Sequence[Carrier], fallback_seconds: float) -> None:
        """Tell by the carriers what is due. One is told even where no time is left: a slow incident.io must not silence them, too."""
        able = list(carriers)
        told = 0
        for number in range(len(self.items)):
            item = self.items[number]
            why = self._why_carried(number, fallback_seconds)
            if item is None or why is None:
                continue
            if not able or (told and not self._in_time()):
                return
            if name := self._tell(able, item.event, why):
                self._mark(number, f"{item.event.status}:{name}")
            told += 1

    def _tell(self, able: list[Carrier], event: AlertEvent, why: str) -> str | None:
        """The name of the carrier that has told it. One that cannot is not asked again in this tick."""
        while able:
            try:
                able[0].carry(event, why)
            except VendorError as error:
                self.problems.append(str(error))
                del able[0]
            else:
                return able[0].name
        return None

    def _mark(self, number: int, entry: str) -> None:
        """Note what was told, and note it on the `resolved` that waits behind, too: who heard of the one has to hear of the other."""
        [item, *behind] = [
            (n, one) for n, one in enumerate(self.items) if n >= number and one and one.key == self._key(number)
        ]
        self.items[item[0]] = replace(item[1], carried=(*item[1].carried, entry))
        if behind and behind[0][1].event.status == "resolved":
            self.items[behind[0][0]] = replace(behind[0][1], carried=(*behind[0][1].carried, entry))

    def _key(self, number: int) -> str:
        item = self.items[number]
        return item.key if item else ""

    def _status(self, number: int) -> str:
        item = self.items[number]
        return item.event.status if item else ""

    def _why_carried(self, number: int, fallback_seconds: float) -> str | None:
        """Why carriers have to tell of an event; None where they do not."""
        item = self.items[number]
        if item is None or item.told(item.event.status):
            return None
        if item.event.status == "resolved":
            return "You were told of this alert here." if item.told("firing") else None
        if item.event.metadata.get("transient"):
            return None
        if item.reduced == REFUSED:
            return "incident.io refuses this alert, in every form."
        is_over = any(one and one.key == item.key for one in self.items[number + 1 :])
        was_unable = self.unreachable or item.attempts > 0
        if is_over or not was_unable or self.now - item.since < fallback_seconds:
            return None
        return f"incident.io cannot be reached since {self._away_since(item):%Y-%m-%d %H:%M} UTC."

    def _away_since(self, item: Waiting) -> datetime:
        """When the oldest of what it was unable to take was put."""
        tried = [one.since for one in self.items if one and one.attempts and one.reduced != REFUSED]
        return datetime.fromtimestamp(min([item.since, *tried]), UTC)
