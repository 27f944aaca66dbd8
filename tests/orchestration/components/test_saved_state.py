"""The saved state of a vendor over refreshes that bring more, less, nothing, or an error."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orchestration.components.refresh import Line, refresh_all
from orchestration.components.saved_state import Refreshed, StateIncomplete, StateMissing
from tests.orchestration.components.shelf_location import LOCATION, Shelf

pytestmark = pytest.mark.usefixtures("configured")


def refreshed(shelf: Shelf) -> Line:
    told: list[Line] = []
    lines = refresh_all([shelf], told.append, location=LOCATION)
    assert lines == told
    return lines[0]


def test_what_is_new_and_what_is_gone_is_told_but_for_the_first_time() -> None:
    shelf = Shelf({"a": ["x"], "b": []})
    assert shelf.stale()
    assert refreshed(shelf).refreshed == Refreshed(2)
    assert not shelf.stale()
    assert shelf.refresh() == Refreshed(2)
    shelf.books = {"a": ["x", "y"], "c": [], "d": []}
    line = refreshed(shelf)
    assert line.refreshed == Refreshed(3, ("c", "d"), ("b",))
    assert line.text.startswith("shelf.json: refreshed, 3 assets; new: c, d; gone: b (")
    shelf.books = {"a": ["x"], "c": [], "d": []}
    assert shelf.refresh() == Refreshed(3)


def test_the_state_says_when_it_was_read_and_from_where() -> None:
    shelf = Shelf({"a": []})
    before = datetime.now(UTC)
    shelf.refresh()
    stamped = shelf.stamped()
    assert stamped is not None
    assert (stamped.source, stamped.state) == ("https://shelf.example.com", {"a": []})
    assert before <= stamped.read_at <= datetime.now(UTC)


def test_a_vendor_that_is_down_keeps_its_last_state_and_its_age_is_told() -> None:
    shelf = Shelf({"a": []}, error=RuntimeError("Shelf: GET /books answered 502"))
    line = refreshed(shelf)
    assert (line.failed, line.read_at) == (True, None)
    assert "shelf.json: not refreshed, there is no state in " in line.text
    shelf.error = None
    shelf.refresh()
    stamped = shelf.stamped()
    assert stamped is not None
    shelf.put(stamped.model_copy(update={"read_at": stamped.read_at - timedelta(hours=3, minutes=20, seconds=5)}))
    shelf.error = RuntimeError("Shelf: GET /books answered 502")
    line = refreshed(shelf)
    assert line.failed
    assert line.text == (
        "shelf.json: not refreshed, its last state, 3 h 20 min old, is kept. Shelf: GET /books answered 502"
    )
    assert json.loads(shelf.saved()) == {"a": []}


def test_a_vendor_that_lists_nothing_any_more_takes_nothing_out_of_the_graph() -> None:
    shelf = Shelf({})
    assert shelf.refresh() == Refreshed(0)
    shelf.books = {"a": []}
    shelf.refresh()
    shelf.books = {}
    with pytest.raises(
        StateIncomplete, match=r"https://shelf.example.com lists nothing any more, .* 1 assets .* delete"
    ):
        shelf.refresh()
    assert json.loads(shelf.saved()) == {"a": []}
    shelf.state_path().unlink()
    assert shelf.refresh().assets == 0


@pytest.mark.parametrize(
    "content", ['{"a": []}', "", '{"read_at": "2026-11-26T00:00:00Z", "source": "s", "state": {"a": 7}}']
)
def test_a_state_that_an_older_version_wrote_is_read_anew(content: str) -> None:
    shelf = Shelf({"a": []})
    shelf.state_path().parent.mkdir(parents=True, exist_ok=True)
    shelf.state_path().write_text(content)
    assert shelf.refresh().assets == 1
    assert json.loads(shelf.saved()) == {"a": []}


def test_without_a_state_the_command_that_makes_it_is_named() -> None:
    with pytest.raises(StateMissing, match=r"no saved state of shelf.json at .*: run `dataplatform refresh`"):
        Shelf.saved()


def test_nothing_is_left_beside_the_state(tmp_path: Path) -> None:
    shelf = Shelf({"a": []})
    shelf.refresh()
    shelf.error = RuntimeError("down")
    refreshed(shelf)
    assert [path.name for path in shelf.state_path().parent.iterdir()] == ["shelf.json"]
