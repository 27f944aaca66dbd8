from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from orchestration.lineage.failures import METADATA_KEY, FailedUnit, to_metadata
from orchestration.lineage.runs import FailedCheck, Report, RunEvents, StepFailure, outcome

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
    assert unit.error.startswith("no (its failure report cannot be read")


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


CHECKS = {"dbt": (("staging/a", "unique"), ("staging/a", "not_null"), ("raw/a", "keys_not_null"))}


def killed(materialized: set[str], *checked: tuple[str, str], **other: object) -> RunEvents:
    """A run whose process was killed, with the checks that it had evaluated by then."""
    made = run(materialized, failure="out of memory")
    fields = {"checks_planned": CHECKS, "checked": frozenset(checked), "interrupted": True, **other}
    return replace(made, **fields)  # pyright: ignore[reportArgumentType]


def test_a_run_that_was_killed_before_all_checks_were_evaluated_has_failed_with_those() -> None:
    judged = outcome(killed(set(PLANNED), ("staging/a", "unique"), ("raw/a", "keys_not_null")))
    [unit] = judged.failed
    assert (unit.asset_keys, unit.awaits) == (("staging/a",), ("check:staging/a:not_null",))
    assert unit.error == "out of memory"
    assert set(judged.succeeded) == set(PLANNED)
    assert outcome(killed(set(PLANNED), *CHECKS["dbt"])).failed == ()


def test_what_was_neither_made_nor_checked_is_one_failure_under_the_name_that_lasts() -> None:
    some = killed({"raw/a", "raw/b"}, partitions={"staging/a": ("2026-11-02",)})
    [unit] = outcome(some).failed
    assert unit.asset_keys == ("hightouch/x", "raw/a", "staging/a")
    assert unit.awaits == ("hightouch/x", "staging/a@2026-11-02", "check:raw/a:keys_not_null")
    assert unit.unit == outcome(killed(set(PLANNED))).failed[0].unit


def test_a_run_of_checks_alone_that_is_killed_awaits_its_checks() -> None:
    alone = RunEvents(
        "r", "job:j", END, {}, {}, (), "killed", checks_planned=CHECKS, checked=frozenset(CHECKS["dbt"][1:])
    )
    [unit] = outcome(alone).failed
    assert (unit.asset_keys, unit.awaits) == (("staging/a",), ("check:staging/a:unique",))


def test_what_a_step_had_told_before_it_was_killed_has_failed_beside_what_it_left() -> None:
    first, second = (FailedUnit("dbt/staging/a", ("staging/a",), f"test {name} fail") for name in ("one", "two"))
    reports = tuple(Report(unit, "dbt", END.timestamp()) for unit in (first, second))
    judged = outcome(killed({"raw/a", "raw/b", "staging/a"}, reported=reports))
    told, checks = judged.failed
    assert (told.unit, told.error) == ("dbt/staging/a", "test one fail\ntest two fail")
    assert checks.awaits == ("check:raw/a:keys_not_null",)
    assert judged.interruption is not None
    assert judged.interruption.asset_keys == ("hightouch/x",)
    assert set(judged.succeeded) == {"raw/a", "raw/b"}


def test_what_a_step_accounts_for_at_its_end_is_not_told_by_what_it_had_told_before() -> None:
    whole = FailedUnit("dbt/staging/a", ("staging/a",), "both tests fail")
    step = StepFailure("dbt", "", to_metadata([whole]))
    reports = (Report(FailedUnit("dbt/staging/a", ("staging/a",), "one test fails"), "dbt", END.timestamp()),)
    judged = outcome(replace(run(set(PLANNED), step), reported=reports, checks_planned=CHECKS))
    assert judged.failed == (whole,)


def test_a_failed_check_is_told_by_itself_where_its_step_was_killed_before_it_could_answer() -> None:
    check = FailedCheck("raw/a", "volume", "nothing came", "fivetran", END.timestamp(), answered=True)
    assert outcome(killed(set(PLANNED), *CHECKS["dbt"], checks_failed=(check,))).checks_failed == (check,)
    step = StepFailure("fivetran", "", to_metadata([FailedUnit("check/raw/a", ("raw/a",), "nothing came")]))
    answered = replace(run(set(PLANNED), step), checks_failed=(check,))
    assert outcome(answered).checks_failed == ()
    assert outcome(replace(answered, run_failure=None)).checks_failed == ()


def test_a_unit_failed_when_it_was_told_or_else_when_its_step_or_its_run_ended() -> None:
    end = END.timestamp()
    told, untold = FailedUnit("dbt/staging/a", ("staging/a",), "no"), FailedUnit("fivetran/a", ("raw/a",), "no")
    steps = (
        StepFailure("dbt", "", to_metadata([told]), end - 30),
        StepFailure("fivetran", "", to_metadata([untold]), end - 60),
    )
    reports = tuple(Report(told, "dbt", end - seconds) for seconds in (200, 100))
    assert outcome(replace(run(set(), *steps), reported=reports)).failed_at == {
        told.unit: end - 100,
        untold.unit: end - 60,
    }
    [at] = outcome(run(set(), failure="killed")).failed_at.values()
    assert at == end
