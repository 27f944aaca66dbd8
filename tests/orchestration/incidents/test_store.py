"""The alert sensor's state in a real instance's key-value storage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from orchestration.incidents import store
from orchestration.incidents.state import STATE, Alert, Position, State
from orchestration.incidents.store import load, save
from orchestration.lineage.failures import FailedUnit

UNIT = FailedUnit("fivetran/product", ("a/b",), "no")
ALERT = Alert("x", "asset", "x:1", (UNIT,), {"a/b": 1.5}, 1.0, 2.0, told=True, title="title")
STATE_BEFORE = State(Position(1.0, 7, ((1.0, 5),), {"sensor": 1.0}), {"run:a": 1.5}, {"x": ALERT})


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test(temp_dir=str(tmp_path)) as made:
        yield made


def entry(name: str) -> str:
    return f"{store.PREFIX}/{name}"


def put(instance: dg.DagsterInstance, name: str, text: str) -> None:
    instance.daemon_cursor_storage.set_cursor_values({entry(name): text})


def stored(instance: dg.DagsterInstance, name: str) -> str | None:
    return instance.daemon_cursor_storage.get_cursor_values({entry(name)}).get(entry(name))


def test_the_state_is_read_as_it_was_stored_and_the_cursor_is_its_version(instance: dg.DagsterInstance) -> None:
    cursor, lost = save(instance, load(instance, None), STATE_BEFORE)
    assert (cursor, lost) == ("v1", ())
    again = load(instance, cursor)
    assert (again.state, again.problems) == (STATE_BEFORE, ())
    changed = replace(STATE_BEFORE, alerts={}, waiting=())
    cursor, _lost = save(instance, again, changed)
    assert (cursor, load(instance, cursor).state) == ("v2", changed)


def test_only_what_has_changed_is_written(instance: dg.DagsterInstance) -> None:
    cursor, _lost = save(instance, load(instance, None), STATE_BEFORE)
    before = load(instance, cursor)
    put(instance, "alerts", "written by somebody else")
    save(instance, before, replace(STATE_BEFORE, handled={}))
    assert stored(instance, "alerts") == "written by somebody else"
    assert stored(instance, "handled") == "{}"


def test_a_state_of_an_earlier_version_is_moved_from_the_cursor(instance: dg.DagsterInstance) -> None:
    old = load(instance, STATE.dump_json(STATE_BEFORE).decode())
    assert (old.state, old.problems) == (STATE_BEFORE, ())
    cursor, _lost = save(instance, old, old.state)
    assert load(instance, cursor).state == STATE_BEFORE


def test_a_cursor_of_an_earlier_version_that_cannot_be_read_is_set_aside_and_reported(
    instance: dg.DagsterInstance,
) -> None:
    old = load(instance, '{"alerts": 7}')
    assert old.state == State()
    [problem] = old.problems
    assert problem.startswith("the cursor of an earlier version: alerts:")
    assert stored(instance, "set_aside/cursor") == '{"alerts": 7}'


def test_one_alert_that_cannot_be_read_is_reported_and_the_others_stay_open(instance: dg.DagsterInstance) -> None:
    cursor, _lost = save(instance, load(instance, None), replace(STATE_BEFORE, alerts={"x": ALERT, "y": ALERT}))
    text = stored(instance, "alerts")
    assert text is not None
    put(instance, "alerts", text.replace('"title":"title"', '"title":7', 1))
    found = load(instance, cursor)
    assert found.state.alerts == {"y": ALERT}
    assert found.state.position == STATE_BEFORE.position
    [problem] = found.problems
    assert problem.startswith("alerts: `x`: title:")
    cursor, _lost = save(instance, found, found.state)
    assert load(instance, cursor).problems == ()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "7", '{"runs_until": "soon"}'])
def test_a_position_that_cannot_be_read_is_rebuilt_by_looking_back(instance: dg.DagsterInstance, text: str) -> None:
    cursor, _lost = save(instance, load(instance, None), STATE_BEFORE)
    put(instance, "position", text)
    found = load(instance, cursor)
    assert (found.state.position, found.state.alerts) == (None, {"x": ALERT})
    assert found.state.looking_back


def test_what_could_not_be_read_again_is_not_stored(instance: dg.DagsterInstance) -> None:
    # A unit without a name cannot be read: it would stop every later tick.
    bad = replace(ALERT, units=(FailedUnit("", (), "no"),))
    cursor, [problem] = save(instance, load(instance, None), replace(STATE_BEFORE, alerts={"x": ALERT, "bad": bad}))
    assert problem.startswith("alerts: `bad`: units.0.unit:")
    assert load(instance, cursor).state.alerts == {"x": ALERT}


def test_a_reset_cursor_rebuilds_the_state_and_keeps_the_last_one_aside(instance: dg.DagsterInstance) -> None:
    save(instance, load(instance, None), STATE_BEFORE)
    assert load(instance, "").state == State()
    assert "title" in (stored(instance, "set_aside/alerts") or "")
