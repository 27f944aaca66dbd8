"""Asset checks of landed tables: what each means, decided from counts and columns. Pure: `check_reports` reads and writes Dagster's event log."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from statistics import median
from typing import Any

import dagster as dg

from orchestration.components.schema_drift import Change, Columns, changes, standard
from orchestration.vendors.bigquery import Counted

WARN, ERROR = dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR

VOLUME, KEYS, SCHEMA, FRESH = "volume", "keys_not_null", "schema", "fresh"
NEW_TABLES, CONNECTION, REJECTED = "new_tables", "connection", "nothing_rejected"
DESCRIPTIONS = {
    VOLUME: "The last complete day has as many rows as the same weekday of the four weeks before.",
    KEYS: "No row lacks its key.",
    SCHEMA: "The columns and their types are those that were agreed.",
    FRESH: "Rows keep coming.",
    NEW_TABLES: "Every table of this place is in the graph.",
    CONNECTION: "Fivetran wants nothing done about this connection.",
    REJECTED: "No event was rejected since the last look.",
}

ACCEPTED, CHANGES, AT_RISK = "accepted_schema", "changes", "models_at_risk"
DAY, WATCHED = "day", "watched"

WEEKS = 4
LEAST_KNOWN = 2
"""On how many of those weekdays the table must have been there to tell anything."""


@dataclass(frozen=True)
class Verdict:
    """The outcome of a check. `metadata` is what the check's evaluation carries."""

    passed: bool
    description: str
    severity: dg.AssetCheckSeverity = ERROR
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Before:
    """The last evaluation of a check: when, and what it carried."""

    at: datetime
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])


def passed(description: str, **metadata: Any) -> Verdict:
    return Verdict(True, description, metadata=metadata)


def failed(severity: dg.AssetCheckSeverity, description: str, **metadata: Any) -> Verdict:
    return Verdict(False, description, severity, metadata)


@dataclass
class Volume(dg.Resolvable):
    """Bounds of a day's rows. Below `low` or above `high` times the median of the same weekdays is a warning, unless the difference
    is less than `floor` rows."""

    low: float = 0.5
    high: float = 3.0
    floor: int = 20


@dataclass
class Freshness(dg.Resolvable):
    """After how many hours without anything new people are warned, and told that it fails."""

    warn_hours: float
    fail_hours: float

    def policy(self) -> dg.FreshnessPolicy:
        return dg.FreshnessPolicy.time_window(timedelta(hours=self.fail_hours), timedelta(hours=self.warn_hours))


def newest_day(tables: Iterable[Counted], today: date) -> date | None:
    """The newest day of which any table of a place has rows; those of the future are somebody's clock."""
    return max((day for table in tables for day in table.days if day <= today), default=None)


def volume(days: Mapping[date, int], newest: date | None, bounds: Volume, before: Before | None) -> Verdict:
    """The rows of the day before `newest` against those of the same weekday before.

    `newest` is that of the place that the table belongs to (a dataset), not today: where nothing lands at all, that is for
    freshness to say, or for the sync that fails, and each table saying it too would tell nothing. A table that falls silent while others of
    its place go on does fail. It only warns of a day on which the platform itself was not on (no check between the
    day's beginning and the first one after it): a laptop that slept has days without rows.
    """
    if newest is None:
        return passed("There is not enough history: no day has rows.")
    day = newest - timedelta(days=1)
    watched = before is not None and (
        bool(before.metadata.get(WATCHED)) if before.metadata.get(DAY) == day.isoformat() else before.at.date() >= day
    )
    first = min(days, default=newest)
    # The first day that a table has is seldom whole, so that it is no measure.
    earlier = [past for week in range(1, WEEKS + 1) if (past := day - timedelta(weeks=week)) > first]
    usual = [days.get(past, 0) for past in earlier]
    rows = days.get(day, 0)
    metadata: dict[str, Any] = {DAY: day.isoformat(), "rows": rows, WATCHED: watched}
    if len(usual) < LEAST_KNOWN:
        return passed(f"There is not enough history: {len(usual)} such days before {day}.", **metadata)
    middle = float(median(usual))
    metadata["usual_rows"] = middle
    what = f"{rows} rows on {day:%A} {day}, {middle:g} on such days before ({', '.join(map(str, usual))})."
    if rows == 0 and min(usual) >= max(bounds.floor, 1):
        reason = "" if watched else " The platform was off on that day, so this is only a warning."
        return failed(ERROR if watched else WARN, f"Nothing came: {what}{reason}", **metadata)
    if abs(rows - middle) >= bounds.floor and not bounds.low * middle <= rows <= bounds.high * middle:
        return failed(WARN, f"Unusual: {what}", **metadata)
    return passed(what, **metadata)


def keys_not_null(nulls: Mapping[str, int]) -> Verdict:
    """Whether any row lacks a key. `nulls` are the rows that do, by key column."""
    if not nulls:
        return failed(WARN, "Not checked: no key column is there.")
    metadata = {f"null_{key}": rows for key, rows in nulls.items()}
    missing = [f"{key} in {rows} rows" for key, rows in nulls.items() if rows]
    if missing:
        return failed(ERROR, f"Rows lack a key: {', '.join(missing)}.", **metadata)
    return passed(f"{', '.join(nulls)} is set in every row.", **metadata)


def key_unknown() -> Verdict:
    """A table whose key columns the loader does not name. Which column would be the key is not guessed."""
    return passed("Not checked: Fivetran names no key column of this table.")


def fresh(newest: datetime | None, now: datetime, limits: Freshness, before: Before | None) -> Verdict:
    """How long ago the newest row was written. The first look after the platform was off only warns: rows may be on their way."""
    if newest is None:
        return failed(WARN, "Nothing has landed yet.")
    hours = (now - newest).total_seconds() / 3600
    what = f"The newest row is of {newest:%Y-%m-%d %H:%M} UTC, {hours:.1f} hours ago"
    if hours < limits.warn_hours:
        return passed(f"{what}.", hours=round(hours, 2))
    off = before is None or now - before.at > timedelta(hours=limits.warn_hours)
    if hours < limits.fail_hours:
        return failed(WARN, f"{what}; it is expected within {limits.warn_hours:g}.", hours=round(hours, 2))
    reason = " This is the first look for a while, so it is only a warning." if off else ""
    limit = f"; it fails after {limits.fail_hours:g}."
    return failed(WARN if off else ERROR, f"{what}{limit}{reason}", hours=round(hours, 2))


def contract(agreed: Columns, found: Columns) -> Verdict:
    """A table against the registry that it is written by: missing or other than agreed is an error, more than agreed a warning."""
    differing = changes(
        {name: standard(kind) for name, kind in agreed.items()}, {name: standard(kind) for name, kind in found.items()}
    )
    if not differing:
        return passed("As in the registry.")
    severity = WARN if all(change.kind == "new column" for change in differing) else ERROR
    return failed(severity, f"Not as in the registry: {_words(differing)}.", **{CHANGES: list(map(str, differing))})


def drift(
    found: Columns, before: Before | None, risk: Callable[[list[Change]], list[str] | None], *, accept: bool
) -> Verdict:
    """A table against the columns that were last accepted, which the check's own evaluations carry from one to the next.

    The first columns that are seen are accepted. A difference is a warning until somebody accepts it, or it is mended at the source.
    `risk` names the models that a difference may break; None where that is not known.
    """
    accepted: Columns | None = before.metadata.get(ACCEPTED) if before else None
    if found and (accepted is None or accept):
        what = "Seen for the first time" if accepted is None else "Accepted"
        return passed(f"{what}: {len(found)} columns.", **{ACCEPTED: dict(found)})
    if accepted is None:
        return failed(WARN, "The table is not in BigQuery yet.")
    differing = changes(accepted, found)
    if not differing:
        return passed("As accepted.", **{ACCEPTED: dict(accepted)})
    models = risk(differing)
    at_risk = "unknown, since there is no manifest" if models is None else ", ".join(models) or "none"
    return failed(
        WARN,
        f"Changed at the source: {_words(differing)}. Models at risk: {at_risk}. To accept it, run this check from the launchpad with"
        " `accept_schema: true`.",
        **{ACCEPTED: dict(accepted), CHANGES: list(map(str, differing)), AT_RISK: models or []},
    )


def new_tables(unknown: Iterable[str], place: str) -> Verdict:
    """Tables of a place that the graph does not have."""
    names = sorted(unknown)
    if not names:
        return passed(f"Every table of {place} is in the graph.")
    return failed(
        WARN, f"New in {place}: {', '.join(names)}. Run `dataplatform refresh` to have them in the graph.", tables=names
    )


def connection(wishes: Iterable[str]) -> Verdict:
    """What Fivetran says of a connection that has synced all the same."""
    said = list(wishes)
    return failed(WARN, " ".join(said), wishes=said) if said else passed("Fivetran asks for nothing.")


def nothing_rejected(rejected: int, place: str) -> Verdict:
    """Events that did not fit the registry since the last look."""
    if rejected:
        return failed(
            WARN,
            f"{rejected} event{'s were' if rejected > 1 else ' was'} rejected; `reason` in {place} says why.",
            rejected=rejected,
        )
    return passed("No event was rejected since the last look.", rejected=0)


def unknown(problem: str, before: Before | None) -> Verdict:
    """A check that could not look. What the last evaluation carried is carried on, or a baseline would be lost."""
    carried = (
        {name: value for name, value in before.metadata.items() if name in {ACCEPTED, DAY, WATCHED}} if before else {}
    )
    return failed(WARN, f"Not checked: {problem}", **carried)


def _words(differing: Iterable[Change]) -> str:
    return "; ".join(map(str, differing))
