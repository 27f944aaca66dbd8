"""What fails in a step and has no assets recovers when that step succeeds again, over real event logs."""

import time
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest

from orchestration.incidents.model import Failure
from orchestration.incidents.signals import read
from orchestration.incidents.state import State
from orchestration.incidents.triage import triage
from orchestration.lineage.failures import FailedUnit, to_metadata
from orchestration.lineage.graph import Graph

BROKEN: set[str] = set()
"""What fails: `hook`, `model`, `op`, or `other`."""


@dg.multi_asset(name="dbt_models", specs=[dg.AssetSpec(["m", name]) for name in ("a", "b")], can_subset=True)
def dbt(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any]]:
    """As dbt does it: the models are built, and then an on-run-end hook fails."""
    failed = []
    for key in context.selected_asset_keys:
        if "model" in BROKEN:
            failed.append(FailedUnit(f"dbt/{key.to_user_string()}", (key.to_user_string(),), "no"))
        else:
            yield dg.MaterializeResult(asset_key=key)
    if "hook" in BROKEN:
        failed.append(FailedUnit("dbt/operation.shop.shop-on-run-end-0", (), "Permission denied."))
    if failed:
        raise dg.Failure("failed", to_metadata(failed))


@dg.asset
def unrelated() -> None:
    if "other" in BROKEN:
        raise RuntimeError("no")


@dg.op
def announce() -> None:
    if "op" in BROKEN:
        raise RuntimeError("no channel")


@dg.job
def weekly() -> None:
    announce()


@dg.job
def monthly() -> None:
    announce()


DEFS = dg.Definitions(
    [dbt, unrelated],
    jobs=[weekly, monthly, dg.define_asset_job("build", dg.AssetSelection.assets(dbt))],
    executor=dg.in_process_executor,
)
HOOK = "dbt/operation.shop.shop-on-run-end-0"


class Alerts:
    """The alerts of an instance, tick by tick."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance, self.state = instance, State()
        self.paged: list[str] = []
        self.tick()

    def run(
        self, job: str = "", assets: tuple[str, ...] = (), broken: tuple[str, ...] = (), *, look: bool = True
    ) -> None:
        BROKEN.clear()
        BROKEN.update(broken)
        found = DEFS.resolve_job_def(job) if job else DEFS.resolve_implicit_global_asset_job_def()
        selection = [dg.AssetKey(key.split("/")) for key in assets] or None
        found.execute_in_process(instance=self.instance, asset_selection=selection, raise_on_error=False)
        if look:
            self.tick()

    def tick(self) -> None:
        reading = read(self.instance, self.state, time.time(), 60)
        self.state, told = triage(reading.state, reading.signals, Graph({}), time.time(), lambda _keys: None)
        self.paged += [one.name for one in told if isinstance(one, Failure)]

    @property
    def open(self) -> set[str]:
        return set(self.state.alerts)


@pytest.fixture
def alerts() -> Iterator[Alerts]:
    with dg.instance_for_test() as instance:
        yield Alerts(instance)


def test_a_hook_recovers_with_dbts_next_good_step_and_not_with_an_unrelated_run(alerts: Alerts) -> None:
    alerts.run(broken=("hook",))
    assert alerts.open == {HOOK}
    alerts.run(assets=("unrelated",))
    assert alerts.open == {HOOK}
    alerts.run(assets=("m/a",), broken=("hook",))
    assert alerts.open == {HOOK}
    assert alerts.paged == [HOOK]
    # Some of the models are enough: the hook runs with them, in whatever job.
    alerts.run("build", assets=("m/a",))
    assert alerts.open == set()
    alerts.run("build", broken=("hook",))
    assert alerts.open == {HOOK}
    alerts.run(assets=("m/b",))
    assert alerts.open == set()


def test_a_good_step_counts_in_a_run_that_fails_elsewhere(alerts: Alerts) -> None:
    alerts.run(broken=("hook",))
    alerts.run(broken=("other",))
    assert alerts.open == {"step/unrelated"}


def test_a_step_that_still_fails_by_a_model_does_not_resolve_the_hook(alerts: Alerts) -> None:
    alerts.run(broken=("hook",))
    alerts.run(broken=("model",))
    assert HOOK in alerts.open
    alerts.run()
    assert alerts.open == set()


def test_an_op_recovers_with_the_same_step_of_the_same_job(alerts: Alerts) -> None:
    alerts.run("weekly", broken=("op",))
    assert alerts.open == {"step/announce"}
    alerts.run("monthly")
    alerts.run()
    assert alerts.open == {"step/announce"}
    alerts.run("weekly")
    assert alerts.open == set()


def test_several_runs_between_two_looks_are_judged_in_their_order(alerts: Alerts) -> None:
    alerts.run(broken=("hook",), look=False)
    alerts.run(look=False)
    alerts.tick()
    assert alerts.open == set()
    alerts.run(look=False)
    alerts.run(broken=("hook",), look=False)
    alerts.tick()
    assert alerts.open == {HOOK}


def test_a_good_step_that_another_run_has_carried_out_before_the_failed_run_ended_counts(alerts: Alerts) -> None:
    """The good run is looked at first, when nothing waits for it yet."""

    @dg.op(ins={"after": dg.In(dg.Nothing)})
    def slow(context: dg.OpExecutionContext) -> None:
        if context.run.tags.get("slow") and "op" not in BROKEN:
            return
        if context.run.tags.get("slow"):
            alerts.run("weekly")
            assert alerts.open == set()

    @dg.op
    def quick() -> None:
        return

    def after_announce() -> None:
        announce()
        slow(after=quick())

    both = dg.graph(name="weekly")(after_announce).to_job(executor_def=dg.in_process_executor)
    BROKEN.clear()
    BROKEN.add("op")
    ran = both.execute_in_process(instance=alerts.instance, raise_on_error=False, tags={"slow": "yes"})
    assert not ran.success
    alerts.tick()
    assert alerts.open == set()


def test_the_state_of_an_earlier_version_recovers_as_it_was_to(alerts: Alerts) -> None:
    """An alert that already waits for the job does so until a whole run of it has succeeded."""
    alerts.run("weekly", broken=("op",))
    [alert] = alerts.state.alerts.values()
    object.__setattr__(alert, "missing", {"job:weekly": alert.since})
    alerts.run("weekly")
    assert alerts.open == set()
