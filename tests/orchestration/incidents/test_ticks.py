"""Failed ticks of schedules as Dagster's storage has them: one that never reached the code is evaluated again as the same tick."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import (
    InstigatorTick,
    TickData,
    TickStatus,
)
from dagster._utils.error import SerializableErrorInfo

from orchestration.incidents import signals
from orchestration.incidents.clocks import believed
from orchestration.incidents.model import Failure, Recovery
from orchestration.incidents.state import State
from orchestration.incidents.triage import TICK_SECONDS, triage
from orchestration.lineage.graph import Graph
from tests.orchestration.incidents.instigators import HOURLY

ERROR = SerializableErrorInfo("Unable to reach the user code server for schedule hourly.", [], None)


class Schedule:
    """A schedule with its ticks, and the alerts over them."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance, self._state = instance, State()
        instance.add_instigator_state(HOURLY)
        self.told(time.time())

    def ticks(self, status: TickStatus, at: float, failures: int = 0) -> InstigatorTick:
        return self._instance.create_tick(
            TickData(
                HOURLY.instigator_origin_id, "hourly", InstigatorType.SCHEDULE, status, at, selector_id=HOURLY.selector_id,
                end_timestamp=at + 1, run_ids=[], error=ERROR if status == TickStatus.FAILURE else None, failure_count=failures,
                consecutive_failure_count=1,
            )
        )  # fmt: skip

    def again(self, tick: InstigatorTick, status: TickStatus, ended_at: float) -> None:
        """Dagster evaluates it once more."""
        data = tick.tick_data._replace(status=status, end_timestamp=ended_at, error=None)
        self._instance.update_tick(tick._replace(tick_data=data))

    def told(self, now: float) -> list[Failure | Recovery]:
        reading = signals.read(self._instance, believed(self._state, now), now, queue_minutes=30)
        self._state, told = triage(reading.state, reading.signals, Graph(), now, lambda _failure: None, reading.retries)
        return told


@pytest.fixture
def schedule(tmp_path: Path) -> Iterator[Schedule]:
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        yield Schedule(instance)


def test_what_did_not_reach_the_code_and_then_did_wakes_nobody(schedule: Schedule) -> None:
    at = time.time()
    tick = schedule.ticks(TickStatus.FAILURE, at)
    assert schedule.told(at + 5) == []
    assert schedule.told(at + 10) == []
    schedule.again(tick, TickStatus.SKIPPED, at + 20)
    failure, recovery = schedule.told(at + 21)
    assert isinstance(failure, Failure)
    assert isinstance(recovery, Recovery)
    assert (failure.name, failure.transient, recovery.transient) == ("tick/hourly", True, True)
    assert schedule.told(at + 120) == []


def test_what_reaches_the_code_late_is_an_alert_that_ends_then_and_not_an_hour_later(schedule: Schedule) -> None:
    at = time.time()
    tick = schedule.ticks(TickStatus.FAILURE, at)
    schedule.told(at + 5)
    [failure] = schedule.told(at + 6 + TICK_SECONDS)
    assert isinstance(failure, Failure)
    assert (failure.name, failure.transient) == ("tick/hourly", False)
    assert schedule.told(at + TICK_SECONDS + 30) == []
    schedule.again(tick, TickStatus.SUCCESS, at + TICK_SECONDS + 40)
    [recovery] = schedule.told(at + TICK_SECONDS + 41)
    assert isinstance(recovery, Recovery)
    assert recovery.deduplication_key == failure.deduplication_key


def test_what_fails_in_the_code_is_told_at_once(schedule: Schedule) -> None:
    at = time.time()
    schedule.ticks(TickStatus.FAILURE, at, failures=1)
    [failure] = schedule.told(at + 5)
    assert isinstance(failure, Failure)
    assert not failure.transient
    schedule.ticks(TickStatus.SUCCESS, at + 3600)
    [recovery] = schedule.told(at + 3605)
    assert isinstance(recovery, Recovery)


def test_ticks_of_a_clock_that_was_ahead_hide_none_that_come_since(schedule: Schedule) -> None:
    at = time.time()
    for hour in range(3, 9):
        schedule.ticks(TickStatus.SUCCESS, at + hour * 3600)
    schedule.told(at + 9 * 3600)
    schedule.ticks(TickStatus.FAILURE, at + 3600, failures=1)
    [failure] = schedule.told(at + 3605)
    assert isinstance(failure, Failure)
    assert schedule.told(at + 3700) == []
    schedule.ticks(TickStatus.SUCCESS, at + 7200)
    [recovery] = schedule.told(at + 7205)
    assert isinstance(recovery, Recovery)
