"""How a step that makes many assets says which of them failed, and why: as metadata of its failure in the event log."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from orchestration.core.redaction import redact

LONGEST_ERROR = 4_000
"""Characters of an error that are kept: it is written again at every tick while the failure lasts, and people read five lines of it."""
METADATA_KEY = "failed_units"
"""In the metadata of a step's failure, and of an observation that says so before the step has ended, or where there is no step."""
UNIT_KEY = "unit"
"""In the metadata of a check's result: the unit that answers for it, and reports its failure."""


@dataclass(frozen=True)
class FailedUnit:
    """One thing that failed as a whole: a connection, a dbt model with its tests, a sync.

    `unit` is its lasting name, such as `fivetran/product`. `asset_keys` were to be made by it. `held_up` are assets that
    were planned after it and not tried. A `permanent` error is the same again when the same is tried again: bad SQL, a missing
    permission, a connection that wants to be set up anew.
    """

    unit: str
    asset_keys: tuple[str, ...]
    error: str
    vendor_url: str | None = None
    held_up: tuple[str, ...] = ()
    permanent: bool = False
    awaits: tuple[str, ...] = ()
    """What has to be made or to pass before it is well, where that is not its assets."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "error", readable(self.error, self.names))

    @property
    def names(self) -> frozenset[str]:
        """Names of what failed, which are no values where the error quotes them."""
        whole = (self.unit, *self.asset_keys, *self.held_up)
        return frozenset(part for name in map(str, whole) for part in (name, *name.split("/")) if part)


FIELDS = {field.name for field in fields(FailedUnit)}
TUPLES = ("asset_keys", "held_up", "awaits")


def readable(error: object, names: Collection[str] = ()) -> str:
    """Return an error as text that every storage and channel takes, redacted before it is cut."""
    text = redact(str(error), names)
    if len(text) <= LONGEST_ERROR:
        return text
    # What went wrong stands first or, in a traceback, last.
    half = LONGEST_ERROR // 2
    head, tail = re.sub(r"\S*$", "", text[:half]), re.sub(r"^\S*", "", text[-half:])
    return f"{head.rstrip()}\n…\n{tail.lstrip()}"


def to_metadata(failures: Iterable[FailedUnit]) -> dict[str, Any]:
    """Metadata for `dagster.Failure`."""
    return {METADATA_KEY: [asdict(failure) for failure in failures]}


def from_metadata(metadata: Mapping[str, Any]) -> list[FailedUnit] | None:
    """The failures of a step; None where it did not report any. `metadata` has Dagster's values unwrapped.

    Raises ValueError for a report that cannot be read.
    """
    report = metadata.get(METADATA_KEY)
    if report is None:
        return None
    try:
        items = json.loads(report) if isinstance(report, str) else report
        return [_unit(item) for item in items]
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(f"a step's failure report cannot be read: {error}") from error


def _unit(item: Mapping[str, Any]) -> FailedUnit:
    # Names that are not known here were written by another version of this code.
    known: dict[str, Any] = {name: value for name, value in item.items() if name in FIELDS}
    known |= {name: tuple(map(str, known[name])) for name in TUPLES if name in known}
    return FailedUnit(**known)


def summary(failures: Iterable[FailedUnit]) -> str:
    """One line a failure, for the run's own page."""
    return "\n".join(f"{failure.unit}: {failure.error}" for failure in failures)
