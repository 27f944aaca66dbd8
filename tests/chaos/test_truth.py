"""The comparison itself: a judge who never finds anything proves nothing."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from tests.chaos import chaos
from tests.chaos.chaos import raised_from_outside, streaks, unleash, until_removal
from tests.chaos.plan import DROPS, KINDS, OUTAGES, Plan, Strike, plan
from tests.chaos.platform import Alert, Platform
from tests.chaos.truth import Dropped, Period, Told, compare

CUSTOMERS = Period(("unit/shop/a",), frozenset({"shop/a"}), 100, 200, "at once")
AGAIN = replace(CUSTOMERS, start=300, end=400)
INTERNAL = Period(("step/back__b",), frozenset({"back/b"}), 120, 180, "later")
KILLED = Period(("run/", "cause/"), frozenset({"shop/c"}), 150, 250, "at once")
TICK = Period(("tick/s", "cause/"), frozenset(), 150, 160, "later", frozenset({"at once"}))
PASSING = replace(INTERNAL, page="never")


def alert(period: Period, key: str = "k", unit: str | None = None) -> Told:
    return Told(
        key, unit or period.names[0], period.keys, period.start + 1, period.end + 5, period.page,
        pages=0 if period.page == "never" else 1, flapping=False,
    )  # fmt: skip


RIGHT = [alert(CUSTOMERS, "1"), alert(AGAIN, "2"), alert(INTERNAL, "3"), alert(KILLED, "4", "run/0123456789")]
PERIODS = [CUSTOMERS, AGAIN, INTERNAL, KILLED]


def test_all_is_right() -> None:
    verdict = compare(PERIODS, 2, RIGHT)
    assert verdict.good
    assert verdict.counts() == "injected 6, lost 0, duplicated 0, wrongly paged 0, left open 0"


@pytest.mark.parametrize("missing", range(len(RIGHT)))
def test_one_is_lost(missing: int) -> None:
    verdict = compare(PERIODS, 0, [one for number, one in enumerate(RIGHT) if number != missing])
    assert verdict.lost == (PERIODS[missing],)
    assert not verdict.good


@pytest.mark.parametrize("twice", range(len(RIGHT)))
def test_one_is_told_twice(twice: int) -> None:
    verdict = compare(PERIODS, 0, [*RIGHT, replace(RIGHT[twice], key="5", start=RIGHT[twice].start + 20)])
    assert [one.key for one in verdict.duplicated] == ["5"]


def test_what_did_not_happen_is_told() -> None:
    verdict = compare(PERIODS, 0, [*RIGHT, replace(RIGHT[0], key="5", unit="unit/shop/z")])
    assert [one.key for one in verdict.duplicated] == ["5"]
    assert [one.key for one in verdict.wrongly_paged] == ["5"]


@pytest.mark.parametrize(
    ("period", "told"),
    [
        (INTERNAL, replace(alert(INTERNAL), page="at once")),
        (INTERNAL, replace(alert(INTERNAL), page="never", pages=0)),
        (CUSTOMERS, replace(alert(CUSTOMERS), page="later")),
        (CUSTOMERS, replace(alert(CUSTOMERS), pages=2)),
        (PASSING, replace(alert(PASSING), page="later", pages=1)),
    ],
)
def test_somebody_is_paged_wrongly(period: Period, told: Told) -> None:
    assert compare([period], 0, [told]).wrongly_paged == (told,)


def test_one_is_left_open() -> None:
    still = replace(RIGHT[2], end=None)
    assert compare(PERIODS, 0, [*RIGHT[:2], still, RIGHT[3]]).left_open == (still,)


def test_what_flaps_may_stay_open() -> None:
    periods = [replace(INTERNAL, start=at, end=at + 50) for at in (100, 300, 500)]
    alerts = [alert(period, str(number)) for number, period in enumerate(periods)]
    alerts[2] = replace(alerts[2], end=None, flapping=True)
    assert compare(periods, 0, alerts).good
    assert compare(periods[1:], 0, alerts[1:]).left_open


def test_each_failure_of_what_flaps_is_part_of_its_open_alert() -> None:
    periods = [replace(INTERNAL, start=at, end=at + 50) for at in (100, 300, 500)]
    open_alert = replace(alert(periods[0]), end=None, flapping=True, last_seen=(100.0, 500.0))
    assert compare(periods, 0, [open_alert]).good
    # The last failure did not reach it.
    assert compare(periods, 0, [replace(open_alert, last_seen=(100.0, 300.0))]).lost == (periods[2],)


def test_an_alert_that_cannot_name_all_its_assets_is_about_what_failed_when_it_says() -> None:
    cut_alert = replace(
        alert(KILLED, unit="cause/code-location"), assets=frozenset({"shop/d"}), is_cut=True, last_seen=(170.0,)
    )
    assert compare([KILLED], 0, [cut_alert]).good
    assert compare([KILLED], 0, [replace(cut_alert, last_seen=(300.0,))]).lost == (KILLED,)
    assert compare([KILLED], 0, [replace(cut_alert, is_cut=False)]).lost == (KILLED,)


def test_an_open_alert_that_joins_a_failure_for_less_than_a_minute_ends_with_its_recovery() -> None:
    short = replace(KILLED, start=200, end=220)
    open_alert = replace(
        alert(KILLED, unit="cause/code-location"), assets=frozenset({"shop/d"}), start=100.0, end=222.0
    )
    assert compare([short], 0, [open_alert]).lost == ()
    assert compare([short], 0, [replace(open_alert, end=300.0)]).lost == (short,)
    assert compare([replace(short, start=120)], 0, [open_alert]).lost


def test_the_end_of_an_outage_that_another_alert_reports_needs_no_page() -> None:
    outage = replace(TICK, start=100, end=450, may_page=frozenset())
    cause = replace(alert(outage, "1", "cause/code-location"), end=300.0)
    rest = replace(alert(outage, "2", "tick/s"), start=310.0, page="never", pages=0)
    assert compare([replace(outage, most=2)], 0, [cause, rest]).good
    assert compare([outage], 0, [replace(rest, start=101.0)]).wrongly_paged


def test_an_alert_that_names_an_asset_late_is_about_the_later_failure() -> None:
    later = replace(KILLED, start=400, end=450)
    own = replace(alert(KILLED, "1", "run/0123456789"), last_seen=(150.0,))
    cause = replace(
        alert(KILLED, "2", "cause/code-location"),
        start=100.0,
        end=460.0,
        last_seen=(100.0, 400.0),
        named_at={"shop/c": 400.0},
    )
    assert compare([KILLED, later], 0, [own, cause]).duplicated == ()


def test_one_alert_is_about_much_that_the_same_thing_broke() -> None:
    other = replace(KILLED, keys=frozenset({"shop/d"}), start=160)
    together = replace(alert(KILLED, "1", "cause/code-location"), assets=frozenset({"shop/c", "shop/d"}))
    assert compare([KILLED, other], 0, [together]).good


def test_what_else_was_told_at_the_time_does_not_tell_of_a_run() -> None:
    of_a_tick = replace(alert(KILLED, "4", "cause/code-location"), assets=frozenset())
    of_another = replace(of_a_tick, assets=frozenset({"shop/d"}))
    for told in (of_a_tick, of_another):
        assert compare([KILLED, TICK], 0, [told]).lost == (KILLED,)
    assert compare([KILLED, TICK], 0, [of_a_tick, alert(KILLED, "5", "run/0123456789")]).lost == ()


def test_a_failure_by_itself_and_by_its_cause_is_told_twice() -> None:
    alone, cause = alert(KILLED, "1", "run/0123456789"), alert(KILLED, "2", "cause/code-location")
    assert compare([KILLED], 0, [alone, cause]).duplicated == (cause,)
    assert compare([replace(KILLED, most=2)], 0, [alone, cause]).good
    # Others fail by the same cause, and are told by it rightly.
    other = replace(KILLED, keys=frozenset({"shop/d"}), start=160)
    both = replace(cause, assets=KILLED.keys | other.keys)
    assert compare([KILLED, other], 0, [alone, both]).duplicated == (both,)


def test_a_tick_by_itself_and_by_its_cause_is_told_twice() -> None:
    tick, cause = alert(TICK, "1"), replace(alert(TICK, "2", "cause/code-location"), assets=frozenset())
    assert compare([TICK], 0, [tick, cause]).duplicated == (cause,)
    # It may be that of another sensor.
    assert compare([TICK, replace(TICK, names=("tick/t", "cause/"))], 0, [tick, cause]).good


UNREADABLE = Period(("unreadable/",), frozenset({"shop/odd"}), 100, 100 + 86400, "at once", stays_open=True)
HOOK = Period(("step/hook1",), frozenset(), 100, 200, "later", not_before=190)
REMOVED = Period(("step/back__r",), frozenset({"back/r"}), 100, 160, "later", not_before=150, removed=True)


def test_the_alert_of_an_unreadable_record_stays_open() -> None:
    open_one = replace(alert(UNREADABLE, "1", "unreadable/0123456789"), end=None)
    assert compare([UNREADABLE], 0, [open_one]).good
    assert compare([UNREADABLE], 0, []).lost == (UNREADABLE,)
    resolved = replace(open_one, end=300)
    verdict = compare([UNREADABLE], 0, [resolved])
    assert verdict.wrongly_resolved == (resolved,)
    assert not verdict.good
    assert verdict.counts() == "injected 1, lost 1, duplicated 0, wrongly paged 0, left open 0"


def test_each_unreadable_record_has_one_alert() -> None:
    second = replace(UNREADABLE, start=140)
    alerts = [
        replace(alert(period, str(number), f"unreadable/{number}"), end=None)
        for number, period in enumerate([UNREADABLE, second])
    ]
    assert compare([UNREADABLE, second], 0, alerts).good
    assert compare([UNREADABLE, second], 0, alerts[:1]).lost == (second,)
    assert compare([UNREADABLE], 0, alerts).duplicated == (alerts[1],)
    of_another = replace(alerts[0], assets=frozenset({"shop/other"}))
    assert compare([UNREADABLE], 0, [of_another]).lost == (UNREADABLE,)


def test_an_unrelated_success_resolves_nothing() -> None:
    assert compare([HOOK], 0, [alert(HOOK)]).good
    early = replace(alert(HOOK), end=150)
    verdict = compare([HOOK], 0, [early])
    assert verdict.wrongly_resolved == (early,)
    assert verdict.counts() == "injected 1, lost 1, duplicated 0, wrongly paged 0, left open 0"
    again = replace(alert(HOOK, "2"), start=155)
    assert compare([HOOK], 0, [early, again]).duplicated == (again,)
    assert compare([HOOK], 0, [replace(alert(HOOK), end=None)]).left_open


def test_the_alert_of_what_was_removed_says_so() -> None:
    right = replace(alert(REMOVED), removed=True)
    assert compare([REMOVED], 0, [right]).good
    assert compare([REMOVED], 0, [replace(right, end=None)]).left_open
    for wrong in (replace(right, removed=False), replace(right, end=140)):
        assert compare([REMOVED], 0, [wrong]).wrongly_resolved == (wrong,)


def test_a_cause_at_the_same_time_is_not_what_was_removed() -> None:
    sensor = replace(TICK, end=300, not_before=290, removed=True)
    other = replace(TICK, names=("tick/t", "cause/"))
    right = replace(alert(sensor, "1"), removed=True, page="at once")
    cause = replace(alert(other, "2", "cause/code-location"), page="at once")
    assert compare([sensor, other], 0, [right, cause]).good
    wrong = replace(right, removed=False)
    assert compare([sensor, other], 0, [wrong, cause]).wrongly_resolved == (wrong,)


def test_what_is_still_there_is_not_said_to_be_removed() -> None:
    # Its code location did not load for a while.
    wrong = replace(alert(INTERNAL), removed=True)
    assert compare([INTERNAL], 0, [wrong]).wrongly_resolved == (wrong,)
    both = replace(wrong, unit="cause/x", assets=INTERNAL.keys | REMOVED.keys, end=220)
    periods = [replace(one, names=("cause/",)) for one in (INTERNAL, REMOVED)]
    assert compare(periods, 0, [both]).good


def test_the_end_of_an_alert_gives_the_reason() -> None:
    metadata = {"unit": "step/back__r", "assets": ["back/r"], "failed_at": "2026-11-22T03:00:00+00:00"}
    firing = {"deduplication_key": "k", "status": "firing", "description": "", "metadata": metadata}
    ended = {"unit": "step/back__r", "recovered_at": "2026-11-22T03:05:00+00:00"}
    reasons = {"The asset is no longer part of the platform.": True, "Well again after 5 min.": False}
    for text, removed in reasons.items():
        resolved = {"deduplication_key": "k", "status": "resolved", "description": text, "metadata": ended}
        [found] = chaos.told([Alert("k", (firing, resolved), ())])
        assert found.removed == removed


def test_what_incident_io_lost_may_be_missing_if_it_was_over_soon() -> None:
    loss = Dropped("step/back__b:4711", INTERNAL.start + 5)
    assert compare([INTERNAL], 0, [], [loss]).good
    for other in (replace(loss, key="step/back__a:4711"), replace(loss, at=INTERNAL.start - 60)):
        assert compare([INTERNAL], 0, [], [other]).lost == (INTERNAL,)
    # It was open for long enough to be found missing.
    long = replace(INTERNAL, end=INTERNAL.start + 1800)
    assert compare([long], 0, [], [loss]).lost == (long,)


def test_a_failure_of_a_clock_that_is_behind_is_told_with_its_time() -> None:
    behind = replace(INTERNAL, start=INTERNAL.start - 130)
    assert compare([behind], 0, [alert(behind)]).good
    assert compare([behind], 0, []).lost == (behind,)


def test_a_sensor_of_another_code_location_is_not_told_by_the_first_ones_alert() -> None:
    other = replace(TICK, start=155, end=170)
    assert compare([TICK, other], 0, [alert(TICK, "1"), alert(other, "2")]).good
    assert compare([TICK, other], 0, [alert(TICK, "1")]).lost == (other,)


def test_a_sensor_that_fails_for_minutes_is_no_hiccup() -> None:
    ticks = [(float(at), at < 300) for at in range(0, 330, 30)]
    [period] = streaks("s", ticks)
    assert period.may_page == frozenset()
    told_later = replace(alert(period), page="later", pages=1)
    assert compare([period], 0, [told_later]).good
    assert compare([period], 0, [replace(told_later, page="never", pages=0)]).wrongly_paged
    [short] = streaks("s", ticks[-4:])
    assert short.may_page == {"never"}


def test_of_several_outages_in_one_period_each_may_have_been_short() -> None:
    [period] = streaks("s", [(100.0, True), (110.0, False), (120.0, True), (400.0, False)])
    assert (period.most, period.may_page) == (2, frozenset({"never"}))


def test_a_sensor_that_is_removed_while_it_fails_ends_by_that() -> None:
    [period] = streaks("s", [(100.0, True), (110.0, True)])
    assert until_removal(period, 90, 200) == replace(period, end=200, not_before=200, removed=True)
    assert until_removal(period, 120, 200) == period


def test_whom_it_affects_is_not_known_while_its_code_location_does_not_load() -> None:
    internal = replace(INTERNAL, keys=frozenset({"back/second000"}))
    at_once = replace(alert(internal), page="at once")
    assert compare([internal], 0, [at_once]).wrongly_paged
    [near, far] = (
        chaos.with_unknown_readers(internal, [(at, at + 10)]) for at in (internal.start - 20, internal.end + 600)
    )
    assert compare([near], 0, [at_once]).good
    assert compare([near], 0, [alert(internal)]).good
    assert compare([far], 0, [at_once]).wrongly_paged
    # What the first code location has is known, but for its readers in the second.
    unloaded = [(INTERNAL.start, INTERNAL.end)]
    assert chaos.with_unknown_readers(INTERNAL, unloaded) == INTERNAL
    shared = replace(INTERNAL, keys=frozenset({"back/shared0"}), page="at once")
    later = replace(alert(shared), page="later")
    assert compare([shared], 0, [later]).wrongly_paged
    assert compare([chaos.with_unknown_readers(shared, unloaded)], 0, [later]).good


def test_ticks_that_fail_again_and_again_are_one_story() -> None:
    ticks = [(0.0, False), (5.0, True), (10.0, True), (15.0, False), (20.0, True), (25.0, False), (60.0, True)]
    found = streaks("s", ticks)
    assert [(one.start, one.end, one.most) for one in found] == [(5, 25, 2), (60, 60, 1)]


def test_a_heartbeat_that_was_missed_is_a_page_that_nobody_earned() -> None:
    page = {"deduplication_key": "heartbeat:01", "due_at": "2026-11-22T03:00:00+00:00", "state": "sent"}
    others = [{**page, "deduplication_key": key} for key in ("tick/s:1", None)]
    verdict = compare([], 0, raised_from_outside([page, *others]))
    assert verdict.counts() == "injected 0, lost 0, duplicated 1, wrongly paged 1, left open 0"


class Dead(Platform):
    """A platform of which nothing runs."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._lock, self._instance = threading.Lock(), instance

    def alerts(self) -> list[Alert]:
        return []

    def pages(self) -> list[dict[str, Any]]:
        return []

    def dropped(self) -> list[dict[str, Any]]:
        return []

    def kill(self, name: str) -> None:
        raise TimeoutError(f"not within 10 s: {name} ends")


def test_what_could_not_be_carried_out_counts_as_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chaos, "STEADY_SECONDS", 0)
    planned = Plan((), (Strike(0, "daemon", "", 1),))
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        verdict = unleash(Dead(instance), planned, 1, lambda _line: None)
    assert verdict.counts() == "injected 0, lost 1, duplicated 0, wrongly paged 0, left open 0"
    assert not verdict.good
    [told] = verdict.unfinished
    assert "what='daemon'" in told
    assert "not within 10 s: daemon ends" in told


def test_a_seed_gives_a_plan() -> None:
    assert plan(7, 1200) == plan(7, 1200)
    assert plan(7, 1200) != plan(8, 1200)
    keys = [key for episode in plan(7, 1200).episodes for key in episode.keys]
    assert len(keys) == len(set(keys))
    assert {strike.what for strike in plan(7, 60).strikes} == {
        "daemon",
        "code-server",
        "second-server",
        "incident-io",
        "lock",
        "postgres",
    }


@pytest.mark.parametrize("seed", [7, 8, 9])
def test_a_long_plan_has_every_kind(seed: int) -> None:
    planned = plan(seed, 1200)
    assert {episode.kind for episode in planned.episodes} == set(KINDS)
    assert {strike.how for strike in planned.strikes if strike.how} == {*OUTAGES, DROPS}
    # That incident.io has lost notifications takes many minutes to judge.
    assert DROPS not in {strike.how for strike in plan(seed, 60).strikes}
