import threading
import time
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest

from orchestration.components.steps import Failures, Sleep, find_output_keys_once, side_by_side
from orchestration.lineage.runs import outcome, read
from orchestration.vendors.waiting import SyncFailed, Wait


def test_each_job_is_told_of_when_it_ends_and_an_error_of_one_is_its_own() -> None:
    slow = threading.Event()

    def job(name: str) -> str:
        if name == "slow":
            slow.wait(10)
        if name == "bad":
            raise SyncFailed("no")
        return name

    seen = []
    for key, future in side_by_side({n: lambda _sleep, n=n: job(n) for n in ("slow", "good", "bad")}, 3):
        seen.append((key, str(future.exception() or future.result())))
        if len(seen) == 2:
            slow.set()
    assert sorted(seen[:2]) == [("bad", "no"), ("good", "good")]
    assert seen[2] == ("slow", "slow")


def test_a_cancelled_step_ends_what_runs_and_starts_nothing_more() -> None:
    started: list[int] = []
    ended: list[str] = []

    def job(number: int, sleep: Sleep) -> None:
        started.append(number)
        if number == 0:
            return
        try:
            sleep(60)
        except SyncFailed as error:
            ended.append(str(error))
            raise

    jobs = {number: lambda sleep, number=number: job(number, sleep) for number in range(6)}
    running = side_by_side(jobs, 2)
    next(running)
    del running  # as an interrupt does, it closes the generator
    assert len(started) <= 3
    assert len(ended) == len(started) - 1
    assert all("was cancelled" in text for text in ended)


def test_a_wait_looks_ever_less_often_tells_each_state_once_and_ends_in_time() -> None:
    pauses: list[float] = []
    told: list[str] = []
    answers = iter(["queued", "queued", "running", "running", "done"])
    wait = Wait(100, "Raise it.", told.append, pauses.append)
    assert wait.until(lambda: next(answers), lambda now: now == "done", lambda now: now) == "done"
    assert told == ["queued", "running", "done"]
    assert pauses == sorted(pauses)
    assert len(set(pauses)) == 4
    with pytest.raises(
        SyncFailed, match=r"stuck, and not finished within the time limit\. It may still finish\. Raise it\."
    ):
        Wait(0, "Raise it.", told.append, pauses.append).until(lambda: "stuck", lambda _now: False, str)


@dg.multi_asset(specs=[dg.AssetSpec("good"), dg.AssetSpec("gone"), dg.AssetSpec("slow")], can_subset=True)
def sync(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any]]:
    failed = Failures(context)
    failed.add("fivetran/gone", [dg.AssetKey("gone")], SyncFailed("Reconnect it.", permanent=True), "https://vendor")
    failed.add("fivetran/slow", [dg.AssetKey("slow")], SyncFailed("It timed out."), "https://vendor")
    yield dg.MaterializeResult(asset_key="good")
    failed.raise_any()


@dg.multi_observable_source_asset(specs=[dg.AssetSpec("table")])
def look(context: dg.AssetExecutionContext) -> None:
    failed = Failures(context)
    failed.add("landed/table", [dg.AssetKey("table")], SyncFailed("No such table.", permanent=True), "https://vendor")
    failed.raise_any()


def test_what_is_permanent_is_told_while_the_step_goes_on_and_the_rest_at_its_end() -> None:
    instance = dg.DagsterInstance.ephemeral()
    run = dg.materialize([sync], instance=instance, raise_on_error=False)
    stored = (entry.dagster_event for entry in instance.all_logs(run.run_id))
    told = [event for event in stored if event and (event.is_asset_observation or event.is_step_materialization)]
    assert [(event.event_type_value, event.asset_key) for event in told] == [
        ("ASSET_OBSERVATION", dg.AssetKey("gone")),
        ("ASSET_MATERIALIZATION", dg.AssetKey("good")),
    ]
    judged = outcome(read(instance, run.run_id, time.time()))
    gone, slow = judged.failed
    assert [gone.unit, slow.unit] == ["fivetran/gone", "fivetran/slow"]
    assert judged.failed_at[gone.unit] < judged.failed_at[slow.unit]


def test_a_table_that_is_only_looked_at_gets_no_remark_that_would_look_like_new_data() -> None:
    instance, everything = dg.DagsterInstance.ephemeral(), dg.AssetSelection.all(include_sources=True)
    definitions = dg.Definitions([look], jobs=[dg.define_asset_job("looks", everything)])
    run = definitions.resolve_job_def("looks").execute_in_process(instance=instance, raise_on_error=False)
    assert [unit.unit for unit in outcome(read(instance, run.run_id, time.time())).failed] == ["landed/table"]
    assert instance.fetch_observations(dg.AssetKey("table"), limit=1).records == []


def test_the_assets_of_a_step_are_found_once_and_are_the_same() -> None:
    specs = [dg.AssetSpec(["wide", f"t{number}"]) for number in range(20)]
    checks = [dg.AssetCheckSpec("checked", asset=spec.key) for spec in specs]
    found: list[Any] = []

    @dg.multi_asset(specs=specs, check_specs=checks, can_subset=True)
    def wide(context: dg.AssetExecutionContext) -> Iterator[Any]:
        step = context.get_step_execution_context()
        found.append(step.get_output_asset_keys())
        find_output_keys_once(context)
        found.extend((step.get_output_asset_keys(), step.get_output_asset_keys()))
        for key in context.selected_asset_keys:
            result = dg.AssetCheckResult(asset_key=key, check_name="checked", passed=True)
            yield dg.MaterializeResult(asset_key=key, check_results=[result])

    selection = [spec.key for spec in specs[:5]]
    result = dg.materialize([wide], selection=dg.AssetSelection.assets(*selection))
    assert result.success
    assert {event.asset_key for event in result.get_asset_materialization_events()} == {*selection}
    before, once, twice = found
    assert before == once == {*selection}
    assert once is twice
