"""Every way in which data fails to arrive, each produced for real, and what incident.io is told of it: once, and once that it is over.

The stories are told side by side, since most of them wait most of the time. Each has assets of its own, and returns how many
alerts it has made of which unit: the last test counts that there are no others.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster import DagsterRunStatus, RunsFilter

from orchestration.incidents import mutes
from orchestration.incidents.triage import TICK_SECONDS
from orchestration.lineage.failures import FailedUnit, to_metadata
from orchestration.on_call.config import FILE
from tests.chaos import names
from tests.chaos.platform import BEAT, DAEMON, Alert, Platform, running, wait_for

Told = dict[str, int]
Story = Callable[[Platform], Told]
STORIES: dict[str, Story] = {}

pytestmark = pytest.mark.long

AT_ONCE = 6
OPENS, RESOLVES, QUIET = 120.0, 120.0, 15.0
"""Seconds within which an alert opens and is resolved, even where the machine has much else to do; and in which nothing is to
happen: three of the daemon's rounds."""
BEATS = 60.0
"""Seconds within which a daemon that lives gives a sign of life."""


def story(tell: Story) -> Story:
    STORIES[tell.__name__] = tell
    return tell


# The slow ones first.


@story
def data_becomes_old(platform: Platform) -> Told:
    [key] = names.FRESH
    platform.run([key])
    # Its age, the daemon's half-minute, and the time in which it may prove to follow from something else.
    opened(platform, f"freshness/{key}", names.FRESH_SECONDS + 90 + 30 + OPENS)
    platform.run([key])
    return once(platform, f"freshness/{key}", paged="at once")


@story
def a_run_hangs_in_the_queue(platform: Platform) -> Told:
    first, second = names.IN_LANE
    platform.orders.give(first, "hang")
    busy = platform.launch([first])
    platform.started(busy)
    waiting = platform.launch([second])
    alert = opened(platform, "queue", 90 + OPENS)
    assert alert.assets == {second}
    platform.orders.withdraw(first)
    assert {platform.ended(busy).status, platform.ended(waiting).status} == {DagsterRunStatus.SUCCESS}
    return once(platform, "queue", paged="later")


@story
def a_sensor_fails(platform: Platform) -> Told:
    platform.orders.give(names.SENSOR)
    # So long one that fails may prove to be a hiccup.
    opened(platform, f"tick/{names.SENSOR}", TICK_SECONDS + OPENS)
    platform.orders.withdraw(names.SENSOR)
    return once(platform, f"tick/{names.SENSOR}", paged="later")


@story
def a_schedule_fails(platform: Platform) -> Told:
    platform.orders.give(names.SCHEDULE)
    opened(platform, f"tick/{names.SCHEDULE}")
    platform.orders.withdraw(names.SCHEDULE)
    return once(platform, f"tick/{names.SCHEDULE}", paged="later")


@story
def it_flaps(platform: Platform) -> Told:
    key = "shop/alone007"
    for number in (1, 2):
        broken(platform, [key])
        opened(platform, names.step(key), number=number)
        mended(platform, [key])
        resolved(platform, names.step(key), number=number)
    broken(platform, [key])
    assert opened(platform, names.step(key), number=3).last["flapping"]
    mended(platform, [key])
    broken(platform, [key])
    mended(platform, [key])
    time.sleep(QUIET)
    *earlier, last = platform.alerts_of(names.step(key))
    assert len(earlier) == 2
    # It stays open until it has been well for an hour.
    assert last.open
    return {names.step(key): 3}


@story
def a_part_of_it_recovers(platform: Platform) -> Told:
    pair = names.PAIRS[1]
    left, right = names.halves(pair)
    broken(platform, [left, right])
    assert opened(platform, names.unit(left)).assets == {left, right}
    mended(platform, [left])
    alert = wait_for(
        lambda: next((one for one in platform.alerts_of(names.unit(left)) if one.last["left"]), None),
        120,
        "a part is left",
    )
    assert alert.last["left"] == [right]
    assert alert.open
    mended(platform, [right])
    return once(platform, names.unit(left), paged="later")


@story
def it_fails_again(platform: Platform) -> Told:
    key = "back/alone006"
    broken(platform, [key])
    opened(platform, names.step(key))
    broken(platform, [key])
    wait_for(lambda: platform.alerts_of(names.step(key))[-1].last["count"] == 2, OPENS, "the repeat is told")
    mended(platform, [key])
    return once(platform, names.step(key), paged="later")


@story
def its_assets_are_muted(platform: Platform) -> Told:
    key, now = "back/alone007", datetime.now(UTC)
    mute = mutes.Mute(key, until=now + timedelta(hours=1), reason="somebody works on it", by="chaos")
    mutes.add(platform.instance, mute, [dg.AssetKey(key.split("/"))], now.timestamp())
    broken(platform, [key])
    time.sleep(QUIET)
    assert platform.alerts_of(names.step(key)) == []
    # It ends.
    now = datetime.now(UTC)
    mutes.add(platform.instance, replace(mute, until=now + timedelta(seconds=1)), [], now.timestamp())
    opened(platform, names.step(key))
    mended(platform, [key])
    return once(platform, names.step(key), paged="later")


@story
def a_run_takes_too_long(platform: Platform) -> Told:
    key = "shop/alone010"
    platform.orders.give(key, "hang")
    run = platform.run([key], **{"dagster/max_runtime": "3"})
    assert platform.failed(run.run_id)
    alert = opened_by(platform, run.run_id)
    assert alert.assets == {key}
    mended(platform, [key])
    return once(platform, alert.unit, paged="at once")


@story
def a_step_reports_what_failed(platform: Platform) -> Told:
    customers, colleagues, well = "shop/made000", "back/made000", "shop/made001"
    broken(platform, [customers, colleagues], beside=[well])
    opened(platform, names.unit(customers))
    opened(platform, names.unit(colleagues))
    mended(platform, [customers, colleagues])
    return once(platform, names.unit(customers), paged="at once") | once(
        platform, names.unit(colleagues), paged="later"
    )


@story
def it_is_known_while_the_run_goes_on(platform: Platform) -> Told:
    permanent, passing = "shop/made010", "back/made010"
    platform.orders.give(names.WAITING, "hang")
    platform.orders.give(permanent, permanent=True)
    platform.orders.give(passing, once=True)
    run = platform.launch([permanent, passing], job="retried")
    opened(platform, names.unit(permanent))
    assert not platform.status(run).is_finished
    # A retry is to come, and may mend this one.
    assert platform.alerts_of(names.unit(passing)) == []
    platform.orders.withdraw(names.WAITING)
    retry = retried(platform, run)
    assert retry.status == DagsterRunStatus.FAILURE
    mended(platform, [permanent])
    return once(platform, names.unit(permanent), paged="at once") | once(platform, names.unit(passing), paged="never")


@story
def a_check_fails_in_a_run_that_succeeds(platform: Platform) -> Told:
    key = "shop/checked000"
    order = names.order_of_check(key, names.CHECK)
    platform.orders.give(order)
    assert platform.run([key]).status == DagsterRunStatus.SUCCESS
    opened(platform, names.check(key))
    platform.orders.withdraw(order)
    platform.run([key])
    return once(platform, names.check(key), paged="at once")


@story
def a_check_only_warns(platform: Platform) -> Told:
    key = "shop/checked001"
    platform.orders.give(names.order_of_check(key, names.WARNING))
    platform.run([key])
    time.sleep(QUIET)
    assert not [alert for alert in platform.alerts() if key in alert.assets]
    return {}


@story
def a_run_cannot_start(platform: Platform) -> Told:
    platform.orders.give(names.GONE)
    run = platform.run(job=names.GONE)
    assert run.status == DagsterRunStatus.FAILURE
    alert = opened_by(platform, run.run_id)
    assert alert.assets == {names.ALONE[-1]}
    platform.orders.withdraw(names.GONE)
    platform.run(job=names.GONE)
    return once(platform, alert.unit, paged="later")


@story
def somebody_cancels_a_run(platform: Platform) -> Told:
    key = "shop/alone001"
    platform.orders.give(key, "hang")
    run = platform.launch([key])
    wait_for(lambda: any(one.run_id == run for one in platform.orders.journal()), OPENS, "it hangs")
    platform.cancel(run)
    assert platform.ended(run).status == DagsterRunStatus.CANCELED
    platform.orders.withdraw(key)
    time.sleep(QUIET)
    assert not [alert for alert in platform.alerts() if key in alert.assets]
    return {}


@story
def a_process_is_killed(platform: Platform) -> Told:
    key, beside = "shop/alone002", "back/alone002"
    platform.orders.give(key, "kill")
    run = platform.run([key])
    assert run.status == DagsterRunStatus.FAILURE
    alert = opened_by(platform, run.run_id)
    assert alert.assets == {key}
    mended(platform, [key, beside])
    return once(platform, alert.unit, paged="at once")


@story
def an_asset_of_somebody_elses_fails(platform: Platform) -> Told:
    key = "shop/alone003"
    broken(platform, [key])
    opened(platform, names.step(key))
    mended(platform, [key])
    return once(platform, names.step(key), paged="at once")


@story
def a_part_of_a_step_is_not_made(platform: Platform) -> Told:
    made, forgotten, after = names.FORGOTTEN
    broken(platform, [forgotten], beside=[made, after])
    assert opened(platform, "step/forgetful").assets == {forgotten, after}
    mended(platform, [forgotten], beside=[made, after])
    return once(platform, "step/forgetful", paged="later")


@story
def a_retry_succeeds(platform: Platform) -> Told:
    links, beside = names.links(names.CHAINS[0]), "shop/alone004"
    root, middle, end = links
    platform.orders.give(middle, once=True)
    run = platform.launch([*links, beside], job="retried")
    retry = retried(platform, run)
    assert retry.status == DagsterRunStatus.SUCCESS
    assert {one.key for one in platform.orders.journal() if one.run_id == retry.run_id} == {middle, end}
    assert {one.key for one in platform.orders.journal() if one.run_id == run} == {root, middle, beside}
    told = once(platform, names.step(middle), paged="never")
    [alert] = platform.alerts_of(names.step(middle))
    assert alert.first["transient"]
    return told


@story
def a_retry_fails(platform: Platform) -> Told:
    key = "shop/alone005"
    platform.orders.give(key)
    run = platform.launch([key], job="retried")
    assert retried(platform, run).status == DagsterRunStatus.FAILURE
    alert = opened(platform, names.step(key))
    assert not alert.first["transient"]
    mended(platform, [key])
    return once(platform, names.step(key), paged="at once")


@story
def a_chain_breaks(platform: Platform) -> Told:
    root, middle, end = links = names.links(names.CHAINS[2])
    broken(platform, [root], beside=[middle, end])
    assert set(opened(platform, names.step(root)).first["held_up"]) == {middle, end}
    mended(platform, list(links))
    return once(platform, names.step(root), paged="at once")


@story
def a_sync_fails_without_dagster(platform: Platform) -> Told:
    key, unit = "shop/made040", "fivetran/shop"
    asset = dg.AssetKey(key.split("/"))
    failed = to_metadata([FailedUnit(unit, (key,), "Reconnect the source in Fivetran.")])
    platform.instance.report_runless_asset_event(dg.AssetObservation(asset, metadata=failed))
    opened(platform, unit)
    platform.instance.report_runless_asset_event(dg.AssetMaterialization(asset))
    return once(platform, unit, paged="at once")


@story
def many_fail_of_one_cause(platform: Platform) -> Told:
    keys = names.SINGLE[41:60:3]
    for key in keys:
        platform.orders.give(key, error="the warehouse is out to lunch")
    run = platform.run(keys)
    alert = opened_by(platform, run.run_id)
    assert alert.unit.startswith("cause/")
    assert alert.assets == set(keys)
    mended(platform, keys)
    return once(platform, alert.unit, paged="at once")


# What the stories have in common


def broken(platform: Platform, keys: list[str], beside: list[str] | None = None) -> None:
    for key in keys:
        platform.orders.give(key)
    assert platform.run([*keys, *(beside or ())]).status == DagsterRunStatus.FAILURE


def mended(platform: Platform, keys: list[str] | tuple[str, ...], beside: list[str] | None = None) -> None:
    for key in keys:
        platform.orders.withdraw(key)
    assert platform.run([*keys, *(beside or ())]).status == DagsterRunStatus.SUCCESS


def retried(platform: Platform, run_id: str) -> dg.DagsterRun:
    """The retry of a run, when it has ended."""
    assert platform.ended(run_id).status == DagsterRunStatus.FAILURE
    [retry] = wait_for(
        lambda: platform.instance.get_runs(RunsFilter(tags={"dagster/parent_run_id": run_id})),
        60,
        "Dagster tries again",
    )
    return platform.ended(retry.run_id)


def opened(platform: Platform, unit: str, seconds: float = OPENS, number: int = 1) -> Alert:
    """The newest alert of a unit, when there are so many and it is open."""

    def look() -> Alert | None:
        found = platform.alerts_of(unit)
        return found[-1] if len(found) >= number and found[-1].open else None

    return wait_for(look, seconds, f"an alert of {unit} opens")


def opened_by(platform: Platform, run_id: str) -> Alert:
    """The alert that a run has opened, where its unit's name is not for people."""
    found = wait_for(
        lambda: [alert for alert in platform.alerts() if alert.first["run_id"] == run_id],
        OPENS,
        "an alert of the run opens",
    )
    [alert] = found
    return alert


def resolved(platform: Platform, unit: str, seconds: float = RESOLVES, number: int = 1) -> None:
    def look() -> bool:
        found = platform.alerts_of(unit)
        return len(found) >= number and not any(alert.open for alert in found)

    wait_for(look, seconds, f"the alert of {unit} is resolved")


def once(platform: Platform, unit: str, *, paged: str, seconds: float = RESOLVES) -> Told:
    """The unit's only alert is over, and has paged whom it should have. `paged`: `at once`, `later` or `never`."""
    resolved(platform, unit, seconds)
    [alert] = platform.alerts_of(unit)
    assert [event["status"] for event in alert.events].count("resolved") == 1
    assert len(alert.pages) == (0 if paged == "never" else 1)
    assert alert.paged_at_once == (paged == "at once")
    return {unit: 1}


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with running(tmp_path_factory.mktemp("signals"), ALERT_QUEUE_MINUTES="1.5") as started:
        yield started


@pytest.fixture(scope="module")
def told(platform: Platform) -> Iterator[dict[str, Future[Told]]]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {name: pool.submit(tell, platform) for name, tell in STORIES.items()}


@pytest.mark.parametrize("name", STORIES)
@pytest.mark.timeout(900)
def test_it_is_told_once(told: dict[str, Future[Told]], name: str) -> None:
    told[name].result()


@pytest.mark.timeout(900)
def test_nothing_else_is_told(platform: Platform, told: dict[str, Future[Told]]) -> None:
    expected: Told = {}
    for done in told.values():
        expected |= done.result()
    found: Told = {}
    for alert in platform.alerts():
        found[alert.unit] = found.get(alert.unit, 0) + 1
    assert found == expected


@pytest.mark.timeout(900)
def test_the_daemons_own_death_is_told_from_outside(
    platform: Platform, told: dict[str, Future[Told]], tmp_path: Path
) -> None:
    """The last one: nothing else is told while the daemon is dead."""
    for done in told.values():
        done.exception()
    wait_for(lambda: platform.heartbeat()["state"] == "healthy", BEATS, "the daemon gives a sign of life")
    assert pages_of_heartbeat(platform) == []
    platform.apply(impatient(tmp_path / "on_call.yaml"))
    platform.kill(DAEMON)
    wait_for(lambda: platform.heartbeat()["state"] == "failing", 60 + BEATS, "incident.io misses it")
    assert platform.heartbeat()["alert_id"] is not None
    [page] = pages_of_heartbeat(platform)
    assert (page["state"], page["schedule"], page["channel"]) == ("sent", "Engineers", "phone")
    platform.start(DAEMON)
    wait_for(lambda: platform.heartbeat()["alert_id"] is None, BEATS, "incident.io hears of it again")
    assert platform.heartbeat()["state"] == "healthy"
    assert pages_of_heartbeat(platform) == [page]


def pages_of_heartbeat(platform: Platform) -> list[dict[str, Any]]:
    return [page for page in platform.pages() if (page["deduplication_key"] or "").startswith(BEAT)]


def impatient(file: Path) -> Path:
    """This company's settings, with a heartbeat that is missed as soon as such a file allows: five minutes are long in a test."""
    settings = yaml.safe_load(FILE.read_text())
    settings["heartbeat"] |= {"every_seconds": 60, "grace_seconds": 0}
    file.write_text(yaml.safe_dump(settings))
    return file
