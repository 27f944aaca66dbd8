"""incident.io: who is on shift now, and the heartbeat by which it notices that this platform is dead (https://api-docs.incident.io)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from orchestration.vendors.http import VendorError, excerpt
from orchestration.vendors.incident_io_http import IncidentIoClient

TIMEOUT, ATTEMPTS = httpx.Timeout(8, connect=4), 2
"""Short: whoever waits is a sensor, which has a minute for all that it does, and comes again soon."""
LONGEST_WAIT = 5.0
"""Seconds. A longer wait, which a 429 may ask for, is left to the next tick."""
PAGE = 25
"""The most schedules that a list gives at once."""
KEY_REMEDY = "See INCIDENT_IO_API_KEY: incident.io, Settings, API keys, a key that may view schedules"
HEARTBEAT_REMEDY = "See INCIDENT_IO_HEARTBEAT_ID and INCIDENT_IO_HEARTBEAT_TOKEN: incident.io, Alerts, Sources"
SCHEDULE_REMEDY = "See INCIDENT_IO_SCHEDULE: incident.io, On-call, Schedules, the schedule's name or id"


class Person(BaseModel):
    id: str
    name: str
    email: str | None = None
    slack_user_id: str | None = None


class Shift(BaseModel):
    user: Person | None = None
    """None for a shift that nobody has."""


class Schedule(BaseModel):
    id: str
    name: str
    current_shifts: list[Shift] = []

    @property
    def on_shift(self) -> tuple[Person, ...]:
        """Everybody who is on shift now, each once: a schedule can have several rotations."""
        people = {shift.user.id: shift.user for shift in self.current_shifts if shift.user}
        return tuple(people.values())


class Schedules:
    """Reads schedules with an API key. Every call raises VendorError."""

    def __init__(self, base_url: str, key: str) -> None:
        self._client = IncidentIoClient(base_url, key, timeout=TIMEOUT, attempts=ATTEMPTS, longest_wait=LONGEST_WAIT)

    def find(self, wanted: str) -> Schedule:
        """The schedule of a name or an id, with who is on shift now."""
        named = [schedule for schedule in self._all() if wanted in {schedule.id, schedule.name}]
        if len(named) != 1:
            words = "there is no schedule" if not named else f"{len(named)} schedules are called"
            raise VendorError(f"incident.io: {words} {wanted!r}. {SCHEDULE_REMEDY}", status=404, started=False)
        # Of one schedule, since a list tells of shifts only where it is short.
        path = f"v2/schedules/{quote(named[0].id, safe='')}"
        return _read(self._get(path), "schedule", path)

    def _all(self) -> Iterator[Schedule]:
        after: dict[str, str] = {}
        while True:
            page = self._get("v2/schedules", {"page_size": PAGE, **after})
            found = page.get("schedules") if isinstance(page, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
            if not isinstance(found, list):
                raise VendorError(f"incident.io: GET v2/schedules answered without `schedules`: {excerpt(str(page))}")  # pyright: ignore[reportUnknownArgumentType]
            for schedule in cast("list[Any]", found):
                yield _read({"schedule": schedule}, "schedule", "v2/schedules")
            last = cast("dict[str, Any]", cast("dict[str, Any]", page).get("pagination_meta") or {}).get("after")
            if not last or not found:
                return
            after = {"after": str(last)}

    def _get(self, path: str, params: Mapping[str, Any] | None = None) -> Any:
        try:
            return self._client.request("GET", path, params=params)
        except VendorError as error:
            raise _with_remedy(error, KEY_REMEDY) from error


class Heartbeat:
    """An alert source of type heartbeat: an alert opens by itself when it has not been pinged for the time that it is set to."""

    def __init__(self, base_url: str, source_id: str, token: str) -> None:
        self._client = IncidentIoClient(base_url, token, timeout=TIMEOUT, attempts=ATTEMPTS, longest_wait=LONGEST_WAIT)
        self._path = f"v2/heartbeat/{quote(source_id, safe='')}/ping"

    def ping(self) -> None:
        """A sign of life. It may be repeated. Raises VendorError."""
        try:
            self._client.request("POST", self._path)
        except VendorError as error:
            raise _with_remedy(error, HEARTBEAT_REMEDY) from error


def _with_remedy(error: VendorError, remedy: str) -> VendorError:
    words = f"{error}. {remedy}" if error.status in {401, 403, 404} else str(error)
    return VendorError(words, status=error.status, retry_after=error.retry_after, started=error.started)


def _read(answer: Any, name: str, path: str) -> Schedule:
    try:
        return Schedule.model_validate(cast("dict[str, Any]", answer).get(name) if isinstance(answer, dict) else None)
    except ValidationError as error:
        [first, *_] = error.errors(include_url=False, include_input=False)
        where = ".".join(str(part) for part in first["loc"])
        raise VendorError(
            f"incident.io: GET {path} answered `{name}` as it is not documented: {where}: {first['msg']}"
        ) from None
