"""Alerts about records of Dagster's storage that cannot be read: one such record never keeps the others from being read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from orchestration.incidents.model import UNREADABLE_UNIT, Signal
from orchestration.incidents.state import State
from orchestration.lineage.failures import FailedUnit

NOTICE_SECONDS = 24 * 3600.0
"""How long an alert about an unreadable record stays open. Nothing that happens later makes the record readable."""
UNREADABLE = "read:"
"""Begins the token that such an alert waits for."""
NO_STORAGE = (OperationalError, InterfaceError, PoolTimeout, OSError)
"""Errors of Dagster's storage, which say nothing about the record that was being read. The tick fails, and is repeated."""


def read_isolated(read: Callable[[], Iterable[Signal]], id_: str, at: float, what: str, **of: Any) -> list[Signal]:
    """Return the signals of one record. A record that cannot be read is a signal of its own, so that the others are read.

    Args:
        read: Reads the record.
        id_: Identifies the record, so that it is reported once.
        at: When the record was written, in seconds since the epoch.
        what: Names the record in the alert's text.
        of: What is known about the record's run, as fields of the signal, and `asset_keys`.
    """
    try:
        return list(read())
    except NO_STORAGE:
        raise
    except Exception as error:
        # Any code in the instance writes records, and one of them must never stop the alerts.
        return [unreadable_record(id_, at, what, error, **of)]


def of_unreadable_state(problem: str, now: float) -> Signal:
    """Return the signal of a part of the alert sensor's own state that could not be read."""
    return unreadable_record(f"state:{problem}:{now}", now, "A part of the stored alerts", problem)


def unreadable_record(
    id_: str, at: float, what: str, error: Exception | str, asset_keys: tuple[str, ...] = (), **of: Any
) -> Signal:
    why = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
    text = (
        f"{what} cannot be read, so that failures in it may have no alert: {why}. Look at it in Dagster. "
        f"This alert closes by itself after {NOTICE_SECONDS / 3600:.0f} hours."
    )
    name = hashlib.sha256(id_.encode()).hexdigest()[:10]
    unit = FailedUnit(f"{UNREADABLE_UNIT}/{name}", asset_keys, text, awaits=(f"{UNREADABLE}{name}",))
    return Signal(id=f"unreadable:{name}", at=at, failed=(unit,), kind="run", **of)


def expired_notices(before: State, now: float) -> list[Signal]:
    expired = {
        token: now
        for alert in before.alerts.values()
        for token, at in alert.missing.items()
        if token.startswith(UNREADABLE) and now - at > NOTICE_SECONDS
    }
    return [Signal(id="", at=now, well=expired)] if expired else []
