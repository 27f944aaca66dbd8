"""Estimate how far the clock of another machine is off, and correct times by that. Pure. Times are in seconds since the epoch.

The machine on which a run's process runs writes the times of its events (`EventLogEntry.timestamp`), and Dagster copies that of a run's
last event to `update_timestamp` and `end_time` (`handle_run_event` in dagster/_core/storage/runs/sql_run_storage.py, 1.13). The order of
ids is right where these times are not: an event that a tick finds was stored after the tick before. A time outside of what the ids
allow is wrong, so all times of that run are moved by the difference. A failure then counts as later than what was made before it.
"""

from __future__ import annotations

from dataclasses import replace

from orchestration.incidents.model import Signal
from orchestration.lineage.runs import Outcome

TOLERANCE_SECONDS = 10.0
"""An event is stored after its time: so long that may take before a clock counts as behind."""


def offset_of(at: float, after: float, until: float) -> float:
    """Return what has to be added to a time so that it is not before `after` and not after `until`; each is 0 if it is not known."""
    if until and at > until:
        return until - at
    if after and at < after - TOLERANCE_SECONDS:
        return after - at
    return 0.0


def offset_of_run(
    created_at: float, started_at: float | None, ended_at: float, after: float, until: float, now: float
) -> float:
    """Return what has to be added to the times of a run.

    Args:
        created_at: When Dagster's daemon or webserver created it, by the clock there.
        started_at: When its process started, by its clock; None if it did not.
        ended_at: When it ended, by the same clock.
        after: Its end was stored after this; 0 if that is not known.
        until: Its end was stored before this; 0 if that is not known.
        now: The present time, by the clock of the machine of the sensor.
    """
    # A process cannot start before it was created. This is known, too, where the sensor has not looked for long.
    before_created = created_at - (ended_at if started_at is None else min(started_at, ended_at))
    offset = offset_of(ended_at, after, until)
    if before_created > TOLERANCE_SECONDS:
        offset = max(offset, before_created)
    return min(offset, (until or now) - ended_at)


def shift_signal(signal: Signal, offset: float) -> Signal:
    """Return a signal with its times moved. Its id keeps the time that was written, by which it is known."""
    if not offset:
        return signal
    well = {token: at + offset for token, at in signal.well.items()}
    return replace(signal, at=signal.at + offset, well=well)


def shift_failures(outcome: Outcome, offset: float) -> Outcome:
    """Return a run's outcome with the times of its failures and successes moved, but for those of its checks."""
    if not offset:
        return outcome
    return replace(
        outcome,
        failed_at={unit: at + offset for unit, at in outcome.failed_at.items()},
        succeeded={token: at + offset for token, at in outcome.succeeded.items()},
    )
