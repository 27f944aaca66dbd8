from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import get_args

import pytest

from orchestration.core.causes import Cause
from orchestration.incidents import alert_book as module
from orchestration.incidents.model import Failure, Recovery, Signal
from orchestration.incidents.settling import AFTERMATH_SECONDS, OPENED_A_TICK, UPDATE_SECONDS, WELL_SECONDS
from orchestration.incidents.state import State
from orchestration.incidents.triage import (
    PATIENCE_SECONDS,
    RETRY_SECONDS,
    TICK_SECONDS,
    YOUNG_SECONDS,
    RetryState,
    triage,
)
from orchestration.lineage.failures import FailedUnit
from orchestration.lineage.graph import Asset, Graph

GRAPH = Graph({
    asset.key: asset
    for asset in (
        Asset("raw/incidents", owners=("data@example.com",)),
        Asset("raw/users"),
        Asset("salesforce/account"),
        Asset("insights/time", frozenset({"raw/incidents"})),
        Asset("sales/health", frozenset({"salesforce/account"})),
        Asset("explo/time", frozenset({"insights/time"}), audience="customer"),
        Asset("omni/health", frozenset({"sales/health"}), audience="internal"),
        *(Asset(f"{folder}/m{number}") for folder in ("x", "sales") for number in range(500)),
        *(Asset(key) for key in ("sales/a", "sales/b", "sales/x", "sales/z")),
    )
})  # fmt: skip
START = datetime(2026, 11, 23, 3, tzinfo=UTC).timestamp()
HOUR = 3600.0
PRODUCT = FailedUnit("fivetran/product", ("raw/incidents", "raw/users"), "password refused")
SALES = FailedUnit("fivetran/salesforce", ("salesforce/account",), "the object is gone")
MODEL = FailedUnit("dbt/insights/time", ("insights/time",), "syntax error", permanent=True)


class Story:
    """Signals heard one after the other, an hour apart, and what was told."""

    def __init__(self) -> None:
        self.state, self.now = State(), START
        self.told: list[Failure | Recovery] = []
        self.muted: set[str] = set()

    def hear(self, *signals: Signal, retries: Mapping[str, RetryState] | None = None) -> Story:
        why = lambda keys: "for a test" if set(keys) <= self.muted else None  # noqa: E731
        self.state, told = triage(self.state, signals, GRAPH, self.now, why, retries)
        self.told += told
        return self

    def wait(self, seconds: float = HOUR, retries: Mapping[str, RetryState] | None = None) -> Story:
        self.now += seconds
        return self.hear(retries=retries)

    def run(
        self, name: str, *failed: FailedUnit, made: tuple[str, ...] = (), then: float = HOUR, **other: object
    ) -> Story:
        """A run that ends now, and `then` seconds pass."""
        fields = {"run_id": name, "root_run_id": name, "job": "job:ingest", "ended": True, **other}
        signal = Signal(f"run:{name}", self.now, failed, dict.fromkeys(made, self.now - 1))
        self.hear(replace(signal, **fields))  # pyright: ignore[reportArgumentType]
        return self.wait(then)

    @property
    def lines(self) -> list[str]:
        return [_line(item) for item in self.told]


def _line(item: Failure | Recovery) -> str:
    what = "firing" if isinstance(item, Failure) else "resolved"
    return f"{what} {item.deduplication_key}{' transient' if item.transient else ''}"


def check(name: str, at: float, *, passed: bool = False, **other: object) -> Signal:
    asset, _, last = name.rpartition("/")
    token = f"check:{asset}:{last}"
    if passed:
        return Signal("", at, well={token: at})
    unit = FailedUnit(f"check/{name}", (asset,), "two rows", awaits=(token,))
    return replace(Signal(f"check:{name}:{at}", at, (unit,), run_id="run0"), **other)  # pyright: ignore[reportArgumentType]


def late(asset: str, at: float) -> Signal:
    unit = FailedUnit(f"freshness/{asset}", (asset,), "late", awaits=(f"fresh:{asset}",))
    return Signal(f"fresh:{asset}:{at}", at, (unit,), kind="freshness", lateness=True)


def tick(name: str, at: float, *, works: bool = False, sensor: bool = True) -> Signal:
    if works:
        return Signal("", at, well={f"tick:{name}": at})
    unit = FailedUnit(f"tick/{name}", (), "boom", awaits=(f"tick:{name}",))
    return Signal(f"tick:{name}:{at}", at, (unit,), kind="tick", retried=sensor)


# One alert a cause, while it lasts


def test_a_failure_fires_and_the_next_success_resolves_it() -> None:
    story = Story().run("a", PRODUCT).run("b", made=PRODUCT.asset_keys)
    assert story.lines == ["firing fivetran/product:a", "resolved fivetran/product:a"]
    assert story.state.alerts == {}


def test_what_is_told_names_who_is_hurt_and_who_owns_it() -> None:
    [failure] = Story().run("a", PRODUCT).told
    assert isinstance(failure, Failure)
    assert (failure.customer_facing, failure.owners) == (True, ("data@example.com",))
    assert [consumer.key for consumer in failure.consumers] == ["explo/time"]
    assert failure.since.timestamp() == START


def test_a_repeat_updates_the_alert_and_opens_no_other() -> None:
    story = Story().run("a", PRODUCT).run("b", PRODUCT).run("c", PRODUCT)
    assert story.lines == ["firing fivetran/product:a"] * 3
    last = story.told[-1]
    assert isinstance(last, Failure)
    assert (last.count, last.since.timestamp(), last.last_seen.timestamp()) == (3, START, START + 2 * HOUR)


def test_updates_are_told_at_most_once_a_minute() -> None:
    story = Story().run("a", PRODUCT)
    for second in range(10):
        story.hear(Signal(f"run:b{second}", story.now + second, (PRODUCT,), run_id=f"b{second}", ended=True))
    assert len(story.told) == 2
    story.wait(UPDATE_SECONDS)
    last = story.told[-1]
    assert isinstance(last, Failure)
    assert (len(story.told), last.count) == (3, 11)


def test_a_later_outage_of_the_same_unit_is_another_alert() -> None:
    story = Story().run("a", PRODUCT).run("b", made=PRODUCT.asset_keys).run("c", PRODUCT)
    assert story.lines[-1] == "firing fivetran/product:c"


def test_a_partial_recovery_says_what_is_left() -> None:
    story = Story().run("a", PRODUCT).run("b", made=("raw/users",))
    last = story.told[-1]
    assert isinstance(last, Failure)
    assert (last.deduplication_key, last.left) == ("fivetran/product:a", ("raw/incidents",))
    assert story.run("c", made=("raw/incidents",)).lines[-1] == "resolved fivetran/product:a"


def test_a_relapse_wants_every_asset_again() -> None:
    story = Story().run("a", PRODUCT).run("b", made=("raw/users",)).run("c", PRODUCT).run("d", made=("raw/incidents",))
    assert "resolved" not in " ".join(story.lines)


def test_an_asset_that_a_long_run_made_before_the_failure_is_no_recovery() -> None:
    story = Story().run("a", PRODUCT)
    story.run("b", well=dict.fromkeys(PRODUCT.asset_keys, START - 60))
    assert story.lines == ["firing fivetran/product:a"]


def test_a_failure_without_assets_is_over_with_a_whole_run_of_its_job_and_with_no_other() -> None:
    story = Story().run("a", FailedUnit("step/notify", (), "no")).run("b", made=("raw/users",))
    assert story.lines == ["firing step/notify:a"]
    assert story.run("c", made=("job:ingest",)).lines[-1] == "resolved step/notify:a"


def test_the_same_signals_from_the_same_state_give_the_same() -> None:
    assert Story().run("a", PRODUCT, SALES).told == Story().run("a", PRODUCT, SALES).told


def test_a_failure_that_was_told_in_mid_run_is_the_same_at_its_end() -> None:
    story = Story()
    story.hear(Signal("report:a", story.now, (MODEL,), run_id="a", root_run_id="a"))
    story.run("a", MODEL)
    last = story.told[-1]
    assert isinstance(last, Failure)
    assert ({*story.lines}, last.count) == ({"firing dbt/insights/time:a"}, 1)


def test_what_a_failure_holds_up_is_taken_from_the_graph() -> None:
    [failure] = Story().run("a", PRODUCT, unmade=("insights/time",)).told
    assert isinstance(failure, Failure)
    assert failure.held_up == ("insights/time",)


def test_a_step_that_fails_holds_up_all_that_follows_it_also_what_is_made_of_what_it_made() -> None:
    [failure] = Story().run("a", PRODUCT, unmade=("insights/time", "sales/health")).told
    assert isinstance(failure, Failure)
    assert failure.held_up == ("insights/time", "sales/health")


def test_what_a_process_that_died_after_a_failure_has_not_made_is_told_beside_what_that_held_up() -> None:
    lost = FailedUnit("run/x", ("insights/time", "sales/health"), "the process was killed")
    first, second = Story().run("a", PRODUCT, unmade=("insights/time", "sales/health"), interruption=lost).told
    assert isinstance(first, Failure)
    assert isinstance(second, Failure)
    assert (first.name, first.held_up) == ("fivetran/product", ("insights/time",))
    assert (second.name, second.asset_keys) == ("run/x", ("sales/health",))


def test_a_failed_backfill_is_over_when_its_own_days_are_made() -> None:
    days = ("insights/time@2026-11-01", "insights/time@2026-11-02")
    story = Story().run("a", replace(MODEL, awaits=days))
    [failure] = story.told
    assert isinstance(failure, Failure)
    assert failure.partitions == ("2026-11-01", "2026-11-02")
    assert len(story.run("b", made=("insights/time", "insights/time@2026-11-23")).told) == 1
    story.run("c", made=("insights/time", days[0]))
    last = story.told[-1]
    assert isinstance(last, Failure)
    assert last.left == (days[1],)
    assert story.run("d", made=("insights/time", days[1])).lines[-1] == "resolved dbt/insights/time:a"


def test_failures_that_are_told_one_by_one_at_the_same_time_with_the_same_words_are_one() -> None:
    units = many(6, "sales/m{}")
    story = Story()
    story.hear(
        *(Signal(f"report:{n}", story.now, (unit,), run_id="a", root_run_id="a") for n, unit in enumerate(units))
    )
    [failure] = story.told
    assert isinstance(failure, Failure)
    assert failure.name.startswith("cause/")
    assert len(failure.units) == 6


def test_what_goes_on_failing_with_the_words_of_open_alerts_becomes_one_alert() -> None:
    story = Story()
    for n, unit in enumerate(many(8, "sales/m{}")):
        story.hear(Signal(f"report:{n}", story.now, (unit,), run_id=str(n), root_run_id=str(n))).wait(10)
    firing = {line for line in story.lines if line.startswith("firing")}
    assert len(firing) == 5
    assert sum("cause/" in line for line in firing) == 1


def test_a_check_that_stops_nothing_makes_nothing_late() -> None:
    story = Story()
    story.hear(check("raw/incidents", story.now)).hear(late("insights/time", story.now)).wait(YOUNG_SECONDS + 1)
    assert "freshness/insights/time" in story.lines[-1]


def test_maintenance_stops_what_is_told_of_an_open_alert_until_it_ends() -> None:
    story = Story().run("a", SALES)
    story.muted = set(SALES.asset_keys)
    assert len(story.run("b", SALES).told) == 1
    story.muted = set()
    assert len(story.wait().told) == 2


def test_a_failure_that_comes_to_hurt_customers_opens_an_alert_that_pages_for_them() -> None:
    story = Story().run("a", *many(4, "sales/m{}"), FailedUnit("step/z", ("sales/z",), "boom 5"))
    assert story.lines == ["firing cause/" + story.lines[0].partition("cause/")[2]]
    name = story.lines[0].removeprefix("firing ")
    story.run("b", FailedUnit("step/t", ("insights/time",), "boom 6"))
    assert story.lines[1:] == [f"resolved {name}", f"firing {name}:customer"]


# Causes


def many(count: int, name: str) -> list[FailedUnit]:
    return [FailedUnit(f"step/{name.format(n)}", (name.format(n),), f"boom {n}") for n in range(count)]


def test_five_failures_with_the_same_words_are_one_and_four_are_not() -> None:
    assert len(Story().run("a", *many(4, "x/m{}")).told) == 4
    [failure] = Story().run("a", *many(5, "x/m{}")).told
    assert isinstance(failure, Failure)
    assert failure.name.startswith("cause/")
    assert len(failure.asset_keys) == 5


def test_failures_with_other_words_are_of_other_causes() -> None:
    columns = ("one", "two", "three", "four", "five", "six", "seven")
    units = [FailedUnit(f"step/m{n}", (f"x/m{n}",), f"no column {name}") for n, name in enumerate(columns)]
    assert len(Story().run("a", *units).told) == len(columns)


@pytest.mark.parametrize("cause", sorted(get_args(Cause)))
def test_a_known_cause_is_one_alert_from_the_first_failure_on(cause: Cause) -> None:
    story = Story().run("a", replace(SALES, cause=cause)).run("b", replace(PRODUCT, cause=cause))
    assert {failure.name for failure in story.told} == {f"cause/{cause}"}


@pytest.mark.parametrize(
    "error",
    [
        "Fivetran: GET https://api.fivetran.com/v1/connections answered 401: bad key",
        "google.auth.exceptions.RefreshError: invalid_grant",
        "HTTPConnectionPool(host='bigquery.googleapis.com'): Max retries exceeded",
        "403 Quota exceeded: Your project exceeded quota",
        "psycopg2.OperationalError: could not connect to server",
    ],
)
def test_the_words_of_a_cause_are_none_and_a_real_outage_does_not_join_their_alert(error: str) -> None:
    story = Story().run("a", replace(SALES, error=error))
    assert [failure.name for failure in story.told] == [SALES.unit]
    story.run("b", replace(PRODUCT, error=error, cause="bigquery-credentials"))
    assert story.lines[-1] == "firing cause/bigquery-credentials:b"


def test_what_joins_a_group_belongs_to_it_and_the_group_lasts_until_all_is_made() -> None:
    story = Story().run("a", *many(5, "x/m{}")).run("b", *many(6, "x/m{}"))
    assert len(story.state.alerts) == 1
    assert "resolved" not in " ".join(story.run("c", made=tuple(f"x/m{n}" for n in range(5))).lines)
    assert story.run("d", made=("x/m5",)).lines[-1].startswith("resolved cause/")


NO_BIGQUERY = "HTTPConnectionPool(host='bigquery.googleapis.com'): Max retries exceeded"


def outage(*names: str) -> tuple[FailedUnit, ...]:
    return tuple(
        FailedUnit(f"dbt/{name}", (f"sales/{name}",), NO_BIGQUERY, cause="bigquery-unreachable") for name in names
    )


A, B, X = outage("a", "b", "x")
BAD_X = replace(X, error="Unrecognized name: foo", permanent=True, cause=None)


def straggler() -> Story:
    """BigQuery is back, and of what failed by it one fails by something else."""
    return Story().run("o", A, B, X).run("p", BAD_X, made=(*A.asset_keys, *B.asset_keys))


def test_what_fails_by_something_else_leaves_the_alert_of_the_cause_which_is_over_without_it() -> None:
    story = straggler()
    assert story.lines == [
        "firing cause/bigquery-unreachable:o", "resolved cause/bigquery-unreachable:o", "firing dbt/x:p",
    ]  # fmt: skip
    assert list(story.run("q", A, B).state.alerts) == ["dbt/x", "cause/bigquery-unreachable"]
    assert story.lines[-1] == "firing cause/bigquery-unreachable:q"


def test_the_alert_of_a_cause_goes_on_for_the_others_when_one_leaves_it() -> None:
    story = Story().run("o", A, B, X).run("p", BAD_X, A, made=B.asset_keys)
    assert story.lines[1:] == ["firing cause/bigquery-unreachable:o", "firing dbt/x:p"]
    assert story.state.alerts["cause/bigquery-unreachable"].missing.keys() == {*A.asset_keys}
    # What has an alert of its own stays there, whatever it fails by.
    assert story.run("q", X).lines[-1] == "firing dbt/x:p"
    assert story.run("r", made=A.asset_keys).lines[-1] == "resolved cause/bigquery-unreachable:o"
    assert story.run("s", made=X.asset_keys).lines[-1] == "resolved dbt/x:p"


def test_what_leaves_a_cause_for_another_joins_that() -> None:
    quota: Cause = "bigquery-quota"
    story = Story().run("o", A, B).run("p", replace(X, cause=quota)).run("q", replace(A, cause=quota))
    assert set(story.lines[-2:]) == {"firing cause/bigquery-quota:p", "firing cause/bigquery-unreachable:o"}
    assert story.state.alerts["cause/bigquery-unreachable"].missing.keys() == {*B.asset_keys}
    assert story.state.alerts["cause/bigquery-quota"].missing.keys() == {*X.asset_keys, *A.asset_keys}


def test_what_leaves_a_cause_waits_for_its_retry_as_any_other() -> None:
    hiccup = replace(X, error="the query took too long", cause=None)
    for second, told in (("q", ["firing dbt/x:p transient", "resolved dbt/x:p transient"]), ("r", ["firing dbt/x:r"])):
        story = Story().run("o", A, X).run("p", hiccup, made=A.asset_keys, retried=True, then=60)
        assert story.lines[1:] == ["resolved cause/bigquery-unreachable:o"]
        failed, made = ((), X.asset_keys) if second == "q" else ((hiccup,), ())
        assert story.run(second, *failed, made=made, root_run_id="p").lines[2:] == told


def test_a_run_that_did_not_start_stays_in_the_alert_of_the_outage_of_dagster() -> None:
    unit = FailedUnit("run/8f9b0d1e65", ("raw/users",), "unreachable", cause="code-location")
    story = Story().run("a", unit).run("b", replace(unit, error="Run timed out", cause=None))
    assert story.lines == ["firing cause/code-location:a", "firing cause/code-location:a"]
    story.run("c", made=("raw/users",))
    assert story.lines[2:] == ["resolved cause/code-location:a"]


def test_a_step_that_fails_otherwise_leaves_the_alert_of_the_outage_of_dagster() -> None:
    unit = replace(PRODUCT, cause="code-location")
    story = Story().run("a", unit).run("b", replace(unit, cause=None))
    assert story.lines[1:] == ["resolved cause/code-location:a", "firing fivetran/product:b"]


def test_what_leaves_a_cause_takes_with_it_all_that_it_has_not_made() -> None:
    days = ("sales/x@2026-11-01", "sales/x@2026-11-02")
    first, second = (replace(X, awaits=(day,)) for day in days)
    story = Story().run("o", A, first).run("p", replace(BAD_X, awaits=second.awaits), made=A.asset_keys)
    assert story.state.alerts["dbt/x"].missing.keys() == {*days}
    assert list(story.run("q", made=("sales/x", days[1])).state.alerts) == ["dbt/x"]
    assert story.run("r", made=("sales/x", days[0])).state.alerts == {}


def test_what_has_left_a_cause_and_waits_for_a_retry_awaits_the_same_when_that_fails() -> None:
    days = ("sales/x@2026-11-01", "sales/x@2026-11-02")
    hiccup = replace(X, error="the query took too long", awaits=days[1:], cause=None)
    story = Story().run("o", replace(X, awaits=days[:1])).run("p", hiccup, retried=True, then=60)
    assert story.run("q", hiccup, root_run_id="p").state.alerts["dbt/x"].missing.keys() == {*days}


def test_what_failed_by_two_things_between_two_looks_is_told_of_the_later_one() -> None:
    story = Story()
    story.hear(
        Signal("run:o", story.now, (X,), run_id="o", ended=True),
        Signal("run:p", story.now + 1, (BAD_X,), run_id="p", ended=True),
    )
    assert story.lines == ["firing dbt/x:p"]


def test_a_cause_that_flaps_stays_open_when_the_last_leaves_it_and_is_that_of_who_comes_next() -> None:
    story = Story()
    for number in range(2):
        story.run(f"bad{number}", A, then=300).run(f"good{number}", made=A.asset_keys, then=300)
    story.run("o", X, then=300).run("p", BAD_X, then=300).run("q", A, then=300)
    assert {line for line in story.lines if line.endswith((":o", ":q"))} == {"firing cause/bigquery-unreachable:o"}
    story.run("r", made=A.asset_keys).wait(WELL_SECONDS)
    assert story.lines[-1] == "resolved cause/bigquery-unreachable:o"
    assert list(story.state.alerts) == ["dbt/x"]


def test_one_that_leaves_a_muted_cause_is_told() -> None:
    story = Story()
    story.muted = {"cause/bigquery-unreachable", *A.asset_keys, *X.asset_keys}
    story.run("o", A, X)
    story.muted = set(A.asset_keys)
    assert story.run("p", BAD_X, A).lines[-1] == "firing dbt/x:p"


def test_one_that_leaves_a_cause_does_not_open_it_anew_for_customers() -> None:
    customers = FailedUnit("dbt/insights/time", ("insights/time",), NO_BIGQUERY, cause="bigquery-unreachable")
    story = Story().run("o", A, X).run("p", customers)
    assert story.lines[-1] == "firing cause/bigquery-unreachable:o:customer"
    story.run("q", BAD_X, replace(customers, error="Unrecognized name: foo", permanent=True, cause=None))
    assert story.lines[3:] == [
        "firing cause/bigquery-unreachable:o:customer", "firing dbt/insights/time:q", "firing dbt/x:q",
    ]  # fmt: skip


# Retries


def test_while_a_retry_is_coming_nothing_is_told_and_a_success_makes_it_transient() -> None:
    story = Story().run("a", SALES, retried=True, then=60)
    assert story.told == []
    story.run("b", made=SALES.asset_keys, root_run_id="a")
    assert story.lines == ["firing fivetran/salesforce:a transient", "resolved fivetran/salesforce:a transient"]
    assert story.state.pending == {}


def retried(*failed: FailedUnit) -> Story:
    return Story().run("a", *failed, retried=True, then=60)


def test_a_retry_that_fails_too_is_one_alert_since_the_first_failure() -> None:
    story = retried(SALES).run("b", SALES, root_run_id="a")
    [failure] = story.told
    assert isinstance(failure, Failure)
    assert (failure.since.timestamp(), failure.count) == (START, 2)


def test_of_two_failures_the_retry_mends_one() -> None:
    story = retried(SALES, PRODUCT).run("b", PRODUCT, made=SALES.asset_keys, root_run_id="a")
    assert sorted(story.lines) == [
        "firing fivetran/product:b", "firing fivetran/salesforce:a transient", "resolved fivetran/salesforce:a transient",
    ]  # fmt: skip


def test_what_one_try_of_several_mends_stays_mended() -> None:
    story = retried(SALES, PRODUCT)
    story.run("b", PRODUCT, made=SALES.asset_keys, root_run_id="a", retried=True, then=60)
    story.run("c", made=PRODUCT.asset_keys, root_run_id="a")
    assert all("transient" in line for line in story.lines)
    assert len(story.lines) == 4


def test_a_permanent_failure_waits_for_no_retry() -> None:
    story = retried(SALES, MODEL)
    assert story.lines == ["firing dbt/insights/time:a"]


def test_a_cancelled_retry_leaves_a_failure() -> None:
    assert retried(SALES).run("b", root_run_id="a").lines == ["firing fivetran/salesforce:a"]


def test_a_retry_that_cannot_be_launched_leaves_a_failure() -> None:
    assert retried(SALES).hear(retries={"a": "off"}).lines == ["firing fivetran/salesforce:a"]


def test_a_retry_is_waited_for_while_it_is_under_way_and_not_for_ever_otherwise() -> None:
    story = retried(SALES).wait(10 * HOUR, {"a": "under_way"})
    assert story.told == []
    assert retried(SALES).wait(RETRY_SECONDS, {"a": "unknown"}).lines == ["firing fivetran/salesforce:a"]


def test_a_run_that_dies_and_whose_retry_dies_too_is_one_failure() -> None:
    story = retried(FailedUnit("run/aaaa", ("x/1", "x/2"), "killed"))
    story.run("b", FailedUnit("run/bbbb", ("x/2",), "killed"), made=("x/1",), root_run_id="a")
    assert story.lines == ["firing run/aaaa:b"]


# Checks, lateness, ticks


def test_a_failed_check_is_over_when_it_passes() -> None:
    story = Story().hear(check("raw/users/unique", START))
    story.run("b", made=("raw/users",))
    assert story.lines == ["firing check/raw/users/unique:run0"]
    story.hear(check("raw/users/unique", story.now, passed=True))
    assert story.lines[-1] == "resolved check/raw/users/unique:run0"


def test_what_is_late_because_of_something_above_is_not_told() -> None:
    story = Story().run("a", PRODUCT)
    story.hear(late("explo/time", story.now), late("insights/time", story.now)).wait(YOUNG_SECONDS)
    assert story.lines == ["firing fivetran/product:a"]
    story.run("b", made=PRODUCT.asset_keys, then=60)
    assert len(story.told) == 2
    fresh = {f"fresh:{key}": story.now for key in ("explo/time", "insights/time")}
    story.hear(Signal("", story.now, well=fresh)).wait(AFTERMATH_SECONDS)
    assert len(story.told) == 2


def test_what_stays_late_when_the_cause_above_is_mended_is_told() -> None:
    story = Story().run("a", PRODUCT)
    story.hear(late("insights/time", story.now)).run("b", made=PRODUCT.asset_keys).wait(AFTERMATH_SECONDS)
    assert [failure.name for failure in story.told] == [
        "fivetran/product",
        "fivetran/product",
        "freshness/insights/time",
    ]


def test_of_a_chain_that_is_late_its_beginning_is_told() -> None:
    story = Story().hear(late("explo/time", START))
    story.now += 30
    story.hear(late("raw/incidents", story.now)).wait(YOUNG_SECONDS)
    assert [failure.name for failure in story.told] == ["freshness/raw/incidents"]


UNDER_WAY: Mapping[str, RetryState] = {"a": "under_way"}


def late_in_a_retry(unit: FailedUnit, asset: str, seconds: float = YOUNG_SECONDS) -> Story:
    """What a unit makes is tried again, and data below it becomes late meanwhile."""
    story = retried(unit)
    return story.hear(late(asset, story.now), retries=UNDER_WAY).wait(seconds, UNDER_WAY)


@pytest.mark.parametrize(
    ("unit", "asset"), [(PRODUCT, "insights/time"), (PRODUCT, "raw/users"), (SALES, "omni/health")]
)
def test_what_is_late_because_of_something_that_is_tried_again_is_not_told(unit: FailedUnit, asset: str) -> None:
    story = late_in_a_retry(unit, asset)
    assert story.told == []
    assert story.run("b", unit, root_run_id="a").wait(AFTERMATH_SECONDS).lines == [f"firing {unit.unit}:b"]


def test_what_is_late_until_a_retry_makes_it_is_not_told() -> None:
    story = late_in_a_retry(PRODUCT, "insights/time").run("b", made=PRODUCT.asset_keys, root_run_id="a", then=60)
    fresh = {"fresh:insights/time": story.now}
    assert story.hear(Signal("", story.now, well=fresh)).wait().lines == [
        "firing fivetran/product:a transient", "resolved fivetran/product:a transient",
    ]  # fmt: skip


def test_what_stays_late_when_a_retry_has_mended_what_is_above_is_told() -> None:
    story = late_in_a_retry(PRODUCT, "insights/time").run("b", made=PRODUCT.asset_keys, root_run_id="a", then=60)
    assert len(story.told) == 2
    assert [failure.name for failure in story.wait(AFTERMATH_SECONDS).told[2:]] == ["freshness/insights/time"]


def test_what_the_tries_have_mended_makes_nothing_late() -> None:
    story = retried(PRODUCT, SALES).run("b", SALES, made=PRODUCT.asset_keys, root_run_id="a", retried=True, then=60)
    story.hear(late("insights/time", story.now), retries=UNDER_WAY).wait(YOUNG_SECONDS, UNDER_WAY)
    assert [failure.name for failure in story.told] == ["freshness/insights/time"]


def test_what_is_muted_and_tried_again_makes_nothing_late() -> None:
    story = retried(PRODUCT)
    story.muted = set(PRODUCT.asset_keys)
    story.hear(late("insights/time", story.now), retries=UNDER_WAY).wait(YOUNG_SECONDS, UNDER_WAY)
    assert [failure.name for failure in story.told] == ["freshness/insights/time"]


def test_what_makes_customers_data_late_waits_for_its_retry_for_an_hour() -> None:
    story = late_in_a_retry(PRODUCT, "insights/time", PATIENCE_SECONDS - 1)
    assert story.told == []
    story.hear(late("explo/time", story.now), retries=UNDER_WAY).wait(1, UNDER_WAY).wait(HOUR, UNDER_WAY)
    assert story.lines == ["firing fivetran/product:a"]
    story.run("b", PRODUCT, root_run_id="a")
    assert story.lines == ["firing fivetran/product:a"] * 2
    assert story.run("c", made=PRODUCT.asset_keys, then=60).lines[2:] == ["resolved fivetran/product:a"]


def test_what_fails_once_while_late_data_is_made_at_last_waits_for_its_retry() -> None:
    story = Story().run("a", PRODUCT)
    story.hear(late("insights/time", story.now)).wait(2 * HOUR)
    hiccup = replace(MODEL, permanent=False)
    story.run("b", hiccup, made=PRODUCT.asset_keys, retried=True, then=60)
    assert story.lines == ["firing fivetran/product:a", "resolved fivetran/product:a"]
    story.run("c", made=MODEL.asset_keys, root_run_id="b", then=60)
    assert story.lines[2:] == ["firing dbt/insights/time:b transient", "resolved dbt/insights/time:b transient"]


def test_what_makes_other_data_late_waits_for_its_retry_as_long_as_that_takes() -> None:
    assert late_in_a_retry(SALES, "omni/health", 4 * HOUR).told == []


def test_what_is_muted_and_late_hurries_nothing() -> None:
    story = retried(PRODUCT)
    story.muted = {"insights/time"}
    assert story.hear(late("insights/time", story.now), retries=UNDER_WAY).wait(4 * HOUR, UNDER_WAY).told == []


NEXT_TICK = 66.0
"""When a sensor of every minute is looked at again, at the latest."""


def test_a_sensor_that_fails_once_was_a_hiccup() -> None:
    story = Story().hear(tick("s", START)).wait(NEXT_TICK)
    story.hear(tick("s", story.now, works=True))
    assert [line.split()[0] + line[-10:] for line in story.lines] == ["firing transient", "resolved transient"]
    assert story.wait().state.pending == {}


def test_a_sensor_that_goes_on_failing_is_told_before_its_third_failure_is_old() -> None:
    story = Story().hear(tick("s", START)).wait(NEXT_TICK)
    story.hear(tick("s", story.now)).wait(NEXT_TICK)
    assert story.told == []
    story.hear(tick("s", story.now)).wait(START + TICK_SECONDS - story.now)
    assert story.lines == [f"firing tick/s:{START:.0f}"]
    assert story.now - START <= 3 * 60
    assert story.hear(tick("s", story.now + 1, works=True)).lines[-1].startswith("resolved tick/s")


def test_a_schedule_that_fails_is_told_at_once() -> None:
    assert len(Story().hear(tick("s", START, sensor=False)).told) == 1


# Muting and flapping


def test_what_is_muted_is_told_when_the_mute_ends_if_it_still_fails() -> None:
    story = Story()
    story.muted = set(PRODUCT.asset_keys)
    story.run("a", PRODUCT)
    assert story.told == []
    story.muted = set()
    assert story.wait().lines == ["firing fivetran/product:a"]


def test_what_was_mended_while_it_was_muted_is_never_told() -> None:
    story = Story()
    story.muted = set(PRODUCT.asset_keys)
    story.run("a", PRODUCT).run("b", made=PRODUCT.asset_keys)
    story.muted = set()
    assert story.wait().told == []


def test_what_opens_for_the_third_time_in_six_hours_flaps_and_stays_open_until_it_is_well_for_an_hour() -> None:
    story = Story()
    for number in range(3):
        story.run(f"bad{number}", SALES, then=300).run(f"good{number}", made=SALES.asset_keys, then=300)
    [*_, last] = [item for item in story.told if isinstance(item, Failure)]
    assert last.flapping
    assert [line.split()[0] for line in story.lines].count("resolved") == 2
    story.run("bad3", SALES, then=300)
    assert len({item.deduplication_key for item in story.told}) == 3
    story.run("good3", made=SALES.asset_keys)
    story.wait(WELL_SECONDS)
    assert story.lines[-1] == "resolved fivetran/salesforce:bad2"


def test_how_often_something_failed_in_thirty_days_is_remembered_and_no_longer() -> None:
    story = retried(SALES).run("b", made=SALES.asset_keys, root_run_id="a").run("c", SALES)
    assert [one.transient for one in story.state.history["fivetran/salesforce"]] == [True, False]
    story.wait(module.HISTORY_SECONDS)
    assert story.state.history == {}


def test_a_storm_is_announced_over_several_ticks_with_what_customers_see_first() -> None:
    letters = str.maketrans("0123456789", "abcdefghij")
    units = [
        FailedUnit(f"dbt/x/m{number}", (f"x/m{number}",), f"{str(number).translate(letters)} is wrong", permanent=True)
        for number in range(OPENED_A_TICK + 50)
    ]
    story = Story().run("o", *units, MODEL, then=1)
    assert len(story.told) == OPENED_A_TICK + 51
    assert story.lines[0] == "firing dbt/insights/time:o"
    assert len(set(story.lines)) == len(story.lines)
    assert all(alert.told for alert in story.state.alerts.values())


def test_what_recovers_before_its_turn_is_announced_and_resolved() -> None:
    letters = str.maketrans("0123456789", "abcdefghij")
    units = [
        FailedUnit(f"dbt/x/m{number}", (f"x/m{number}",), f"{str(number).translate(letters)} is wrong", permanent=True)
        for number in range(OPENED_A_TICK + 1)
    ]
    story = Story()
    signal = Signal("run:o", story.now, tuple(units), run_id="o", root_run_id="o", job="job:ingest", ended=True)
    story.hear(signal)
    assert len(story.told) == OPENED_A_TICK
    [last] = [alert for alert in story.state.alerts.values() if not alert.told]
    story.now += 5
    story.hear(Signal("run:p", story.now, (), dict.fromkeys(last.missing, story.now)))
    assert story.lines[-2:] == [f"firing {last.name}:o", f"resolved {last.name}:o"]


def test_an_asset_that_no_code_location_defines_is_urgent() -> None:
    unknown = FailedUnit("dbt/other/model", ("other/model",), "no")
    [failure] = Story().run("a", unknown).told
    assert isinstance(failure, Failure)
    assert (failure.urgent, failure.customer_facing, failure.unknown) == (True, False, ("other/model",))


def test_a_failure_without_assets_is_not_urgent() -> None:
    [failure] = Story().run("a", FailedUnit("step/work", (), "no")).told
    assert isinstance(failure, Failure)
    assert (failure.urgent, failure.unknown) == (False, ())


def test_an_asset_that_is_removed_while_its_alert_is_open_does_not_make_it_urgent() -> None:
    unit = FailedUnit("dbt/sales/health", ("sales/health",), "no")
    signal = Signal("run:a", START, (unit,), run_id="a", ended=True)
    state, [failure] = triage(State(), [signal], GRAPH, START, lambda _keys: None)
    again = replace(signal, id="run:b", run_id="b", at=START + HOUR)
    after, [update] = triage(state, [again], Graph(), START + HOUR, lambda _keys: None)
    assert isinstance(failure, Failure)
    assert isinstance(update, Failure)
    assert (failure.urgent, update.urgent, len(after.alerts)) == (False, False, 1)
    assert update.deduplication_key == failure.deduplication_key


def test_an_unknown_asset_that_joins_an_internal_alert_opens_it_again_as_urgent() -> None:
    def refused(unit: str, key: str, run: str, at: float) -> Signal:
        failed = FailedUnit(unit, (key,), "The same words failed here", permanent=True)
        return Signal(f"run:{run}", at, (failed,), run_id=run, ended=True)

    first = [refused(f"dbt/x/m{n}", f"x/m{n}", f"r{n}", START) for n in range(6)]
    state, told = triage(State(), first, GRAPH, START, lambda _keys: None)
    later = START + HOUR
    _after, [resolved, reopened] = triage(
        state, [refused("dbt/zzz/qqq", "zzz/qqq", "s", later)], GRAPH, later, lambda _keys: None
    )
    assert len(told) == 1
    assert isinstance(resolved, Recovery)
    assert isinstance(reopened, Failure)
    assert reopened.urgent
