from __future__ import annotations

from dataclasses import replace

import pytest

from orchestration.incidents.clocks import believed
from orchestration.incidents.run_signals import LOOK_BACK_SECONDS, OVERLAP_SECONDS
from orchestration.incidents.state import Alert, Pending, Position, State
from orchestration.incidents.triage import RETRY_SECONDS
from orchestration.lineage.failures import FailedUnit

NOW = 1_800_000_000.0
UNIT = FailedUnit("dbt/a", ("a",), "no")


@pytest.mark.parametrize("until", [NOW - 9, NOW, NOW + OVERLAP_SECONDS])
def test_a_position_of_about_now_is_believed(until: float) -> None:
    state = State(Position(until, 7, ticks={"hourly": NOW - 60}))
    assert believed(state, NOW) is state


def test_a_position_of_a_clock_that_was_ahead_goes_back_a_day() -> None:
    ahead = Position(NOW + 7200, 7, ((NOW + 7200, 7),), {"hourly": NOW + 7100, "daily": NOW - 60})
    position = believed(State(ahead), NOW).position
    back = NOW - LOOK_BACK_SECONDS
    assert position == replace(ahead, runs_until=back, ticks={"hourly": back, "daily": NOW - 60}, looking_back=True)


def test_what_failed_by_that_clock_is_mended_by_what_is_made_from_now_on() -> None:
    alert = Alert(
        "dbt/a", "asset", "dbt/a:r", (UNIT,), {"a": NOW + 7000, "b": NOW - 60}, NOW - 60, NOW + 7000, updated=NOW + 7000
    )
    waits = Pending({"dbt/a": UNIT}, {"dbt/a": ("a",)}, {"dbt/a": NOW + 7000}, 1, "r", "job:j", NOW + 7900)
    state = believed(State(Position(NOW + 7200, 7), alerts={"dbt/a": alert}, pending={"r": waits}), NOW)
    seen = state.alerts["dbt/a"]
    assert (seen.missing, seen.since, seen.last_seen, seen.updated) == ({"a": NOW, "b": NOW - 60}, NOW - 60, NOW, NOW)
    assert (state.pending["r"].at, state.pending["r"].until) == ({"dbt/a": NOW}, NOW + RETRY_SECONDS)
