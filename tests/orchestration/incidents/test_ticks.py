"""Failed ticks of schedules as Dagster's storage has them: one that never reached the code is evaluated again as the same tick."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorTick,
    SensorInstigatorData,
    TickData,
    TickStatus,
)
from dagster_shared.error import SerializableErrorInfo

from orchestration.incidents import content, signals
from orchestration.incidents.clocks import believed
from orchestration.incidents.model import Failure, Recovery
from orchestration.incidents.mutes import Mute, is_muted
from orchestration.incidents.state import Alert, Position, State
from orchestration.incidents.triage import TICK_SECONDS, triage
from orchestration.lineage.failures import FailedUnit
from orchestration.lineage.graph import Graph
from tests.orchestration.incidents.instigators import HOURLY, origin

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


class Sensors:
    """Sensors of one name in several code locations and repositories, and the alerts over them."""

    def __init__(self, instance: dg.DagsterInstance, *places: tuple[str, str], state: State | None = None) -> None:
        self.instance, self.state = instance, state or State()
        self.states = {
            place: InstigatorState(
                origin("watch", *place), InstigatorType.SENSOR, InstigatorStatus.RUNNING, SensorInstigatorData()
            )
            for place in places
        }
        for one in self.states.values():
            instance.add_instigator_state(one)

    def tick(self, place: tuple[str, str], status: TickStatus, at: float) -> InstigatorTick:
        one = self.states[place]
        return self.instance.create_tick(
            TickData(
                one.instigator_origin_id, "watch", InstigatorType.SENSOR, status, at, selector_id=one.selector_id,
                end_timestamp=at, run_ids=[], error=ERROR if status == TickStatus.FAILURE else None,
            )
        )  # fmt: skip

    def read(self, now: float) -> list[Failure | Recovery]:
        reading = signals.read(self.instance, self.state, now, queue_minutes=30)
        self.state, found = triage(
            reading.state, reading.signals, Graph(), now, lambda _keys: None, reading.retries
        )  # fmt: skip
        return found


OWN, OTHER, SECOND = ("orchestration", "__repository__"), ("other", "__repository__"), ("other", "second")


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test(temp_dir=str(tmp_path)) as made:
        yield made


def names(found: list[Failure | Recovery]) -> Mapping[str, bool]:
    return {one.name: isinstance(one, Failure) for one in found}


def test_a_tick_that_ends_with_its_daemon_is_no_recovery(instance: dg.DagsterInstance) -> None:
    now = time.time()
    sensors = Sensors(instance, OWN)
    # There is no tick yet.
    assert sensors.read(now - 50) == []
    sensors.tick(OWN, TickStatus.FAILURE, now - 40)
    assert sensors.read(now - 35) == []
    interrupted = sensors.tick(OWN, TickStatus.STARTED, now - 10)
    # What the daemon does when it starts again; the tick that follows has its time already, and is written afterwards.
    instance.update_tick(interrupted.with_status(TickStatus.SKIPPED))
    assert sensors.read(now + 1) == []
    sensors.tick(OWN, TickStatus.FAILURE, now)
    assert sensors.read(now + 10) == []
    [failure] = sensors.read(now + TICK_SECONDS)
    assert isinstance(failure, Failure)
    assert not failure.transient
    # A sensor that returns nothing leaves a skipped tick without a reason too.
    sensors.tick(OWN, TickStatus.SKIPPED, now + 200)
    [recovery] = sensors.read(now + 210)
    assert isinstance(recovery, Recovery)


def test_sensors_of_one_name_in_several_code_locations_are_alerts_of_their_own(instance: dg.DagsterInstance) -> None:
    now = time.time()
    sensors = Sensors(instance, OWN, OTHER, SECOND)
    sensors.read(now)
    sensors.tick(OTHER, TickStatus.FAILURE, now + 1)
    sensors.tick(SECOND, TickStatus.FAILURE, now + 2)
    # The others' good ticks are later, and do not hide the failures.
    sensors.tick(OWN, TickStatus.SUCCESS, now + 3)
    assert sensors.read(now + 4) == []
    found = sensors.read(now + 5 + TICK_SECONDS)
    assert names(found) == {"tick/other/watch": True, "tick/second@other/watch": True}
    titles = {content.title_of(one) for one in found if isinstance(one, Failure)}
    assert titles == {
        "Sensor `watch` in the code location `other` fails",
        "Sensor `watch` in the code location `second@other` fails",
    }
    later = now + 6 + TICK_SECONDS
    sensors.tick(OWN, TickStatus.FAILURE, later)
    sensors.tick(OTHER, TickStatus.SUCCESS, later)
    assert names(sensors.read(later + 1)) == {"tick/other/watch": False}
    assert names(sensors.read(later + 2 + TICK_SECONDS)) == {"tick/watch": True}
    # Each is found again after a restart: what was judged is kept by the selector's id.
    assert set(sensors.state.position.ticks if sensors.state.position else ()) == {
        one.selector_id for one in sensors.states.values()
    }


def test_the_link_opens_the_sensor_in_its_code_location(instance: dg.DagsterInstance) -> None:
    now = time.time()
    sensors = Sensors(instance, OTHER, SECOND)
    sensors.read(now)
    for place in (OTHER, SECOND):
        sensors.tick(place, TickStatus.FAILURE, now + 1)
    sensors.read(now + 2)
    links = {
        content.tick_url("https://d", one) for one in sensors.read(now + 3 + TICK_SECONDS) if isinstance(one, Failure)
    }
    assert links == {
        "https://d/locations/other/sensors/watch",
        "https://d/locations/second@other/sensors/watch",
    }


@pytest.mark.parametrize("places", [(OWN,), (OTHER,), (OWN, OTHER)])
def test_an_alert_of_an_earlier_version_loads_and_recovers(
    instance: dg.DagsterInstance, places: tuple[tuple[str, str], ...]
) -> None:
    now = time.time()
    unit = FailedUnit("tick/watch", (), "The sensor `watch` failed: no", awaits=("tick:watch",))
    alert = Alert("tick/watch", "tick", "key", (unit,), {"tick:watch": now - 60}, now - 60, now - 60, told=True)
    # It kept the last tick by name.
    position = Position(now - 30, 0, ticks={"watch": now - 50})
    sensors = Sensors(instance, *places, state=State(position=position, alerts={"tick/watch": alert}))
    for place in places:
        sensors.tick(place, TickStatus.FAILURE, now - 60)
    assert sensors.read(now) == []
    for place in places:
        sensors.tick(place, TickStatus.SUCCESS, now + 1)
    assert names(sensors.read(now + 2)) == {"tick/watch": False}


@pytest.mark.parametrize(
    ("selection", "muted"),
    [("tick/watch", True), ("tick/*", True), ("tick/other/watch", True), ("tick/third/watch", False), ("watch", False)],
)
def test_a_mute_by_name_covers_the_sensor_of_every_code_location(selection: str, muted: bool) -> None:
    mute = Mute(selection, datetime.now(UTC) + timedelta(hours=1), "why", "me")
    assert (is_muted(["tick/other/watch"], [mute]) is not None) == muted
    assert is_muted(["tick/watch"], [replace(mute, selection="tick/other/watch")]) is None
