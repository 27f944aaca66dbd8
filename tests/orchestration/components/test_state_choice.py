"""Which of several new states are published, over any conflicts between them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from orchestration.components.state_choice import Choice, choose
from orchestration.components.state_proof import Proof

NAMES = ("a", "b", "c", "d")
OLD, NEW = Path("old"), Path("new")
VERSION = st.tuples(st.sampled_from(NAMES), st.sampled_from([OLD, NEW]))
CONFLICTS = st.lists(st.frozensets(VERSION, min_size=1, max_size=3), max_size=4)
"""Versions of states that do not load together, or one that does not load with any other."""


class Location:
    """A code location that does not load with some versions of states, and in which some have no readable state."""

    def __init__(self, conflicts: list[frozenset[tuple[str, Path]]], unreadable: frozenset[str] = frozenset()) -> None:
        self.conflicts, self.unreadable, self.builds = conflicts, unreadable, 0

    def build(self, states: Mapping[str, Path]) -> Proof:
        self.builds += 1
        left_out = {name: "broken" for name, path in states.items() if path == NEW and name in self.unreadable}
        there = {(name, path) for name, path in states.items() if name not in left_out}
        broken = [conflict for conflict in self.conflicts if conflict <= there]
        return Proof(f"conflict {sorted(map(str, broken[0]))}" if broken else None, left_out=left_out)


def new(*names: str) -> dict[str, Path]:
    return dict.fromkeys(names, NEW)


def old(*names: str) -> dict[str, Path]:
    return dict.fromkeys(names, OLD)


@given(
    CONFLICTS,
    st.frozensets(st.sampled_from(NAMES)),
    st.frozensets(st.sampled_from(NAMES), min_size=1),
    st.frozensets(st.sampled_from(NAMES)),
)
def test_what_is_published_loads_and_nothing_more_could_be(
    conflicts: list[frozenset[tuple[str, Path]]],
    there: frozenset[str],
    read: frozenset[str],
    unreadable: frozenset[str],
) -> None:
    location, before = Location(conflicts, unreadable), old(*there)
    found = choose(before, new(*read), location.build)
    assert found.published | found.refused.keys() == read
    assert not found.published & found.refused.keys()
    assert not found.published & unreadable
    kept = {name: path for name, path in before.items() if name not in found.unloadable}
    after = {**kept, **new(*found.published)}
    assert location.build(after).loads or read <= unreadable, (
        "where nothing can be published, nothing has to be found out"
    )
    if location.build(before).loads:
        assert found.unloadable == {}
    for name in found.refused:
        proof = location.build({**after, name: NEW})
        assert not proof.loads or name in proof.left_out


def test_one_build_is_enough_where_all_load_and_one_more_finds_a_culprit_that_is_suspected() -> None:
    location = Location([])
    assert choose(old("a", "b"), new("a", "b"), location.build) == Choice(frozenset("ab"))
    assert location.builds == 1
    location = Location([frozenset({("d", NEW)})])
    found = choose(old(*NAMES), new(*NAMES), location.build, lambda _error, names: sorted(names, reverse=True))
    assert (found.published, list(found.refused), location.builds) == (frozenset("abc"), ["d"], 2)


def test_states_that_load_only_together_are_published_together_next_to_one_that_is_refused() -> None:
    moved = [frozenset({("a", NEW), ("b", OLD)}), frozenset({("a", OLD), ("b", NEW)})]
    location = Location([*moved, frozenset({("c", NEW)})])
    found = choose(old("a", "b", "c"), new("a", "b", "c"), location.build)
    assert (found.published, list(found.refused)) == (frozenset("ab"), ["c"])


def test_a_location_that_loads_with_no_state_blames_none() -> None:
    found = choose(old("a"), new("b"), lambda _states: Proof("NameError: name 'x' is not defined"))
    assert (found.published, found.refused) == (frozenset(), {})
    assert found.undecided is not None


def test_a_build_that_does_not_end_blames_none() -> None:
    found = choose(old("a"), new("a", "b"), lambda _states: Proof("took more than 9 s", finished=False))
    assert (found.published, found.refused) == (frozenset(), {})
    assert found.undecided is not None
