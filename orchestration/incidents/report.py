"""A week of incidents: what they were due to, how fast they were taken on and mended, who was woken, and what fails without a reason.

Read from the `data_platform` marts and not from incident.io: only there are the platform's own runs and checks beside the incidents,
they last longer than incident.io keeps escalations, and three queries take the place of hundreds of pages. The price is that they
are as old as the last run of `export_history` and dbt.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, time, timedelta
from statistics import median
from typing import Any
from zoneinfo import ZoneInfo

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestration.core.redaction import redact_line
from orchestration.vendors.bigquery_marts import AssetReliability, CheckFlakiness, IncidentResponse, PlatformMarts

MOST_FLAKY, MOST_CAUSES = 10, 15
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


@dataclass(frozen=True)
class Hours:
    """When people work."""

    timezone: str
    start: time
    end: time
    days: tuple[str, ...] = WEEKDAYS[:5]

    def include(self, moment: datetime) -> bool:
        local = moment.astimezone(ZoneInfo(self.timezone))
        return WEEKDAYS[local.weekday()] in self.days and self.start <= local.time() < self.end


@dataclass(frozen=True)
class Cause:
    cause: str
    incidents: int
    customer_facing: int
    unresolved: int
    minutes: float
    """Until they were resolved, summed over those that are."""


@dataclass(frozen=True)
class Spread:
    """In minutes; None where there is nothing to measure."""

    number: int
    median: float | None
    p90: float | None


@dataclass(frozen=True)
class Page:
    reference: str
    name: str
    paged_at: datetime
    customer_facing: bool


@dataclass(frozen=True)
class Report:
    since: datetime
    until: datetime
    hours: Hours
    incidents: int
    """Without those that were only transient."""
    customer_facing: int
    unresolved: int
    flapping: int
    transients: int
    """Failures that a retry mended: recorded, and nobody was paged."""
    by_cause: tuple[Cause, ...]
    to_acknowledge: Spread
    to_resolve: Spread
    pages: int
    out_of_hours: tuple[Page, ...]
    flakiest_assets: tuple[AssetReliability, ...]
    flakiest_checks: tuple[CheckFlakiness, ...]


def read(marts: PlatformMarts, since: datetime, until: datetime, hours: Hours) -> Report:
    """The report of a period. Raises google.api_core's exceptions."""
    return build(
        marts.incidents(since, until),
        marts.assets(since, until, MOST_FLAKY),
        marts.checks(since, until, MOST_FLAKY),
        since,
        until,
        hours,
    )


def build(
    incidents: Sequence[IncidentResponse],
    assets: Iterable[AssetReliability],
    checks: Iterable[CheckFlakiness],
    since: datetime,
    until: datetime,
    hours: Hours,
) -> Report:
    """What the rows come to. Pure. Transient failures are counted apart: nobody was asked to do anything about them."""
    real = [incident for incident in incidents if not incident.is_transient]
    paged = [
        Page(one.reference, one.incident_name, one.paged_at, one.is_customer_facing) for one in real if one.paged_at
    ]
    return Report(
        since=since,
        until=until,
        hours=hours,
        incidents=len(real),
        customer_facing=_number(real, lambda one: one.is_customer_facing),
        unresolved=_number(real, lambda one: one.resolved_at is None),
        flapping=_number(real, lambda one: one.is_flapping),
        transients=len(incidents) - len(real),
        by_cause=tuple(_causes(real)),
        to_acknowledge=spread(one.minutes_to_acknowledge for one in real),
        to_resolve=spread(one.minutes_to_resolve for one in real),
        pages=len(paged),
        out_of_hours=tuple(page for page in paged if not hours.include(page.paged_at)),
        flakiest_assets=tuple(assets),
        flakiest_checks=tuple(checks),
    )


def spread(values: Iterable[float | None]) -> Spread:
    """The median and the value that nine of ten do not exceed, of those that are known."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return Spread(0, None, None)
    return Spread(len(known), round(median(known), 1), round(known[math.ceil(0.9 * len(known)) - 1], 1))


def as_json(report: Report) -> dict[str, Any]:
    """Plain values; times in ISO 8601 with their zone."""
    found = asdict(report) | {
        "flakiest_assets": [one.model_dump(mode="json") for one in report.flakiest_assets],
        "flakiest_checks": [one.model_dump(mode="json") for one in report.flakiest_checks],
    }
    return _plain(found)


def as_table(report: Report) -> RenderableType:
    """For a terminal."""
    zone = ZoneInfo(report.hours.timezone)
    days = (report.until - report.since) // timedelta(days=1)
    hours = (
        f"{report.hours.start:%H:%M} to {report.hours.end:%H:%M} {report.hours.timezone}, {_days(report.hours.days)}"
    )
    parts: list[RenderableType] = [
        Text(f"Data incidents of {days} days: {_day(report.since, zone)} to {_day(report.until, zone)}", style="bold"),
        Text(
            f"Incidents: {report.incidents}, of them {report.customer_facing} customer-facing, {report.flapping} flapping,"
            f" {report.unresolved} not resolved. Transient failures, which paged nobody: {report.transients}"
        ),
        Text(f"Time to acknowledge: {_words(report.to_acknowledge)}"),
        Text(f"Time to resolve: {_words(report.to_resolve)}"),
        Text(f"Pages: {report.pages}, {len(report.out_of_hours)} of them out of working hours ({hours})"),
    ]
    if report.by_cause:
        shown = report.by_cause[:MOST_CAUSES]
        rows = [(one.cause, one.incidents, one.customer_facing, one.unresolved, round(one.minutes)) for one in shown]
        columns = ("Cause", "Incidents", "Customer-facing", "Not resolved", "Minutes")
        parts.append(_table("By cause", columns, rows))
    if report.out_of_hours:
        pages = [
            (one.reference, one.name, f"{one.paged_at.astimezone(zone):%a %d %b %H:%M %Z}") for one in report.out_of_hours
        ]  # fmt: skip
        parts.append(_table("Pages out of working hours", ("Incident", "Name", "Paged"), pages))
    if report.flakiest_assets:
        assets = [(one.asset_key, one.attempts, one.failures, one.transients) for one in report.flakiest_assets]
        parts.append(_table("Flakiest assets", ("Asset", "Attempts", "Failed", "Transient"), assets))
    if report.flakiest_checks:
        checks = [
            (one.asset_key, one.check_name, one.evaluations, one.failures, one.flips) for one in report.flakiest_checks
        ]
        parts.append(_table("Flakiest checks", ("Asset", "Check", "Evaluated", "Failed", "Flips"), checks))
    return Group(*parts)


def _causes(incidents: Iterable[IncidentResponse]) -> list[Cause]:
    by_cause: dict[str, list[IncidentResponse]] = {}
    for incident in incidents:
        by_cause.setdefault(incident.cause, []).append(incident)
    causes = [
        Cause(
            cause,
            len(members),
            _number(members, lambda one: one.is_customer_facing),
            _number(members, lambda one: one.resolved_at is None),
            round(sum(one.minutes_to_resolve or 0 for one in members), 1),
        )
        for cause, members in by_cause.items()
    ]
    return sorted(causes, key=lambda one: (-one.incidents, -one.minutes, one.cause))


def _number(incidents: Iterable[IncidentResponse], fits: Callable[[IncidentResponse], bool]) -> int:
    return sum(1 for incident in incidents if fits(incident))


def _words(of: Spread) -> str:
    if of.median is None or of.p90 is None:
        return "nothing to measure"
    return f"median {of.median:g} min, 90 % within {of.p90:g} min ({of.number} incidents)"


def _days(names: Sequence[str]) -> str:
    return "Monday to Friday" if tuple(names) == WEEKDAYS[:5] else ", ".join(name.capitalize() for name in names)


def _day(moment: datetime, zone: ZoneInfo) -> str:
    return f"{moment.astimezone(zone):%a %Y-%m-%d %H:%M %Z}"


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right", overflow="fold")
    for row in rows:
        # As text: names of assets have brackets in them now and then, which would be markup.
        table.add_row(*(Text(redact_line(str(value))) for value in row))
    return table


def _plain(value: Any) -> Any:
    match value:
        case dict():
            return {str(name): _plain(one) for name, one in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        case list() | tuple():
            return [_plain(one) for one in value]  # pyright: ignore[reportUnknownVariableType]
        case datetime() | time():
            return value.isoformat()
        case str():
            return redact_line(value)
        case _:
            return value
