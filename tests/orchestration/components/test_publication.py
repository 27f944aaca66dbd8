"""New states are published only where the code location loads with them: real processes build it, and real ones are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import override

import dagster as dg
import pytest

from orchestration.components.refresh import Line, refresh_all
from orchestration.components.saved_state import Candidate, SavedState, Stamped, StateUnreadable
from orchestration.components.state_files import StateLocked, finish_publication, lock
from orchestration.components.state_proof import ProofProcess
from orchestration.settings import REPOSITORY, settings
from tests.orchestration.components.shelf_location import LOCATION, Attic, Desk, Shelf

pytestmark = pytest.mark.usefixtures("configured")
CYCLE = {"Emma": ["Persuasion"], "Persuasion": ["Emma"]}
"""Books of which each alone is an asset, and that Dagster takes for no graph."""


def refresh(*parts: SavedState, **given: str) -> dict[str, Line]:
    lines = refresh_all(parts, lambda _line: None, location=given.get("location", LOCATION))
    return {line.name: line for line in lines}


def books(part: Shelf) -> object:
    return json.loads(part.saved())


def folder() -> Path:
    return settings().dataplatform_state_dir


def names() -> set[str]:
    return {path.name for path in folder().iterdir()}


def loads() -> bool:
    """Return whether the code location loads from the state directory, in a process that does as a code server."""
    code = f"import dagster as dg; from {LOCATION} import defs; dg.Definitions.validate_loadable(defs())"
    return (
        subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, check=False).returncode == 0
    )


def place(part: Shelf, books: object) -> None:
    """Put a state in place that no refresh has proven."""
    part.put(Stamped(read_at=datetime.now(UTC) - timedelta(hours=2), source="a test", state=books))  # pyright: ignore[reportArgumentType]


def test_a_state_that_does_not_load_is_kept_aside_and_the_last_one_stays_until_a_good_one_comes() -> None:
    shelf = Shelf({"Dracula": []})
    assert not refresh(shelf)["shelf.json"].failed
    shelf.books = {"Dracula": []} | CYCLE
    line = refresh(shelf)["shelf.json"]
    assert line.failed
    assert line.text.startswith(
        "shelf.json: not refreshed, its last state, under a minute old, is kept. The code location does not load with it."
    )
    assert "Emma" in line.text
    assert "Change that and refresh again." in line.text
    assert books(shelf) == {"Dracula": []}
    kept = folder() / "rejected" / "shelf.json"
    assert str(kept) in line.text
    assert json.loads(kept.read_text())["state"] == shelf.books
    assert "Traceback" in kept.with_name("shelf.json.error.txt").read_text()
    shelf.books = {"Dracula": [], "Emma": []}
    assert not refresh(shelf)["shelf.json"].failed
    assert books(shelf) == shelf.books
    assert names() == {"shelf.json"}


def test_the_other_states_are_published_next_to_one_that_does_not_load() -> None:
    refresh(Shelf({"a": []}), Desk({"b": []}), Attic({"c": []}))
    lines = refresh(Shelf({"a2": []}), Desk({"b": []} | CYCLE), Attic({"c2": []}))
    assert {name for name, line in lines.items() if line.failed} == {"desk.json"}
    assert (books(Shelf()), books(Desk()), books(Attic())) == ({"a2": []}, {"b": []}, {"c2": []})
    lines = refresh(Shelf(CYCLE), Desk({"b2": []}), Attic({"x": ["y"], "y": ["x"]}))
    assert {name for name, line in lines.items() if line.failed} == {"shelf.json", "attic.json"}
    assert (books(Shelf()), books(Desk()), books(Attic())) == ({"a2": []}, {"b2": []}, {"c2": []})
    assert loads()


def test_two_vendors_with_one_object_the_one_that_came_last_is_refused_and_a_move_between_them_is_not() -> None:
    refresh(Shelf({"Emma": []}), Desk({"b": []}), Attic({"c": []}))
    line = refresh(Desk({"b": [], "Emma": []}))["desk.json"]
    assert line.failed
    assert "Emma" in line.text
    lines = refresh(Shelf({"a": []}), Desk({"b": [], "Emma": []}))
    assert not any(line.failed for line in lines.values())
    assert loads()


def test_at_the_first_refresh_a_vendor_that_is_down_or_at_fault_holds_the_others_up_in_nothing() -> None:
    lines = refresh(Shelf({"a": []}), Desk(error=RuntimeError("answered 502")), Attic(CYCLE))
    assert {name for name, line in lines.items() if line.failed} == {"desk.json", "attic.json"}
    assert "there is no state in" in lines["desk.json"].text
    assert books(Shelf()) == {"a": []}
    assert not loads()
    refresh(Desk({"b": []}), Attic({"c": []}))
    assert loads()


def test_a_state_in_place_that_does_not_load_holds_up_no_other_and_is_named() -> None:
    place(Desk(), CYCLE)
    lines = refresh(Shelf({"a": []}), Attic({"c": []}))
    assert (books(Shelf()), books(Attic())) == ({"a": []}, {"c": []})
    assert lines["desk.json"].failed
    assert "does not load with the state that is in place" in lines["desk.json"].text
    assert not any(lines[name].failed for name in ("shelf.json", "attic.json"))
    assert not refresh(Desk({"b": []}))["desk.json"].failed
    assert loads()


def test_a_code_location_that_loads_with_no_state_blames_none(monkeypatch: pytest.MonkeyPatch) -> None:
    refresh(Shelf({"a": []}), Desk({"b": []}))
    monkeypatch.setenv("SHELF_FAULT", "the schedule has no job")
    lines = refresh(Shelf({"a2": []}), Desk({"b2": []}))
    assert all(line.failed for line in lines.values())
    assert "does not load whatever the states are" in lines["shelf.json"].text
    assert "the schedule has no job" in lines["shelf.json"].text
    assert (books(Shelf()), books(Desk())) == ({"a": []}, {"b": []})
    assert names() == {"shelf.json", "desk.json"}, "nothing is kept aside that is not at fault"


def test_a_state_with_the_same_content_is_published_without_a_proof() -> None:
    refresh(Shelf({"a": []}))
    before = Shelf().stamped()
    line = refresh(Shelf({"a": []}), location="tests.no_such_location")["shelf.json"]
    after = Shelf().stamped()
    assert before is not None
    assert after is not None
    assert (line.failed, after.state) == (False, {"a": []})
    assert after.read_at > before.read_at


@pytest.mark.parametrize(("fault", "said"), [("die", "was killed by signal 9"), ("sleep", "took more than 3 s")])
def test_a_proof_that_does_not_end_says_so_and_blames_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fault: str, said: str
) -> None:
    monkeypatch.setenv("SHELF_FAULT", fault)
    with ProofProcess(tmp_path, LOCATION) as process:
        proof = process.build(tmp_path, 3 if fault == "sleep" else 120)
    assert (proof.finished, proof.loads) == (False, False)
    assert said in (proof.error or "")


BROKEN = {
    "empty": "",
    "no JSON": "{'read_at'",
    "cut off": '{"read_at": "2026-11-26T00:00:00Z", "source": "s", "state": {"a": [',
    "a list": "[]",
    "no state": '{"read_at": "2026-11-26T00:00:00Z", "source": "s"}',
    "no time": '{"source": "s", "state": {}}',
    "another version": '{"read_at": "2026-11-26T00:00:00Z", "source": "s", "state": {"a": 7}}',
    "a list in it": '{"read_at": "2026-11-26T00:00:00Z", "source": "s", "state": ["a"]}',
    "nothing in it": '{"read_at": "2026-11-26T00:00:00Z", "source": "s", "state": null}',
}


@pytest.mark.parametrize("content", [*BROKEN.values(), None], ids=[*BROKEN, "a folder"])
def test_an_unreadable_state_counts_as_none_and_a_load_names_the_command(content: str | None) -> None:
    folder().mkdir()
    path = folder() / "shelf.json"
    if content is None:
        path.mkdir()
        (path / "precious").touch()
    else:
        path.write_text(content)
    with pytest.raises(StateUnreadable, match=r"saved state of shelf\.json at .*Run `dataplatform refresh`\."):
        Shelf().build_defs(dg.ComponentTree.for_test().load_context)
    line = refresh(Shelf({"a": []}))["shelf.json"]
    assert not line.failed
    assert "The state before counts as none: " in line.text
    assert books(Shelf()) == {"a": []}
    if content is None:
        assert (folder() / "rejected" / "shelf.json.replaced" / "precious").exists()


KILL = """
import os, signal, sys

count, last, below = 0, int(sys.argv[1]), sys.argv[2]

def kill(event, arguments):
    global count
    if event == "os.rename" and below in str(arguments):
        count += 1
        if count == last:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(kill)
"""
"""Has a process kill itself before its n-th rename below a folder; never where n is 0."""

PUBLISH = f"""{KILL}
from pathlib import Path
from orchestration.components.state_files import open_staging, publish_files

version, state = sys.argv[3], Path(below)
with open_staging(state) as staging:
    for name in ("a.json", "b.json", "dbt/manifest.json", "dbt/partial_parse.msgpack"):
        (staging / name).parent.mkdir(exist_ok=True)
        (staging / name).write_text(version)
    publish_files(state, staging, [staging / name for name in ("a.json", "b.json", "dbt")])
"""

REFRESH = f"""{KILL}
from orchestration.components.refresh import refresh_all
from tests.orchestration.components.shelf_location import LOCATION, Attic, Desk, Shelf

version = int(sys.argv[3])
books = {{part: {{f"{{part.__name__}}_{{version}}": []}} for part in (Shelf, Desk, Attic)}}
books[Shelf if version % 2 else Desk]["moved"] = []
refresh_all([part(own) for part, own in books.items()], lambda line: None, location=LOCATION)
"""
"""Refreshes three vendors to a version. A book moves between two of them with each version."""


def run(script: str, version: int, last: int = 0) -> int:
    """Run a script, killed before its n-th rename where that is given, and return its exit status."""
    command = [sys.executable, "-c", script, str(last), str(folder()), str(version)]
    return subprocess.run(command, cwd=REPOSITORY, check=False).returncode


def test_a_publication_that_is_killed_before_any_of_its_renames_leaves_files_that_go_together() -> None:
    def versions() -> list[str]:
        finish_publication(folder())  # what whoever reads a state does first
        files = (
            folder() / "a.json",
            folder() / "b.json",
            folder() / "dbt" / "manifest.json",
            folder() / "dbt" / "partial_parse.msgpack",
        )
        return sorted({file.read_text() for file in files})

    assert run(PUBLISH, 0) == 0
    (folder() / "dbt" / "runs").mkdir()
    seen, killed = ["0"], 0
    while run(PUBLISH, killed + 1, killed + 1):
        assert len(versions()) == 1
        seen += versions()
        killed += 1
    assert killed == 8, "three into the folder, its own, and four into place"
    assert seen == ["0"] * 5 + ["5", "6", "7", "8"], "from the rename of the folder on they are published"
    assert versions() == ["9"]
    assert (folder() / "dbt" / "runs").is_dir()


def test_a_refresh_that_is_killed_while_it_publishes_leaves_a_code_location_that_loads() -> None:
    assert run(REFRESH, 1) == 0
    for version, last in ((2, 3), (3, 6)):
        assert run(REFRESH, version, last) == -signal.SIGKILL
        assert loads()
    assert books(Shelf()) == {"Shelf_3": [], "moved": []}
    assert run(REFRESH, 4) == 0
    assert loads()


def test_refreshes_at_the_same_time_leave_states_that_load_together() -> None:
    with ThreadPoolExecutor() as pool:
        assert list(pool.map(lambda version: run(REFRESH, version), (1, 2, 3))) == [0, 0, 0]
    assert loads()
    assert names() - {"rejected"} == {"shelf.json", "desk.json", "attic.json"}


def test_a_refresh_that_has_read_earlier_replaces_no_state_that_was_read_later() -> None:
    class Slow(Shelf):
        """Another refresh reads and publishes while this one has read and not published yet."""

        @override
        def stage(self, folder: Path) -> Candidate:
            candidate = super().stage(folder)
            assert not refresh(Shelf({"later": []}))["shelf.json"].failed
            return candidate

    line = refresh(Slow({"earlier": []}))["shelf.json"]
    assert (line.failed, line.text) == (False, "shelf.json: up to date, another refresh has read it since")
    assert books(Shelf()) == {"later": []}


def test_a_lock_that_is_held_too_long_is_told_and_ends_with_its_process() -> None:
    folder().mkdir()
    code = f"import time\nfrom pathlib import Path\nfrom orchestration.components.state_files import lock\nwith lock(Path({str(folder())!r})):\n    print('held', flush=True)\n    time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", code], cwd=REPOSITORY, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    with pytest.raises(StateLocked, match="another refresh has been publishing"), lock(folder(), 0.5):
        pass
    holder.kill()
    holder.wait()
    with lock(folder(), 5):
        pass


def test_what_a_killed_refresh_has_left_is_removed_by_the_next_one() -> None:
    left = folder() / "staging-left"
    left.mkdir(parents=True)
    (left / "shelf.json").write_text("half")
    hour_ago = time.time() - 3600
    os.utime(left, (hour_ago, hour_ago))
    refresh(Shelf({"a": []}))
    assert names() == {"shelf.json"}


def test_a_publication_that_was_interrupted_is_finished_by_whoever_looks_next() -> None:
    refresh(Shelf({"old": []}), Desk({"old_too": []}))
    publishing = folder() / "publishing"
    publishing.mkdir()
    for part in (Shelf, Desk):
        new = Stamped(read_at=datetime.now(UTC), source="a test", state={"new": []})
        (publishing / part.state_name).write_text(new.model_dump_json())
    finish_publication(folder())
    assert (books(Shelf()), books(Desk())) == ({"new": []}, {"new": []})
    assert not publishing.exists()
