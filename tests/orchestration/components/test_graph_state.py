"""When the code server is told to load the graph anew, and what is remembered of it."""

from __future__ import annotations

from orchestration.components.graph_state import now_loaded
from orchestration.components.refresh import Line

READ = Line("omni.json", "omni.json: refreshed")
UNKEPT = Line("hex.json", "hex.json: read, but not kept in the bucket", failed=True, only_here=True)


def test_a_graph_is_loaded_once_and_again_where_that_failed_or_could_not_bring_it_all() -> None:
    asked: list[bool] = []

    def reload(well: bool) -> bool:
        asked.append(well)
        return well

    assert now_loaded([READ], "a", "a", lambda: reload(True)) == "a"
    assert asked == [], "nothing is new"
    assert now_loaded([READ], "a", "b", lambda: reload(False)) == "a"
    assert now_loaded([READ, UNKEPT], "a", "b", lambda: reload(True)) == "a"
    assert asked == [False, True], "what the bucket has is loaded at once all the same"
    assert now_loaded([READ], "a", "b", lambda: reload(True)) == "b"
    assert now_loaded([READ], None, "b", lambda: reload(True)) == "b"
