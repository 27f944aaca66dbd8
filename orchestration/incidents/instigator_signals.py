"""Reads the ticks of sensors and schedules, and the backfills that broke."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import dagster as dg
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorTick,
    InstigatorType,
    TickStatus,
)

from orchestration.incidents import backfills
from orchestration.incidents.model import Signal
from orchestration.incidents.unreadable import NOTICE_SECONDS, isolated
from orchestration.lineage.dagster_errors import dagster_cause
from orchestration.lineage.failures import FailedUnit

TICKS_LOOKED_AT = 5


def of_ticks(
    instance: dg.DagsterInstance, seen: Mapping[str, float], now: float
) -> tuple[dict[str, float], list[Signal]]:
    """Signals of sensors' and schedules' ticks, and the last tick of each that was looked at."""
    known = instance.all_instigator_state()
    states = [state for state in known if state.status != InstigatorStatus.STOPPED]
    # Who switches one off knows that it does nothing.
    off = {state.instigator_name for state in known} - {state.instigator_name for state in states}
    after, found = dict(seen), [Signal(id="", at=now, well={f"tick:{name}": now}) for name in off]
    if not states:
        return after, found
    newest = instance.get_batch_ticks([state.selector_id for state in states], limit=TICKS_LOOKED_AT)
    for state in states:
        name = state.instigator_name

        def read(one: InstigatorState = state) -> list[Signal]:
            return _of_instigator(instance, one, newest.get(one.selector_id, ()), after, now)

        found += isolated(read, f"tick:{name}:{now // NOTICE_SECONDS}", now, f"The ticks of `{name}`")
    return after, found


def _of_instigator(
    instance: dg.DagsterInstance,
    state: InstigatorState,
    ticks: Sequence[InstigatorTick],
    after: dict[str, float],
    now: float,
) -> list[Signal]:
    """Return the signals of one sensor or schedule. `after` gets the time of its last tick that was judged."""
    name, sensor, found = state.instigator_name, state.instigator_type == InstigatorType.SENSOR, list[Signal]()
    if ticks and ticks[0].timestamp > now:
        # Of a clock that was ahead: they hide those that have come since.
        ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, before=now, limit=TICKS_LOOKED_AT)
    for tick in reversed(ticks):
        if tick.timestamp <= after.get(name, 0.0) or tick.status == TickStatus.STARTED:
            continue
        # A schedule that did not reach the code is evaluated again until it does, as the same tick, which keeps its time.
        unreached = not sensor and tick is ticks[0] and tick.status == TickStatus.FAILURE and not tick.failure_count
        if not unreached:
            after[name] = tick.timestamp
        if tick.status == TickStatus.FAILURE:
            what = "sensor" if sensor else "schedule"
            text = f"The {what} `{name}` failed: {backfills.words(tick.error)}"
            unit = FailedUnit(f"tick/{name}", (), text, awaits=(f"tick:{name}",), cause=dagster_cause(tick.error))
            # A sensor is ticked again soon; a schedule perhaps tomorrow.
            retried = sensor or unreached
            id_ = f"tick:{name}:{tick.timestamp}"
            found.append(Signal(id=id_, at=tick.timestamp, failed=(unit,), kind="tick", retried=retried))
        else:
            at = max(tick.timestamp, tick.end_timestamp or 0.0)
            found.append(Signal(id="", at=at, well={f"tick:{name}": at}))
    return found


def of_backfills(
    instance: dg.DagsterInstance, since: float, now: float, handled: Mapping[str, float]
) -> Iterator[Signal]:
    for backfill in backfills.broken(instance, since, now, handled):
        id_ = backfill.backfill_id
        yield from isolated(
            lambda found=backfill: backfills.signals_of(instance, found, now),
            f"backfill:{id_}",
            backfill.backfill_end_timestamp or now,
            f"The broken backfill `{id_}`",
        )
