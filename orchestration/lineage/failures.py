"""How a step that makes many assets says which of them failed, and why: as metadata of its failure in the event log."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from orchestration.core.causes import Cause
from orchestration.core.redaction import redact

LONGEST_ERROR = 4_000
"""Characters of an error that are kept: it is written again at every tick while the failure lasts, and people read five lines of it."""
METADATA_KEY = "dataplatform/failed_units"
"""Metadata of a step's failure, and of an observation that reports a failure before the step has ended, or where there is no step.

Any code in the instance may write metadata, so that the name is in a namespace of this project.
"""
UNIT_KEY = "dataplatform/unit"
"""Metadata of a check's result: the unit that answers for the check, and reports its failure."""

SYNC_KEY = "dataplatform/sync"
"""Metadata by which a run says which sync of a vendor is its own, of a materialization or an observation of the sync's first asset:
`SYNC_STARTED` before it asks for one, and then the vendor's identity of the sync that it has seen end, such as `hightouch/17/4711`, or
`NO_SYNC` where it is done without having seen one end."""
SYNC_STARTED, NO_SYNC = "started", "none"

Name = Annotated[str, Field(strict=True, min_length=1)]


class UnreadableReportError(ValueError):
    """A failure report that is not one. The message says which part of it is wrong, without the value."""


@dataclass(frozen=True)
class FailedUnit:
    """One thing that failed as a whole: a connection, a dbt model with its tests, a sync.

    `unit` is its lasting name, such as `fivetran/product`. `asset_keys` were to be made by it. `held_up` are assets that
    were planned after it and not tried. A `permanent` error is the same again when the same is tried again: bad SQL, a missing
    permission, a connection that has to be authorized again.
    """

    # Names that are unknown here were written by another version of this code.
    __pydantic_config__ = ConfigDict(extra="ignore")

    unit: Name
    asset_keys: tuple[Name, ...]
    error: Annotated[str, Field(strict=True)]
    vendor_url: Annotated[str | None, Field(strict=True)] = None
    held_up: tuple[Name, ...] = ()
    permanent: Annotated[bool, Field(strict=True)] = False
    awaits: tuple[Name, ...] = ()
    """What has to be made or to pass before the unit has recovered, where that is not its assets."""
    cause: Cause | None = None
    """What is wrong with the platform itself, by the type of the exception that a call of the platform's own raised.

    Never by the words of an error: those of a vendor's source or destination, or of a team's own step, may be any.
    """

    def __post_init__(self) -> None:
        object.__setattr__(self, "error", readable(self.error, self.names))

    @property
    def names(self) -> frozenset[str]:
        """Names of what failed, which are no values where the error quotes them."""
        whole = (self.unit, *self.asset_keys, *self.held_up)
        return frozenset(part for name in map(str, whole) for part in (name, *name.split("/")) if part)


REPORT = TypeAdapter(tuple[FailedUnit, ...])


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
    """Return the failures that a report holds; None where there is no report. `metadata` has Dagster's values unwrapped.

    Raises UnreadableReportError.
    """
    report = metadata.get(METADATA_KEY)
    if report is None:
        return None
    try:
        # Through JSON: in the log, tuples are lists.
        text = report if isinstance(report, str) else json.dumps(report)
        return list(REPORT.validate_json(text))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "the report"
        raise UnreadableReportError(f"its failure report cannot be read: {place}: {first['msg']}") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise UnreadableReportError(f"its failure report cannot be read: {type(error).__name__}") from None


def summary(failures: Iterable[FailedUnit]) -> str:
    """One line a failure, for the run's own page."""
    return "\n".join(f"{failure.unit}: {failure.error}" for failure in failures)
