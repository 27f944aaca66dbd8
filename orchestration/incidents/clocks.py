"""What a clock that was ahead, and is right again, has left in the state. Pure.

Until the time that it had reached, runs and ticks would pass for read, and failures for later than what mends them.
"""

from __future__ import annotations

from dataclasses import replace

from orchestration.incidents.run_signals import LOOK_BACK_SECONDS, OVERLAP_SECONDS
from orchestration.incidents.state import Alert, EndedRun, Pending, Position, State
from orchestration.incidents.triage import RETRY_SECONDS


def believed(before: State, now: float) -> State:
    """The state without times that are later than now, which is in seconds since the epoch.

    How far storage has been read is not known then: a day of it is read again. What was judged has ids by which it counts once, and
    nobody is told of what is mended by now, as at the first tick.
    """
    position = before.position
    if position is None or not _is_ahead(position, now):
        return before
    back = now - LOOK_BACK_SECONDS
    return replace(
        before,
        position=replace(
            position,
            runs_until=back,
            ticks={name: at if at <= now else back for name, at in position.ticks.items()},
            looking_back=True,
            gaps=tuple(replace(gap, since=min(gap.since, now), after=min(gap.after, now)) for gap in position.gaps),
            blocks=tuple(replace(block, since=min(block.since, now)) for block in position.blocks),
            ended={run: _of_ended(known, now) for run, known in position.ended.items()},
        ),
        alerts={name: _of_alert(alert, now) for name, alert in before.alerts.items()},
        pending={name: _of_pending(known, now) for name, known in before.pending.items()},
    )


def _is_ahead(position: Position, now: float) -> bool:
    """By more than what is read again in any case: clocks are set back a little all the time."""
    return position.runs_until > now + OVERLAP_SECONDS


def _of_alert(alert: Alert, now: float) -> Alert:
    return replace(
        alert,
        missing={token: min(at, now) for token, at in alert.missing.items()},
        since=min(alert.since, now),
        last_seen=min(alert.last_seen, now),
        not_before=min(alert.not_before, now),
        well_since=alert.well_since and min(alert.well_since, now),
        updated=min(alert.updated, now),
    )


def _of_ended(known: EndedRun, now: float) -> EndedRun:
    return EndedRun(min(known.noticed_at, now), min(known.after, now), min(known.until, now), known.late)


def _of_pending(known: Pending, now: float) -> Pending:
    at = {unit: min(failed, now) for unit, failed in known.at.items()}
    return replace(known, at=at, until=min(known.until, now + RETRY_SECONDS))
