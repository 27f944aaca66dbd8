"""Which of several new states can be published, by building the code location from some of them at a time. Pure: the caller builds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from orchestration.components.state_proof import Proof

States = Mapping[str, Path]
"""States by the names of their parts: files or folders."""
Build = Callable[[States], Proof]
"""Builds the code location from these states alone: other parts make no assets."""
Suspects = Callable[[str, Iterable[str]], list[str]]
"""Puts the names of parts in order: first those that an error's text points to."""


@dataclass(frozen=True)
class Choice:
    """Which candidates can be published, and why the others cannot."""

    published: frozenset[str] = frozenset()
    refused: Mapping[str, Proof] = field(default_factory=dict[str, Proof])
    """The candidates that the code location does not load with, each with what came of building it."""
    unloadable: Mapping[str, Proof] = field(default_factory=dict[str, Proof])
    """The states in place that the code location does not load with, and that have no candidate which it loads with."""
    undecided: Proof | None = None
    """Why no candidate can be judged: the location does not load whatever the states are, or building it has not ended."""


def in_given_order(_error: str, names: Iterable[str]) -> list[str]:
    """Suspect no part more than another."""
    return list(names)


def choose(in_place: States, candidates: States, build: Build, suspects: Suspects = in_given_order) -> Choice:
    """Return which candidates can take the place of the states in place: as many as possible, all at once if that loads.

    `in_place` has the states that can be read. The search costs one build where all is well, one more for each candidate where one is
    at fault, and up to about the square of the number of parts where several are, or where the states in place do not load either.
    """

    def build_to_the_end(states: States) -> Proof:
        proof = build(states)
        if not proof.finished:
            raise _Unfinished(proof)
        return proof

    try:
        return _choose(in_place, candidates, build_to_the_end, suspects)
    except _Unfinished as error:
        return Choice(undecided=error.proof)


class _Unfinished(Exception):
    """A build has not ended: it says nothing about any state."""

    def __init__(self, proof: Proof) -> None:
        super().__init__(proof.error)
        self.proof = proof


def _choose(in_place: States, candidates: States, build: Build, suspects: Suspects) -> Choice:
    refused, left = dict[str, Proof](), dict(candidates)
    proof = build({**in_place, **left})
    while unread := proof.left_out.keys() & left.keys():
        # No assets can be built from these alone, whatever the others are.
        refused |= {name: Proof(proof.left_out[name], proof.trace) for name in unread}
        left = {name: path for name, path in left.items() if name not in unread}
        if not left:
            return Choice(refused=refused)
        proof = build({**in_place, **left})
    if proof.loads:
        return Choice(frozenset(left), refused)
    for name in suspects(proof.error or "", left):
        others = {other: path for other, path in left.items() if other != name}
        if build({**in_place, **others}).loads:
            return Choice(frozenset(others), refused | {name: proof})
    return _grow(in_place, left, build, refused)


def _grow(in_place: States, candidates: States, build: Build, refused: Mapping[str, Proof]) -> Choice:
    """Choose one state after another, where more than one is at fault."""
    nothing = build({})
    if not nothing.loads:
        return Choice(refused=refused, undecided=nothing)
    chosen, unloadable = dict[str, Path](), dict[str, Proof]()
    if build(in_place).loads:
        chosen = dict(in_place)
    else:
        for name, path in in_place.items():
            proof = build({**chosen, name: path})
            if proof.loads:
                chosen[name] = path
            else:
                unloadable[name] = proof
    published, left, progress = set[str](), dict(candidates), True
    failed = dict[str, Proof]()
    while left and progress:
        progress = False
        for name, path in list(left.items()):  # one may load only once another one is in place
            proof = build({**chosen, name: path})
            if proof.loads:
                chosen[name] = path
                published.add(name)
                del left[name]
                unloadable.pop(name, None)
                failed.pop(name, None)
                progress = True
            else:
                failed[name] = proof
    return Choice(frozenset(published), {**refused, **failed}, unloadable)
