"""When several failures are one: the causes that are known by their errors, and failures with the same words. Pure.

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

REACH = r"could not connect|got no answer|connection (?:refused|reset|aborted)|temporarily unavailable|name resolution"
KNOWN: tuple[tuple[str, str], ...] = (
    ("code-location", r"DagsterUserCodeUnreachableError|code location .* (?:failed|is not) load|Could not reach user code server"),
    ("dagster-storage", r"psycopg2\.OperationalError|sqlalchemy\.exc\.(?:OperationalError|TimeoutError)|database is locked"),
    ("bigquery-quota", r"quotaExceeded|rateLimitExceeded|Quota exceeded|Custom quota exceeded"),
    ("bigquery-credentials", r"DefaultCredentialsError|google\.auth\.exceptions|RefreshError|invalid_grant|401 .{0,80}bigquery"),
    ("bigquery-unreachable", rf"bigquery.{{0,200}}(?:{REACH}|Max retries exceeded)|\b50[23] (?:GET|POST|PUT|PATCH|DELETE) \S*bigquery|(?:ServiceUnavailable|BadGateway|RetryError).{{0,200}}bigquery"),
    ("fivetran-credentials", r"Fivetran: .{0,200} answered 40[13]"),
    ("fivetran-unreachable", rf"Fivetran: .{{0,200}}(?:{REACH}|answered 5\d\d)"),
    ("hightouch-credentials", r"Hightouch: .{0,200} answered 40[13]"),
    ("hightouch-unreachable", rf"Hightouch: .{{0,200}}(?:{REACH}|answered 5\d\d)"),
)  # fmt: skip
"""Name of the cause, and the words in an error by which it is known (a regular expression; case does not count). The first that fits counts."""

TITLES = {
    "code-location": "Dagster's code location cannot be reached",
    "dagster-storage": "Dagster's own database cannot be used",
    "bigquery-quota": "BigQuery's quota is used up",
    "bigquery-credentials": "BigQuery refuses the platform's credentials",
    "bigquery-unreachable": "BigQuery cannot be reached",
    "fivetran-credentials": "Fivetran refuses the platform's API key",
    "fivetran-unreachable": "Fivetran's API cannot be reached",
    "hightouch-credentials": "Hightouch refuses the platform's API key",
    "hightouch-unreachable": "Hightouch's API cannot be reached",
}
"""What people read of a known cause."""

PATTERNS = tuple((name, re.compile(pattern, re.IGNORECASE | re.DOTALL)) for name, pattern in KNOWN)
LONGEST = 2000
"""Characters of an error that are looked at: the rest is a traceback, or a vendor's page."""
CHANGING = re.compile(r"0x[0-9a-f]+|[0-9a-f]{8}-[0-9a-f-]{27,}|\b[0-9a-f]{16,}\b|\d+", re.IGNORECASE)
"""Ids, addresses, numbers and times: they differ from failure to failure of one cause."""


def known(error: str) -> str | None:
    """The name of the cause that an error shows, such as `cause/bigquery-unreachable`; None where the table has none."""
    text = error[:LONGEST]
    return next((f"cause/{name}" for name, pattern in PATTERNS if pattern.search(text)), None)


def by_words(unit: FailedUnit) -> str:
    """The name of a cause that is known by nothing but its words, with the names of the unit and of its assets taken out."""
    text = unit.error[:LONGEST]
    parts = {part for key in unit.asset_keys for part in (key, key.replace("/", "__"), *key.split("/"))}
    for name in sorted({unit.unit, unit.unit.partition("/")[2], *parts} - {""}, key=len, reverse=True):
        text = text.replace(name, "…")
    words = " ".join(CHANGING.sub("#", text).split())
    return f"cause/{hashlib.sha256(words.encode()).hexdigest()[:10]}"


def of(unit: FailedUnit) -> str:
    """The name of the cause that a unit's error shows, whether or not it shares it with others."""
    return known(unit.error) or by_words(unit)


def shared(units: Iterable[FailedUnit]) -> dict[str, str]:
    """Unit to the name of the cause that it shares: a known one, or that of `SAME_WORDS` units with the same words. Others are left out."""
    all_units = list(units)
    found = {unit.unit: cause for unit in all_units if (cause := known(unit.error))}
    words = {unit.unit: by_words(unit) for unit in all_units if unit.unit not in found}
    counts = Counter(words.values())
    return found | {name: cause for name, cause in words.items() if counts[cause] >= SAME_WORDS}
