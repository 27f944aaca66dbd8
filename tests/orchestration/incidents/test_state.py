from __future__ import annotations

from datetime import UTC, datetime

import pytest

from orchestration.incidents.state import OpenAlert, State, Waiting, dumps, loads
from orchestration.vendors.incident_io import AlertEvent


def test_the_state_survives_the_cursor() -> None:
    alert = OpenAlert(
        "fivetran/product", "k", datetime(2026, 11, 23, tzinfo=UTC), 1.5, frozenset({"a/b", "c/d"}), "title"
    )
    event = AlertEvent("k", "firing", "title", "text", "https://x", {"assets": ["a/b"], "customer_facing": True})
    state = State(7, {"run": 1.5}, {"fivetran/product": alert}, (Waiting(event, 3),))
    assert loads(dumps(state)) == state


def test_no_cursor_is_the_first_state() -> None:
    assert loads(None) == loads("") == State()


@pytest.mark.parametrize("cursor", ["12", "{}", "not json", '{"after": 1, "handled": {}, "open": [], "waiting": {}}'])
def test_a_cursor_that_cannot_be_read_is_an_error_with_the_remedy(cursor: str) -> None:
    with pytest.raises(ValueError, match="reset it in the UI"):
        loads(cursor)
