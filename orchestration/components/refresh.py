"""Reading every vendor anew, side by side: what has changed, and what could not be read and keeps its last state."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import UTC, datetime

from orchestration.components.saved_state import Refreshed, SavedState, VendorState
from orchestration.components.state_bucket import StateBucket
from orchestration.defs_tree import load_tree, read_needs
from orchestration.lineage.ages import age
from orchestration.settings import check_settings, settings

NAMED = 5
"""So many new or vanished assets are named in a line; of more, the number is given."""


@dataclass(frozen=True)
class Line:
    """What came of one part, and how it is told."""

    name: str
    text: str
    failed: bool = False
    refreshed: Refreshed | None = None
    read_at: datetime | None = None
    """When the state was read that the part has now; None where it has none."""
    only_here: bool = False
    """Whether the state that was read is in the part's own folder alone, and not in the bucket from which others take it."""


Say = Callable[[Line], None]


def components() -> Sequence[SavedState]:
    """The parts of the graph that have a saved state, as `defs/` configures them. Raises SettingsError."""
    tree = load_tree()
    check_settings(read_needs(tree))
    return tree.get_all_components(SavedState)


def refresh_all(found: Sequence[SavedState], say: Say, *, only_stale: bool = False) -> list[Line]:
    """Read every part, or only those that have no state or an outdated one; each is told as soon as it is read.

    What production reads is kept in Cloud Storage too, where there is a bucket for it.
    """
    lines: list[Line] = []

    def tell(line: Line) -> None:
        lines.append(line)
        say(line)

    due = [part for part in found if not only_stale or part.stale()]
    for part in found:
        if part not in due:
            tell(Line(part.state_name, f"{part.state_name}: up to date", read_at=part.read_at()))
    # What a developer's keys see is not what production runs.
    bucket = StateBucket.configured() if settings().dbt_target == "prod" else None
    with ThreadPoolExecutor(len(due) or 1) as pool:
        began = time.monotonic()
        started = {pool.submit(_refresh, part, bucket): part for part in due}
        for future in as_completed(started):
            part, seconds = started[future], time.monotonic() - began
            if error := future.exception():
                tell(_kept(part, error))
            else:
                came = future.result()
                text = f"{part.state_name}: refreshed, {came.assets} assets{_changes(came)} ({seconds:.1f} s)"
                tell(Line(part.state_name, text, refreshed=came, read_at=part.read_at()))
    return lines


def pull(found: Sequence[SavedState], say: Say) -> list[Line]:
    """Take each vendor's state from the bucket, where it is newer than the one here. Raises SettingsError where there is no bucket."""
    bucket = StateBucket.required()
    lines: list[Line] = []
    for part in (part for part in found if isinstance(part, VendorState)):
        try:
            text = "taken from the bucket" if bucket.pull(part) else "up to date"
            line = Line(part.state_name, f"{part.state_name}: {text}", read_at=part.read_at())
        except Exception as error:  # each by itself: one that cannot be had leaves the others theirs
            line = _kept(part, error)
        lines.append(line)
        say(line)
    return lines


class NotKept(Exception):
    """A state was read and saved here, but the bucket did not take it."""


def _refresh(part: SavedState, bucket: StateBucket | None) -> Refreshed:
    came = part.refresh()
    if bucket is not None and isinstance(part, VendorState):
        try:
            bucket.push(part)
        except Exception as error:  # whatever Google's client raises, and what is below it
            raise NotKept(f"read, but not kept in the bucket: {error}") from error
    return came


def _kept(part: SavedState, error: BaseException) -> Line:
    read_at = part.read_at()
    if isinstance(error, NotKept):
        return Line(part.state_name, f"{part.state_name}: {error}", failed=True, read_at=read_at, only_here=True)
    kept = (
        f"its last state, {age(datetime.now(UTC) - read_at)} old, is kept"
        if read_at
        else f"there is no state in {settings().dataplatform_state_dir} yet"
    )
    return Line(part.state_name, f"{part.state_name}: not refreshed, {kept}. {error}", failed=True, read_at=read_at)


def _changes(came: Refreshed) -> str:
    return "".join(f"; {_named(word, keys)}" for word, keys in (("new", came.new), ("gone", came.gone)) if keys)


def _named(word: str, keys: Sequence[str]) -> str:
    more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
    return f"{word}: {', '.join(keys[:NAMED])}{more}"
