"""When the platform's daemon last gave incident.io a sign of life, in one line."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx

from sandbox.config import SandboxConfig


@dataclass(frozen=True)
class Line:
    text: str
    well: bool = True
    failing: bool = False
    """incident.io has raised its alert."""


UNKNOWN = Line("last heartbeat: not known, the stand-ins do not run", well=False)


def last(config: SandboxConfig) -> list[Line]:
    """A line for each heartbeat that incident.io knows of."""
    try:
        answer = httpx.get(f"{config.url('incident_io')}/_inspect/heartbeat", timeout=5).raise_for_status()
    except httpx.HTTPError:
        return [Line("last heartbeat: not known, the stand-in of incident.io does not answer", well=False)]
    now = datetime.now(UTC)
    return [_line(beat, now) for beat in answer.json()] or [
        Line("last heartbeat: incident.io has no heartbeat: run `dataplatform on-call apply`", well=False)
    ]


def _line(beat: dict[str, Any], now: datetime) -> Line:
    """`beat` as the stand-in's `/_inspect/heartbeat` has it; its state tells whether the pings came in time."""
    if beat["last_ping_at"] is None:
        return Line(f"last heartbeat of {beat['name']}: none yet", well=False)
    at = datetime.fromisoformat(beat["last_ping_at"])
    silent = round((now - at).total_seconds())
    ago = f"{silent} s" if silent < 120 else f"{silent // 60} min"
    said = f"last heartbeat of {beat['name']}: {ago} ago ({at.astimezone():%H:%M:%S})"
    match beat["state"]:
        case "healthy":
            return Line(said)
        case "late":
            return Line(f"{said}: late, the next one was due", well=False)
        case _:
            words = "beats have stopped: nobody would hear of a failure, and incident.io has raised an alert of that"
            return Line(f"{said}: {words}", well=False, failing=True)
