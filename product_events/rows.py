"""From what was published to a row of its event's table, or of the dead letters with the reason: pure functions."""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import Any, cast
from uuid import UUID, uuid4

from product_events.registry import Registry

MAX_BYTES = 256 * 1024
"""Of an event's properties. A request of BigQuery's may have 10 MB."""
MAX_ID = 128
"""Of BigQuery's insertId, which the event's id is."""
MAX_LEAD = timedelta(minutes=5)
"""How far ahead of this machine's clock another's may be."""
MAX_PAYLOAD = 1024 * 1024
MAX_REASON = 2000
MAX_DEPTH = 30
MAX_VALUES = 10_000
"""Most values in the description of a payload that JSON cannot carry."""

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
        """The row of the event's table, but for `received_at`. Raises Malformed, whatever the values do when they are read."""
        try:
            return self._checked_row(registry, now)
        except Malformed:
            raise
        except Exception as error:
            raise Malformed(f"the event cannot be read: {_error_text(error)}") from None

    def _checked_row(self, registry: Registry, now: datetime) -> Row:
        event = registry.events.get(exact_text(self.name)) if _is_a(self.name, str) else None
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
        # Last, because a large payload is cut off.
        payload["properties"] = payload.pop("properties")
        return dead_letter(self.event_id, self.name, self.version, payload, reason)


def dead_letter(event_id: Any, name: Any, version: Any, payload: Any, reason: str) -> Row:
    """A row of the dead letters, but for `received_at`; whatever is given, BigQuery takes it."""
    return {
        "event_id": exact_text(event_id) if _is_text(event_id, MAX_ID) else None,
        "event_name": exact_text(name) if _is_text(name, MAX_REASON) else None,
        "event_version": version if type(version) is int and abs(version) < 2**63 else None,
        "payload": _payload(payload),
        "reason": reason[:MAX_REASON].encode(errors="backslashreplace").decode(),
    }


def new_id() -> str:
    return str(uuid4())


def exact_text(value: str) -> str:
    """Return a text without the methods of its own class, which may do anything."""
    return str.__str__(value)


def _identifier(name: str, value: Any) -> str:
    if not _is_text(value, MAX_ID):
        raise Malformed(f"{name} must be text of 1 to {MAX_ID} bytes, not {_short(value)}")
    return exact_text(value)


def _moment(value: Any, now: datetime) -> str:
    if not _is_a(value, datetime) or value.utcoffset() is None:
        raise Malformed(f"occurred_at must be a datetime with a time zone, not {_short(value)}")
    try:
        # Rebuilt from its text: methods of a subclass may do anything.
        moment = datetime.fromisoformat(datetime.isoformat(datetime.astimezone(value, UTC)))
    except OverflowError:
        raise Malformed(f"occurred_at is no moment of the calendar in UTC: {_short(value)}") from None
    if moment > now + MAX_LEAD:
        raise Malformed(f"occurred_at is in the future: {moment.isoformat()}, at {now.isoformat()}")
    return moment.isoformat()


def _plain(properties: Any) -> dict[str, Any]:
    """The properties as JSON carries them, so that what is checked is what is sent."""
    if _is_a(properties, Mapping) and not _is_a(properties, dict):
        properties = dict(properties)
    try:
        text = json.dumps(properties, allow_nan=False, ensure_ascii=False).encode()
    except Exception as error:
        raise Malformed(f"properties are not JSON: {_error_text(error)}") from None
    if len(text) > MAX_BYTES:
        raise Malformed(f"properties are too large: {len(text)} bytes, and {MAX_BYTES} are allowed")
    plain = json.loads(text)
    if not isinstance(plain, dict):
        raise Malformed(f"properties must be a mapping, not {_short(properties)}")
    # JSON turns 1, True and None into names, which may be those of other properties.
    for key in cast(Iterable[Any], dict.keys(properties)):
        if not _is_a(key, str):
            raise Malformed(f"names of properties must be text, not {_short(key)}")
    return plain  # pyright: ignore[reportUnknownVariableType]


def _payload(value: Any) -> str:
    """Return what was published as JSON; where JSON cannot carry it, as a text that describes it."""
    try:
        text = json.dumps(value, allow_nan=False, default=str)
    except Exception:
        text = json.dumps(json.dumps(_describe_value(value, _Budget(), [])))
    return text if len(text) <= MAX_PAYLOAD else json.dumps(text[:MAX_PAYLOAD])


@dataclass
class _Budget:
    values: int = MAX_VALUES
    text: int = MAX_PAYLOAD // 4

    def cut(self, text: str) -> str:
        """Return as much of a text as may be kept, as JSON carries it."""
        short = text[: max(0, self.text)]
        self.text -= len(short)
        return short.encode(errors="backslashreplace").decode() + "…" * (len(short) < len(text))


def _describe_value(value: Any, budget: _Budget, above: list[int]) -> Any:
    """Return values that JSON carries instead of any others. Raises nothing."""
    budget.values -= 1
    if budget.values < 0 or len(above) > MAX_DEPTH:
        return "…"
    if id(value) in above:
        return "(circular)"
    above.append(id(value))
    try:
        return _describe_unseen_value(value, budget, above)
    except Exception as error:
        return f"<{_type_name(value)}: {_type_name(error)}>"
    finally:
        above.pop()


def _describe_unseen_value(value: Any, budget: _Budget, above: list[int]) -> Any:
    """Only methods of Python's own types read containers: those of subclasses may do anything."""
    if value is None or value is True or value is False or _is_number(value):
        return value
    if _is_a(value, dict):
        shown: dict[str, Any] = {}
        for key, inner in cast(Iterable[tuple[Any, Any]], dict.items(value)):  # pyright: ignore[reportUnknownMemberType]
            if budget.values <= 0:
                break
            name = budget.cut(exact_text(key) if _is_a(key, str) else _short(key))
            shown[name] = _describe_value(inner, budget, above)
        return shown
    for kind in (list, tuple, set, frozenset):
        if _is_a(value, kind):
            members = cast(Iterable[Any], kind.__iter__(value))
            return [_describe_value(inner, budget, above) for inner in islice(members, max(0, budget.values))]
    if _is_a(value, str):
        return budget.cut(exact_text(value))
    return budget.cut(str(value) if _is_a(value, datetime | Decimal | UUID) else _short(value))


def _error_text(error: Exception) -> str:
    try:
        return str(error) or _type_name(error)
    except Exception:
        return _type_name(error)


def _short(value: Any) -> str:
    """Return a short text about a value of any type. Raises nothing."""
    try:
        return exact_text(reprlib.repr(value))
    except Exception:
        return f"<{_type_name(value)} that cannot be shown>"


def _type_name(value: Any) -> str:
    return type.__dict__["__name__"].__get__(type(value))


def _is_a(value: Any, kind: Any) -> bool:
    # isinstance() also asks the value itself, by its property __class__.
    return issubclass(type(value), kind)


def _is_number(value: Any) -> bool:
    return (type(value) is int and abs(value) < 2**63) or (type(value) is float and math.isfinite(value))


def _is_text(value: Any, limit: int) -> bool:
    try:
        return _is_a(value, str) and 0 < len(str.encode(value)) <= limit
    except UnicodeEncodeError:
        return False
