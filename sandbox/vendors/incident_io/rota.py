"""Who is on call when, and when hours are open: pure functions of a schedule's settings and the time.

Handovers of days and weeks keep their hour on the wall clock of the schedule's zone, and so do working hours. Public holidays are
working days here.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

ZONE = ZoneInfo("Europe/London")
"""The company's: in it the control room shows times."""
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Person:
    id: str
    name: str
    email: str
    slack_user_id: str


@dataclass(frozen=True)
class Interval:
    """Open hours of one weekday, by the wall clock; an end at midnight is that of the day."""

    weekday: int
    opens: time
    closes: time


@dataclass(frozen=True)
class Hours:
    """Weekly open hours; without intervals it is always open."""

    zone: ZoneInfo
    intervals: tuple[Interval, ...]


@dataclass(frozen=True)
class Schedule:
    """One rotation: from `starts` on, `people` take turns of `days` (or of `hours`, where days is 0), and are on call in open hours."""

    id: str
    name: str
    people: tuple[Person, ...]
    starts: datetime
    days: int
    hours: int
    open: Hours


@dataclass(frozen=True)
class Shift:
    start: datetime
    end: datetime
    person: Person


def _people(names: tuple[str, ...], first: int) -> tuple[Person, ...]:
    return tuple(
        Person(f"01LOCALUSER{n:015}", name, f"{name.split()[0].lower()}@example.com", f"U{n:08}")
        for n, name in enumerate(names, first)
    )


ENGINEERS = _people(("Ada Brandt", "Kofi Mensah", "Lena Novak", "Sam Whitfield"), 1)
DATA_RESPONDERS = _people(("Priya Nair", "Jonas Weber", "Maeve Doyle"), 11)
PEOPLE = {person.id: person for person in (*ENGINEERS, *DATA_RESPONDERS)}
"""Everybody in the organisation."""


def next_open(hours: Hours, at: datetime) -> datetime:
    """`at`, if the hours are open then, or else the moment at which they open next. In UTC."""
    if not hours.intervals:
        return at
    today = at.astimezone(hours.zone).date()
    blocks = itertools.chain.from_iterable(_blocks(hours, today + DAY * n) for n in range(-1, 9))
    return next(max(at, start) for start, end in blocks if end > at)


def shift_at(schedule: Schedule, at: datetime) -> Shift | None:
    """The shift that is on; None where nobody is on call."""
    shift = next(_shifts(schedule, at), None)
    return shift if shift and shift.start <= at else None


def shift_after(schedule: Schedule, at: datetime) -> Shift | None:
    """The first shift that starts later than `at`."""
    return next((shift for shift in _shifts(schedule, at) if shift.start > at), None)


def shifts(schedule: Schedule, start: datetime, end: datetime) -> list[Shift]:
    """The shifts that overlap the window, each whole."""
    return list(itertools.takewhile(lambda shift: shift.start < end, _shifts(schedule, start)))


def _shifts(schedule: Schedule, at: datetime) -> Iterator[Shift]:
    """The shifts that end after `at`, in order, without end."""
    if not schedule.people:
        return
    turn = _turn(schedule, at) - 1
    while True:
        start, end = _handover(schedule, turn), _handover(schedule, turn + 1)
        person = schedule.people[turn % len(schedule.people)]
        for opens, closes in _within(schedule.open, start, end):
            if closes > at:
                yield Shift(opens, closes, person)
        turn += 1


def _turn(schedule: Schedule, at: datetime) -> int:
    length = DAY * schedule.days or timedelta(hours=schedule.hours)
    return (at - schedule.starts) // length


def _handover(schedule: Schedule, turn: int) -> datetime:
    if not schedule.days:
        return schedule.starts + timedelta(hours=schedule.hours) * turn
    first = schedule.starts.astimezone(schedule.open.zone)
    return _moment(first.date() + DAY * schedule.days * turn, first.time(), schedule.open.zone)


def _within(hours: Hours, start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """The open hours of a turn; a turn's own bounds cut them."""
    if not hours.intervals:
        yield start, end
        return
    day = start.astimezone(hours.zone).date() - DAY
    while _moment(day, time(), hours.zone) < end:
        for opens, closes in _blocks(hours, day):
            if opens < end and closes > start:
                yield max(opens, start), min(closes, end)
        day += DAY


def _blocks(hours: Hours, day: date) -> Sequence[tuple[datetime, datetime]]:
    return [
        (
            _moment(day, one.opens, hours.zone),
            _moment(day if one.closes > one.opens else day + DAY, one.closes, hours.zone),
        )
        for one in sorted(hours.intervals, key=lambda one: one.opens)
        if one.weekday == day.weekday()
    ]


def _moment(day: date, wall: time, zone: ZoneInfo) -> datetime:
    """In UTC, where moments on both sides of a clock change compare rightly."""
    return datetime.combine(day, wall, zone).astimezone(UTC)
