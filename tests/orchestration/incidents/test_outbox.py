from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import count, groupby
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.incidents import outbox
from orchestration.incidents.outbox import REFUSED, Delivered, Waiting, deliver, pause, put
from orchestration.incidents.pacing import LONGEST_WAIT_SECONDS, MOST, MOST_INTERNAL, Pace
from orchestration.incidents.sizes import ROUTING
from orchestration.vendors.http import VendorError
from orchestration.vendors.incident_io import AlertEvent, AlertSource
from tests.orchestration.wire import RESET, Slow, refused_port, reply, wire

Status = Literal["firing", "resolved"]
NOW = 1_800_000_000.0
MINUTE = 60.0
ACCEPTED = reply(202, {"deduplication_key": "key", "message": "Event accepted for processing", "status": "success"})


def event(key: str, status: Status = "firing", title: str = "", **metadata: Any) -> AlertEvent:
    return AlertEvent(key, status, title or key, "why", "https://dagster.example.com", metadata)


def queue(*events: AlertEvent, at: float = NOW) -> tuple[Waiting, ...]:
    waiting: tuple[Waiting, ...] = ()
    for one in events:
        waiting = put(waiting, one, at)
    return waiting


class Incidents:
    """Takes events; answers those of the given keys with an error."""

    def __init__(self, errors: dict[str, VendorError] | None = None) -> None:
        self.errors, self.tried, self.taken = errors or {}, list[str](), list[tuple[str, str]]()

    def send(self, sent: AlertEvent) -> None:
        self.tried.append(sent.deduplication_key)
        if error := self.errors.get(sent.deduplication_key):
            raise error
        self.taken.append((sent.deduplication_key, sent.status))


@dataclass
class Channel:
    name: str = "slack"
    works: bool = True
    told: list[tuple[str, str, str]] = field(default_factory=list)

    def carry(self, event: AlertEvent, why: str) -> None:
        if not self.works:
            raise VendorError(f"{self.name} is away")
        self.told.append((event.deduplication_key, event.status, why))

    @property
    def heard(self) -> list[tuple[str, str]]:
        return [(key, status) for key, status, _why in self.told]


AWAY = VendorError("no answer")


def left(done: Delivered) -> list[tuple[str, str, int]]:
    return [(item.key, item.event.status, item.attempts) for item in done.waiting]


# --- what is put


def test_a_firing_replaces_the_firing_that_was_not_delivered_and_keeps_what_is_known_of_it() -> None:
    [before] = queue(event("a", title="first"))
    tried = replace(before, attempts=3, not_before=NOW + 9, carried=("firing:slack",), reduced=2)
    [after] = put((tried,), event("a", title="second"), NOW + MINUTE)
    assert after == replace(tried, event=event("a", title="second"), reduced=0)


def test_a_resolved_queues_behind_its_firing_and_a_new_firing_behind_that() -> None:
    waiting = queue(
        event("a"), event("b"), event("a", "resolved"), event("a", "resolved", "again"), event("a", title="anew")
    )
    assert [(item.key, item.event.status, item.event.title) for item in waiting] == [
        ("a", "firing", "a"), ("b", "firing", "b"), ("a", "resolved", "again"), ("a", "firing", "anew"),
    ]  # fmt: skip


def test_a_resolved_knows_who_was_told_of_its_firing_and_a_new_firing_does_not() -> None:
    [firing] = queue(event("a"))
    waiting = put((replace(firing, carried=("firing:slack",)),), event("a", "resolved"), NOW)
    assert waiting[1].carried == ("firing:slack",)
    assert put(waiting, event("a"), NOW)[2].carried == ()


# --- the order


def test_events_go_out_in_order() -> None:
    incidents = Incidents()
    done = deliver(queue(event("a"), event("b")), incidents.send, (), 30, NOW)
    assert incidents.taken == [("a", "firing"), ("b", "firing")]
    assert (done.waiting, done.problems) == ((), ())


def test_one_event_of_an_alert_a_tick() -> None:
    incidents = Incidents()
    done = deliver(queue(event("a"), event("a", "resolved"), event("b")), incidents.send, (), 30, NOW)
    assert incidents.taken == [("a", "firing"), ("b", "firing")]
    assert left(done) == [("a", "resolved", 0)]


@pytest.mark.parametrize("status", [None, 500, 503, 302, 200, 401, 403, 404, 408])
def test_when_it_cannot_be_reached_one_event_finds_out_and_the_rest_waits(status: int | None) -> None:
    incidents = Incidents({"a": VendorError("no", status=status)})
    done = deliver(queue(event("a"), event("b"), event("a", "resolved")), incidents.send, (), 30, NOW)
    assert incidents.tried == ["a"]
    assert left(done) == [("a", "firing", 1), ("b", "firing", 0), ("a", "resolved", 0)]


def test_an_alert_that_never_gets_through_holds_up_no_other() -> None:
    incidents = Incidents({"a": VendorError("no", status=500)})
    waiting = queue(event("a"), event("a", "resolved"))
    for number in range(3):
        waiting = deliver(
            put(waiting, event(f"b{number}"), NOW), incidents.send, (), 30, NOW + number * MINUTE * 10
        ).waiting
    assert [key for key, _status in incidents.taken] == ["b0", "b1", "b2"]
    assert [item.key for item in waiting] == ["a", "a"]


def test_it_ends_in_time() -> None:
    times = iter([0.0, 1.0, 40.0, 41.0])
    incidents = Incidents()
    done = deliver(queue(event("a"), event("b"), event("c")), incidents.send, (), 30, NOW, lambda: next(times))
    assert incidents.taken == [("a", "firing")]
    assert left(done) == [("b", "firing", 0), ("c", "firing", 0)]


# --- pauses


def test_a_pause_grows_to_a_limit_and_is_the_same_for_the_same_key() -> None:
    pauses = [pause("a", attempts, 60) for attempts in range(1, 40)]
    assert pauses == [pause("a", attempts, 60) for attempts in range(1, 40)]
    assert all(
        0.8 * wanted <= got <= 1.2 * wanted for got, wanted in zip(pauses, [1, 2, 4, 8, 16, 32, 60], strict=False)
    )
    assert all(48 <= got <= 72 for got in pauses[6:])
    assert pause("a", 1, 60) != pause("b", 1, 60)
    assert pause("a", 10**6, 60) <= 72


def test_a_failed_event_is_not_tried_before_its_time_and_others_are() -> None:
    incidents = Incidents({"a": AWAY})
    waiting = deliver(queue(event("a")), incidents.send, (), 30, NOW).waiting
    waiting = deliver(put(waiting, event("b"), NOW + 0.1), incidents.send, (), 30, NOW + 0.1).waiting
    assert incidents.tried == ["a", "b"]
    deliver(waiting, incidents.send, (), 30, NOW + 2)
    assert incidents.tried == ["a", "b", "a"]


def test_while_it_asks_to_wait_nothing_is_sent_not_even_what_came_since() -> None:
    incidents = Incidents({"a": VendorError("slower", status=503, retry_after=30)})
    waiting = deliver(queue(event("a")), incidents.send, (), 30, NOW).waiting
    waiting = deliver(put(waiting, event("b"), NOW + 20), incidents.send, (), 30, NOW + 20).waiting
    assert incidents.tried == ["a"]
    incidents.errors.clear()
    assert deliver(waiting, incidents.send, (), 30, NOW + 31).waiting == ()


def test_a_wait_without_end_and_a_clock_that_was_wrong_do_not_silence_it() -> None:
    incidents = Incidents({"a": VendorError("slower", status=503, retry_after=10**9)})
    waiting = deliver(queue(event("a")), incidents.send, (), 30, NOW).waiting
    incidents.errors.clear()
    assert deliver(waiting, incidents.send, (), 30, NOW + outbox.LONGEST_ASKED + 1).waiting == ()
    [item] = queue(event("a"))
    ahead = replace(item, not_before=NOW + 10**8, asked_until=NOW + 10**8)
    assert deliver((ahead,), incidents.send, (), 30, NOW).waiting == ()


# --- the rate limit


class Limited:
    """A token bucket of 120 events that refills by 2 a second, as incident.io's; the time is the test's own."""

    def __init__(self, size: float = 120, refill: float = 2.0) -> None:
        self.size, self.refill, self.filled, self.at = size, refill, size, NOW
        self.now, self.taken, self.refused = NOW, list[str](), 0

    def send(self, sent: AlertEvent) -> None:
        self.filled, self.at = min(self.size, self.filled + (self.now - self.at) * self.refill), self.now
        if self.filled < 1:
            self.refused += 1
            wait = (1 - self.filled) / self.refill if self.refill else 60.0
            raise VendorError("too many", status=429, retry_after=max(1.0, wait))
        self.filled -= 1
        self.taken.append(sent.deduplication_key)


def still() -> float:
    """A clock by which a tick takes no time."""
    return 0.0


def moving() -> Callable[[], float]:
    """A clock by which everything takes ten milliseconds."""
    return map((0.01).__mul__, count()).__next__


def ticks(
    waiting: tuple[Waiting, ...], limited: Limited, minutes: float, *carriers: Channel, pace: Pace | None = None
) -> Delivered:
    """Tick every five seconds until nothing waits or the minutes are over."""
    done = Delivered((), waiting, (), pace or Pace())
    end = limited.now + minutes * MINUTE
    while done.waiting and limited.now < end:
        done = deliver(done.waiting, limited.send, carriers, 10, limited.now, moving(), pace=done.pace)
        limited.now += 5
    return done


def internal(number: int) -> tuple[AlertEvent, ...]:
    return tuple(event(f"internal {n}") for n in range(number))


def customer(number: int) -> tuple[AlertEvent, ...]:
    return tuple(event(f"customer {n}", customer_facing=True) for n in range(number))


def test_a_storm_is_paced_below_the_limit_customers_first_and_never_carried() -> None:
    limited, slack = Limited(), Channel()
    done = ticks(queue(*internal(360), *customer(40)), limited, 10, slack)
    assert done.waiting == ()
    assert (len(limited.taken), len(set(limited.taken)), limited.refused) == (400, 400, 0)
    assert limited.taken[:40] == [one.deduplication_key for one in customer(40)]
    assert limited.taken[40:] == [one.deduplication_key for one in internal(360)]
    assert limited.now - NOW <= 5 * MINUTE
    assert slack.told == []


def test_a_customer_facing_alert_in_the_middle_of_a_storm_does_not_wait_for_it() -> None:
    limited = Limited()
    done = deliver(queue(*internal(400)), limited.send, (), 10, NOW, still)
    assert len(limited.taken) == MOST_INTERNAL
    waiting = put(done.waiting, customer(1)[0], NOW + 5)
    limited.now = NOW + 5
    done = deliver(waiting, limited.send, (), 10, NOW + 5, still, pace=done.pace)
    assert limited.taken[MOST_INTERNAL:] == ["customer 0"]
    assert done.delay == "101 alert events were sent in the last minute, which is as many as incident.io should get."


def test_no_minute_has_more_events_than_the_limit() -> None:
    limited = Limited(size=10**9)
    done = ticks(queue(*customer(300)), limited, 1 - 0.01)
    assert (len(limited.taken), len(done.waiting)) == (MOST, 300 - MOST)
    done = ticks(done.waiting, limited, 1, pace=done.pace)
    assert len(limited.taken) == 2 * MOST


def test_openings_go_before_updates_and_an_alert_keeps_its_order() -> None:
    limited = Limited()
    waiting = queue(event("old"), event("old", "resolved"))
    waiting = put(waiting, event("known"), NOW, update=True)
    waiting = put(waiting, event("over", "resolved"), NOW, customer_facing=True, update=True)
    waiting = put(waiting, event("new"), NOW + 1)
    waiting = put(waiting, event("hurts", customer_facing=True), NOW + 2)
    done = deliver(waiting, limited.send, (), 10, NOW + 3, still)
    assert limited.taken == ["hurts", "over", "old", "new", "known"]
    deliver(done.waiting, limited.send, (), 10, NOW + 8, still, pace=done.pace)
    assert limited.taken[5:] == ["old"]


def test_newer_words_for_an_alert_that_was_not_opened_yet_still_open_it() -> None:
    waiting = put(queue(event("a"), event("b")), event("a", title="newer"), NOW + 1, update=True)
    assert [item.is_update for item in waiting] == [False, False]


def test_a_429_is_no_failed_attempt_and_stops_the_tick() -> None:
    incidents = Incidents({"a": VendorError("slower", status=429, retry_after=30)})
    done = deliver(queue(event("a"), event("b")), incidents.send, (), 30, NOW)
    assert incidents.tried == ["a"]
    assert (left(done), done.problems) == ([("a", "firing", 0), ("b", "firing", 0)], ())
    assert done.delay == "incident.io answers 429 and asks to wait for 30 seconds. slower"
    done = deliver(put(done.waiting, customer(1)[0], NOW + 20), incidents.send, (), 30, NOW + 20, pace=done.pace)
    assert incidents.tried == ["a"]
    incidents.errors.clear()
    assert deliver(done.waiting, incidents.send, (), 30, NOW + 31, pace=done.pace).waiting == ()


@pytest.mark.parametrize("asked", [None, 10**9])
def test_a_429_without_a_time_or_with_one_without_end_silences_nothing(asked: float | None) -> None:
    incidents = Incidents({"a": VendorError("slower", status=429, retry_after=asked)})
    done = deliver(queue(event("a")), incidents.send, (), 30, NOW)
    incidents.errors.clear()
    later = NOW + LONGEST_WAIT_SECONDS + 2
    assert deliver(done.waiting, incidents.send, (), 30, later, pace=done.pace).waiting == ()
    ahead = Pace(times=(NOW + 10**8,) * 200, wait_until=NOW + 10**8, limited_since=NOW + 10**8)
    assert deliver(done.waiting, incidents.send, (), 30, NOW, pace=ahead).waiting == ()


def test_429s_alone_for_the_whole_limit_are_an_outage() -> None:
    limited, slack = Limited(size=0, refill=0), Channel()
    waiting = queue(*internal(2), *customer(2))
    done = ticks(waiting, limited, 4.9, slack)
    assert slack.told == []
    done = ticks(done.waiting, limited, 1, slack, pace=done.pace)
    assert sorted(key for key, _status in slack.heard) == ["customer 0", "customer 1", "internal 0", "internal 1"]
    assert slack.told[0][2] == "incident.io answers 429 (too many requests) since 2027-01-15 08:00 UTC."
    assert {item.attempts for item in done.waiting} == {0}


def test_a_source_that_accepts_too_few_falls_back_for_customers_only() -> None:
    # Another sender uses the source up: it accepts one event in a minute.
    limited, slack = Limited(size=1, refill=1 / 60), Channel()
    done = ticks(queue(*internal(20), *customer(10)), limited, 8, slack)
    assert all(key.startswith("customer") for key in limited.taken)
    told = [key for key, _status in slack.heard]
    assert len(told) == len(set(told)) >= 3
    assert all(key.startswith("customer") for key in told)
    assert len(done.waiting) == 30 - len(limited.taken)


def test_after_an_outage_what_waits_for_its_turn_is_not_carried() -> None:
    incidents, slack = Incidents({f"internal {n}": AWAY for n in range(300)}), Channel()
    done = Delivered((), queue(*internal(300)), ())
    for second in range(0, 280, 5):
        done = deliver(done.waiting, incidents.send, (slack,), 10, NOW + second, still, pace=done.pace)
    assert sum(item.attempts > 0 for item in done.waiting) > 5
    limited = Limited()
    limited.now = limited.at = NOW + 280
    assert ticks(done.waiting, limited, 5, slack, pace=done.pace).waiting == ()
    assert (slack.told, limited.refused) == ([], 0)


def test_after_an_outage_customers_go_first_although_theirs_was_the_one_that_failed() -> None:
    incidents = Incidents({"customer 0": AWAY})
    done = deliver(queue(*internal(5), *customer(1)), incidents.send, (), 10, NOW, still)
    assert incidents.tried == ["customer 0"]
    incidents.errors.clear()
    deliver(done.waiting, incidents.send, (), 10, NOW + 5, still, pace=done.pace)
    assert incidents.tried[1] == "customer 0"


def test_a_refused_customer_facing_event_is_reduced_before_internal_ones_go_out() -> None:
    incidents = Incidents({"customer 0": VendorError("no", status=422)})
    deliver(queue(*internal(2), *customer(2)), incidents.send, (), 10, NOW, still)
    assert incidents.tried == ["customer 0", "customer 1", *["customer 0"] * 3, "internal 0", "internal 1"]


# --- what incident.io refuses


LARGE = event(
    "a", title="t" * 240, customer_facing=False, urgent=False, transient=False, owner="ada", team="data", unit="dbt/x", kind="asset", flapping=False,
    assets=[f"a/{n}" for n in range(50)], error="e" * 1500, run_id="1",
)  # fmt: skip
LARGE = replace(LARGE, description="d" * 5000)


class Picky:
    """Refuses an event until it is as small as it likes."""

    def __init__(self, forms: int, status: int = 413) -> None:
        self.forms, self.status, self.got = forms, status, list[AlertEvent]()

    def send(self, sent: AlertEvent) -> None:
        if sent.deduplication_key == "a":
            self.got.append(sent)
            if len(self.got) < self.forms:
                raise VendorError("too large", status=self.status)
        else:
            self.got.append(sent)


@pytest.mark.parametrize("status", [400, 409, 413, 415, 422])
def test_a_refused_event_is_reduced_step_by_step_behind_all_others(status: int) -> None:
    picky = Picky(99, status)
    done = deliver(queue(LARGE, event("b"), event("c")), picky.send, (), 30, NOW)
    assert [one.deduplication_key for one in picky.got] == ["a", "b", "c", "a", "a", "a"]
    forms = [one for one in picky.got if one.deduplication_key == "a"]
    assert forms[0] == LARGE
    assert [len(json.dumps(one.__dict__)) for one in forms] == sorted(
        (len(json.dumps(one.__dict__)) for one in forms), reverse=True
    )
    assert all(
        {name: one.metadata[name] for name in ROUTING} == {name: LARGE.metadata[name] for name in ROUTING}
        for one in forms
    )
    assert (forms[-1].description, forms[-1].source_url, set(forms[-1].metadata)) == ("", "", set(ROUTING))
    [item] = done.waiting
    assert (item.attempts, item.reduced, item.event) == (1, REFUSED, LARGE)
    assert "incident.io refuses a in every form" in done.problems


@pytest.mark.parametrize("forms", [2, 3, 4])
def test_the_first_form_that_it_takes_is_enough(forms: int) -> None:
    picky = Picky(forms)
    done = deliver(queue(LARGE, event("b")), picky.send, (), 30, NOW)
    assert done.waiting == ()
    assert [one.deduplication_key for one in done.sent] == ["b", "a"]


def test_how_far_it_was_reduced_outlives_a_tick_that_ends() -> None:
    times = iter([0.0, 1.0, 40.0, 40.0])
    picky = Picky(2)
    done = deliver(queue(LARGE), picky.send, (), 30, NOW, lambda: next(times))
    assert done.waiting[0].reduced == 1
    assert deliver(done.waiting, picky.send, (), 30, NOW).waiting == ()
    assert "assets" not in picky.got[1].metadata


def test_what_it_refuses_in_every_form_is_carried_at_once_and_tried_seldom() -> None:
    incidents, slack = Incidents({"a": VendorError("no", status=422)}), Channel()
    done = deliver(queue(event("a"), event("b")), incidents.send, (slack,), 30, NOW)
    assert slack.told == [("a", "firing", "incident.io refuses this alert, in every form.")]
    assert incidents.taken == [("b", "firing")]
    waiting = done.waiting
    for number in range(1, 30):
        waiting = deliver(waiting, incidents.send, (slack,), 30, NOW + number * MINUTE).waiting
    assert len(slack.told) == 1
    assert incidents.tried.count("a") < 4 + 12
    waiting = deliver(
        put(waiting, event("a", "resolved"), NOW), incidents.send, (slack,), 30, NOW + 30 * MINUTE
    ).waiting
    assert slack.heard == [("a", "firing"), ("a", "resolved")]
    incidents.errors.clear()
    waiting = deliver(waiting, incidents.send, (slack,), 30, NOW + 60 * MINUTE).waiting
    assert deliver(waiting, incidents.send, (slack,), 30, NOW + 61 * MINUTE).waiting == ()
    assert incidents.taken == [("b", "firing"), ("a", "firing"), ("a", "resolved")]


DAY = 86400.0
NEVER = {"a": VendorError("no", status=422)}


def offered(waiting: tuple[Waiting, ...], incidents: Incidents, days: Iterable[float]) -> Delivered:
    """What is left after a tick at each of these times."""
    done = Delivered((), waiting, ())
    for day in days:
        done = deliver(done.waiting, incidents.send, (), 30, NOW + day * DAY)
    return done


def test_what_it_refuses_in_every_form_for_a_week_is_dropped_with_its_end_and_named() -> None:
    incidents = Incidents(NEVER)
    waiting = queue(event("a"), event("a", "resolved"), event("a", title="anew"))
    almost = offered(waiting, incidents, (0, 3, 6.9))
    assert left(almost) == [("a", "firing", 3), ("a", "resolved", 0), ("a", "firing", 0)]
    done = offered(almost.waiting, incidents, (7.1,))
    assert "`firing` of a is dropped: incident.io has refused it in every form for 7 days" in done.problems
    assert [(item.event.title, item.attempts) for item in done.waiting] == [("anew", 0)]


def test_newer_words_do_not_make_it_wait_for_longer_and_are_tried() -> None:
    incidents = Incidents(NEVER)
    waiting = offered(queue(event("a")), incidents, (0, 4)).waiting
    waiting = put(waiting, event("a", title="second"), NOW + 5 * DAY)
    waiting = offered(waiting, incidents, (5, 6.9)).waiting
    assert (waiting[0].event.title, waiting[0].refused_since) == ("second", NOW)
    assert offered(waiting, incidents, (7.1,)).waiting == ()
    incidents.errors = {}
    assert offered(waiting, incidents, (7.1,)).sent[0].title == "second"


def test_only_another_refusal_drops_it_and_no_outage_nor_a_clock_that_was_ahead() -> None:
    incidents = Incidents(dict(NEVER))
    waiting = offered(queue(event("a")), incidents, (0,)).waiting
    incidents.errors = {"a": VendorError("no answer")}
    assert left(offered(waiting, incidents, (7.1, 20, 30))) == [("a", "firing", 4)]
    ahead = tuple(replace(item, refused_since=NOW + 1000 * DAY) for item in waiting)
    assert offered(ahead, Incidents(NEVER), (0.1, 8)).waiting == ()


def test_a_refused_end_is_dropped_too_and_what_failed_since_stays() -> None:
    waiting = queue(event("a", "resolved"), event("a"))
    done = offered(waiting, Incidents(NEVER), (0, 8))
    assert "`resolved` of a is dropped: incident.io has refused it in every form for 7 days" in done.problems
    assert left(done) == [("a", "firing", 0)]


# --- carriers


def test_carriers_tell_once_after_the_limit_and_incident_io_still_gets_it() -> None:
    incidents, slack, mail = Incidents({"a": AWAY}), Channel(), Channel("mail")
    waiting = queue(event("a"))
    for minutes in range(5):
        waiting = deliver(waiting, incidents.send, (slack, mail), 30, NOW + minutes * MINUTE).waiting
    assert slack.told == []
    for minutes in (5, 6, 7):
        waiting = deliver(waiting, incidents.send, (slack, mail), 30, NOW + minutes * MINUTE).waiting
    assert slack.told == [("a", "firing", "incident.io cannot be reached since 2027-01-15 08:00 UTC.")]
    assert (mail.told, waiting[0].carried) == ([], ("firing:slack",))
    incidents.errors.clear()
    assert deliver(waiting, incidents.send, (slack, mail), 30, NOW + 9 * MINUTE).waiting == ()
    assert incidents.taken == [("a", "firing")]


def test_the_next_carrier_tells_where_the_first_cannot_and_both_are_asked_again_where_none_can() -> None:
    incidents, slack, mail = Incidents({"a": AWAY, "b": AWAY}), Channel(works=False), Channel("mail", works=False)
    waiting = deliver(queue(event("a"), event("b")), incidents.send, (slack, mail), 30, NOW + 6 * MINUTE)
    assert {"slack is away", "mail is away"} <= set(waiting.problems)
    mail.works = True
    done = deliver(waiting.waiting, incidents.send, (slack, mail), 30, NOW + 7 * MINUTE)
    assert mail.heard == [("a", "firing"), ("b", "firing")]
    assert [item.carried for item in done.waiting] == [("firing:mail",), ("firing:mail",)]


def test_what_would_page_nobody_and_what_is_over_is_not_carried() -> None:
    incidents, slack = Incidents({"a": AWAY, "b": AWAY}), Channel()
    waiting = queue(event("a", transient=True), event("b"), event("b", "resolved"), event("c", "resolved"))
    done = deliver(waiting, incidents.send, (slack,), 30, NOW + 6 * MINUTE)
    assert (slack.told, len(done.waiting)) == ([], 4)


def test_whoever_was_told_of_the_failure_is_told_of_its_end() -> None:
    incidents, slack = Incidents({"a": AWAY}), Channel()
    waiting = deliver(queue(event("a")), incidents.send, (slack,), 30, NOW + 6 * MINUTE).waiting
    waiting = put(waiting, event("a", "resolved"), NOW + 7 * MINUTE)
    for minutes in (7, 8):
        waiting = deliver(waiting, incidents.send, (slack,), 30, NOW + minutes * MINUTE).waiting
    assert slack.heard == [("a", "firing"), ("a", "resolved")]
    assert [item.carried for item in waiting] == [("firing:slack",), ("firing:slack", "resolved:slack")]


def test_a_slow_incident_io_leaves_a_carrier_time_for_one_alert_a_tick() -> None:
    times = iter([0.0, 1.0, *[50.0] * 20])
    incidents, slack = Incidents({"a": AWAY}), Channel()
    deliver(queue(event("a"), event("b")), incidents.send, (slack,), 20, NOW + 6 * MINUTE, lambda: next(times))
    assert slack.heard == [("a", "firing")]


def test_an_event_that_only_had_no_turn_yet_is_not_carried() -> None:
    times = iter([0.0, *[50.0] * 20])
    slack = Channel()
    done = deliver(queue(event("a")), Incidents().send, (slack,), 20, NOW + 6 * MINUTE, lambda: next(times))
    assert (slack.told, len(done.waiting)) == ([], 1)


# --- over real sockets


def through(
    url: str, waiting: tuple[Waiting, ...], now: float, *carriers: Channel, pace: Pace | None = None
) -> Delivered:
    return deliver(waiting, AlertSource(url, "01SOURCE", "token").send, carriers, 20, now, pace=pace)


FAULTS = {
    "reset": RESET,
    "500": reply(500, {"type": "internal_error", "status": 500}),
    "html": reply(502, "<html><h1>Bad Gateway</h1></html>"),
    "html with 200": reply(200, "<html>Sign in</html>"),
    "cut": ACCEPTED[:-20],
    "empty": b"",
    "401": reply(401, {"type": "authentication_error"}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_it_is_delivered_after_every_fault_of_the_wire(fault: str) -> None:
    slack = Channel()
    with wire(FAULTS[fault], FAULTS[fault], ACCEPTED) as server:
        done = through(server.url, queue(event("a"), event("b")), NOW, slack)
        assert (left(done), len(server.requests)) == ([("a", "firing", 1), ("b", "firing", 0)], 1)
        done = through(server.url, done.waiting, NOW + 6 * MINUTE, slack)
        assert (len(server.requests), sorted(slack.heard)) == (2, [("a", "firing"), ("b", "firing")])
        done = through(server.url, done.waiting, NOW + 20 * MINUTE, slack)
        assert (done.waiting, len(done.sent), len(server.requests), len(slack.told)) == ((), 2, 4, 2)


def test_it_is_delivered_when_it_listens_again() -> None:
    waiting = through(f"http://127.0.0.1:{refused_port()}", queue(event("a")), NOW).waiting
    assert waiting[0].attempts == 1
    with wire(ACCEPTED) as server:
        assert through(server.url, waiting, NOW + 2).waiting == ()


def test_no_answer_in_time_is_no_answer() -> None:
    with wire(Slow(30), ACCEPTED) as server:
        done = through(server.url, queue(event("a"), event("b")), NOW)
        assert left(done) == [("a", "firing", 1), ("b", "firing", 0)]
        assert through(server.url, done.waiting, NOW + 2).waiting == ()


def later(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize("form", ["seconds", "date", "body", "older body"])
def test_a_retry_after_is_honoured_in_each_of_its_forms(form: str) -> None:
    answer = {
        "seconds": lambda: reply(429, {}, Retry_After="120"),
        "date": lambda: reply(429, {}, Retry_After=later(120)),
        "body": lambda: reply(
            429, {"rate_limit": {"retry_after": (datetime.now(UTC) + timedelta(seconds=120)).isoformat()}}
        ),
        "older body": lambda: reply(429, {"rate_limit": {"retry_after": later(120).replace("GMT", "UTC")}}),
    }[form]()
    with wire(answer, ACCEPTED) as server:
        done = through(server.url, queue(event("a")), NOW)
        done = through(server.url, put(done.waiting, event("b"), NOW + 110), NOW + 110, pace=done.pace)
        assert len(server.requests) == 1
        assert through(server.url, done.waiting, NOW + 121, pace=done.pace).waiting == ()


def test_a_refused_event_gets_through_reduced_with_its_routing() -> None:
    refusal = reply(422, {"type": "validation_error", "errors": [{"code": "too_long"}]})
    with wire(refusal, refusal, refusal, ACCEPTED) as server:
        assert through(server.url, queue(LARGE), NOW).waiting == ()
        *_, last = (json.loads(body) for body in server.bodies)
    assert last == {
        "deduplication_key": "a", "status": "firing", "title": "t" * 199 + "…",
        "metadata": {name: LARGE.metadata[name] for name in ROUTING},
    }  # fmt: skip


def test_what_json_and_utf_8_cannot_say_is_told_all_the_same() -> None:
    odd = replace(
        event("a", rows=float("nan"), at=datetime(2026, 1, 1, tzinfo=UTC), name="\udcff\x00"),
        description="\ud83d broken",
    )
    with wire(ACCEPTED) as server:
        assert through(server.url, queue(odd), NOW).waiting == ()
        [body] = (json.loads(body) for body in server.bodies)
    assert body["metadata"] == {"rows": "nan", "at": "2026-01-01 00:00:00+00:00", "name": "?"}
    assert body["description"] == "? broken"


# --- whatever happens

Answer = Literal["taken", "taken, and the answer is lost", "none", "500", "429", "401", "400", "400 unless smallest"]
ANSWERS: list[Answer] = [
    "taken", "taken", "taken, and the answer is lost", "none", "500", "429", "401", "400", "400 unless smallest",
]  # fmt: skip


@dataclass
class Moody:
    """incident.io with a mood for each request."""

    moods: list[Answer]
    taken: list[AlertEvent] = field(default_factory=list)

    def send(self, sent: AlertEvent) -> None:
        mood = self.moods.pop(0) if self.moods else "taken"
        if mood in ("taken", "taken, and the answer is lost") or (
            mood == "400 unless smallest" and not sent.description
        ):
            self.taken.append(sent)
        if mood == "taken" or (mood == "400 unless smallest" and not sent.description):
            return
        status = {"500": 500, "429": 429, "401": 401, "400": 400, "400 unless smallest": 400}.get(mood)
        raise VendorError(mood, status=status, retry_after=20 if mood == "429" else None)


STEPS = st.tuples(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["firing", "resolved"])), max_size=4),
    st.lists(st.sampled_from(ANSWERS), max_size=6),
    st.booleans(),  # the cursor is saved
    st.sampled_from([0.0, 5.0, 40.0, 400.0]),  # until the next one
    st.booleans(),  # Slack works
)


def runs(statuses: Iterable[str]) -> list[str]:
    return [status for status, _same in groupby(statuses)]


@settings(max_examples=400, deadline=None)
@given(st.lists(STEPS, max_size=12))
def test_no_firing_is_lost_and_none_is_sent_after_its_resolved(steps: list[Any]) -> None:
    waiting: tuple[Waiting, ...] = ()
    pace = Pace()
    incidents, slack = Moody([]), Channel()
    put_in: dict[str, list[AlertEvent]] = {}
    unsaved: list[AlertEvent] = []
    now, crashed = NOW, False
    for number, (happened, moods, saved, until_next, works) in enumerate(steps):
        new = [event(key, status, f"{key} {number} {n}") for n, (key, status) in enumerate(happened)]
        for one in new:
            put_in.setdefault(one.deduplication_key, []).append(one)
        judged = waiting
        for one in [*unsaved, *new]:
            judged = put(judged, one, now)
        incidents.moods, slack.works = list(moods), works
        done = deliver(judged, incidents.send, (slack,), 30, now, pace=pace)
        if saved:
            waiting, pace, unsaved = done.waiting, done.pace, []
        else:  # killed before that: what happened is read again
            unsaved, crashed = [*unsaved, *new], True
        now += until_next
    for one in unsaved:
        waiting = put(waiting, one, now)
    incidents.moods = []
    for _tick in range(20):
        now += 2000
        done = deliver(waiting, incidents.send, (slack,), 30, now, pace=pace)
        waiting, pace = done.waiting, done.pace
    assert waiting == ()
    for key, events in put_in.items():
        taken = [one for one in incidents.taken if one.deduplication_key == key]
        assert runs(one.status for one in taken) == runs(one.status for one in events)
        newest = [list(same)[-1] for _status, same in groupby(events, key=lambda one: one.status)]
        assert taken[-1].title == newest[-1].title
        told = [status for told_key, status in slack.heard if told_key == key]
        if not crashed:
            assert told.count("firing") <= runs(one.status for one in events).count("firing")
            assert told.count("resolved") <= told.count("firing")
