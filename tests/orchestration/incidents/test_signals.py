from __future__ import annotations

from datetime import UTC, datetime

from orchestration.incidents.signals import RunEvents, StepFailure, outcome
from orchestration.lineage.failures import FailedUnit, to_metadata

PLANNED = {"raw/a": "fivetran", "raw/b": "fivetran", "staging/a": "dbt", "hightouch/x": "hightouch"}


def run(materialized: set[str], *steps: StepFailure, failure: str | None = "Steps failed") -> RunEvents:
    return RunEvents("r", datetime(2026, 11, 23, tzinfo=UTC), PLANNED, frozenset(materialized), steps, failure)


def test_what_a_step_reports_is_what_failed_and_what_it_held_up_is_not() -> None:
    unit = FailedUnit("fivetran/a", ("raw/a",), "no")
    judged = outcome(run({"raw/b"}, StepFailure("fivetran", "no", to_metadata([unit]))))
    assert (judged.failed, judged.succeeded) == ((unit,), {"raw/b"})


def test_a_step_that_reports_nothing_failed_with_all_that_it_did_not_make() -> None:
    judged = outcome(run({"raw/a"}, StepFailure("fivetran", "KeyError: x", {})))
    assert judged.failed == (FailedUnit("step/fivetran", ("raw/b",), "KeyError: x"),)
    assert judged.succeeded == {"raw/a"}


def test_a_model_that_was_built_and_failed_its_test_has_not_recovered() -> None:
    unit = FailedUnit("dbt/staging/a", ("staging/a",), "test failed")
    judged = outcome(run({"raw/a", "raw/b", "staging/a"}, StepFailure("dbt", "", to_metadata([unit]))))
    assert judged.succeeded == {"raw/a", "raw/b"}


def test_a_run_with_no_step_to_blame_failed_with_the_rest_of_its_assets_under_a_name_that_lasts() -> None:
    first, second = (
        outcome(run({"raw/a", "raw/b"}, failure="killed")),
        outcome(run({"raw/b", "raw/a"}, failure="killed")),
    )
    [unit] = first.failed
    assert (unit.asset_keys, unit.error) == (("hightouch/x", "staging/a"), "killed")
    assert unit.unit == second.failed[0].unit
    assert unit.unit != outcome(run({"raw/a"}, failure="killed")).failed[0].unit


def test_a_run_that_was_cancelled_has_no_failures_and_its_assets_count() -> None:
    judged = outcome(run({"raw/a"}, StepFailure("fivetran", "interrupted", {}), failure=None))
    assert (judged.failed, judged.succeeded) == ((), {"raw/a"})


def test_a_run_that_failed_when_all_was_made_hurts_nobody() -> None:
    assert outcome(run(set(PLANNED), failure="the process ended late")).failed == ()
