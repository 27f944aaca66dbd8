"""From what was published to a row of its event's table, or of the dead letters with the reason: pure functions."""

from __future__ import annotations

import json
import reprlib
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from product_events.registry import Registry

MAX_BYTES = 256 * 1024
"""Of an event's properties. A request of BigQuery's may have 10 MB."""
MAX_ID = 128
"""Of BigQuery's insertId, which the event's id is."""
MAX_LEAD = timedelta(minutes=5)
"""How far ahead of this machine's clock another's may be."""
MAX_PAYLOAD = 1024 * 1024
MAX_REASON = 2000

type Row = dict[str, Any]


class Malformed(ValueError):
    """What was published does not fit the registry; the message is the reason."""


@dataclass(frozen=True)
class Submission:
    """What a caller published, of whatever type it is."""

    event_id: Any
    name: Any
    version: Any
    properties: Any
    organisation_id: Any
    user_id: Any
    occurred_at: Any

    def row(self, registry: Registry, now: datetime) -> Row:
        """The row of the event's table, but for `received_at`. Raises Malformed."""
        event = registry.events.get(self.name) if isinstance(self.name, str) else None
        if event is None:
            raise Malformed(f"unknown event {_short(self.name)}")
        version = event.version(self.version) if type(self.version) is int else None
        if version is None:
            raise Malformed(
                f"unknown version {_short(self.version)} of {event.name}, which has 1 to {event.latest.number}"
            )
        envelope = {
            "event_id": _identifier("event_id", self.event_id),
            "event_version": version.number,
            "occurred_at": _moment(self.occurred_at, now),
            "organisation_id": _identifier("organisation_id", self.organisation_id),
            "user_id": None if self.user_id is None else _identifier("user_id", self.user_id),
        }
        properties = _plain(self.properties)
        if problems := version.problems(properties):
            raise Malformed("; ".join(problems))
        return envelope | properties

    def dead_letter(self, reason: str) -> Row:
        """The row of the dead letters, but for `received_at`."""
        payload = {field.name: getattr(self, field.name) for field in fields(self)}
        return dead_letter(self.event_id, self.name, self.version, payload, reason)


def dead_letter(event_id: Any, name: Any, version: Any, payload: Any, reason: str) -> Row:
    """A row of the dead letters, but for `received_at`; whatever is given, BigQuery takes it."""
    return {
        "event_id": event_id if _is_text(event_id, MAX_ID) else None,
        "event_name": name if _is_text(name, MAX_REASON) else None,
        "event_version": version if type(version) is int and abs(version) < 2**63 else None,
        "payload": _payload(payload),
        "reason": reason[:MAX_REASON].encode(errors="backslashreplace").decode(),
    }


def new_id() -> str:
    return str(uuid4())


def _identifier(name: str, value: Any) -> str:
    if not _is_text(value, MAX_ID):
        raise Malformed(f"{name} must be text of 1 to {MAX_ID} bytes, not {_short(value)}")
    return value


def _moment(value: Any, now: datetime) -> str:
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise Malformed(f"occurred_at must be a datetime with a time zone, not {_short(value)}")
    if value > now + MAX_LEAD:
        raise Malformed(f"occurred_at is in the future: {value.isoformat()}, at {now.isoformat()}")
    try:
        return value.astimezone(UTC).isoformat()
    except OverflowError:
        raise Malformed(f"occurred_at is no moment of the calendar in UTC: {value.isoformat()}") from None


def _plain(properties: Any) -> dict[str, Any]:
    """The properties as JSON carries them, so that what is checked is what is sent."""
    try:
        text = json.dumps(properties, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise Malformed(f"properties are not JSON: {error}") from None
    if len(text) > MAX_BYTES:
        raise Malformed(f"properties are too large: {len(text)} bytes, and {MAX_BYTES} are allowed")
    plain = json.loads(text)
    if not isinstance(plain, dict):
        raise Malformed(f"properties must be a mapping, not {_short(properties)}")
    return plain  # pyright: ignore[reportUnknownVariableType]


def _payload(value: Any) -> str:
    try:
        text = json.dumps(value, allow_nan=False, default=str)
    except (TypeError, ValueError, RecursionError):
        text = json.dumps(_shown(value))
    return text if len(text) <= MAX_PAYLOAD else json.dumps(text[:MAX_PAYLOAD])


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except RecursionError:
        return reprlib.repr(value)


def _short(value: Any) -> str:
    return reprlib.repr(value)


def _is_text(value: Any, limit: int) -> bool:
    try:
        return isinstance(value, str) and 0 < len(value.encode()) <= limit
    except UnicodeEncodeError:
        return False
