from __future__ import annotations

import threading
from dataclasses import dataclass, field

from orchestration.vendors.pace import MARGIN_SECONDS, Pace


@dataclass
class Time:
    """A clock that only sleeping moves."""

    now: float = 0.0
    slept: list[float] = field(default_factory=list[float])

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def pace(self, requests: int, seconds: float) -> Pace:
        return Pace(requests, seconds, lambda: self.now, self.sleep)


def test_a_few_requests_take_no_wait() -> None:
    time = Time()
    pace = time.pace(60, 60)
    for _ in range(60):
        pace.wait()
    assert time.slept == []
    pace.wait()
    assert time.slept == [60 + MARGIN_SECONDS]


def test_no_minute_has_more_requests_than_are_allowed_and_none_is_idle() -> None:
    time = Time()
    pace = time.pace(60, 60)
    sent: list[float] = []
    for _ in range(305):
        pace.wait()
        sent.append(time.now)
        time.now += 0.03  # what a request takes
    for number, at in enumerate(sent[60:], start=60):
        assert at - sent[number - 60] > 60
    # 305 requests are five full minutes and a bit.
    assert 300 < sent[-1] < 320


def test_a_pause_gives_all_requests_back() -> None:
    time = Time()
    pace = time.pace(2, 60)
    for _ in range(2):
        pace.wait()
    time.now += 100
    for _ in range(2):
        pace.wait()
    assert time.slept == []


def test_threads_share_one_pace() -> None:
    reserved: list[float] = []
    pace = Pace(5, 60)
    threads = [threading.Thread(target=lambda: reserved.append(pace.reserve(0.0))) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    one = 60 + MARGIN_SECONDS
    assert sorted(reserved) == [0.0] * 5 + [one] * 5 + [2 * one] * 2
