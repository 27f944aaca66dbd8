"""Delivers alert events to incident.io, and by other carriers what incident.io cannot take. What was not delivered stays in the queue.

Without incident.io another channel is in its place (`channels.py`), with the same order and the same retries.

Delivery is paced: `pacing.py` says how many events may go out, and remembers when incident.io has asked for fewer.
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Protocol

from orchestration.incidents.pacing import Pace
from orchestration.incidents.sizes import LAST_REDUCTION, bounded, reduced
from orchestration.vendors.http import VendorError
from orchestration.vendors.incident_io import AlertEvent

TOO_MANY = 429
"""incident.io takes the same event later. It says nothing about whether incident.io can be reached."""
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
    failed_at: float = 0.0
    """When it was tried in vain last."""
    customer_facing: bool = False
    """Its alert is customer-facing, also where the event itself does not say so, as a `resolved` does not."""
    update: bool = False
    """An earlier notification of its alert has been queued."""

    @property
    def key(self) -> str:
        return self.event.deduplication_key

    @property
    def is_customer_facing(self) -> bool:
        metadata = self.event.metadata
        return self.customer_facing or bool(metadata.get("customer_facing") or metadata.get("urgent"))

    @property
    def is_update(self) -> bool:
        """It opens no alert: it resolves one, or updates one that fires."""
        return self.update or self.event.status != "firing"

    def told(self, status: str) -> bool:
        """A carrier has told that the alert is `status`."""
        return any(entry.startswith(f"{status}:") for entry in self.carried)


@dataclass(frozen=True)
class Delivered:
    sent: tuple[AlertEvent, ...]
    """What incident.io has accepted."""
    waiting: tuple[Waiting, ...]
    problems: tuple[str, ...]
    pace: Pace = field(default_factory=Pace)
    delay: str = ""
    """Why events are left although incident.io can be reached: the rate limit, of ours or of incident.io."""


class Carrier(Protocol):
    """Another way to tell people of an alert."""

    @property
    def name(self) -> str: ...

    def carry(self, event: AlertEvent, why: str) -> None:
        """Tell of one event. `why` says why incident.io does not. Raises VendorError where it was not told."""
        ...


def put(
    waiting: tuple[Waiting, ...], event: AlertEvent, now: float, *, customer_facing: bool = False, update: bool = False
) -> tuple[Waiting, ...]:
    """What waits, with an event more; `now` is in seconds since the epoch.

    `customer_facing` and `update` say of its alert that it is customer-facing, and that an earlier notification was queued.

    It replaces the last event of its alert where that has the same status: only the newest words are worth sending. Else it goes
    behind it, so that an alert's events are told in the order in which they came to be.
    """
    event = bounded(event)
    last = max((n for n, item in enumerate(waiting) if item.key == event.deduplication_key), default=None)
    new = Waiting(event, now, customer_facing=customer_facing, update=update)
    if last is None:
        return (*waiting, new)
    before = waiting[last]
    if before.event.status != event.status:
        return (*waiting, replace(new, carried=before.carried if event.status == "resolved" else ()))
    return (*waiting[:last], replace(before, event=event, reduced=0), *waiting[last + 1 :])


class Queue:
    """Puts many events into what waits, as `put` does one, without a look at all of it for each."""

    def __init__(self, waiting: tuple[Waiting, ...]) -> None:
        self._by_key = dict[str, tuple[Waiting, ...]]()
        for item in waiting:
            self._by_key[item.key] = (*self._by_key.get(item.key, ()), item)
        self._before, self._changed = waiting, False

    @property
    def waiting(self) -> tuple[Waiting, ...]:
        """The events that wait for delivery. Those of one alert stand together, in their order."""
        return tuple(item for items in self._by_key.values() for item in items) if self._changed else self._before

    def put(self, event: AlertEvent, now: float, *, customer_facing: bool = False, update: bool = False) -> None:
        """Put one event, as the function of this name does."""
        key, self._changed = bounded(event).deduplication_key, True
        items = self._by_key.get(key, ())
        self._by_key[key] = put(items, event, now, customer_facing=customer_facing, update=update)


def deliver(
    waiting: tuple[Waiting, ...],
    send: Callable[[AlertEvent], None],
    carriers: Sequence[Carrier],
    seconds: float,
    now: float,
    clock: Callable[[], float] = time.monotonic,
    fallback_seconds: float = FALLBACK_SECONDS,
    pace: Pace | None = None,
    before_each: Callable[[], None] = lambda: None,
    channel: str = "incident.io",
) -> Delivered:
    """Send events for at most `seconds` (the call under way is finished); what is not sent stays in the queue.

    No call is begun that would exceed the time limit if it took as long as the slowest call before it.

    Customer-facing alerts go first, then what opens an alert before updates, then the oldest. `pace` limits how many are sent. When
    incident.io answers 429, the rest waits until the time that it names; that is no failure of an event, and no outage.

    At most one event of an alert is sent: a tick that is repeated, because its process died before the cursor was saved,
    then only repeats the state that the alert has already. Without that, a repeated `firing` could follow a `resolved` and
    page somebody a second time.

    When incident.io cannot be reached, one event has found that out, and the rest waits. An event that has failed while others were
    accepted goes last: one that incident.io cannot take, for whatever reason, holds up no other. An event that it refuses is sent
    again in smaller forms, behind all others.

    What incident.io was unable to take for `fallback_seconds`, and what it refuses in every form, is told by the first of the
    `carriers` that succeeds, once for each state of the alert. So is what incident.io has kept out with 429s for as long
    (`Pace.keeps_out`). It still waits for incident.io; what is refused in every form for `REFUSED_DAYS` is dropped, with the
    `resolved` behind it, and named among the problems.

    `before_each` is called before each event is sent, by whatever way. What it raises ends the delivery, and is raised.

    `channel` is what messages call the channel that `send` delivers to, where that is not incident.io (`channels.py`).
    """
    tick = _Tick(list(waiting), now, seconds, clock, pace or Pace(), before_each, channel)
    tick.send(send)
    tick.carry(carriers, fallback_seconds)
    left = tuple(item for item in tick.items if item)
    return Delivered(tuple(tick.sent), left, tuple(dict.fromkeys(tick.problems)), tick.pace, tick.delay)


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
    pace: Pace
    before_each: Callable[[], None]
    channel: str = "incident.io"
    sent: list[AlertEvent] = field(default_factory=list[AlertEvent])
    problems: list[str] = field(default_factory=list[str])
    unreachable: bool = False
    delay: str = ""

    def __post_init__(self) -> None:
        self.began = self.clock()

    def send(self, send: Callable[[AlertEvent], None]) -> None:
        self.unreachable = any(self._is_ahead(item.asked_until) for item in self.items if item)
        self.delay = self.pace.asked_to_wait(self.now, self.channel)
        turns, slowest = deque[int]() if self.delay else self._turns(), 0.0
        while turns and not self.unreachable:
            passed = self.clock() - self.began
            if passed + slowest > self.seconds:
                break
            number, moment = turns.popleft(), self.now + passed
            if (item := self.items[number]) is None:
                continue
            if held := self.pace.holds_back(moment, customer_facing=item.is_customer_facing, channel=self.channel):
                self.delay = held
                continue
            try:
                try:
                    self.before_each()
                    send(reduced(item.event, item.reduced))
                finally:
                    slowest = max(slowest, self.clock() - self.began - passed)
            except VendorError as error:
                if error.status == TOO_MANY:
                    self._slow_down(error)
                    return
                self.items[number] = after = self._after(item, error, moment)
                if is_of_the_event(error) and item.reduced < LAST_REDUCTION:
                    self._put_behind(turns, number, item)
                self.unreachable = not is_of_the_event(error)
                if after.reduced == REFUSED and not self.unreachable and self._is_given_up(after):
                    self._drop(number, after)
            else:
                self.sent.append(item.event)
                self.items[number] = None
                self.pace = self.pace.accepted(moment)
        if self.sent:
            self.pace = self.pace.unlimited()

    def _turns(self) -> deque[int]:
        """The first event of each alert, if its time has come, in the order in which they are tried."""
        heads: dict[str, int] = {}
        for number, item in enumerate(self.items):
            if item:
                heads.setdefault(item.key, number)
        due = [item for n in heads.values() if (item := self.items[n]) and not self._is_ahead(item.not_before)]
        return deque(heads[item.key] for item in sorted(due, key=self._rank))

    def _rank(self, item: Waiting) -> tuple[int, bool, int, bool, float]:
        # In an outage, whichever event is first fails for all of them: that does not send it behind internal ones.
        alone = item.attempts if item.failed_at <= self.pace.last_accepted else 0
        return alone, not item.is_customer_facing, item.attempts + item.reduced, item.is_update, item.since

    def _put_behind(self, turns: deque[int], number: int, item: Waiting) -> None:
        """Let a refused event have its next turn behind all others; a customer-facing one before the internal ones."""
        same = [turn for turn, other in enumerate(turns) if (one := self.items[other]) and one.is_customer_facing]
        turns.insert(same[-1] + 1 if same else 0, number) if item.is_customer_facing else turns.append(number)

    def _slow_down(self, error: VendorError) -> None:
        """Send no more until the time that incident.io names."""
        now = self.now + self.clock() - self.began
        self.pace = self.pace.limited(now, error.retry_after)
        self.delay = f"{self.pace.asked_to_wait(now, self.channel)} {error}"

    def _after(self, item: Waiting, error: VendorError, moment: float) -> Waiting:
        self.problems.append(str(error))
        if is_of_the_event(error) and item.reduced < LAST_REDUCTION:
            return replace(item, reduced=item.reduced + 1)
        attempts = item.attempts + 1
        if is_of_the_event(error):
            self.problems.append(f"{self.channel} refuses {item.key} in every form")
            later = self.now + pause(item.key, attempts, LONGEST_PAUSE_OF_REFUSED)
            # Not later than now: a clock that was ahead would keep it for as long.
            since = min(item.refused_since or self.now, self.now)
            return replace(
                item, attempts=attempts, not_before=later, reduced=REFUSED, refused_since=since, failed_at=moment
            )
        later = self.now + pause(item.key, attempts, LONGEST_PAUSE)
        asked = self.now + min(error.retry_after, LONGEST_ASKED) if error.retry_after else 0.0
        return replace(item, attempts=attempts, not_before=later, asked_until=asked, failed_at=moment)

    def _is_given_up(self, item: Waiting) -> bool:
        return self.now - item.refused_since >= REFUSED_DAYS * 86400

    def _drop(self, number: int, item: Waiting) -> None:
        """Give an event up, and a `resolved` behind a `firing`: incident.io has no alert for it to end."""
        what = f"`{item.event.status}` of {item.key}"
        self.problems.append(f"{what} is dropped: {self.channel} has refused it in every form for {REFUSED_DAYS} days")
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
            wait_for_busy = self.now - item.since < 2 * fallback_seconds
            if name := self._tell(able, item.event, why, wait_for_busy=wait_for_busy):
                self._mark(number, f"{item.event.status}:{name}")
            told += 1

    def _tell(self, able: list[Carrier], event: AlertEvent, why: str, *, wait_for_busy: bool) -> str | None:
        """Return the name of the carrier that has sent it. One that cannot is not asked again in this tick.

        With `wait_for_busy`, none is asked in place of one that answers 429: it is asked again in the next tick.
        """
        while able:
            try:
                self.before_each()
                able[0].carry(event, why)
            except VendorError as error:
                self.problems.append(str(error))
                if error.status == TOO_MANY and wait_for_busy:
                    able.clear()
                else:
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
            return f"{self.channel} refuses this alert, in every form."
        is_over = any(one and one.key == item.key for one in self.items[number + 1 :])
        return None if is_over or self.now - item.since < fallback_seconds else self._why_late(item, fallback_seconds)

    def _why_late(self, item: Waiting, fallback_seconds: float) -> str | None:
        """Why incident.io has not accepted an event that is overdue; None where it only waits for its turn."""
        if self.unreachable or self._failed_last(item):
            return f"{self.channel} cannot be reached since {self._away_since(item):%Y-%m-%d %H:%M} UTC."
        if self.pace.keeps_out(self.now, fallback_seconds, customer_facing=item.is_customer_facing):
            since = datetime.fromtimestamp(self.pace.limited_since, UTC)
            return f"{self.channel} answers 429 (too many requests) since {since:%Y-%m-%d %H:%M} UTC."
        return None

    def _failed_last(self, item: Waiting) -> bool:
        """It was tried in vain in this tick, or nothing was accepted since. Otherwise it waits for its turn."""
        return item.attempts > 0 and item.failed_at >= min(self.now, self.pace.last_accepted)

    def _away_since(self, item: Waiting) -> datetime:
        """When the oldest of what it was unable to take was put."""
        tried = [one.since for one in self.items if one and one.attempts and one.reduced != REFUSED]
        return datetime.fromtimestamp(min([item.since, *tried]), UTC)
