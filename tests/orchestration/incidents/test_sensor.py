"""The sensor over a real instance's event log, real runs, and incident.io's stand-in in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.events import (
    AssetObservationData,
    DagsterEvent,
    DagsterEventType,
    JobFailureData,
    RunFailureReason,
    StepMaterializationData,
)
from dagster._core.execution.plan.objects import StepFailureData, UserFailureData
from dagster._core.storage.tags import RUN_FAILURE_REASON_TAG

from orchestration.incidents import run_signals, store
from orchestration.incidents.sensor import incident_alerts
from orchestration.incidents.state import STATE, State
from orchestration.lineage.failures import FailedUnit, to_metadata
from orchestration.lineage.graph import AUDIENCE_TAG
from orchestration.settings import settings
from sandbox.env_file import environment
from sandbox.vendors.context import VendorContext
from tests.on_call import OnCall, running
from tests.stand_ins import wait_for

BROKEN: set[str] = set()
"""What fails in the next run: `product`, `salesforce`, or `model`."""


@dg.multi_asset(
    name="fivetran",
    can_subset=True,
    specs=[
        dg.AssetSpec(["product_public", "incidents"], owners=["data@example.com"]),
        dg.AssetSpec(["salesforce", "account"]),
    ],
)
def land(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any]]:
    failed = []
    for key in context.selected_asset_keys:
        name = key.path[0].removesuffix("_public")
        if name in BROKEN:
            failed.append(
                FailedUnit(f"fivetran/{name}", (key.to_user_string(),), "Reconnect it.", "https://fivetran.example")
            )
        else:
            yield dg.MaterializeResult(asset_key=key)
    if failed:
        raise dg.Failure("failed", to_metadata(failed))


@dg.asset(key=["insights", "time"], deps=[["product_public", "incidents"]])
def model() -> None:
    if "model" in BROKEN:
        try:
            int("?")
        except ValueError as error:
            raise RuntimeError("could not build") from error


CONSUMERS = [
    dg.AssetSpec(["explo", "time"], deps=[["insights", "time"]], tags={AUDIENCE_TAG: "customer"}),
    dg.AssetSpec(["omni", "health"], deps=[["salesforce", "account"]], tags={AUDIENCE_TAG: "internal"}),
]
MADE = [dg.AssetKey(key) for key in (["product_public", "incidents"], ["salesforce", "account"], ["insights", "time"])]
DEFS = dg.Definitions([land, model, *CONSUMERS], sensors=[incident_alerts], executor=dg.in_process_executor)


class Platform:
    """An instance, its runs, and the sensor ticking over them as the daemon would have it tick."""

    def __init__(self, instance: dg.DagsterInstance, on_call: OnCall) -> None:
        self.instance, self.on_call = instance, on_call
        self.cursor: str | None = None
        self.tick()

    def run(self, *broken: str) -> str:
        BROKEN.clear()
        BROKEN.update(broken)
        job = DEFS.resolve_implicit_global_asset_job_def()
        return job.execute_in_process(instance=self.instance, raise_on_error=False).run_id

    @property
    def state(self) -> State:
        return store.load(self.instance, self.cursor).state

    def tick(self, *, saved: bool = True) -> None:
        """One tick. Not `saved`: the daemon died before it could store the state."""
        storage = self.instance.daemon_cursor_storage
        before = storage.get_cursor_values({store.VERSION, *(f"{store.PREFIX}/{name}" for name in store.PARTS)})
        context = dg.build_sensor_context(self.instance, cursor=self.cursor, definitions=DEFS)
        result = incident_alerts.evaluate_tick(context)
        if saved:
            self.cursor = result.cursor
        else:
            storage.set_cursor_values(before)

    def tick_until_delivered(self) -> None:
        """What was tried in vain is tried again after a pause."""

        def delivered() -> bool:
            self.tick()
            return self.state.waiting == ()

        wait_for(delivered, 20, "everything is delivered")

    def told(self, since: int = 0) -> list[tuple[str, str]]:
        return [(e["status"], e["metadata"]["unit"]) for e in self.on_call.inspect("incident_io", "events")[since:]]

    @property
    def heard(self) -> int:
        return len(self.on_call.inspect("incident_io", "events"))

    def incidents(self) -> int:
        return len({page["deduplication_key"] for page in self.on_call.inspect("incident_io", "pages")})


@pytest.fixture(scope="module")
def on_call(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnCall]:
    with (
        running(tmp_path_factory.mktemp("on-call"), "incident_io", "slack") as process,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in environment(process.config).items():
            patch.setenv(name, value)
        settings.cache_clear()
        yield process
    settings.cache_clear()


@pytest.fixture
def platform(on_call: OnCall, tmp_path: Path) -> Iterator[Platform]:
    on_call.clock("2026-11-24T03:00:00+00:00")
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        yield Platform(instance, on_call)
    VendorContext.of(on_call.config).faults.remove()


def test_a_failed_connection_is_one_incident_that_pages_and_its_recovery_resolves_it(platform: Platform) -> None:
    heard = platform.heard
    platform.run("product")
    platform.tick()
    [firing] = platform.on_call.inspect("incident_io", "events")[heard:]
    assert firing["title"] == "Fivetran sync of `product` failed: 1 customer dashboard hurt"
    assert firing["metadata"]["customer_facing"] is True
    assert firing["metadata"]["owner"] == "data@example.com"
    assert firing["metadata"]["vendor_url"] == "https://fivetran.example"
    [page] = platform.on_call.pages(firing["deduplication_key"])
    assert (page["state"], page["schedule"]) == ("sent", "Engineers")
    platform.tick()
    platform.run()
    platform.tick()
    platform.tick()
    assert platform.told(heard) == [("firing", "fivetran/product"), ("resolved", "fivetran/product")]


def test_an_internal_failure_waits_for_working_hours(platform: Platform) -> None:
    platform.run("salesforce")
    platform.tick()
    event = platform.on_call.inspect("incident_io", "events")[-1]
    [page] = platform.on_call.pages(event["deduplication_key"])
    assert (event["metadata"]["customer_facing"], page["state"]) == (False, "pending")
    assert page["due_at"].startswith("2026-11-24T09:00")


def test_a_failure_of_an_asset_that_no_code_location_defines_pages_at_night_and_does_not_name_customers(
    platform: Platform,
) -> None:
    unit = FailedUnit("fivetran/other", ("other/table",), "Reconnect it.")
    platform.instance.report_runless_asset_event(
        dg.AssetObservation(dg.AssetKey(["other", "table"]), metadata=to_metadata([unit]))
    )
    platform.tick()
    event = platform.on_call.inspect("incident_io", "events")[-1]
    [page] = platform.on_call.pages(event["deduplication_key"])
    assert (event["metadata"]["customer_facing"], event["metadata"]["urgent"]) == (False, True)
    assert (page["state"], page["schedule"]) == ("sent", "Engineers")
    assert "unknown asset `other/table`: no graph of its code location could be read" in event["description"]


def test_an_error_that_no_step_reported_is_told_by_its_cause(platform: Platform) -> None:
    heard = platform.heard
    platform.run("model")
    platform.tick()
    event = platform.on_call.inspect("incident_io", "events")[-1]
    assert platform.told(heard) == [("firing", "step/insights__time")]
    assert event["metadata"]["assets"] == ["insights/time"]
    assert "ValueError" in event["metadata"]["error"]


def test_both_failures_of_a_run_are_told(platform: Platform) -> None:
    heard = platform.heard
    platform.run("product", "salesforce")
    platform.tick()
    assert sorted(platform.told(heard)) == [("firing", "fivetran/product"), ("firing", "fivetran/salesforce")]


@pytest.mark.parametrize("kind", ["refused", "http_500", "http_429", "html", "reset"])
def test_what_is_not_delivered_is_delivered_once_when_incident_io_is_back(platform: Platform, kind: str) -> None:
    heard = platform.heard
    faults = VendorContext.of(platform.on_call.config).faults
    faults.add("incident_io", kind=kind)
    if kind == "refused":
        wait_for(lambda: not platform.on_call.listens("incident_io"), 10, "incident.io refuses")
    platform.run("product")
    platform.tick()
    platform.tick()
    state = platform.state
    assert (state.waiting[0].attempts > 0, state.pace.limited_since > 0) == (kind != "http_429", kind == "http_429")
    faults.remove()
    if kind == "refused":
        wait_for(lambda: platform.on_call.listens("incident_io"), 10, "incident.io listens")
    platform.tick_until_delivered()
    assert platform.told(heard) == [("firing", "fivetran/product")]


def test_a_failure_and_its_recovery_while_incident_io_is_away_arrive_in_order(platform: Platform) -> None:
    heard = platform.heard
    faults = VendorContext.of(platform.on_call.config).faults
    faults.add("incident_io", kind="http_500")
    platform.run("product")
    platform.tick()
    platform.run()
    platform.tick()
    faults.remove()
    platform.tick_until_delivered()
    assert platform.told(heard) == [("firing", "fivetran/product"), ("resolved", "fivetran/product")]


def test_slack_tells_what_incident_io_does_not_take_in_time_and_incident_io_gets_it_after(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INCIDENT_IO_FALLBACK_MINUTES", "0.02")
    settings.cache_clear()
    heard, faults = platform.heard, VendorContext.of(platform.on_call.config).faults
    faults.add("incident_io", kind="http_500")
    platform.run("product")

    def told() -> list[Any]:
        platform.tick()
        return platform.on_call.inspect("slack", "messages")

    [message] = wait_for(told, 20, "Slack tells it")
    assert message["channel"] == settings().slack_alerts_channel
    assert "Fivetran sync of `product` failed: 1 customer dashboard hurt" in message["text"]
    faults.remove()
    platform.tick_until_delivered()
    assert platform.told(heard) == [("firing", "fivetran/product")]
    assert len(told()) == 1
    settings.cache_clear()


def test_a_daemon_that_dies_before_it_saves_loses_nothing_and_pages_nobody_twice(platform: Platform) -> None:
    before = platform.incidents()
    platform.run("product")
    platform.tick(saved=False)
    platform.tick(saved=False)
    platform.tick()
    assert platform.incidents() == before + 1
    platform.run()
    platform.tick(saved=False)
    platform.tick()
    assert platform.incidents() == before + 1


def test_a_failure_and_its_recovery_in_one_tick_that_is_repeated_page_once(platform: Platform) -> None:
    before, heard = platform.incidents(), platform.heard
    platform.run("product")
    platform.run()
    platform.tick(saved=False)
    platform.tick(saved=False)
    assert set(platform.told(heard)) == {("firing", "fivetran/product")}
    platform.tick()
    platform.tick(saved=False)
    platform.tick()
    assert platform.told(heard)[-1] == ("resolved", "fivetran/product")
    assert platform.incidents() == before + 1


def test_a_sensor_that_has_lost_its_cursor_looks_back_and_says_the_same(platform: Platform) -> None:
    before = platform.incidents()
    platform.run("product")
    platform.tick()
    platform.cursor = None
    platform.tick()
    assert platform.incidents() == before + 1


def test_a_first_look_back_tells_what_still_fails_and_wakes_nobody_for_what_was_mended(platform: Platform) -> None:
    heard = platform.heard
    platform.run("product")
    platform.run("salesforce")
    platform.cursor = None
    platform.tick()
    platform.tick()
    assert platform.told(heard) == [("firing", "fivetran/salesforce")]


def ahead(platform: Platform, seconds: float) -> str:
    """The stored state of a clock that is ahead of this one, as an earlier version of this code had it in its cursor."""
    before = platform.state
    assert before.position is not None
    later = before.position.runs_until + seconds
    return STATE.dump_json(replace(before, position=replace(before.position, runs_until=later))).decode()


def test_runs_that_fail_after_the_clock_was_ahead_are_told_and_what_was_told_before_is_not_told_again(
    platform: Platform,
) -> None:
    heard = platform.heard
    platform.run("product")
    platform.tick()
    platform.run()
    platform.tick()
    platform.run("salesforce")
    platform.tick()
    said = [("firing", "fivetran/product"), ("resolved", "fivetran/product"), ("firing", "fivetran/salesforce")]
    assert platform.told(heard) == said
    platform.cursor = ahead(platform, 7200)
    platform.run("model")
    platform.tick()
    platform.tick()
    # The other one is well by the same run.
    assert sorted(platform.told(heard + 3)) == [("firing", "step/insights__time"), ("resolved", "fivetran/salesforce")]


def test_a_long_backlog_is_read_over_several_ticks(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = platform.heard
    for broken in ("product", "", "salesforce", ""):
        platform.run(broken)
    # One run a tick, then.
    monkeypatch.setattr("orchestration.incidents.run_signals.READ_SECONDS", 0.000001)
    platform.tick()
    assert platform.told(heard) == [("firing", "fivetran/product")]
    for _ in range(7):
        platform.tick()
    assert platform.told(heard) == [
        ("firing", "fivetran/product"),
        ("resolved", "fivetran/product"),
        ("firing", "fivetran/salesforce"),
        ("resolved", "fivetran/salesforce"),
    ]


@contextmanager
def sending_tick(platform: Platform) -> Iterator[subprocess.Popen[str]]:
    """A tick in a process of its own, which has stored what it judged and waits for an answer of incident.io."""
    assert platform.cursor
    VendorContext.of(platform.on_call.config).faults.add("incident_io", kind="hang", params={"seconds": 10}, times=1)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.orchestration.incidents.one_tick", platform.cursor],
        env=os.environ | {"DAGSTER_HOME": str(platform.instance.root_directory)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(lambda: platform.state.waiting or process.poll() is not None, 60, "the tick has stored what it judged")
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_tick_whose_daemon_has_died_does_not_undo_the_tick_after_it(platform: Platform) -> None:
    heard = platform.heard
    platform.run("product", "salesforce")
    with sending_tick(platform) as process:
        platform.run()
        platform.tick_until_delivered()
        said, _ = process.communicate(timeout=60)
    assert "Another tick of the alert sensor has begun" in said
    platform.tick()
    assert (platform.state.alerts, platform.state.waiting) == ({}, ())
    assert sorted(platform.told(heard)) == [
        ("firing", "fivetran/product"),
        ("firing", "fivetran/salesforce"),
        ("resolved", "fivetran/product"),
        ("resolved", "fivetran/salesforce"),
    ]


def test_a_tick_that_is_killed_while_it_sends_has_saved_what_it_judged(platform: Platform) -> None:
    heard = platform.heard
    platform.run("product")
    with sending_tick(platform) as process:
        process.kill()
    [waiting] = platform.state.waiting
    [alert] = platform.state.alerts.values()
    assert (waiting.event.deduplication_key, alert.told) == (alert.deduplication_key, True)
    platform.tick()
    platform.tick()
    assert platform.told(heard) == [("firing", "fivetran/product")]


def test_a_run_that_somebody_cancelled_is_no_incident(platform: Platform) -> None:
    heard = platform.heard
    job = DEFS.resolve_implicit_global_asset_job_def()
    platform.instance.report_run_canceled(platform.instance.create_run_for_job(job))
    platform.tick()
    assert platform.told(heard) == []


def test_a_run_that_dagster_cancels_because_it_takes_too_long_is_an_incident(platform: Platform) -> None:
    heard, instance = platform.heard, platform.instance
    run = instance.create_run_for_job(DEFS.resolve_implicit_global_asset_job_def())
    instance.report_run_canceling(run, "Canceling due to exceeding maximum runtime of 3600 seconds.")
    instance.report_run_canceled(run)
    platform.tick()
    # Dagster calls it a failure next, and says whether it tries again.
    assert platform.told(heard) == []
    instance.report_run_failed(run, "Exceeded maximum runtime of 3600 seconds.")
    platform.tick()
    platform.tick()
    [event] = platform.on_call.inspect("incident_io", "events")[heard:]
    assert "Exceeded maximum runtime of 3600 seconds." in event["metadata"]["error"]


def test_one_that_dagster_does_not_call_a_failure_is_one_after_a_minute(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard, instance = platform.heard, platform.instance
    run = instance.create_run_for_job(DEFS.resolve_implicit_global_asset_job_def())
    instance.report_run_canceling(run, "Canceling due to exceeding maximum runtime of 3600 seconds.")
    instance.report_run_canceled(run)
    monkeypatch.setattr(run_signals, "UNDECIDED_SECONDS", 0.0)
    platform.tick()
    platform.tick()
    [event] = platform.on_call.inspect("incident_io", "events")[heard:]
    assert "exceeding maximum runtime of 3600 seconds" in event["metadata"]["error"]


def test_a_run_whose_process_was_killed_is_an_incident(platform: Platform) -> None:
    heard = platform.heard
    BROKEN.clear()
    job = DEFS.resolve_implicit_global_asset_job_def()
    run = platform.instance.create_run_for_job(job, asset_selection=None)
    platform.instance.report_run_failed(run, "Run timed out due to taking longer than 3600 seconds to finish.")
    platform.tick()
    event = platform.on_call.inspect("incident_io", "events")[-1]
    assert len(platform.told(heard)) == 1
    assert event["title"].startswith("Run of 3 assets failed")
    assert "taking longer than 3600 seconds" in event["metadata"]["error"]
    platform.run()
    platform.tick()
    assert platform.told(heard)[-1][0] == "resolved"


@dg.asset_check(asset=model)
def positive() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


CHECKED = dg.Definitions([land, model], asset_checks=[positive], executor=dg.in_process_executor)


def log(platform: Platform, run: dg.DagsterRun, kind: str, data: Any) -> None:
    """Dagster's event of a run that goes on."""
    event = dg.DagsterEvent(kind, run.job_name, step_key="dbt", event_specific_data=data)
    platform.instance.report_dagster_event(event, run.run_id)


def test_a_run_that_is_killed_when_all_was_made_is_told_with_what_it_had_reported_and_what_it_had_not_checked(
    platform: Platform,
) -> None:
    BROKEN.clear()
    heard, instance = platform.heard, platform.instance
    job = CHECKED.resolve_implicit_global_asset_job_def()
    run = instance.create_run_for_job(job, tags={"dagster/max_retries": "1"})
    unit = FailedUnit("dbt/salesforce/account", ("salesforce/account",), "test unique fail")
    observation = dg.AssetObservation(["salesforce", "account"], metadata=to_metadata([unit]))
    for key in MADE:
        log(platform, run, "ASSET_MATERIALIZATION", StepMaterializationData(dg.AssetMaterialization(key)))
    log(platform, run, "ASSET_OBSERVATION", AssetObservationData(observation))
    instance.report_run_failed(run, "The container was killed.")
    platform.tick()
    platform.tick()
    dbt, check = sorted(
        platform.on_call.inspect("incident_io", "events")[heard:], key=lambda event: event["title"], reverse=True
    )
    assert dbt["title"] == "dbt model `salesforce/account` failed"
    assert check["title"] == "Checks of `insights/time` failed: 1 customer dashboard hurt"
    assert check["metadata"]["error"] == "The container was killed."
    platform.run()
    platform.tick()
    assert platform.told(heard + 2) == [("resolved", "dbt/salesforce/account")]
    job.execute_in_process(instance=instance)
    platform.tick()
    assert platform.told(heard + 3) == [("resolved", check["metadata"]["unit"])]


def test_a_run_that_fails_without_a_message_has_an_alert(platform: Platform) -> None:
    run = platform.instance.create_run_for_job(DEFS.resolve_implicit_global_asset_job_def())
    failed = DagsterEvent(
        DagsterEventType.RUN_FAILURE.value, run.job_name, message="", event_specific_data=JobFailureData(None, None)
    )
    platform.instance.report_dagster_event(failed, run.run_id)
    heard = platform.heard
    platform.tick()
    platform.tick()
    [event] = platform.on_call.inspect("incident_io", "events")[heard:]
    assert event["metadata"]["error"] == "The run failed without a message."


def fails_early(platform: Platform, unit: FailedUnit, **tags: str) -> dg.DagsterRun:
    """A run that has just told of a failed model, and goes on."""
    run = platform.instance.create_run_for_job(DEFS.resolve_implicit_global_asset_job_def(), tags=tags)
    observation = dg.AssetObservation(["insights", "time"], metadata=to_metadata([unit]))
    log(platform, run, "ASSET_OBSERVATION", AssetObservationData(observation))
    # Made before the test that failed, and told after it.
    log(platform, run, "ASSET_MATERIALIZATION", StepMaterializationData(dg.AssetMaterialization(["insights", "time"])))
    return run


def ends(platform: Platform, run: dg.DagsterRun, unit: FailedUnit) -> None:
    failure = UserFailureData(
        "failed", None, {name: dg.MetadataValue.json(v) for name, v in to_metadata([unit]).items()}
    )
    log(platform, run, "STEP_FAILURE", StepFailureData(None, failure))
    platform.instance.add_run_tags(run.run_id, {RUN_FAILURE_REASON_TAG: RunFailureReason.STEP_FAILURE.value})
    platform.instance.report_run_failed(run, "Steps failed")


TOLD = FailedUnit("dbt/insights/time", ("insights/time",), "Unrecognized name", permanent=True)


def test_what_is_mended_while_its_run_goes_on_is_not_told_again_at_the_end_of_it(platform: Platform) -> None:
    heard = platform.heard
    run = fails_early(platform, TOLD)
    platform.tick()
    platform.run()
    platform.tick()
    assert platform.told(heard) == [("firing", TOLD.unit), ("resolved", TOLD.unit)]
    ends(platform, run, TOLD)
    platform.tick()
    assert platform.told(heard + 2) == []
    assert platform.state.alerts == {}


def test_what_is_mended_after_the_failure_and_heard_before_the_end_of_the_run_is_well(platform: Platform) -> None:
    heard, later = platform.heard, replace(TOLD, permanent=False)
    run = fails_early(platform, later, **{"dagster/max_retries": "1"})
    platform.run()
    platform.tick()
    ends(platform, run, later)
    platform.tick()
    assert platform.told(heard) == []


def test_what_is_not_mended_while_its_run_goes_on_has_failed_once(platform: Platform) -> None:
    heard = platform.heard
    run = fails_early(platform, TOLD)
    platform.tick()
    ends(platform, run, TOLD)
    platform.tick()
    [alert] = platform.state.alerts.values()
    assert (platform.told(heard), alert.count) == ([("firing", TOLD.unit)], 1)
    platform.run()
    platform.tick()
    assert platform.told(heard)[-1] == ("resolved", TOLD.unit)
