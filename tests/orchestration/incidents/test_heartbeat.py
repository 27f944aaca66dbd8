"""The heartbeat over incident.io's stand-in, with the ticks of the alerts' sensor in a real instance."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import dagster as dg
import pytest
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorType,
    SensorInstigatorData,
    TickData,
    TickStatus,
)  # fmt: skip
from dagster._utils.error import SerializableErrorInfo

from orchestration.incidents import alerter, store
from orchestration.incidents.heartbeat import QUIET_SECONDS, alerting, heartbeat, trouble
from orchestration.incidents.instigators import Instigator
from orchestration.incidents.outbox import REFUSED, Waiting
from orchestration.incidents.pacing import Pace
from orchestration.incidents.state import State
from orchestration.on_call.apply import carry_out, look
from orchestration.on_call.config import FILE, load
from orchestration.settings import settings
from orchestration.vendors.http import VendorError
from orchestration.vendors.incident_io import AlertEvent
from orchestration.vendors.incident_io_settings import OnCallSettings
from sandbox import beat
from sandbox.env_file import environment
from sandbox.vendors.context import VendorContext
from tests.on_call import OnCall, running
from tests.orchestration.incidents.instigators import origin
from tests.stand_ins import wait_for

ERROR = SerializableErrorInfo("no", [], "Error")


@pytest.mark.parametrize(
    ("running_", "last_good", "words"),
    [
        (True, 1000.0, None),
        (True, 1000.0 - QUIET_SECONDS, None),
        (True, 1000.0 - 600, "no good tick for 10 min"),
        (True, None, "no good tick yet"),
        (True, 1000.0 + 7200, "is in the future"),
        (False, 1000.0, "switched off"),
    ],
)
def test_silence_means_that_nobody_would_hear(running_: bool, last_good: float | None, words: str | None) -> None:
    found = trouble(running_, last_good, now=1000.0)
    assert (found is None) if words is None else (words in (found or ""))


@pytest.fixture(scope="module")
def on_call(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnCall]:
    with running(tmp_path_factory.mktemp("heartbeat"), "incident_io") as started:
        yield started


@pytest.fixture
def instance(on_call: OnCall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """An instance in which the alerts' sensor has just ticked well."""
    for name, value in environment(on_call.config).items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    with dg.instance_for_test(temp_dir=str(tmp_path)) as made:
        made.add_instigator_state(alerts(InstigatorStatus.DECLARED_IN_CODE))
        ticked(made, TickStatus.SKIPPED, seconds_ago=5)
        yield made
    settings.cache_clear()
    VendorContext.of(on_call.config).faults.remove()


def alerts(status: InstigatorStatus) -> InstigatorState:
    return InstigatorState(
        origin("incident_alerts"), InstigatorType.SENSOR, status, SensorInstigatorData(min_interval=1)
    )


def ticked(
    instance: dg.DagsterInstance, status: TickStatus, seconds_ago: float, reason: str | None = "0 alerts are open"
) -> None:
    state, at = alerts(InstigatorStatus.RUNNING), time.time() - seconds_ago
    instance.create_tick(
        TickData(
            state.instigator_origin_id, state.instigator_name, InstigatorType.SENSOR, status, at,
            selector_id=state.selector_id, end_timestamp=at, run_ids=[], error=ERROR if status == TickStatus.FAILURE else None,
            skip_reason=reason if status == TickStatus.SKIPPED else None,
        )
    )  # fmt: skip


def tick(instance: dg.DagsterInstance) -> str:
    result = heartbeat(30)(dg.build_sensor_context(instance))
    assert isinstance(result, dg.SkipReason)
    return result.skip_message or ""


def pings(on_call: OnCall) -> int:
    [shown] = on_call.inspect("incident_io", "heartbeat")
    return shown["pings"]


def test_a_tick_is_a_ping_and_the_status_says_when_it_was(on_call: OnCall, instance: dg.DagsterInstance) -> None:
    before = pings(on_call)
    assert tick(instance) == "pinged"
    assert pings(on_call) == before + 1
    [line] = beat.last(on_call.config)
    assert line.text.startswith("last heartbeat of Data platform daemon: ")
    assert "s ago (" in line.text
    assert (line.well, line.failing) == (True, False)


def test_there_is_no_ping_while_the_alerts_fail_or_are_off(on_call: OnCall, instance: dg.DagsterInstance) -> None:
    before = pings(on_call)
    instance.update_instigator_state(alerts(InstigatorStatus.STOPPED))
    assert tick(instance) == "no ping: the sensor incident_alerts is switched off"
    instance.update_instigator_state(alerts(InstigatorStatus.RUNNING))
    running_again = alerts(InstigatorStatus.RUNNING)
    instance.purge_ticks(running_again.instigator_origin_id, running_again.selector_id, time.time())
    ticked(instance, TickStatus.SUCCESS, seconds_ago=900)
    for seconds in range(600, 0, -5):
        ticked(instance, TickStatus.FAILURE, seconds_ago=seconds)
    assert tick(instance) == "no ping: the sensor incident_alerts has had no good tick for 15 min"
    assert pings(on_call) == before
    ticked(instance, TickStatus.SUCCESS, seconds_ago=1)
    assert tick(instance) == "pinged"


def waiting(status: Literal["firing", "resolved"], seconds_ago: float, **fields: Any) -> Waiting:
    event = AlertEvent("key", status, "Fivetran sync `product` failed", "", "https://dagster.example", {})
    return Waiting(event, time.time() - seconds_ago, **fields)


@pytest.mark.parametrize(
    ("status", "seconds_ago", "fields", "accepted_ago", "pinged"),
    [
        ("firing", 400, {"attempts": 9}, 10, False),
        ("firing", 400, {"reduced": REFUSED}, 10, False),
        ("firing", 400, {}, 400, False),
        # It waits for its turn in a storm of alerts.
        ("firing", 400, {}, 10, True),
        ("firing", 200, {"attempts": 9}, 200, True),
        ("firing", 400, {"attempts": 9, "carried": ("firing:slack",)}, 400, True),
        ("resolved", 400, {"attempts": 9}, 400, True),
    ],
)
def test_there_is_no_ping_while_a_notification_reaches_no_one(
    on_call: OnCall,
    instance: dg.DagsterInstance,
    status: Literal["firing", "resolved"],
    seconds_ago: float,
    fields: dict[str, Any],
    accepted_ago: float,
    pinged: bool,
) -> None:
    before, pace = pings(on_call), Pace(times=(time.time() - accepted_ago,))
    item = waiting(status, seconds_ago, **fields)
    store.save(instance, store.load(instance, None), State(waiting=(item,), pace=pace))
    said = tick(instance)
    assert pings(on_call) == before + pinged
    if not pinged:
        assert said.startswith(
            "no ping: 1 notifications have reached no one, the oldest for 7 min (Fivetran sync `product` failed)"
        )


def test_a_notification_that_was_sent_to_no_one_stops_the_pings_until_it_is_delivered(
    on_call: OnCall, instance: dg.DagsterInstance
) -> None:
    cursor, _lost = store.save(
        instance, store.load(instance, None), State(waiting=(waiting("firing", 400, attempts=9),))
    )
    assert tick(instance).startswith("no ping: ")
    store.save(instance, store.load(instance, cursor), State())
    assert tick(instance) == "pinged"


def test_ticks_of_a_clock_that_was_ahead_say_nothing_of_now(on_call: OnCall, instance: dg.DagsterInstance) -> None:
    state = alerts(InstigatorStatus.RUNNING)
    instance.purge_ticks(state.instigator_origin_id, state.selector_id, time.time())
    ticked(instance, TickStatus.SUCCESS, seconds_ago=-7200)
    assert tick(instance).startswith("no ping: ")
    ticked(instance, TickStatus.SUCCESS, seconds_ago=1)
    assert tick(instance) == "pinged"


@pytest.mark.parametrize("kind", ["http_500", "html", "reset", "http_429"])
def test_an_outage_of_incident_io_is_no_incident_of_ours(
    on_call: OnCall, instance: dg.DagsterInstance, kind: str
) -> None:
    VendorContext.of(on_call.config).faults.add(
        "incident_io", kind=kind, params={"retry_after": 1} if kind == "http_429" else {}
    )
    assert tick(instance).startswith("no ping: incident.io: POST ")


@pytest.mark.parametrize("name", ["INCIDENT_IO_HEARTBEAT_ID", "INCIDENT_IO_HEARTBEAT_TOKEN"])
def test_what_is_set_wrongly_fails_the_tick(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "wrong")
    settings.cache_clear()
    with pytest.raises(VendorError, match="See INCIDENT_IO_HEARTBEAT_ID and INCIDENT_IO_HEARTBEAT_TOKEN"):
        tick(instance)


def test_without_a_heartbeat_it_is_said(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("INCIDENT_IO_HEARTBEAT_ID", "INCIDENT_IO_HEARTBEAT_TOKEN"):
        monkeypatch.delenv(name)
    settings.cache_clear()
    assert "INCIDENT_IO_HEARTBEAT_ID is not set" in tick(instance)


def hurry(on_call: OnCall) -> None:
    """Let the heartbeat be missed after two seconds; in the file it is a minute at least."""
    config, api = load(FILE), OnCallSettings(on_call.config.url("incident_io"), "local-incident_io-key")
    quick = config.heartbeat.model_copy(update={"every_seconds": 1, "grace_seconds": 1})
    carry_out(look(config.model_copy(update={"heartbeat": quick}), FILE, api), api, lambda _change, _name: None)


def test_when_beats_stop_an_engineer_is_paged_and_the_status_is_red(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(tmp_path / "sandbox", "incident_io") as there:
        hurry(there)
        assert [line.text for line in beat.last(there.config)] == ["last heartbeat of Data platform daemon: none yet"]
        monkeypatch.setenv("INCIDENT_IO_API_URL", there.config.url("incident_io"))
        settings.cache_clear()
        assert tick(instance) == "pinged"
        wait_for(lambda: beat.last(there.config)[0].failing, 10, "the beats are missed")
        [line] = beat.last(there.config)
        assert "beats have stopped: nobody would hear of a failure" in line.text
        [page] = there.inspect("incident_io", "pages")
        assert (page["schedule"], page["state"]) == ("Engineers", "sent")
        assert tick(instance) == "pinged"
        assert beat.last(there.config)[0].well
    assert "does not answer" in beat.last(there.config)[0].text


def test_the_heartbeat_looks_at_the_alert_sensor_of_its_own_code_location(tmp_path: Path) -> None:
    now = time.time()
    with dg.instance_for_test(temp_dir=str(tmp_path)) as made:
        for location, status in (("orchestration", TickStatus.FAILURE), ("other", TickStatus.SUCCESS)):
            state = InstigatorState(
                origin("incident_alerts", location), InstigatorType.SENSOR, InstigatorStatus.RUNNING,
                SensorInstigatorData(min_interval=1),
            )  # fmt: skip
            made.add_instigator_state(state)
            made.create_tick(
                TickData(
                    state.instigator_origin_id, "incident_alerts", InstigatorType.SENSOR, status, now - 5,
                    selector_id=state.selector_id, end_timestamp=now - 5, run_ids=[],
                    error=ERROR if status == TickStatus.FAILURE else None,
                )
            )  # fmt: skip
        assert alerting(made, now, Instigator("heartbeat")) == (True, None)
        assert alerting(made, now, Instigator("heartbeat", "other")) == (True, pytest.approx(now - 5))
        assert alerting(made, now, Instigator("heartbeat", "third")) == (False, None)


def test_a_tick_that_ends_with_its_daemon_is_no_evidence_that_alerts_are_read(tmp_path: Path) -> None:
    with dg.instance_for_test(temp_dir=str(tmp_path)) as made:
        made.add_instigator_state(alerts(InstigatorStatus.RUNNING))
        ticked(made, TickStatus.SKIPPED, seconds_ago=200)
        ticked(made, TickStatus.SKIPPED, seconds_ago=5, reason=None)
        assert alerting(made, time.time()) == (True, pytest.approx(time.time() - 200, abs=5))


def test_one_of_two_code_locations_sends_the_alerts(tmp_path: Path) -> None:
    now = time.time()
    with dg.instance_for_test(temp_dir=str(tmp_path)) as made:
        assert alerter.claim_lease(made, "a", now) == alerter.Claim()
        assert alerter.claim_lease(made, "b", now + 30) == alerter.Claim(other="a")
        assert alerter.find_other(made, "b", now + 30) == "a"
        assert alerter.claim_lease(made, "a", now + 500) == alerter.Claim()
        # Renewed in the meantime.
        assert alerter.claim_lease(made, "b", now + 900) == alerter.Claim(other="a")
        assert alerter.claim_lease(made, "b", now + 1101) == alerter.Claim(took_over=True)
        assert alerter.claim_lease(made, "a", now + 1102) == alerter.Claim(other="b")
        # A lease of a clock that was ahead, and one that cannot be read, hold no one up.
        assert alerter.claim_lease(made, "a", now - 1000) == alerter.Claim(took_over=True)
        made.daemon_cursor_storage.set_cursor_values({alerter.KEY: "7"})
        assert alerter.claim_lease(made, "b", now) == alerter.Claim()
