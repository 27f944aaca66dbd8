"""A tick has one deadline, whatever is slow and however much has failed; what is left over is done in the next one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from orchestration.incidents import outbox
from orchestration.incidents.deadline import Deadline
from orchestration.incidents.graph_lookups import GraphLookups
from orchestration.incidents.model import Failure, Signal
from orchestration.incidents.outbox import Queue, Waiting
from orchestration.incidents.settling import OPENED_A_TICK
from orchestration.incidents.state import State
from orchestration.incidents.triage import triage
from orchestration.lineage.failures import FailedUnit
from orchestration.lineage.graph import Asset, Audience, Graph
from orchestration.vendors.incident_io import AlertEvent
from tests.orchestration.incidents.test_triage import MODEL, Story

LETTERS = str.maketrans("0123456789", "ghijklmnop")


class Clock:
    """A clock that goes on only when something takes time."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def event(key: str, status: str = "firing") -> AlertEvent:
    return AlertEvent(key, "firing" if status == "firing" else "resolved", key, "", "", {})


def own_failures(number: int) -> list[FailedUnit]:
    """Failures each with words of its own."""
    return [
        FailedUnit(f"dbt/x/m{one}", (f"x/m{one}",), f"{f'{one:05}'.translate(LETTERS)} is wrong", permanent=True)
        for one in range(number)
    ]


def test_a_stage_has_its_share_and_no_more_than_what_is_left() -> None:
    clock = Clock()
    deadline = Deadline.within(25, clock)
    assert deadline.share(10).remaining() == 10
    clock.now += 20
    assert deadline.share(10).remaining() == 5
    clock.now += 6
    assert (deadline.passed(), deadline.remaining(), deadline.share(10).remaining()) == (True, 0.0, 0.0)


def test_a_slow_incident_io_gets_no_call_that_would_end_after_the_deadline() -> None:
    clock, calls = Clock(), list[str]()

    def send(one: AlertEvent) -> None:
        calls.append(one.deduplication_key)
        clock.now += 10

    waiting = tuple(Waiting(event(f"a{number}"), 1.0) for number in range(5))
    done = outbox.deliver(waiting, send, (), 15, 1000.0, clock)
    assert calls == ["a0"]
    assert [item.key for item in done.waiting] == ["a1", "a2", "a3", "a4"]


def judged_in_seconds(state: State, signals: Sequence[Signal], graph: Graph) -> tuple[State, float]:
    began = time.process_time()
    after, _told = triage(state, signals, graph, signals[0].at + 10, lambda _keys: None, {})
    return after, time.process_time() - began


def test_thousands_of_signals_are_judged_in_seconds_of_processor_time() -> None:
    units = own_failures(3_000)
    graph = Graph({f"x/m{n}": Asset(f"x/m{n}") for n in range(len(units))})
    failed = [Signal(f"check:{unit.unit}", 1e9, (unit,), run_id="o", root_run_id="o", job="j") for unit in units]
    state, took = judged_in_seconds(State(), failed, graph)
    assert (len(state.alerts), took < 15) == (len(units), True), took
    again = [replace(one, id=f"{one.id}:again", at=1e9 + 20, run_id="p") for one in failed]
    state, took = judged_in_seconds(state, again, graph)
    assert took < 15, took
    recovered = [Signal("", 1e9 + 40, well={unit.asset_keys[0]: 1e9 + 40}) for unit in units]
    state, took = judged_in_seconds(state, recovered, graph)
    assert took < 15, took
    assert not any(alert.missing for alert in state.alerts.values())


def test_thousands_of_units_that_leave_the_alert_of_a_cause_are_judged_in_seconds() -> None:
    units = own_failures(3_000)
    graph = Graph({f"x/m{n}": Asset(f"x/m{n}") for n in range(len(units))})
    alike = tuple(replace(unit, error="the disk is full") for unit in units)
    state, _took = judged_in_seconds(State(), [Signal("run:o", 1e9, alike, run_id="o", job="j", ended=True)], graph)
    assert len(state.alerts) == 1
    failed = Signal("run:p", 1e9 + 20, tuple(units), run_id="p", job="j", ended=True)
    state, took = judged_in_seconds(state, [failed], graph)
    assert len(state.alerts) >= len(units)
    assert took < 15, took


def test_a_step_that_blocks_thousands_of_assets_names_them_once() -> None:
    units = own_failures(500)
    unmade = tuple(f"y/m{number}" for number in range(2_000))
    signal = Signal("run:o", 1e9, tuple(units), run_id="o", job="j", ended=True, unmade=unmade)
    state, _told = triage(State(), [signal], Graph(), 1e9, lambda _keys: None)
    assert sum(len(unit.held_up) for alert in state.alerts.values() for unit in alert.units) == len(unmade)


def test_a_customers_alert_is_opened_before_the_internal_ones_that_wait_from_earlier_ticks() -> None:
    story = Story()
    units = own_failures(3 * OPENED_A_TICK)
    story.hear(Signal("run:o", story.now, tuple(units), run_id="o", root_run_id="o", job="j", ended=True))
    assert len(story.told) == OPENED_A_TICK
    story.now += 5
    story.hear(Signal("run:p", story.now, (MODEL,), run_id="p", root_run_id="p", job="j", ended=True))
    failure = story.told[OPENED_A_TICK]
    assert isinstance(failure, Failure)
    assert (failure.name, failure.customer_facing) == ("dbt/insights/time", True)
    assert len(story.told) == 2 * OPENED_A_TICK


AUDIENCES: list[Audience | None] = [None, "internal", "customer"]
ASSETS = st.integers(0, 11).map(lambda number: f"s/a{number}")
GRAPHS = st.lists(st.tuples(ASSETS, st.frozensets(ASSETS, max_size=3), st.sampled_from(AUDIENCES)), max_size=12).map(
    lambda rows: Graph({key: Asset(key, parents - {key}, audience=who) for key, parents, who in rows})
)


@given(GRAPHS, st.lists(ASSETS, max_size=4))
def test_the_short_way_to_know_what_customers_see_agrees_with_the_long_one(graph: Graph, keys: list[str]) -> None:
    consumers = graph.blast_radius(keys)
    is_facing = any(one.audience == "customer" for one in consumers)
    lookups = GraphLookups(graph)
    assert lookups.is_customer_facing(keys) == is_facing
    assert lookups.downstream(keys) == graph.downstream(keys)
    assert lookups.upstream(keys) == graph.upstream(keys)


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["firing", "resolved"])), max_size=12))
def test_many_events_are_put_as_they_are_one_by_one(events: list[tuple[str, str]]) -> None:
    one_by_one, queue = tuple[Waiting, ...](), Queue(())
    for number, (key, status) in enumerate(events):
        one_by_one = outbox.put(one_by_one, event(key, status), float(number))
        queue.put(event(key, status), float(number))
    for key in "abcd":
        assert [one for one in queue.waiting if one.key == key] == [one for one in one_by_one if one.key == key]
