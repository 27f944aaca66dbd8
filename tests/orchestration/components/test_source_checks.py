from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from orchestration.components import source_checks as checks
from orchestration.components.schema_drift import Change, at_risk, changes
from orchestration.components.source_checks import ERROR, WARN, Before, Freshness, Volume
from orchestration.vendors.bigquery import Counted

SUNDAY = date(2026, 3, 1)
NEWEST = SUNDAY + timedelta(days=1)
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
AN_HOUR_AGO = Before(NOON - timedelta(hours=1))
LIMITS = Freshness(warn_hours=6, fail_hours=24)


def sundays(*usual: int, last: int | None) -> dict[date, int]:
    """Days with rows: the Sundays before the last one, back from it, the day that the table begins with, and today."""
    days = {SUNDAY - timedelta(weeks=week): rows for week, rows in enumerate(usual, 1) if rows}
    begin = SUNDAY - timedelta(weeks=len(usual), days=1)
    return days | {begin: 1, NEWEST: 3} | ({SUNDAY: last} if last else {})


@pytest.mark.parametrize(
    ("days", "passed", "severity", "says"),
    [
        (sundays(100, 110, 90, 100, last=97), True, ERROR, "97 rows on Sunday 2026-03-01, 100 on such days before"),
        (sundays(100, 110, 90, 100, last=49), False, WARN, "Unusual: 49 rows"),
        (sundays(100, 110, 90, 100, last=301), False, WARN, "Unusual: 301 rows"),
        (sundays(100, 110, 90, 100, last=0), False, ERROR, "Nothing came: 0 rows"),
        # One of the four had none: it was not steady, so that none is only unusual.
        (sundays(100, 0, 90, 100, last=0), False, WARN, "Unusual: 0 rows"),
        # Small counts: below half, yet only a few rows fewer.
        (sundays(15, 12, 18, 14, last=2), True, ERROR, "2 rows"),
        (sundays(15, 12, 18, 14, last=0), True, ERROR, "0 rows"),
        (sundays(100, 100, last=0), False, ERROR, "Nothing came"),
        (sundays(100, last=0), True, ERROR, "not enough history: 1 such days"),
        ({NEWEST: 5}, True, ERROR, "not enough history: 0 such days"),
    ],
)
def test_volume_is_judged_by_the_same_weekday(days: dict[date, int], passed: bool, severity: Any, says: str) -> None:
    verdict = checks.volume(days, NEWEST, Volume(), AN_HOUR_AGO)
    assert (verdict.passed, verdict.severity) == (passed, severity)
    assert says in verdict.description


def test_the_day_of_a_volume_is_by_what_has_landed_in_the_place_and_not_by_the_clock() -> None:
    silent = Counted(days=sundays(100, 100, last=0) | {NEWEST: 0})
    others = Counted(days={NEWEST: 8, date(2999, 1, 1): 1})
    assert checks.newest_day([silent, others], date(2026, 5, 5)) == NEWEST
    # Everything stopped two days ago: no table is judged by days that none has rows of.
    assert checks.newest_day([Counted(days={SUNDAY: 4})], date(2026, 5, 5)) == SUNDAY
    assert checks.volume({}, None, Volume(), AN_HOUR_AGO).passed


def test_a_day_on_which_the_platform_was_off_only_warns_however_often_it_is_looked_at() -> None:
    days = sundays(100, 100, 100, 100, last=0)
    for before in (None, Before(datetime(2026, 2, 27, 18, tzinfo=UTC))):
        verdict = checks.volume(days, NEWEST, Volume(), before)
        assert (verdict.passed, verdict.severity) == (False, WARN)
        again = checks.volume(days, NEWEST, Volume(), Before(NOON, verdict.metadata))
        assert again.severity is WARN
    on_that_day = Before(datetime(2026, 3, 1, 23, tzinfo=UTC), {"day": "2026-02-28", "watched": True})
    assert checks.volume(days, NEWEST, Volume(), on_that_day).severity is ERROR


@pytest.mark.parametrize(
    ("hours", "before", "passed", "severity"),
    [
        (1, AN_HOUR_AGO, True, ERROR),
        (7, AN_HOUR_AGO, False, WARN),
        (25, AN_HOUR_AGO, False, ERROR),
        (25, None, False, WARN),
        (25, Before(NOON - timedelta(hours=30)), False, WARN),
        (None, AN_HOUR_AGO, False, WARN),
    ],
)
def test_freshness(hours: int | None, before: Before | None, passed: bool, severity: Any) -> None:
    newest = None if hours is None else NOON - timedelta(hours=hours)
    verdict = checks.fresh(newest, NOON, LIMITS, before)
    assert (verdict.passed, verdict.severity) == (passed, severity)


def test_rows_without_a_key_are_an_error_and_keys_that_nobody_can_look_at_do_not_pass() -> None:
    assert checks.keys_not_null({"id": 0}).passed
    missing = checks.keys_not_null({"id": 3, "other": 0})
    assert (missing.passed, missing.severity, missing.description) == (False, ERROR, "Rows lack a key: id in 3 rows.")
    assert not checks.keys_not_null({}).passed


AGREED = {"id": "STRING", "n": "INTEGER", "at": "TIMESTAMP"}


@pytest.mark.parametrize(
    ("found", "passed", "severity", "says"),
    [
        ({"at": "TIMESTAMP", "id": "STRING", "n": "INT64"}, True, ERROR, "As in the registry."),
        ({**AGREED, "more": "BOOL"}, False, WARN, "column more (BOOL) is new"),
        ({"id": "STRING", "n": "INT64"}, False, ERROR, "column at (TIMESTAMP) is gone"),
        ({**AGREED, "n": "STRING"}, False, ERROR, "column n was INT64 and is STRING"),
        ({}, False, ERROR, "the table is not in BigQuery"),
    ],
)
def test_a_table_is_held_to_the_registry(found: dict[str, str], passed: bool, severity: Any, says: str) -> None:
    verdict = checks.contract(AGREED, found)
    assert (verdict.passed, verdict.severity) == (passed, severity)
    assert says in verdict.description


def source(table: str) -> dict[str, Any]:
    return {"resource_type": "source", "schema": "shop", "identifier": table}


def model(name: str, sql: str, kind: str = "model") -> dict[str, Any]:
    return {"resource_type": kind, "name": name, "schema": "s", "config": {"schema": "s"}, "raw_code": sql}


MANIFEST: dict[str, Any] = {
    "sources": {"source.p.orders": source("orders"), "source.p.other": source("other")},
    "nodes": {
        "model.p.by_amount": model("by_amount", "select id, sum(Amount) from {{ source('shop', 'orders') }}"),
        "model.p.by_day": model("by_day", "select id, amount_eur from {{ source('shop', 'orders') }}"),
        "model.p.report": model("report", "select * from {{ ref('by_amount') }}"),
        "snapshot.p.history": model("history", "select 1", "snapshot"),
        "test.p.t": model("t", "amount", "test"),
    },
    "child_map": {
        "source.p.orders": ["model.p.by_amount", "model.p.by_day", "test.p.t"],
        "model.p.by_amount": ["model.p.report", "test.p.t"],
        "model.p.report": ["snapshot.p.history", "exposure.p.e"],
    },
}
ORDERS = dg.AssetKey(["shop", "orders"])


@pytest.mark.parametrize(
    ("change", "models"),
    [
        (Change("changed type", "amount", "INT64", "STRING"), ["s/by_amount", "s/history", "s/report"]),
        (Change("dropped column", "amount_eur", "INT64"), ["s/by_day"]),
        (Change("dropped column", "nobody_reads_it", "INT64"), []),
        (Change("new column", "amount", now="INT64"), []),
        (Change("dropped table"), ["s/by_amount", "s/by_day", "s/history", "s/report"]),
    ],
)
def test_models_at_risk_name_the_column_or_are_made_of_one_that_does(change: Change, models: list[str]) -> None:
    assert at_risk(MANIFEST, ORDERS, [change]) == models
    assert at_risk(MANIFEST, dg.AssetKey(["shop", "other"]), [change]) == []


def test_a_drifted_schema_warns_until_it_is_accepted_or_mended() -> None:
    first, later = {"id": "STRING", "n": "INT64"}, {"id": "STRING", "n": "STRING", "m": "BOOL"}

    def look(found: dict[str, str], last: checks.Verdict | None, accept: bool = False) -> checks.Verdict:
        before = Before(NOON, last.metadata) if last else None
        return checks.drift(found, before, lambda changed: [f"s/{len(changed)}"], accept=accept)

    seen = look(first, None)
    assert seen.passed
    warned = look(later, look(first, seen))
    again = look(later, warned)
    for verdict in (warned, again):
        assert (verdict.passed, verdict.severity) == (False, WARN)
        assert "column n was INT64 and is STRING; column m (BOOL) is new. Models at risk: s/2." in verdict.description
        assert verdict.metadata["models_at_risk"] == ["s/2"]
    assert look(first, again).passed
    assert look(later, look(later, again, accept=True)).passed
    # What could not be looked at keeps what was accepted.
    assert not look(later, checks.unknown("no answer", Before(NOON, again.metadata))).passed


def test_a_table_that_has_not_landed_yet_has_no_schema_to_accept() -> None:
    verdict = checks.drift({}, None, lambda _: [], accept=True)
    assert not verdict.passed
    assert "accepted_schema" not in verdict.metadata
    assert changes({"id": "STRING"}, {}) == [Change("dropped table")]
