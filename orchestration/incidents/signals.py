"""Reads Dagster's storage for signs that data does not arrive: exactly, in bounded batches, and again over the last day.

Events are read by their ids, and so are the ends of runs, whose times depend on the clocks of many machines. PostgreSQL assigns an id
before the commit, so that an event can appear below one that was read. Ids that were skipped are looked for at every tick for an hour,
and every few minutes the last day is compared with what was read. Each signal has an id by which it counts once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import dagster as dg

from orchestration.incidents.deadline import Deadline
from orchestration.incidents.event_signals import (
    find_late_assets,
    of_events,
    passed_checks,
    reported_by_hand,
    start_of_log,
)
from orchestration.incidents.instigator_signals import of_backfills, of_ticks
from orchestration.incidents.model import Signal
from orchestration.incidents.run_signals import OVERLAP_SECONDS, find_retries, of_queue, of_runs
from orchestration.incidents.state import State
from orchestration.incidents.triage import RetryState
from orchestration.incidents.unreadable import expired_notices

HANDLED_SECONDS = 48 * 3600.0
"""How long a failure is remembered as judged: longer than any sweep reads back, also by a clock that is a day ahead."""
OK_SECONDS = 26 * 3600.0
"""How long a run that ended well is remembered: longer than the sweep reads back. To judge it twice would only cost time."""


@dataclass(frozen=True)
class Reading:
    """The signals that one tick has read, and the state after them."""

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
    position = before.position or start_of_log(instance, now)
    run_of = cache(instance.get_run_by_id)
    read, found = of_events(instance, position, now, run_of)
    ended = of_runs(instance, read, before.handled, now, deadline, look_back=before.looking_back)
    found += [*ended.signals, *of_backfills(instance, position.runs_until - OVERLAP_SECONDS, now, before.handled)]
    ticks, from_ticks = of_ticks(instance, position.ticks, now)
    found += [*from_ticks, *of_queue(instance, now, queue_minutes, before.handled)]
    if before.position is None:
        found += find_late_assets(instance)
    awaited = _awaited(before, found)
    found += [*reported_by_hand(instance, awaited), *passed_checks(instance, awaited), *expired_notices(before, now)]
    handled = {id_: at for id_, at in before.handled.items() if at > now - _kept(id_)}
    position = replace(
        read,
        runs_until=ended.runs_until,
        ticks=ticks,
        looking_back=before.looking_back and not ended.looked_back,
        ended=ended.left,
        sweep_runs=ended.sweep_runs,
    )
    after = replace(before, position=position, handled=handled)
    # A recovery that no alert awaits changes nothing.
    relevant = (one for one in found if one.failed or one.ended or one.removed or awaited & one.well.keys())
    return Reading(after, sorted(relevant, key=lambda one: (one.at, one.ended)), find_retries(instance, before, now))


def _kept(id_: str) -> float:
    return OK_SECONDS if id_.startswith("ok:") else HANDLED_SECONDS


def _awaited(before: State, signals: Iterable[Signal]) -> set[str]:
    """Everything whose recovery would change something."""
    found = {token for alert in before.alerts.values() for token in alert.missing}
    found |= {token for known in before.pending.values() for tokens in known.missing.values() for token in tokens}
    return found | {token for signal in signals for unit in signal.failed for token in signal.awaited(unit)}
