"""How records are named, and how times and errors are written."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime


class Problem(Exception):
    """An answer of incident.io's that is an error: the HTTP status, a code, and the field that is to blame."""

    def __init__(self, status: int, code: str, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.field = status, code, field

    def errors(self) -> list[dict[str, object]]:
        """As the body of the answer has them."""
        source = {"source": {"field": self.field, "pointer": f"/{self.field}"}} if self.field else {}
        return [{"code": self.code, "message": str(self)} | source]


def stamp(moment: datetime) -> str:
    """A time as incident.io writes it, in UTC; as texts they sort as times do."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def identifier(kind: str, number: int) -> str:
    """The 26 characters that a row's number is known by, such as 01LOCALALERT00000000000001."""
    name = f"01LOCAL{kind}"
    return name + str(number).zfill(26 - len(name))


def numbered(kind: str) -> Callable[[str], int]:
    """From an id to the number of its row; -1, which no row has, for an id that is not of this kind."""
    empty = identifier(kind, 0)
    prefix = empty.rstrip("0")

    def number(value: str) -> int:
        digits = value.removeprefix(prefix)
        return int(digits) if len(value) == len(empty) and digits != value and digits.isdecimal() else -1

    return number


def reference(incident: int) -> str:
    return f"INC-{incident}"
