from __future__ import annotations

from datetime import UTC, datetime

from orchestration.lineage.failures import METADATA_KEY, FailedUnit, to_metadata
from orchestration.lineage.runs import RunEvents, StepFailure, outcome

END = datetime(2026, 11, 23, tzinfo=UTC)
PLANNED = {"raw/a": "fivetran", "raw/b": "fivetran", "staging/a": "dbt", "hightouch/x": "hightouch"}


def run(materialized: set[str], *steps: StepFailure, failure: str | None = "Steps failed") -> RunEvents:
    made = dict.fromkeys(materialized, END.timestamp() - 60)
    return RunEvents("r", "job:j", END, PLANNED, made, steps, failure, succeeded=False)


def test_what_a_step_reports_is_what_failed_and_what_it_held_up_is_not() -> None:
    unit = FailedUnit("fivetran/a", ("raw/a",), "no")
    judged = outcome(run({"raw/b"}, StepFailure("fivetran", "no", to_metadata([unit]))))
    assert (judged.failed, set(judged.succeeded)) == ((unit,), {"raw/b"})


def test_a_step_that_reports_nothing_failed_with_all_that_it_did_not_make() -> None:
    judged = outcome(run({"raw/a"}, StepFailure("fivetran", "KeyError: x", {})))
    assert judged.failed == (FailedUnit("step/fivetran", ("raw/b",), "KeyError: x"),)
    assert set(judged.succeeded) == {"raw/a"}


def test_a_model_that_was_built_and_failed_its_test_has_not_recovered() -> None:
    unit = FailedUnit("dbt/staging/a", ("staging/a",), "test failed")
    judged = outcome(run({"raw/a", "raw/b", "staging/a"}, StepFailure("dbt", "", to_metadata([unit]))))
    assert set(judged.succeeded) == {"raw/a", "raw/b"}


def test_a_run_with_no_step_to_blame_failed_with_the_rest_of_its_assets_under_a_name_that_lasts() -> None:
    first, second = (
        outcome(run({"raw/a", "raw/b"}, failure="killed")),
        outcome(run({"raw/b", "raw/a"}, failure="killed")),
    )
    [unit] = first.failed
    assert (unit.asset_keys, unit.error) == (("hightouch/x", "staging/a"), "killed")
    assert unit.unit == second.failed[0].unit
    # Wherever it died, it is the same outage.
    assert unit.unit == outcome(run({"raw/a"}, failure="killed")).failed[0].unit


def test_a_report_that_cannot_be_read_is_told_with_less_detail() -> None:
    [unit] = outcome(run({"raw/a"}, StepFailure("fivetran", "no", {METADATA_KEY: [{"unit": "x"}]}))).failed
    assert (unit.unit, unit.asset_keys) == ("step/fivetran", ("raw/b",))
    assert unit.error.startswith("no (a step's failure report cannot be read")


def test_a_job_without_assets_that_dies_is_a_failure_all_the_same() -> None:
    empty = RunEvents("r", "job:j", END, {}, {}, (), "killed")
    assert [unit.error for unit in outcome(empty).failed] == ["killed"]
    assert outcome(RunEvents("r", "job:j", END, {}, {}, (), None, succeeded=True)).succeeded == {
        "job:j": END.timestamp()
    }


def test_a_run_that_was_cancelled_has_no_failures_and_its_assets_count() -> None:
    judged = outcome(run({"raw/a"}, StepFailure("fivetran", "interrupted", {}), failure=None))
    assert (judged.failed, set(judged.succeeded)) == ((), {"raw/a"})


def test_a_run_that_failed_when_all_was_made_hurts_nobody() -> None:
    assert outcome(run(set(PLANNED), failure="the process ended late")).failed == ()
