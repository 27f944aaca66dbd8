from __future__ import annotations

import pytest

from orchestration.incidents.outbox import Waiting
from orchestration.incidents.state import STATE, Alert, Opening, Pending, Position, State, loads
from orchestration.lineage.failures import FailedUnit
from orchestration.vendors.incident_io import AlertEvent

UNIT = FailedUnit("fivetran/product", ("a/b", "c/d"), "no", None, ("e/f",), permanent=True, awaits=("check:a/b:c",))


def test_the_state_survives_the_cursor() -> None:
    alert = Alert("x", "asset", "x:1", (UNIT,), {"a/b": 1.5}, 1.0, 2.0, told=True, title="title", left=("a/b",))
    pending = Pending(
        {"fivetran/product": UNIT}, {"fivetran/product": ("a/b",)}, {"fivetran/product": 1.0}, 1, "r", None, 9.0
    )
    event = AlertEvent("k", "firing", "title", "text", "https://x", {"assets": ["a/b"], "customer_facing": True})
    state = State(
        Position(1.0, 7, ((1.0, 5),), {"sensor": 1.0}),
        {"run:a": 1.5},
        {"x": alert},
        {"a": pending},
        {"x": (Opening(1.0, transient=True),)},
        (Waiting(event, 3.0, carried=("firing:slack",)),),
    )
    assert loads(STATE.dump_json(state).decode()) == state


@pytest.mark.parametrize("cursor", ["12", "not json", '{"after": 1}', '{"position": 1}', '{"alerts": {"x": {}}}'])
def test_a_cursor_of_an_earlier_version_that_cannot_be_read_is_an_error(cursor: str) -> None:
    with pytest.raises(ValueError, match=": "):
        loads(cursor)
