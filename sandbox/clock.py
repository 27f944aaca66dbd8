"""The stand-ins' on-call clock: this machine's time plus an offset, so that 3 a.m. can be tried at noon."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path


class Clock:
    """Reads the offset at every call, so that several processes agree."""

    def __init__(self, root: Path) -> None:
        self._file = root / "clock.json"

    def now(self) -> datetime:
        """The stand-ins' time, in UTC."""
        return datetime.now(UTC) + self._offset()

    def set(self, at: datetime) -> None:
        """Let it be `at` (with a time zone) now; it runs on from there."""
        if at.tzinfo is None:
            raise ValueError(f"{at.isoformat()} has no time zone")
        offset = at - datetime.now(UTC)
        temporary = self._file.with_suffix(".new")
        temporary.write_text(json.dumps({"offset_seconds": offset.total_seconds()}))
        os.replace(temporary, self._file)

    def reset(self) -> None:
        """Back to this machine's time."""
        self._file.unlink(missing_ok=True)

    def _offset(self) -> timedelta:
        try:
            return timedelta(seconds=json.loads(self._file.read_text())["offset_seconds"])
        except FileNotFoundError:
            return timedelta()
