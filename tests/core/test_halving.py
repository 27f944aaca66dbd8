"""Which requests are sent until the bad items of a batch stand alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from orchestration.core.halving import FAILED_REQUESTS, Halved, ask_in_batches


class Refused(Exception):
    """What a request with a bad item ends in."""


class Away(Exception):
    """What every request ends in while the service is away."""


class Service:
    """Answers requests that have no bad item, and notes them all."""

    def __init__(self, bad: Sequence[int] = (), away_after: float = math.inf, seconds: float = 0.0) -> None:
        self.bad, self.away_after, self.seconds = set(bad), away_after, seconds
        self.requests: list[list[int]] = []
        self.now = 0.0

    def ask(self, items: Sequence[int]) -> list[int]:
        self.requests.append(list(items))
        self.now += self.seconds
        if len(self.requests) > self.away_after:
            raise Away
        if self.bad & set(items):
            raise Refused(f"{len(items)} items")
        return list(items)

    def ask_all(self, number: int, size: int = 100) -> Halved[int, list[int]]:
        return ask_in_batches(
            range(number),
            self.ask,
            (Refused, Away),
            lambda error: isinstance(error, Away),
            size=size,
            clock=lambda: self.now,
        )


def answered(found: Halved[int, list[int]]) -> set[int]:
    return {item for answer in found.answers for item in answer}


@pytest.mark.parametrize("bad", [0, 1, 63, 99, 100, 199])
def test_one_bad_item_stands_alone_and_all_others_are_answered(bad: int) -> None:
    service = Service([bad])
    found = service.ask_all(200)
    assert [item for item, _ in found.failed] == [bad]
    assert str(found.failed[0][1]) == "1 items"
    assert answered(found) == set(range(200)) - {bad}
    assert (found.left, found.error) == ([], None)
    assert len(service.requests) <= 2 + 2 * 7


@pytest.mark.parametrize("bad", [(3, 4), (0, 50, 99), tuple(range(0, 200, 20)), tuple(range(40, 52))])
def test_several_bad_items_are_all_found(bad: tuple[int, ...]) -> None:
    found = Service(bad).ask_all(200)
    assert sorted(item for item, _ in found.failed) == sorted(bad)
    assert answered(found) == set(range(200)) - set(bad)
    assert found.left == []


@pytest.mark.parametrize("number", [0, 1, 100, 2_000])
def test_what_is_good_is_asked_for_once(number: int) -> None:
    service = Service()
    assert answered(service.ask_all(number)) == set(range(number))
    assert [len(items) for items in service.requests] == [100] * (number // 100) + ([1] if number == 1 else [])


@pytest.mark.parametrize("answered_before", [0, 1, 7])
def test_nothing_is_halved_while_the_service_is_away_and_what_was_answered_is_kept(answered_before: int) -> None:
    service = Service(away_after=answered_before)
    found = service.ask_all(2_000)
    assert len(service.requests) == answered_before + 1
    assert len(answered(found)) == 100 * answered_before
    assert (found.failed, isinstance(found.error, Away)) == ([], True)
    assert found.left == list(range(100 * answered_before, 2_000))


def test_an_outage_in_the_middle_of_the_halving_ends_it() -> None:
    service = Service([5], away_after=22)
    found = service.ask_all(2_000)
    assert isinstance(found.error, Away)
    assert 5 in found.left
    assert answered(found) | set(found.left) == set(range(2_000))
    assert len(found.left) <= 100


@pytest.mark.parametrize("number", [400, 2_000, 30_000])
def test_where_all_is_bad_no_single_item_is_blamed(number: int) -> None:
    service = Service(range(number))
    found = service.ask_all(number)
    assert len(service.requests) == FAILED_REQUESTS
    assert (found.failed, found.answers, len(found.left)) == ([], [], number)
    assert isinstance(found.error, Refused)


def test_requests_that_take_long_to_fail_end_the_halving_sooner() -> None:
    service = Service([1], seconds=300.0)
    found = service.ask_all(100)
    assert len(service.requests) < 9
    assert 1 in found.left
    assert answered(found) | set(found.left) == set(range(100))


def test_other_exceptions_are_not_taken_for_bad_items() -> None:
    def ask(_items: Sequence[int]) -> list[int]:
        raise KeyError("a fault of the code")

    with pytest.raises(KeyError):
        ask_in_batches(range(3), ask, (Refused,), lambda _: False, size=2)
