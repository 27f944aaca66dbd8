"""What open alerts wait for and is no longer defined, by real definitions and a real instance's storage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, SensorInstigatorData

from orchestration.incidents.locations import Location, Workspace, of_repository
from orchestration.incidents.model import Recovery
from orchestration.incidents.removed import ABSENT_SECONDS, find_removed
from orchestration.incidents.state import Alert, Pending, State
from orchestration.incidents.triage import triage
from orchestration.lineage.failures import FailedUnit
from tests.orchestration.incidents.instigators import origin

NOW = 1_800_000_000.0


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test(temp_dir=str(tmp_path)) as made:
        yield made


def alert(*tokens: str, run_id: str | None = None) -> State:
    unit = FailedUnit("dbt/a/b", ("a/b",), "It failed.", awaits=tokens)
    missing = dict.fromkeys(tokens, NOW - 60)
    return State(
        alerts={"dbt/a/b": Alert("dbt/a/b", "asset", "key", (unit,), missing, NOW - 60, NOW - 60, run_id=run_id, told=True)}
    )  # fmt: skip


@dg.asset(key=["a", "b"])
def model() -> None:
    raise RuntimeError("no")


@dg.asset_check(asset=["a", "b"])
def rows() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=False)


FRESH = dg.AssetSpec(["a", "fresh"], freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=1)))
STALE = dg.AssetSpec(["a", "fresh"])


def days(*keys: str) -> dg.AssetSpec:
    definition = dg.StaticPartitionsDefinition(list(keys)) if keys else None
    return dg.AssetSpec(["a", "days"], partitions_def=definition)


def dated(start: str) -> dg.AssetSpec:
    return dg.AssetSpec(["a", "days"], partitions_def=dg.DailyPartitionsDefinition(start))


NAMED = dg.AssetSpec(["a", "days"], partitions_def=dg.DynamicPartitionsDefinition(name="tenants"))


@dg.op
def work() -> None: ...


@dg.job
def nightly() -> None:
    work()


@dg.sensor(name="watch", job_name="nightly")
def watch() -> None: ...


def location(name: str = "orchestration", assets: Sequence[Any] = (), **more: Any) -> Location:
    return of_repository(dg.Definitions(assets, **more).get_repository_def(), name)


def workspace(
    *some: Location, unread: Mapping[str, str] | None = None, listed: Sequence[str] | None = None
) -> Workspace:
    return Workspace(
        {one.name: one for one in some}, unread or {}, frozenset(listed) if listed is not None else None
    )  # fmt: skip


def removed(
    instance: dg.DagsterInstance, state: State, looks: Sequence[tuple[float, Workspace]]
) -> list[Mapping[str, str]]:
    """What each look finds, each at so many seconds after the first."""
    return [
        found[0].removed if (found := find_removed(instance, state, seen, NOW + seconds)) else {}
        for seconds, seen in looks
    ]


EMPTY = workspace(location())
LATER = ABSENT_SECONDS + 1


@pytest.mark.parametrize(
    ("token", "before", "after", "reason"),
    [
        ("a/b", location(assets=[model]), location(), "the asset a/b is no longer part of the platform"),
        ("check:a/b:rows", location(assets=[model], asset_checks=[rows]), location(assets=[model]), "the check `rows` of the asset a/b is no longer part of the platform"),
        ("check:a/b:rows", location(assets=[model], asset_checks=[rows]), location(), "the asset a/b is no longer part of the platform"),
        ("fresh:a/fresh", location(assets=[FRESH]), location(assets=[STALE]), "the asset a/fresh has no freshness policy any more"),
        ("fresh:a/fresh", location(assets=[FRESH]), location(), "the asset a/fresh is no longer part of the platform"),
        ("a/days@x", location(assets=[days("x", "y")]), location(assets=[days("y")]), "the asset a/days has no partition `x` any more"),
        ("a/days@x", location(assets=[days("x", "y")]), location(assets=[days()]), "the asset a/days has no partitions any more"),
        ("a/days@2026-01-02", location(assets=[dated("2026-01-01")]), location(assets=[dated("2026-02-01")]), "the asset a/days has no partition `2026-01-02` any more"),
        ("step:orchestration::a__b", location(assets=[model]), location(), "the step `a__b` is no longer part of the platform"),
        ("step:orchestration:nightly:work", location(jobs=[nightly]), location(), "the job `nightly` is no longer part of the platform"),
        ("job:nightly", location(jobs=[nightly]), location(), "the job `nightly` is no longer part of the platform"),
        ("tick:watch", location(jobs=[nightly], sensors=[watch]), location(jobs=[nightly]), "the sensor or schedule `watch` is no longer part of the platform"),
        # A dependency that another asset names is no definition.
        ("a/b", location(assets=[model]), location(assets=[dg.AssetSpec("c", deps=[["a", "b"]])]), "the asset a/b is no longer part of the platform"),
    ],
)  # fmt: skip
def test_what_is_missing_for_minutes_is_removed(
    instance: dg.DagsterInstance, token: str, before: Location, after: Location, reason: str
) -> None:
    looks = [(0, workspace(before)), (5, workspace(after)), (60, workspace(after)), (5 + LATER, workspace(after))]
    assert removed(instance, alert(token), looks) == [{}, {}, {}, {token: reason}]


def test_a_dynamic_partition_that_was_deleted_is_removed(instance: dg.DagsterInstance) -> None:
    seen = workspace(location(assets=[NAMED]))
    instance.add_dynamic_partitions("tenants", ["acme"])
    assert removed(instance, alert("a/days@acme"), [(0, seen), (LATER, seen)]) == [{}, {}]
    instance.delete_dynamic_partition("tenants", "acme")
    [_first, second] = removed(instance, alert("a/days@acme"), [(400, seen), (400 + LATER, seen)])
    assert second == {"a/days@acme": "the asset a/days has no partition `acme` any more"}


def test_what_comes_back_in_a_deploy_is_not_removed(instance: dg.DagsterInstance) -> None:
    there = workspace(location(assets=[model]))
    looks = [(0, there), (10, EMPTY), (170, EMPTY), (180, there), (190, EMPTY), (300, EMPTY), (191 + LATER, EMPTY)]
    assert [bool(one) for one in removed(instance, alert("a/b"), looks)] == [False] * 6 + [True]


def test_nothing_is_removed_while_a_code_location_does_not_load(instance: dg.DagsterInstance) -> None:
    there, broken = workspace(location(assets=[model])), workspace(location(), unread={"other": "it does not load"})
    looks = [(0, there), (10, broken), (10 + LATER, broken), (9999, broken), (10_000, EMPTY), (10_000 + LATER, EMPTY)]
    assert [bool(one) for one in removed(instance, alert("a/b"), looks)] == [False] * 5 + [True]


@pytest.mark.parametrize(
    ("listed", "gone"), [(["orchestration"], True), (["orchestration", "other"], False), (None, False)]
)
def test_a_code_location_that_is_not_in_the_workspace_file_any_more_is_gone(
    instance: dg.DagsterInstance, listed: list[str] | None, gone: bool
) -> None:
    there = workspace(location(), location("other", assets=[model]), listed=["orchestration", "other"])
    after = workspace(location(), unread={"other": "no answer"}, listed=listed)
    looks = [(0, there), (10, after), (10 + LATER, after)]
    assert [bool(one) for one in removed(instance, alert("a/b", "tick:other/watch"), looks)] == [False, False, gone]


def test_an_asset_that_another_code_location_defines_now_has_moved(instance: dg.DagsterInstance) -> None:
    there, moved = workspace(location(assets=[model])), workspace(location(), location("other", assets=[model]))
    assert removed(instance, alert("a/b"), [(0, there), (10, moved), (10 + LATER, moved)]) == [{}, {}, {}]


def test_what_was_never_defined_is_not_removed(instance: dg.DagsterInstance) -> None:
    state = alert("sheets/forecast", "fivetran/product", "queue", "read:0123456789", "check:sheets/forecast:x")
    assert removed(instance, state, [(0, EMPTY), (LATER, EMPTY), (9999, EMPTY)]) == [{}, {}, {}]


def test_what_a_run_was_planned_to_make_was_defined_then(instance: dg.DagsterInstance) -> None:
    """Removed before any look: the alert sensor was off in between."""
    defs = dg.Definitions([model], asset_checks=[rows], executor=dg.in_process_executor)
    job = defs.resolve_implicit_global_asset_job_def()
    run_id = job.execute_in_process(instance=instance, raise_on_error=False).run_id
    state = alert("a/b", "check:a/b:rows", "sheets/forecast", run_id=run_id)
    [first, second] = removed(instance, state, [(0, EMPTY), (LATER, EMPTY)])
    assert (first, set(second)) == ({}, {"a/b", "check:a/b:rows"})


def test_what_waits_for_a_retry_is_removed_too(instance: dg.DagsterInstance) -> None:
    unit = FailedUnit("dbt/a/b", ("a/b",), "It failed.")
    known = Pending({"dbt/a/b": unit}, {"dbt/a/b": ("a/b",)}, {"dbt/a/b": NOW}, 1, "run", None, NOW + 900)
    looks = [(0, workspace(location(assets=[model]))), (10, EMPTY), (10 + LATER, EMPTY)]
    assert [bool(one) for one in removed(instance, State(pending={"run": known}), looks)] == [False, False, True]


def test_an_alert_of_an_earlier_version_about_a_sensor_elsewhere_stays(instance: dg.DagsterInstance) -> None:
    seen = workspace(location(), location("other", jobs=[nightly], sensors=[watch]))
    assert removed(instance, alert("tick:watch"), [(0, seen), (LATER, seen)]) == [{}, {}]
    # It was this code location's own, and only its state is left in storage.
    instance.add_instigator_state(
        InstigatorState(origin("watch"), InstigatorType.SENSOR, InstigatorStatus.RUNNING, SensorInstigatorData())
    )
    assert [bool(one) for one in removed(instance, alert("tick:watch"), [(400, seen), (400 + LATER, seen)])] == [
        False,
        True,
    ]


def test_looks_that_cannot_be_read_only_delay(instance: dg.DagsterInstance) -> None:
    instance.daemon_cursor_storage.set_cursor_values({"dataplatform/incident_alerts_removed": '{"a/b": 7}'})
    looks = [(0, workspace(location(assets=[model]))), (10, EMPTY), (10 + LATER, EMPTY)]
    assert [bool(one) for one in removed(instance, alert("a/b"), looks)] == [False, False, True]


def test_an_alert_whose_last_token_is_removed_is_resolved_with_the_reason(instance: dg.DagsterInstance) -> None:
    state, there = alert("a/b"), workspace(location(assets=[model]))
    find_removed(instance, state, there, NOW)
    find_removed(instance, state, EMPTY, NOW + 10)
    signals = find_removed(instance, state, EMPTY, NOW + 10 + LATER)
    after, [recovery] = triage(replace(state), signals, EMPTY.graph, NOW + 10 + LATER, lambda _keys: None)
    assert isinstance(recovery, Recovery)
    assert (recovery.name, recovery.reason) == ("dbt/a/b", "the asset a/b is no longer part of the platform")
    assert not after.alerts
