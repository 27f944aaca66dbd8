"""How long ago something was, in words."""

from __future__ import annotations

from datetime import timedelta


def age(span: timedelta) -> str:
    """A span in its two largest units: `3 h 20 min`, `2 d 4 h`."""
    minutes = max(0, round(span.total_seconds() / 60))
    days, hours, rest = minutes // 1440, minutes // 60 % 24, minutes % 60
    parts = [(days, "d"), (hours, "h"), (rest, "min")]
    shown = [f"{number} {unit}" for number, unit in parts if number][:2]
    return " ".join(shown) or "under a minute"
