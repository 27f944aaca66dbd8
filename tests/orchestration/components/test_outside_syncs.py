"""Whose a sync is, over real event logs: a run's only where that run has recorded exactly this sync."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from dagster import DagsterEvent, DagsterRunStatus
from dagster._core.events import AssetObservationData
from dagster._core.test_utils import create_run_for_test

from orchestration.components.fivetran import ends_of
from orchestration.components.fivetran_account import Connection, Table
from orchestration.components.outside_syncs import FAILED_IN_A_ROW, RECORDS, Ended, Look, UnitFault, watch
from orchestration.components.steps import Failures, start_sync
from orchestration.lineage.failures import SYNC_KEY, SYNC_STARTED, FailedUnit, from_metadata
from orchestration.vendors.fivetran import Fivetran
from orchestration.vendors.hightouch import Hightouch
from orchestration.vendors.http import VendorError
from orchestration.vendors.waiting import SyncFailed
from tests.orchestration.wire import reply, wire

NOW = datetime(2026, 11, 23, 3, tzinfo=UTC)
KEYS = {name: (dg.AssetKey([name, "first"]), dg.AssetKey([name, "second"])) for name in ("a", "b")}
NOTHING = "No sync ran without Dagster."


@dataclass
class Vendor:
    """A vendor's two connections, which sync when they are told to and when the vendor likes."""

    ends: dict[str, dict[str | None, datetime]] = field(default_factory=lambda: {"a": {}, "b": {}})
    """Connection to its last success (None) and its last failure (why), with their times."""
    errors: dict[str, VendorError] = field(default_factory=dict)
    clock: datetime = NOW

    def sync(self, name: str, problem: str | None = None) -> str:
        """Let a sync end, and return its identity."""
        self.clock += timedelta(seconds=1)
        kept = {why: at for why, at in self.ends[name].items() if (why is None) != (problem is None)}
        self.ends[name] = {**kept, problem: self.clock}
        return self.identity(name, self.clock)

    @staticmethod
    def identity(name: str, at: datetime) -> str:
        return f"vendor/{name}/{at.isoformat()}"

    def looks(self) -> Iterator[Look]:
        for name in self.ends:
            yield Look(f"vendor/{name}", lambda name=name: self._ended(name))

    def _ended(self, name: str) -> Sequence[Ended]:
        if name in self.errors:
            raise self.errors[name]
        return [
            Ended(KEYS[name], at, self.identity(name, at), lambda why=why: why, "https://vendor.example")
            for why, at in self.ends[name].items()
        ]


class Platform:
    """The sensor over an instance, with the runs of a step that syncs."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance, self.vendor, self.cursor = instance, Vendor(), str | None
        self.cursor = None
        self.sensor = watch("syncs", "Vendor", self.looks)

    def looks(self) -> Iterator[Look]:
        return self.vendor.looks()

    def look(self, *, saved: bool = True) -> str | None:
        tick = self.sensor.evaluate_tick(dg.build_sensor_context(self.instance, cursor=self.cursor))
        if saved:
            self.cursor = tick.cursor
        return tick.skip_message

    def run(self, *names: str, **does: Any) -> dg.ExecuteInProcessResult:
        """A run that syncs connections. `does` gives what else happens, by connection, after the sync was asked for."""

        @dg.multi_asset(
            name="vendor", specs=[dg.AssetSpec(key) for keys in KEYS.values() for key in keys], can_subset=True
        )
        def step(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any]]:
            failed = Failures(context)
            for name in names:
                start_sync(context, KEYS[name][0])
                result = does.get(name, lambda name=name: self.vendor.sync(name))
                try:
                    sync = result()
                except SyncFailed as error:
                    failed.add(f"vendor/{name}", KEYS[name], error, "https://vendor.example", sync_of=KEYS[name][0])
                    continue
                for key in KEYS[name]:
                    yield dg.MaterializeResult(asset_key=key, metadata={SYNC_KEY: sync})
            failed.raise_any()

        selection = [key for name in names for key in KEYS[name]]
        return dg.materialize([step], instance=self.instance, selection=selection, raise_on_error=False)

    def failed(self, name: str) -> str:
        """Let a sync end badly, as a run sees it."""
        sync = self.vendor.sync(name, "of the run")
        raise SyncFailed("of the run", sync=sync)

    def reports(self, name: str) -> list[FailedUnit]:
        """The failures that the sensor has reported, the newest first."""
        seen = [one.asset_observation for one in self.instance.fetch_observations(KEYS[name][0], limit=RECORDS).records]
        found = [from_metadata({k: v.value for k, v in one.metadata.items()}) for one in seen if one]
        return [unit for units in found for unit in units or ()]

    def landed(self, name: str) -> list[str]:
        """The runs by which the connection's tables were made; empty texts are the sensor."""
        return [one.run_id for one in self.instance.fetch_materializations(KEYS[name][1], limit=RECORDS).records]


@pytest.fixture
def platform() -> Iterator[Platform]:
    with dg.instance_for_test() as instance:
        made = Platform(instance)
        assert made.look() == NOTHING
        yield made


def test_a_sync_of_a_connection_that_fails_while_a_run_works_on_another_is_reported(platform: Platform) -> None:
    platform.run("a", "b")

    def meanwhile() -> str:
        platform.vendor.sync("b", "refused")
        assert platform.look() == "Without Dagster: vendor/b failed."
        return platform.vendor.sync("a")

    platform.run("a", a=meanwhile)
    assert platform.look() == NOTHING
    assert [(unit.unit, unit.error) for unit in platform.reports("b")] == [("vendor/b", "refused")]
    assert platform.reports("a") == []


def test_a_sync_that_fails_within_the_run_that_has_synced_its_connection_before_is_reported_at_once(
    platform: Platform,
) -> None:
    said: list[str | None] = []

    def slow() -> str:
        said.append(platform.look())
        platform.vendor.sync("a", "refused")
        said.append(platform.look())
        return platform.vendor.sync("b")

    # By then the run has yielded the tables of `a`, and works on `b`.
    platform.run("a", "b", b=slow)
    assert said == [NOTHING, "Without Dagster: vendor/a failed."]
    assert platform.look() == NOTHING


@pytest.mark.parametrize("problem", [None, "refused"])
def test_a_sync_of_a_run_is_its_own_whatever_its_end_and_however_often_it_is_looked_at(
    platform: Platform, problem: str | None
) -> None:
    platform.run("a", **({"a": lambda: platform.failed("a")} if problem else {}))
    assert [platform.look(saved=saved) for saved in (False, True, True)] == [NOTHING] * 3
    assert platform.reports("a") == []
    assert "" not in platform.landed("a")


def test_a_sync_that_a_run_waits_for_is_left_to_it_until_it_has_said_so(platform: Platform) -> None:
    said: list[str | None] = []

    def seen_before() -> str:
        sync = platform.vendor.sync("a")
        said.append(platform.look())
        return sync

    platform.run("a", a=seen_before)
    assert [*said, platform.look()] == [NOTHING, NOTHING]
    assert "" not in platform.landed("a")


@pytest.mark.parametrize("problem", [None, "refused"])
def test_a_sync_whose_run_was_killed_is_reported_once(platform: Platform, problem: str | None) -> None:
    run = create_run_for_test(platform.instance, job_name="x", status=DagsterRunStatus.STARTED)
    note = dg.AssetObservation(KEYS["a"][0], metadata={SYNC_KEY: SYNC_STARTED})
    event = DagsterEvent("ASSET_OBSERVATION", "x", event_specific_data=AssetObservationData(note))
    platform.instance.report_dagster_event(event, run_id=run.run_id)
    platform.vendor.sync("a", problem)
    assert platform.look() == NOTHING
    platform.instance.report_run_failed(run, "killed")
    what = "failed" if problem else "succeeded"
    # The daemon dies before it has saved the cursor.
    assert platform.look(saved=False) == f"Without Dagster: vendor/a {what}."
    assert platform.look() == NOTHING
    assert len(platform.reports("a")) == (1 if problem else 0)
    assert platform.landed("a").count("") == (0 if problem else 1)


def test_a_sync_for_which_a_run_has_waited_too_long_is_reported_when_it_ends(platform: Platform) -> None:
    def too_long() -> str:
        raise SyncFailed("not finished within the time limit")

    platform.run("a", a=too_long)
    platform.vendor.sync("a")
    assert platform.look() == "Without Dagster: vendor/a succeeded."


def test_of_several_syncs_between_two_looks_the_state_at_the_end_counts(platform: Platform) -> None:
    platform.vendor.sync("a", "refused")
    platform.vendor.sync("a")
    platform.vendor.sync("b")
    platform.vendor.sync("b", "refused")
    assert platform.look() == "Without Dagster: vendor/a succeeded, vendor/b succeeded, vendor/b failed."
    assert platform.reports("a") == []
    assert platform.landed("b") == [""]


def test_an_outside_success_after_a_failure_of_a_run_is_a_recovery_and_an_older_one_is_not(platform: Platform) -> None:
    platform.run("a", a=lambda: platform.failed("a"))
    platform.vendor.sync("a")
    assert platform.look() == "Without Dagster: vendor/a succeeded."
    platform.vendor.sync("b")
    platform.run("b", b=lambda: platform.failed("b"))
    # What landed before the run's failure must not resolve its alert.
    assert platform.look() == NOTHING
    assert platform.landed("b") == []


def test_the_first_sync_of_a_new_connection_is_reported(platform: Platform) -> None:
    platform.vendor.ends["a"].clear()
    assert platform.look() == NOTHING
    platform.vendor.sync("a", "refused")
    assert platform.look() == "Without Dagster: vendor/a failed."


def test_a_cursor_of_an_earlier_version_is_read_and_a_lost_one_reports_nothing_again(platform: Platform) -> None:
    platform.vendor.sync("a", "refused")
    platform.cursor = json.dumps({"vendor/a": NOW.isoformat(), "vendor/gone": NOW.isoformat()})
    assert platform.look() == "Without Dagster: vendor/a failed."
    platform.cursor = json.dumps({"vendor/a": NOW.isoformat()})
    assert platform.look() == NOTHING
    assert len(platform.reports("a")) == 1


@pytest.mark.parametrize("status", [404, 403, 500])
def test_a_connection_that_cannot_be_looked_at_does_not_keep_the_others(platform: Platform, status: int) -> None:
    platform.vendor.errors["a"] = VendorError("no", vendor="Vendor", status=status)
    platform.vendor.sync("b", "refused")
    assert str(platform.look()).startswith("Without Dagster: vendor/b failed.")
    platform.vendor.sync("a", "refused")
    platform.vendor.errors.clear()
    assert platform.look() == "Without Dagster: vendor/a failed."


def test_a_vendor_that_is_away_fails_the_tick_where_nothing_could_be_read(platform: Platform) -> None:
    away = VendorError("could not connect", vendor="Vendor", reached=False)
    platform.vendor.errors = {"a": away, "b": away}
    with pytest.raises(VendorError, match="could not connect"):
        platform.look()
    platform.vendor.errors = {"b": away}
    platform.vendor.sync("a", "refused")
    # What could be read is kept.
    assert str(platform.look()).startswith("Without Dagster: vendor/a failed. 1 could not be looked at")
    assert platform.look() is not None
    assert len(platform.reports("a")) == 1


def test_a_vendor_that_answers_nothing_but_errors_is_not_asked_for_everything() -> None:
    asked: list[int] = []

    def look(number: int) -> Sequence[Ended]:
        asked.append(number)
        raise VendorError("no", vendor="Vendor", status=503)

    sensor = watch("syncs", "Vendor", lambda: (Look(f"vendor/{n}", lambda n=n: look(n)) for n in range(400)))
    with pytest.raises(VendorError):
        sensor.evaluate_tick(dg.build_sensor_context(dg.DagsterInstance.ephemeral()))
    assert len(asked) == FAILED_IN_A_ROW


def test_units_that_the_vendor_refuses_do_not_keep_a_tick_from_the_others_for_ever() -> None:
    asked: list[int] = []

    def look(number: int) -> Sequence[Ended]:
        asked.append(number)
        if number < FAILED_IN_A_ROW:
            raise VendorError("no", vendor="Vendor", status=403)
        return []

    looks = [Look(f"vendor/{n}", lambda n=n: look(n)) for n in range(-1, 9)]
    looks = [looks[5], *looks[1:5], *looks[6:]]
    sensor, instance = watch("syncs", "Vendor", lambda: looks), dg.DagsterInstance.ephemeral()
    first = sensor.evaluate_tick(dg.build_sensor_context(instance))
    assert asked == [4, 0, 1, 2]
    asked.clear()
    sensor.evaluate_tick(dg.build_sensor_context(instance, cursor=first.cursor))
    assert sorted(asked[:-3]) == [3, 4, 5, 6, 7, 8]
    assert asked[-3:] == [0, 1, 2]


def test_an_answer_that_cannot_be_read_concerns_its_unit_only(platform: Platform) -> None:
    def unreadable() -> Sequence[Ended]:
        return {}["at"]

    platform.vendor.sync("b", "refused")
    looks = [Look("vendor/odd", unreadable), *platform.vendor.looks()]
    sensor = watch("syncs", "Vendor", lambda: looks)
    tick = sensor.evaluate_tick(dg.build_sensor_context(platform.instance, cursor=platform.cursor))
    assert str(tick.skip_message).startswith("Without Dagster: vendor/b failed. 1 could not be looked at: vendor/odd")


def test_a_fault_of_a_unit_is_reported_once_and_again_only_after_a_sync(platform: Platform) -> None:
    gone = True

    def ends() -> Sequence[Ended]:
        if gone:
            fault = Ended(
                KEYS["a"], datetime.now(UTC), "vendor/a/deleted", lambda: "It is gone.", "https://vendor.example"
            )
            raise UnitFault("was deleted", fault)
        return [Ended(KEYS["a"], NOW, "vendor/a/1", lambda: None, "https://vendor.example")]

    sensor = watch("syncs", "Vendor", lambda: [Look("vendor/a", ends)])

    def look(cursor: str | None) -> tuple[str | None, str | None]:
        tick = sensor.evaluate_tick(dg.build_sensor_context(platform.instance, cursor=cursor))
        return tick.skip_message, tick.cursor

    said, cursor = look(platform.cursor)
    assert said == f"{NOTHING} Reported: vendor/a was deleted."
    # The daemon dies before it has saved the cursor; the next one has it.
    assert [look(platform.cursor)[0], look(None)[0], look(cursor)[0]] == [NOTHING] * 3
    gone = False
    said, cursor = look(cursor)
    assert said == "Without Dagster: vendor/a succeeded."
    assert look(cursor)[0] == NOTHING
    gone = True
    assert look(cursor)[0] == f"{NOTHING} Reported: vendor/a was deleted."
    assert [unit.error for unit in platform.reports("a")] == ["It is gone.", "It is gone."]


def test_a_report_of_the_vendors_words_is_of_no_cause_of_the_platform(platform: Platform) -> None:
    platform.vendor.sync("a", "invalid_grant: 401 Quota exceeded, psycopg2.OperationalError")
    platform.look()
    assert [unit.cause for unit in platform.reports("a")] == [None]


def test_a_fivetran_connection_says_how_it_succeeded_and_failed_last() -> None:
    succeeded, failed = "2026-11-23T03:00:00.5Z", "2026-11-23T04:00:00Z"
    status = {"setup_state": "connected", "sync_state": "syncing", "tasks": [{"code": "x", "message": "invalid_grant"}]}
    data = {"id": "c", "service": "s", "schema": "shop", "group_id": "g", "paused": False, "status": status}
    own = Connection("c", "shop", (Table("shop", "orders", "public", "orders"),))
    with wire(reply(200, {"data": data | {"succeeded_at": succeeded, "failed_at": failed}})) as server:
        good, bad = sorted(ends_of(Fivetran(server.url, "k", "s"), own), key=lambda one: one.at)
    # Also while the next sync runs.
    assert (good.problem(), bad.problem()) == (None, "invalid_grant")
    assert (good.sync, bad.sync) == (
        "fivetran/c/2026-11-23T03:00:00.500000+00:00",
        "fivetran/c/2026-11-23T04:00:00+00:00",
    )
    with wire(reply(200, {"data": data | {"succeeded_at": succeeded, "failed_at": succeeded}})) as server:
        [only] = ends_of(Fivetran(server.url, "k", "s"), own)
    assert only.problem() is None


def test_the_newest_hightouch_run_that_has_ended_is_found_while_another_one_goes_on() -> None:
    run = {"id": 7, "status": "failed", "createdAt": "2026-11-23T03:00:00Z", "finishedAt": "2026-11-23T03:01:00Z"}
    going_on = {"id": 8, "status": "querying", "createdAt": "2026-11-23T03:02:00Z", "finishedAt": None}
    with wire(reply(200, {"data": [going_on, run, run | {"id": 6}], "hasMore": False})) as server:
        found = Hightouch(server.url, "k").newest_ended_run(1)
    assert found is not None
    assert found.id == 7
