"""Read every vendor again, side by side, and publish what the code location loads with. What cannot be read keeps its last state."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import UTC, datetime

from orchestration.components.publication import Progress, Published, Publisher
from orchestration.components.saved_state import Candidate, Refreshed, SavedState, StateRefused, VendorState, explain
from orchestration.components.state_bucket import StateBucket
from orchestration.components.state_files import StateLocked, finish_publication, open_staging
from orchestration.components.state_proof import LOCATION, ProofProcess
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


def ignore_progress(_text: str) -> None:
    """Report no progress."""


def components() -> Sequence[SavedState]:
    """Return the parts of the graph that have a saved state, as `defs/` configures them. Raises SettingsError."""
    tree = load_tree()
    values = check_settings(read_needs(tree))
    finish_publication(values.dataplatform_state_dir)
    return tree.get_all_components(SavedState)


def refresh_all(
    found: Sequence[SavedState],
    say: Say,
    *,
    only_stale: bool = False,
    progress: Progress = ignore_progress,
    location: str = LOCATION,
) -> list[Line]:
    """Read every part, or only those that have no state or an outdated one, and publish those that the code location loads with.

    Each part has one line, which `say` gets as soon as it is known. `progress` gets a line about work that takes longer. `location` is the
    module of the code location. What production reads is kept in Cloud Storage too, where there is a bucket for it.
    """
    lines: list[Line] = []

    def tell(line: Line) -> None:
        lines.append(line)
        say(line)

    faults = {part.state_name: fault for part in found if (fault := part.find_fault())}
    due = [part for part in found if not only_stale or part.state_name in faults or part.stale()]
    for part in found:
        if part not in due:
            tell(Line(part.state_name, f"{part.state_name}: up to date", read_at=part.read_at()))
    if not due:
        return lines
    with open_staging(settings().dataplatform_state_dir) as folder, ProofProcess(folder, location) as process:
        publisher = Publisher(folder, location, progress, process=process)
        if bucket := _production_bucket():
            publisher.read_proof, publisher.record_proof = bucket.read_proof, bucket.record_proof
        candidates, seconds = list[Candidate](), dict[str, float]()
        with ThreadPoolExecutor(len(due)) as pool:
            began = time.monotonic()
            started = {pool.submit(part.stage, folder): part for part in due}
            for future in as_completed(started):
                part = started[future]
                seconds[part.state_name] = time.monotonic() - began
                match future.exception():
                    case None:
                        candidates.append(future.result())
                    case StateRefused() as error:
                        tell(_kept(part, publisher.reject(part, error.path, error.cause)))
                    case error:
                        tell(_kept(part, _text(error)))
        if not candidates:
            return lines
        progress(f"{len(candidates)} of {len(due)} parts were read ({max(seconds.values()):.1f} s)")
        unkept = dict[str, str]()
        try:
            came = publisher.publish(candidates, lambda published: unkept.update(_push(published)))
        except StateLocked as error:
            for candidate in candidates:
                tell(_kept(candidate.part, f"{error}."))
            return lines
        for line in _lines(candidates, came, seconds, faults):
            tell(line if line.name not in unkept else _unkept(line, unkept[line.name]))
    return lines


def pull(
    found: Sequence[SavedState], say: Say, *, progress: Progress = ignore_progress, location: str = LOCATION
) -> list[Line]:
    """Take each vendor's state from the bucket, where it is newer than the one here and the code location loads with it.

    Arguments as for `refresh_all`. Raises SettingsError where there is no bucket.
    """
    bucket = StateBucket.required()
    lines: list[Line] = []

    def tell(line: Line) -> None:
        lines.append(line)
        say(line)

    parts = [part for part in found if isinstance(part, VendorState)]
    with open_staging(settings().dataplatform_state_dir) as folder:
        publisher = Publisher(folder, location, progress, read_proof=bucket.read_proof)
        candidates = list[Candidate]()
        for part, took in bucket.stage_newer(parts, folder):
            if isinstance(took, StateRefused):
                tell(_kept(part, publisher.reject(part, took.path, took.cause)))
            elif isinstance(took, Exception):
                tell(_kept(part, _text(took)))
            elif took is None:
                tell(Line(part.state_name, f"{part.state_name}: up to date", read_at=part.read_at()))
            else:
                candidates.append(took)
        if not candidates:
            return lines
        try:
            came = publisher.publish(candidates)
        except StateLocked as error:
            came = Published(refused={candidate.part.state_name: f"{error}." for candidate in candidates})
        for candidate in candidates:
            part, name = candidate.part, candidate.part.state_name
            if name in came.refused:
                tell(_kept(part, came.refused[name]))
            else:
                text = "up to date" if candidate in came.superseded else "taken from the bucket"
                tell(Line(name, f"{name}: {text}", read_at=part.read_at()))
    return lines


def _production_bucket() -> StateBucket | None:
    # What a developer's keys see is not what production runs.
    return StateBucket.configured() if settings().dbt_target == "prod" else None


def _push(published: Sequence[Candidate]) -> dict[str, str]:
    """Keep what was published in the bucket, if there is one; return why a part was not kept, by its name."""
    bucket = _production_bucket()
    parts = [one.part for one in published if isinstance(one.part, VendorState)]
    if bucket is None or not parts:
        return {}
    with ThreadPoolExecutor(len(parts)) as pool:
        pushed = {part.state_name: pool.submit(bucket.push, part) for part in parts}
    return {name: str(error) for name, future in pushed.items() if (error := future.exception())}


def _lines(
    candidates: Sequence[Candidate], came: Published, seconds: dict[str, float], faults: dict[str, str]
) -> list[Line]:
    lines: list[Line] = []
    for candidate in candidates:
        part, name = candidate.part, candidate.part.state_name
        if name in came.refused:
            lines.append(_kept(part, came.refused[name]))
        elif candidate in came.superseded:
            lines.append(Line(name, f"{name}: up to date, another refresh has read it since", read_at=part.read_at()))
        else:
            read = candidate.refreshed
            text = f"{name}: refreshed, {read.assets} assets{_changes(read)} ({seconds[name]:.1f} s)"
            if name in faults:
                text += f". The state before counts as none: {faults[name]}"
            lines.append(Line(name, text, refreshed=read, read_at=part.read_at()))
    named = {line.name for line in lines}
    for name, why in came.unloadable.items():
        if name not in named:
            text = f"{name}: the code location does not load with the state that is in place: {why} Refresh it"
            lines.append(Line(name, text, failed=True))
    return lines


def _text(error: BaseException) -> str:
    """Return an error's message; with its kind, where Python's own say little without."""
    return explain(error) if isinstance(error, LookupError | TypeError | AttributeError) else str(error)


def _unkept(line: Line, why: str) -> Line:
    text = f"{line.name}: read, but not kept in the bucket: {why}"
    return Line(line.name, text, failed=True, read_at=line.read_at, only_here=True)


def _kept(part: SavedState, why: str) -> Line:
    read_at = part.read_at()
    if read_at:
        kept = f"its last state, {age(datetime.now(UTC) - read_at)} old, is kept"
    elif fault := part.find_fault():
        kept = f"and the state in {settings().dataplatform_state_dir} cannot be used: {fault}"
    else:
        kept = f"there is no state in {settings().dataplatform_state_dir} yet"
    return Line(part.state_name, f"{part.state_name}: not refreshed, {kept}. {why}", failed=True, read_at=read_at)


def _changes(came: Refreshed) -> str:
    return "".join(f"; {_named(word, keys)}" for word, keys in (("new", came.new), ("gone", came.gone)) if keys)


def _named(word: str, keys: Sequence[str]) -> str:
    more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
    return f"{word}: {', '.join(keys[:NAMED])}{more}"
