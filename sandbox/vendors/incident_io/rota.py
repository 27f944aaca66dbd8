"""Who is on call when: two weekly rotations, one around the clock and one in London's working hours. Pure functions of the time.

Public holidays are working days here.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

ZONE = ZoneInfo("Europe/London")
OPENS, CLOSES = time(9), time(17, 30)
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday")
FIRST_MONDAY = date(2024, 1, 1)


@dataclass(frozen=True)
class Person:
    id: str
    name: str
    email: str
    slack_user_id: str


@dataclass(frozen=True)
class Schedule:
    """A weekly rotation; handover is on Monday when the day opens."""

    id: str
    name: str
    people: tuple[Person, ...]
    working_hours: bool


@dataclass(frozen=True)
class Path:
    """An escalation path of one level: it waits for its schedule to open, and pages who is on call."""

    id: str
    name: str
    schedule: Schedule
    urgency: str


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

SCHEDULES = {
    schedule.id: schedule
    for schedule in (
        Schedule("01LOCALSCHEDULE00000000001", "Engineers", ENGINEERS, working_hours=False),
        Schedule("01LOCALSCHEDULE00000000002", "Data responder", DATA_RESPONDERS, working_hours=True),
    )
}
CUSTOMER_FACING = Path("01LOCALESCALATIONPATH00001", "customer-facing", SCHEDULES["01LOCALSCHEDULE00000000001"], "high")
DATA_RESPONDER = Path("01LOCALESCALATIONPATH00002", "data-responder", SCHEDULES["01LOCALSCHEDULE00000000002"], "low")
PATHS = {path.id: path for path in (CUSTOMER_FACING, DATA_RESPONDER)}


def next_shift(schedule: Schedule, at: datetime) -> Shift:
    """The shift that is on at `at`, or else the next one: its `start` is past `at` when nobody is on call."""
    return next(_shifts(schedule, at))


def shifts(schedule: Schedule, start: datetime, end: datetime) -> list[Shift]:
    """The shifts that overlap the window, each whole."""
    return list(itertools.takewhile(lambda shift: shift.start < end, _shifts(schedule, start)))


def _shifts(schedule: Schedule, at: datetime) -> Iterator[Shift]:
    """The shifts that end after `at`, in order, without end."""
    today = at.astimezone(ZONE).date()
    # From the week before: until Monday's handover, last week's person is on call.
    monday = today - timedelta(days=today.weekday() + 7)
    while True:
        person = schedule.people[(monday - FIRST_MONDAY).days // 7 % len(schedule.people)]
        for start, end in _blocks(schedule, monday):
            if end > at:
                yield Shift(start, end, person)
        monday += timedelta(days=7)


def _blocks(schedule: Schedule, monday: date) -> list[tuple[datetime, datetime]]:
    if not schedule.working_hours:
        return [(_moment(monday, OPENS), _moment(monday + timedelta(days=7), OPENS))]
    days = [monday + timedelta(days=n) for n in range(len(WEEKDAYS))]
    return [(_moment(day, OPENS), _moment(day, CLOSES)) for day in days]


def _moment(day: date, wall: time) -> datetime:
    """In UTC, where moments on both sides of a clock change compare rightly."""
    return datetime.combine(day, wall, ZONE).astimezone(UTC)
