"""Group failures that have one cause: a cause that their components know by type, or the same words. Pure.

A cause that lies outside of what failed (the warehouse is down, a credential of the platform has expired) fails whatever needs it, so
that a page for each of the failures would say the same thing many times.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable

from orchestration.lineage.failures import FailedUnit

SAME_WORDS = 5
"""So many failures at once with the same words are one cause, though nobody knows which."""

TITLES: dict[str, str] = {
    "code-location": "Dagster's code location cannot be reached",
    "dagster-storage": "Dagster's own database cannot be used",
    "bigquery-quota": "BigQuery's quota is used up",
    "bigquery-credentials": "BigQuery refuses the platform's credentials",
    "bigquery-unreachable": "BigQuery cannot be reached",
    "explo-credentials": "Explo refuses the platform's API key",
    "explo-unreachable": "Explo's API cannot be reached",
    "fivetran-credentials": "Fivetran refuses the platform's API key",
    "fivetran-unreachable": "Fivetran's API cannot be reached",
    "hex-credentials": "Hex refuses the platform's API key",
    "hex-unreachable": "Hex's API cannot be reached",
    "hightouch-credentials": "Hightouch refuses the platform's API key",
    "hightouch-unreachable": "Hightouch's API cannot be reached",
    "omni-credentials": "Omni refuses the platform's API key",
    "omni-unreachable": "Omni's API cannot be reached",
}
"""The title of an alert about each cause of `orchestration.core.causes`."""

LONGEST = 2000
"""Characters of an error that are looked at: the rest is a traceback, or a vendor's page."""
CHANGING = re.compile(r"0x[0-9a-f]+|[0-9a-f]{8}-[0-9a-f-]{27,}|\b[0-9a-f]{16,}\b|\d+", re.IGNORECASE)
"""Ids, addresses, numbers and times: they differ from failure to failure of one cause."""


def known(unit: FailedUnit) -> str | None:
    """Return the name of the platform's cause that a unit failed by, such as `cause/bigquery-unreachable`; None for other failures.

    It is the typed field that a component has set by the exception of a call of its own. The words of an error do not count: those
    of a vendor's source, of its destination and of a team's own step may be any.
    """
    return f"cause/{unit.cause}" if unit.cause else None


def is_disproved(cause: str, unit: FailedUnit) -> bool:
    """Return whether a new failure of a unit says that it no longer fails by `cause`, the name of the cause of an open alert.

    A run that died or did not start names no cause, so that the outage of Dagster itself by which it failed before may go on.
    """
    starts_no_run = cause in {"cause/code-location", "cause/dagster-storage"}
    return not (starts_no_run and unit.cause is None and unit.unit.startswith(("run/", "check/run/")))


def by_words(unit: FailedUnit) -> str:
    """The name of a cause that is known by nothing but its words, with the names of the unit and of its assets taken out."""
    text = unit.error[:LONGEST]
    parts = {part for key in unit.asset_keys for part in (key, key.replace("/", "__"), *key.split("/"))}
    for name in sorted({unit.unit, unit.unit.partition("/")[2], *parts} - {""}, key=len, reverse=True):
        text = text.replace(name, "…")
    words = " ".join(CHANGING.sub("#", text).split())
    return f"cause/{hashlib.sha256(words.encode()).hexdigest()[:10]}"


def of(unit: FailedUnit) -> str:
    """The name of the cause that a unit failed by, whether or not it shares it with others."""
    return known(unit) or by_words(unit)


def shared(units: Iterable[FailedUnit]) -> dict[str, str]:
    """Unit to the name of the cause that it shares: a known one, or that of `SAME_WORDS` units with the same words. Others are left out."""
    all_units = list(units)
    found = {unit.unit: cause for unit in all_units if (cause := known(unit))}
    words = {unit.unit: by_words(unit) for unit in all_units if unit.unit not in found}
    counts = Counter(words.values())
    return found | {name: cause for name, cause in words.items() if counts[cause] >= SAME_WORDS}
