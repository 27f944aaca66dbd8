from __future__ import annotations

from typing import Literal

from orchestration.incidents.delivery import deliver
from orchestration.incidents.state import Waiting
from orchestration.vendors.http import VendorError
from orchestration.vendors.incident_io import AlertEvent


def event(key: str, status: Literal["firing", "resolved"] = "firing") -> Waiting:
    return Waiting(AlertEvent(key, status, key, "", "", {}))


class Incidents:
    """Takes events, and refuses those of the given keys with the given status."""

    def __init__(self, refuse: dict[str, int | None] | None = None) -> None:
        self.refuse, self.taken = refuse or {}, list[tuple[str, str]]()

    def send(self, sent: AlertEvent) -> None:
        if sent.deduplication_key in self.refuse:
            raise VendorError("no", status=self.refuse[sent.deduplication_key])
        self.taken.append((sent.deduplication_key, sent.status))


def left(waiting: tuple[Waiting, ...]) -> list[tuple[str, str, int]]:
    return [(item.event.deduplication_key, item.event.status, item.attempts) for item in waiting]


def test_events_go_out_in_order() -> None:
    incidents = Incidents()
    done = deliver((event("a"), event("b")), incidents.send, 30)
    assert incidents.taken == [("a", "firing"), ("b", "firing")]
    assert (done.waiting, done.problems) == ((), ())


def test_one_event_of_an_alert_at_a_time() -> None:
    incidents = Incidents()
    done = deliver((event("a"), event("a", "resolved"), event("b")), incidents.send, 30)
    assert incidents.taken == [("a", "firing"), ("b", "firing")]
    assert left(done.waiting) == [("a", "resolved", 0)]


def test_when_nobody_answers_all_of_it_waits_in_order() -> None:
    for status in (None, 500, 503, 401, 429):
        incidents = Incidents({"a": status})
        done = deliver((event("a"), event("b"), event("a", "resolved")), incidents.send, 30)
        assert incidents.taken == []
        assert left(done.waiting) == [("a", "firing", 1), ("b", "firing", 0), ("a", "resolved", 0)]


def test_an_event_that_is_refused_lets_other_alerts_pass_but_not_its_own_next() -> None:
    incidents = Incidents({"a": 422})
    done = deliver((event("a"), event("a", "resolved"), event("b")), incidents.send, 30)
    assert incidents.taken == [("b", "firing")]
    assert left(done.waiting) == [("a", "firing", 1), ("a", "resolved", 0)]


def test_an_alert_that_never_gets_through_holds_up_no_other() -> None:
    incidents = Incidents({"a": 500})
    waiting = (event("a"), event("a", "resolved"))
    for number in range(3):
        waiting = deliver((*waiting, event(f"b{number}")), incidents.send, 30).waiting
    assert [key for key, _status in incidents.taken] == ["b0", "b1", "b2"]
    assert left(waiting) == [("a", "firing", 3), ("a", "resolved", 0)]


def test_it_ends_in_time() -> None:
    times = iter([0.0, 1.0, 40.0, 41.0])
    incidents = Incidents()
    done = deliver((event("a"), event("b"), event("c")), incidents.send, 30, lambda: next(times))
    assert incidents.taken == [("a", "firing")]
    assert left(done.waiting) == [("b", "firing", 0), ("c", "firing", 0)]
