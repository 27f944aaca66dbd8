"""The limiter of the emulators, with a clock of the test's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox.vendors import rate_limits
from sandbox.vendors.rate_limits import RateLimit, RateLimited, RateLimits, UnknownLimit
from sandbox.vendors.store import Store

MINUTE = RateLimit("minute", 20, 60)
HOUR = RateLimit("hour", 30, 3600)
BUCKET = RateLimit("bucket", 120, 60, burst=120)


class Time:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "state.sqlite")


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def limits(store: Store, time: Time) -> RateLimits:
    return RateLimits(store, "hex", MINUTE, HOUR, BUCKET, clock=time)


def accepted(take: Callable[[], None], tries: int = 1000) -> int:
    """How many requests are accepted before the first one that is not."""
    for number in range(tries):
        try:
            take()
        except RateLimited:
            return number
    return tries


def test_a_window_refuses_what_is_over_it_until_the_oldest_request_has_left(limits: RateLimits, time: Time) -> None:
    assert accepted(lambda: limits.take("minute")) == 20
    time.now += 45.5
    with pytest.raises(RateLimited) as refused:
        limits.take("minute")
    assert refused.value.headers == {"Retry-After": "15"}
    time.now += 15
    assert accepted(lambda: limits.take("minute")) == 20


def test_a_bucket_refills_continuously(limits: RateLimits, time: Time) -> None:
    assert accepted(lambda: limits.take("bucket")) == 120
    with pytest.raises(RateLimited) as refused:
        limits.take("bucket")
    assert refused.value.retry_after == 1
    time.now += 10
    assert accepted(lambda: limits.take("bucket")) == 20
    time.now += 3600
    assert accepted(lambda: limits.take("bucket")) == 120


def test_a_request_is_counted_against_all_of_its_limits_or_none(limits: RateLimits, time: Time) -> None:
    assert accepted(lambda: limits.take("minute", "hour")) == 20
    time.now += 61
    assert accepted(lambda: limits.take("minute", "hour")) == 10
    with pytest.raises(RateLimited) as refused:
        limits.take("minute", "hour")
    assert (refused.value.limit, refused.value.retry_after) == (HOUR, 3539)
    assert accepted(lambda: limits.take("minute")) == 10


def test_each_key_has_a_limit_of_its_own(limits: RateLimits) -> None:
    assert accepted(lambda: limits.take("minute", key="a")) == 20
    assert accepted(lambda: limits.take("minute", key="b")) == 20


def test_a_test_changes_a_limit_and_restores_it_while_the_emulator_runs(store: Store, limits: RateLimits) -> None:
    assert (accepted(lambda: limits.take("minute")), accepted(lambda: limits.take("bucket"))) == (20, 120)
    rate_limits.override(store, "hex", "minute", 3)
    rate_limits.override(store, "hex", "bucket", 5)
    assert (accepted(lambda: limits.take("minute")), accepted(lambda: limits.take("bucket"))) == (3, 5)
    assert [one["documented"] is None for one in rate_limits.shown(store)] == [False, True, False]
    assert rate_limits.reset(store) == 2
    assert (accepted(lambda: limits.take("minute")), accepted(lambda: limits.take("bucket"))) == (20, 120)


def test_a_change_outlives_a_new_process_and_an_unknown_limit_is_named(store: Store, limits: RateLimits) -> None:
    rate_limits.override(store, "hex", "minute", 3)
    again = RateLimits(store, "hex", MINUTE)
    assert accepted(lambda: again.take("minute")) == 3
    with pytest.raises(UnknownLimit, match="hex has no rate limit 'day'; there are hex bucket, hex hour, hex minute"):
        rate_limits.override(store, "hex", "day", 3)
