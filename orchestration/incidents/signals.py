"""Reads Dagster's storage for signs that data does not arrive: exactly, in bounded batches, and again over the last minutes.

Runs are read by the time at which they changed, events by their ids. On PostgreSQL ids are given before the commit, so that an event
can appear below one that was read: what was read in the last minutes is read again, and each signal has an id by which it counts once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import dagster as dg

from orchestration.incidents.deadline import Deadline
from orchestration.incidents.event_signals import late, of_events, passed_checks, reported_by_hand
from orchestration.incidents.instigator_signals import of_backfills, of_ticks
from orchestration.incidents.model import Signal
from orchestration.incidents.run_signals import LOOK_BACK_SECONDS, OVERLAP_SECONDS, of_queue, of_runs, retries
from orchestration.incidents.state import Position, State
from orchestration.incidents.triage import RetryState
from orchestration.incidents.unreadable import expired_notices

KEEP_SECONDS = 900.0
"""So long a run that ended well is remembered as judged: beyond the overlap."""


@dataclass(frozen=True)
class Reading:
    """What one tick has read."""

    state: State
    signals: Sequence[Signal]
    """In the order of their times."""
    retries: Mapping[str, RetryState]
    """Of what waits for a retry, by its name in the state: whether it is under way."""


def read(
    instance: dg.DagsterInstance, before: State, now: float, queue_minutes: float, deadline: Deadline | None = None
) -> Reading:
    """Return everything that has happened since, of a long backlog a part. `now` is in seconds since the epoch.

    After the `deadline`, no further run is read: the next tick goes on with them.
    """
    position = before.position or _first(instance, now)
    run_of = cache(instance.get_run_by_id)
    runs_until, all_runs, found = of_runs(instance, position, before.handled, now, deadline)
    found += of_backfills(instance, position.runs_until - OVERLAP_SECONDS, now, before.handled)
    event, from_events = of_events(instance, position, now, run_of)
    ticks, from_ticks = of_ticks(instance, position.ticks, now)
    found += [*from_events, *from_ticks, *of_queue(instance, now, queue_minutes, before.handled)]
    if before.position is None:
        found += late(instance)
    awaited = _awaited(before, found)
    found += [*reported_by_hand(instance, awaited), *passed_checks(instance, awaited), *expired_notices(before, now)]
    marks = (*((at, id_) for at, id_ in position.marks if at > now - 2 * OVERLAP_SECONDS), (now, event))
    # In a long backlog what was read lately is long past.
    reached = min(now, position.runs_until)
    handled = {id_: at for id_, at in before.handled.items() if at > reached - _kept(id_)}
    looking_back = before.looking_back and not all_runs
    after = replace(before, position=Position(runs_until, event, marks, ticks, looking_back), handled=handled)
    # A recovery that no alert awaits changes nothing.
    relevant = (one for one in found if one.failed or one.ended or awaited & one.well.keys())
    return Reading(after, sorted(relevant, key=lambda one: (one.at, one.ended)), retries(instance, before, now))


def _first(instance: dg.DagsterInstance, now: float) -> Position:
    return Position(now - LOOK_BACK_SECONDS, instance.event_log_storage.get_maximum_record_id() or 0)


def _kept(id_: str) -> float:
    return KEEP_SECONDS if id_.startswith("ok:") else LOOK_BACK_SECONDS


def _awaited(before: State, signals: Iterable[Signal]) -> set[str]:
    """Everything whose recovery would change something."""
    found = {token for alert in before.alerts.values() for token in alert.missing}
    found |= {token for known in before.pending.values() for tokens in known.missing.values() for token in tokens}
    return found | {token for signal in signals for unit in signal.failed for token in signal.awaited(unit)}
