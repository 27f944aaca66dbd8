"""Publish what was read: a new state takes the place of the last one only after the whole code location was built from it."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orchestration.components.dbt_files import FOLDER, MANIFEST, find_fault
from orchestration.components.saved_state import Candidate, SavedState, explain, read_stamped
from orchestration.components.state_choice import Choice, choose
from orchestration.components.state_culprits import find_culprits, name_culprits
from orchestration.components.state_files import (
    LOCK_SECONDS,
    PUBLISHING,
    REJECTED,
    STAGING,
    finish_publication,
    forget_rejected,
    lock,
    publish_files,
    set_aside,
)
from orchestration.components.state_fingerprint import fingerprint
from orchestration.components.state_proof import LOCATION, SECONDS, Proof, ProofProcess
from orchestration.settings import settings

Progress = Callable[[str], None]
"""Called with a line about work that takes more than a moment."""
ERROR_LENGTH = 1500
"""So many characters of an error are in a message; the file in `rejected` has all of it."""


@dataclass(frozen=True)
class Published:
    """What became of the candidates of one refresh."""

    published: tuple[Candidate, ...] = ()
    superseded: tuple[Candidate, ...] = ()
    """Those that another refresh has a newer state of, in place already."""
    refused: Mapping[str, str] = field(default_factory=dict[str, str])
    """The names of those that stay out, each with why and what to change."""
    unloadable: Mapping[str, str] = field(default_factory=dict[str, str])
    """States that were in place before, by name, with which the code location does not load; each with the error."""


@dataclass
class Publisher:
    """Publishes candidates in the state directory of the settings. `staging` is where they are, a folder in it."""

    staging: Path
    location: str = LOCATION
    """The module of the code location."""
    progress: Progress = print
    proof_seconds: float = SECONDS
    """How long building the code location once may take."""
    search_seconds: float = 600
    """How long all builds of one publication may take together."""
    lock_seconds: float = LOCK_SECONDS
    """How long another refresh that publishes is waited for."""
    process: ProofProcess | None = None
    """A process that was started before, for the first build."""
    read_proof: Callable[[], str | None] | None = None
    """Returns the fingerprint of the last code location that another process has built, with its code and states: see `record_proof`."""
    record_proof: Callable[[str], None] | None = None
    """Called with the fingerprint of the code location after each publication that leaves one which loads. Where it is given, the code
    location is built even from states without changes, if its fingerprint is not the last one."""

    _until: float = field(default=0.0, init=False)

    def publish(
        self, candidates: Sequence[Candidate], keep: Callable[[Sequence[Candidate]], None] = lambda _published: None
    ) -> Published:
        """Put the candidates in place that the code location loads with, and keep the others aside with their errors.

        `keep` is called with those that were put in place, while no other refresh can publish. Raises StateLocked.
        """
        state = settings().dataplatform_state_dir
        with lock(state, self.lock_seconds, lambda: self.progress("waiting for another refresh that is publishing")):
            finish_publication(state)
            superseded = [candidate for candidate in candidates if _is_superseded(candidate)]
            current = [candidate for candidate in candidates if candidate not in superseded]
            changed = [candidate for candidate in current if candidate.part.differs(candidate.path)]
            in_place = read_in_place(state)
            choice, proven = self._prove(in_place, changed)
            refused, unloadable = self._explain(choice, changed, in_place), dict[str, str]()
            for name, proof in choice.unloadable.items():
                unloadable[name] = self._describe(proof, in_place[name], None)
            published = [candidate for candidate in current if candidate.part.state_name not in refused]
            publish_files(state, self.staging, [candidate.path for candidate in published])
            for candidate in published:
                forget_rejected(state, candidate.part.state_name)
            keep(published)
            if proven and not unloadable and self.record_proof:
                self.record_proof(fingerprint(read_in_place(state)))
        return Published(tuple(published), tuple(superseded), refused, unloadable)

    def reject(self, part: SavedState, path: Path, error: Exception) -> str:
        """Keep a state aside from which no assets can be built. Return which object is at fault, and why."""
        state = settings().dataplatform_state_dir
        text = self._describe(Proof(explain(error)), path, _last(state, part.state_name))
        kept = set_aside(state, path, text)
        return f"{text} Change that and refresh again. What was read is in {kept}."

    def _prove(self, in_place: Mapping[str, Path], changed: Collection[Candidate]) -> tuple[Choice, bool]:
        """Return which of the changed states can be published, and whether the code location was built with them just now."""
        new = {candidate.part.state_name: candidate.path for candidate in changed}
        wanted = changed or self.record_proof
        if wanted and self.read_proof and self.read_proof() == fingerprint({**in_place, **new}):
            return Choice(frozenset(new)), False
        self._until = time.monotonic() + self.search_seconds
        if changed:
            choice = self._choose(in_place, changed)
            return choice, choice.undecided is None
        return Choice(), bool(wanted) and self._build(in_place).loads

    def _choose(self, in_place: Mapping[str, Path], changed: Collection[Candidate]) -> Choice:
        new = {candidate.part.state_name: candidate.path for candidate in changed}
        self.progress(f"building the code location from {', '.join(sorted(new))}")
        began, builds = time.monotonic(), 0

        def build(states: Mapping[str, Path]) -> Proof:
            nonlocal builds
            builds += 1
            if builds == 2:
                self.progress(
                    f"the code location does not load ({time.monotonic() - began:.1f} s): finding which state is at fault"
                )
            return self._build(states)

        def suspects(error: str, names: Iterable[str]) -> list[str]:
            # Those first of which the error names something that has changed.
            return sorted(names, key=lambda name: not find_culprits(error, new[name], in_place.get(name)))

        return choose(in_place, new, build, suspects)

    def _build(self, states: Mapping[str, Path]) -> Proof:
        folder = Path(tempfile.mkdtemp(prefix="build-", dir=self.staging))
        for name, path in states.items():
            (folder / name).symlink_to(path.resolve())
        process, self.process = self.process or ProofProcess(self.staging, self.location), None
        with process:
            return process.build(folder, max(0.0, min(self.proof_seconds, self._until - time.monotonic())))

    def _explain(self, choice: Choice, changed: Collection[Candidate], in_place: Mapping[str, Path]) -> dict[str, str]:
        """Return why each candidate that is not published is not, and keep aside those that are at fault."""
        state, said = settings().dataplatform_state_dir, dict[str, str]()
        for candidate in changed:
            name = candidate.part.state_name
            if name in choice.published:
                continue
            if name in choice.refused:
                proof = choice.refused[name]
                text = self._describe(proof, candidate.path, in_place.get(name))
                kept = set_aside(state, candidate.path, f"{text}\n\n{proof.trace}")
                said[name] = (
                    f"The code location does not load with it. {text} Change that and refresh again. What was read is in {kept}."
                )
            elif choice.undecided is not None:
                said[name] = self._undecided(choice.undecided)
        return said

    @staticmethod
    def _undecided(proof: Proof) -> str:
        if not proof.finished:
            return f"It could not be proven that the code location loads with it: {proof.error}. {proof.trace}".strip()
        return (
            "The code location does not load whatever the states are, so that nothing can be proven. Fix that first, and refresh again: "
            f"{_short(proof.error)}"
        )

    @staticmethod
    def _describe(proof: Proof, path: Path, last: Path | None) -> str:
        """Return which object of a state is at fault, and the error, as sentences."""
        culprits = name_culprits(find_culprits(f"{proof.error}", path, last))
        return f"{f'At fault: {culprits}. ' if culprits else ''}{_short(proof.error)}"


def read_in_place(state: Path) -> dict[str, Path]:
    """Return the states of a directory that can be read, by name: what the code location can be built from."""
    found = dict[str, Path]()
    for path in sorted(state.iterdir()):
        if path.name in (PUBLISHING, REJECTED) or path.name.startswith(STAGING):
            continue
        if path.name == FOLDER:
            if (path / MANIFEST).is_file() and find_fault(path / MANIFEST) is None:
                found[path.name] = path
        elif path.suffix == ".json":
            try:
                read_stamped(path)
            except (OSError, ValueError):
                continue
            found[path.name] = path
    return found


def _last(state: Path, name: str) -> Path | None:
    return state / name if os.path.exists(state / name) else None


def _is_superseded(candidate: Candidate) -> bool:
    read_at = candidate.part.read_at()
    return read_at is not None and read_at > candidate.read_at


def _short(error: str | None) -> str:
    text = " ".join((error or "").split())
    text = text if len(text) <= ERROR_LENGTH else f"{text[:ERROR_LENGTH]} ..."
    return text if text.endswith((".", "...", "!", "?")) else f"{text}."
