"""Values that cannot be published: each becomes a dead letter, raises nothing, and takes no other event along."""

from __future__ import annotations

import decimal
import json
import types
import uuid
from collections import UserDict
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, tzinfo
from pathlib import Path
from typing import Any

import pytest

from product_events.registry import registry
from product_events.rows import Malformed, Submission, dead_letter
from tests.product_events.conftest import Tables, publisher

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


class Unprintable:
    def __str__(self) -> str:
        raise ZeroDivisionError

    __repr__ = __str__

    @property
    def __class__(self) -> type:  # pyright: ignore[reportIncompatibleMethodOverride]
        raise ZeroDivisionError


class WrongText:
    def __str__(self) -> str:
        return 7  # type: ignore[return-value]  # noqa: PLE0307

    __repr__ = __str__


class BrokenDictionary(dict[str, Any]):
    def items(self) -> Any:
        raise ZeroDivisionError

    def __iter__(self) -> Iterator[str]:
        raise ZeroDivisionError

    keys = values = items


class BrokenList(list[Any]):
    def __iter__(self) -> Iterator[Any]:
        raise ZeroDivisionError


class BrokenText(str):
    def encode(self, *_: object) -> bytes:
        raise ZeroDivisionError

    def __hash__(self) -> int:
        raise ZeroDivisionError

    __str__ = __repr__ = encode  # type: ignore[assignment]


class BrokenZone(tzinfo):
    def utcoffset(self, _moment: datetime | None) -> Any:
        raise ZeroDivisionError


class SilentError(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError


class SilentDictionary(dict[str, Any]):
    def items(self) -> Any:
        raise SilentError


class BrokenMapping(UserDict[str, Any]):
    def __iter__(self) -> Iterator[str]:
        raise ZeroDivisionError


class NamelessClass(type):
    @property
    def __name__(cls) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        raise ZeroDivisionError


class Unnamed(metaclass=NamelessClass):
    """Has no name that can be read."""


def deep_list() -> Any:
    inner: list[Any] = []
    for _ in range(100_000):
        inner = [inner]
    return inner


def deep_dictionary() -> Any:
    inner: dict[str, Any] = {}
    for _ in range(100_000):
        inner = {"a": inner}
    return inner


def circular() -> Any:
    loop: dict[str, Any] = {"list": []}
    loop["list"] += [loop, loop]
    return loop


def numbers() -> Iterator[int]:
    yield 1


HOSTILE: dict[str, Callable[[], Any]] = {
    "a list of 100,000 levels": deep_list,
    "a mapping of 100,000 levels": deep_dictionary,
    "a circle": circular,
    "not a number": lambda: float("nan"),
    "infinity": lambda: float("-inf"),
    "an integer of 5,001 digits": lambda: 10**5000,
    "bytes": lambda: b"\xff\x00",
    "a bytearray": lambda: bytearray(9),
    "a memoryview": lambda: memoryview(b"a"),
    "a set": lambda: {1, "a"},
    "a frozenset": lambda: frozenset([1]),
    "a lone surrogate": lambda: "\ud800",
    "a lone surrogate as a name": lambda: {"\udfff": 1},
    "a number as a name": lambda: {1: 2},
    "None as a name": lambda: {None: 2},
    "a tuple as a name": lambda: {(1, 2): 3},
    "what cannot be shown": Unprintable,
    "what cannot be shown as a name": lambda: {Unprintable(): 1},
    "what is shown as a number": WrongText,
    "a time without a zone": lambda: NOW.replace(tzinfo=None),
    "a time in a broken zone": lambda: datetime(2026, 1, 1, tzinfo=BrokenZone()),
    "a day": lambda: date(2026, 1, 1),
    "a decimal": lambda: decimal.Decimal("1.5"),
    "a uuid": uuid.uuid4,
    "a generator": numbers,
    "a function": lambda: numbers,
    "a class": lambda: Unprintable,
    "a dictionary that cannot be read": lambda: BrokenDictionary(a=1),
    "a dictionary with an error that cannot be shown": lambda: SilentDictionary(a=1),
    "a list that cannot be read": lambda: BrokenList([1]),
    "a mapping that cannot be read": lambda: BrokenMapping({"a": 1}),
    "a text with methods of its own": lambda: BrokenText("a"),
    "50,000 things that cannot be shown": lambda: [Unprintable() for _ in range(50_000)],
    "five million characters": lambda: "x" * 5_000_000,
    "a class that cannot be named": lambda: Unnamed(),  # noqa: PLW0108
    "an imaginary number": lambda: 1j,
    "an ellipsis": lambda: ...,
}
GOOD: dict[str, Any] = {
    "event_id": "id_1",
    "name": "insight_viewed",
    "version": 1,
    "properties": {"insight": "on_call_load", "load_ms": 1},
    "organisation_id": "org_1",
    "user_id": None,
    "occurred_at": NOW,
}


@pytest.mark.parametrize("what", HOSTILE)
def test_any_value_in_any_place_becomes_a_row_that_bigquery_can_read(what: str) -> None:
    value = HOSTILE[what]()
    places = [{field: value} for field in GOOD] + [{field: [value]} for field in GOOD]
    places += [{"properties": GOOD["properties"] | {name: value}} for name in ("insight", "load_ms", "other")]
    dead = 0
    for place in places:
        submission = Submission(**(GOOD | place))
        try:
            row = submission.row(registry(), NOW)
        except Malformed as error:
            row = submission.dead_letter(str(error))
            assert isinstance(json.loads(row["payload"]), str | dict)
            assert len(row["payload"]) < 2_000_000
            dead += 1
        json.dumps(row, ensure_ascii=False, allow_nan=False).encode()
    assert dead >= len(places) - 4
    row = dead_letter(value, value, value, value, "reason")
    json.loads(row["payload"])


def test_hostile_values_raise_nothing_and_take_no_neighbour_along(tables: Tables, spool: Path) -> None:
    identifiers: list[str] = []
    problems: list[str | None] = []
    with publisher(spool) as publishing:
        for make in HOSTILE.values():
            good = publishing.publish("insight_viewed", 1, GOOD["properties"], organisation_id=tables.organisation)
            identifiers.append(good.event_id)
            hostile = publishing.publish(
                "insight_viewed", 1, GOOD["properties"] | {"load_ms": make()}, organisation_id=tables.organisation
            )
            problems.append(hostile.problem)
    assert all(problems)
    assert tables.ids() == sorted(identifiers)
    reasons = sorted(row["reason"] for row in tables.rows("dead_letters"))
    assert reasons == sorted(str(problem) for problem in problems)


def test_what_was_published_is_described_where_json_cannot_carry_it() -> None:
    value = {"at": NOW, "ids": {7}, "bad": Unprintable(), "text": "a\ud800", 1: b"x", "loop": circular()}
    described = json.loads(json.loads(dead_letter(None, None, None, value, "reason")["payload"]))
    assert described == {
        "at": "2026-03-02 12:00:00+00:00",
        "ids": [7],
        "bad": "<Unprintable that cannot be shown>",
        "text": "a\\ud800",
        "1": "b'x'",
        "loop": {"list": ["(circular)", "(circular)"]},
    }


def test_names_that_are_no_text_are_not_taken_for_names_that_are() -> None:
    properties = {"insight": "on_call_load", "load_ms": 1, None: 2}
    with pytest.raises(Malformed, match=r"^names of properties must be text, not None$"):
        Submission(**(GOOD | {"properties": properties})).row(registry(), NOW)


@pytest.mark.parametrize("kind", [types.MappingProxyType, UserDict])
def test_properties_may_be_any_mapping(kind: Callable[[Any], Any]) -> None:
    row = Submission(**(GOOD | {"properties": kind(GOOD["properties"])})).row(registry(), NOW)
    assert row["load_ms"] == 1
