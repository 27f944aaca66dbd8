"""Reads the ticks of sensors and schedules, and the backfills that broke."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest

import dagster as dg
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorTick,
    InstigatorType,
    TickStatus,
)

from orchestration.incidents import backfills, instigators
from orchestration.incidents.model import Signal
from orchestration.incidents.unreadable import NOTICE_SECONDS, read_isolated
from orchestration.lineage.dagster_errors import dagster_cause
from orchestration.lineage.failures import FailedUnit

TICKS_LOOKED_AT = 5


def of_ticks(
    instance: dg.DagsterInstance, seen: Mapping[str, float], now: float
) -> tuple[dict[str, float], list[Signal]]:
    """Return the signals of sensors' and schedules' ticks, and the time of the last judged tick of each, by selector id.

    `seen` is what the last call returned. An earlier version of this code kept it by name, which is still understood: sensors of one
    name in two code locations were one then.
    """
    known = instance.all_instigator_state()
    after = {state.selector_id: _last_judged(state, seen) for state in known}
    states = [state for state in known if state.status != InstigatorStatus.STOPPED]
    # A person who switches one off knows that it does nothing.
    off = [state for state in known if state.status == InstigatorStatus.STOPPED]
    found = [_recovered(state, known, now) for state in off]
    if not states:
        return _judged(after), found
    newest = instance.get_batch_ticks([state.selector_id for state in states], limit=TICKS_LOOKED_AT)
    for state in states:
        name = instigators.of_state(state).full_name

        def read(one: InstigatorState = state) -> list[Signal]:
            return _of_instigator(instance, one, known, newest.get(one.selector_id, ()), after, now)

        found += read_isolated(read, f"tick:{name}:{now // NOTICE_SECONDS}", now, f"The ticks of `{name}`")
    return _judged(after), found


def _last_judged(state: InstigatorState, seen: Mapping[str, float]) -> float:
    return seen.get(state.selector_id, seen.get(state.instigator_name, 0.0))


def _judged(after: Mapping[str, float]) -> dict[str, float]:
    return {selector: at for selector, at in after.items() if at}


def _recovered(state: InstigatorState, known: Sequence[InstigatorState], at: float) -> Signal:
    """Return the signal that a sensor or schedule works, or is switched off.

    An alert of an earlier version of this code waits for the name alone, of whichever code location the sensor was. It belongs to the
    sensor of this code location; where this one has none of that name, any of the others ends it, and one that still fails opens an
    alert of its own.
    """
    instigator = instigators.of_state(state)
    recovered = {instigator.token: at}
    same = [one for one in map(instigators.of_state, known) if one.name == instigator.name]
    if not any(one.is_local for one in same):
        recovered[instigators.short_token(instigator.name)] = at
    return Signal(id="", at=at, well=recovered)


def _of_instigator(
    instance: dg.DagsterInstance,
    state: InstigatorState,
    known: Sequence[InstigatorState],
    ticks: Sequence[InstigatorTick],
    after: dict[str, float],
    now: float,
) -> list[Signal]:
    """Return the signals of one sensor or schedule. `after` gets the time of its last tick that was judged."""
    instigator, selector = instigators.of_state(state), state.selector_id
    sensor, found = state.instigator_type == InstigatorType.SENSOR, list[Signal]()
    if ticks and ticks[0].timestamp > now:
        # Of a clock that was ahead: they hide those that have come since.
        ticks = instance.get_ticks(state.instigator_origin_id, selector, before=now, limit=TICKS_LOOKED_AT)
    ordered = list(reversed(ticks))
    for tick, following in zip_longest(ordered, ordered[1:]):
        if tick.timestamp <= after.get(selector, 0.0) or tick.status == TickStatus.STARTED:
            continue
        # Dagster goes on with the tick of a schedule that was interrupted.
        if sensor and instigators.was_interrupted(tick, following, now):
            continue
        # A schedule that did not reach the code is evaluated again until it does, as the same tick, which keeps its time.
        unreached = not sensor and tick is ticks[0] and tick.status == TickStatus.FAILURE and not tick.failure_count
        if not unreached:
            after[selector] = tick.timestamp
        if tick.status == TickStatus.FAILURE:
            what = "sensor" if sensor else "schedule"
            where = "" if instigator.is_local else f" in the code location `{instigator.label}`"
            text = f"The {what} `{instigator.name}`{where} failed: {backfills.words(tick.error)}"
            cause = dagster_cause(tick.error)
            unit = FailedUnit(instigator.unit, (), text, awaits=(instigator.token,), cause=cause)
            # A sensor is ticked again soon; a schedule perhaps tomorrow.
            retried = sensor or unreached
            id_ = f"tick:{instigator.full_name}:{tick.timestamp}"
            found.append(Signal(id=id_, at=tick.timestamp, failed=(unit,), kind="tick", retried=retried))
        else:
            at = max(tick.timestamp, tick.end_timestamp or 0.0)
            found.append(_recovered(state, known, at))
    return found


def of_backfills(
    instance: dg.DagsterInstance, since: float, now: float, handled: Mapping[str, float]
) -> Iterator[Signal]:
    for backfill in backfills.broken(instance, since, now, handled):
        id_ = backfill.backfill_id
        yield from read_isolated(
            lambda found=backfill: backfills.signals_of(instance, found, now),
            f"backfill:{id_}",
            backfill.backfill_end_timestamp or now,
            f"The broken backfill `{id_}`",
        )
