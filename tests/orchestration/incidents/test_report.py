"""The weekly report: what rows come to, and the rows read from BigQuery by the command that people type."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest
from google.cloud import bigquery
from pydantic import BaseModel
from rich.console import Console

from orchestration.incidents.report import Hours, Spread, as_json, as_table, build, spread
from orchestration.vendors.bigquery_marts import AssetReliability, CheckFlakiness, IncidentResponse, PlatformMarts
from sandbox.config import PROJECT, SandboxConfig
from sandbox.env_file import environment
from tests.orchestration.processes import python
from tests.orchestration.wire import refused_port

LONDON = Hours("Europe/London", time(9), time(18))
MONDAY = datetime(2026, 11, 23, 10, tzinfo=UTC)
UNTIL = datetime(2026, 11, 28, tzinfo=UTC)


def incident(number: int, at: datetime = MONDAY, **values: Any) -> IncidentResponse:
    known: dict[str, Any] = {
        "incident_id": f"in_{number}", "reference": f"INC-{number}", "incident_name": f"number {number}", "unit": "dbt/a/b",
        "cause": "dbt/a/b", "team": "data", "is_customer_facing": False, "is_transient": False, "is_flapping": False,
        "alerted_at": at, "paged_at": at, "acknowledged_at": None, "resolved_at": None, "minutes_to_acknowledge": None,
        "minutes_to_resolve": None,
    }  # fmt: skip
    return IncidentResponse.model_validate(known | values)


@pytest.mark.parametrize(
    ("moment", "inside"),
    [
        ("2026-11-23T09:00:00+00:00", True),
        ("2026-11-23T08:59:59+00:00", False),
        ("2026-11-23T17:59:59+00:00", True),
        ("2026-11-23T18:00:00+00:00", False),
        ("2026-11-22T12:00:00+00:00", False),  # a Sunday
        ("2026-11-21T12:00:00+00:00", False),
        # The clocks of London change on 25 October 2026.
        ("2026-10-23T08:30:00+00:00", True),
        ("2026-10-26T08:30:00+00:00", False),
        ("2026-11-23T18:30:00+09:00", True),
    ],
)
def test_working_hours_are_those_of_the_zone(moment: str, inside: bool) -> None:
    assert LONDON.include(datetime.fromisoformat(moment)) is inside


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([], Spread(0, None, None)),
        ([None, None], Spread(0, None, None)),
        ([5.0], Spread(1, 5.0, 5.0)),
        ([4.0, 2.0, None], Spread(2, 3.0, 4.0)),
        ([float(n) for n in range(1, 11)], Spread(10, 5.5, 9.0)),
        ([float(n) for n in range(1, 21)], Spread(20, 10.5, 18.0)),
    ],
)
def test_median_and_nine_of_ten(values: list[float | None], found: Spread) -> None:
    assert spread(values) == found


def week() -> list[IncidentResponse]:
    night = datetime(2026, 11, 24, 3, tzinfo=UTC)
    return [
        incident(1, acknowledged_at=MONDAY, minutes_to_acknowledge=4, resolved_at=MONDAY, minutes_to_resolve=60),
        incident(2, night, is_customer_facing=True, minutes_to_acknowledge=10, cause="Password expired"),
        incident(3, is_flapping=True, resolved_at=MONDAY, minutes_to_resolve=20),
        incident(4, night, is_transient=True, paged_at=None, resolved_at=night, minutes_to_resolve=1),
        incident(5, night, paged_at=None, cause="Password expired"),
    ]


def test_what_a_week_comes_to() -> None:
    report = build(week(), [], [], UNTIL - timedelta(days=7), UNTIL, LONDON)
    assert (report.incidents, report.customer_facing, report.unresolved) == (4, 1, 2)
    assert (report.flapping, report.transients) == (1, 1)
    assert [
        (one.cause, one.incidents, one.customer_facing, one.unresolved, one.minutes) for one in report.by_cause
    ] == [
        ("dbt/a/b", 2, 0, 0, 80.0),
        ("Password expired", 2, 1, 2, 0.0),
    ]
    assert report.to_acknowledge == Spread(2, 7.0, 10.0)
    assert report.to_resolve == Spread(2, 40.0, 60.0)
    assert report.pages == 3
    assert [page.reference for page in report.out_of_hours] == ["INC-2"]


def test_a_quiet_week_is_said_in_few_lines() -> None:
    report = build([], [], [], UNTIL - timedelta(days=7), UNTIL, LONDON)
    text = shown(report)
    assert "Incidents: 0, " in text
    assert "Time to acknowledge: nothing to measure" in text
    assert len(text.splitlines()) == 5


def shown(report: Any) -> str:
    console = Console(width=140, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(as_table(report))
    return console.export_text()


def test_the_table_and_the_json_have_the_same_in_them() -> None:
    assets = [AssetReliability(asset_key="sales/[bold]", attempts=9, failures=3, transients=2)]
    checks = [
        CheckFlakiness(
            asset_key="a/b",
            check_name="volume",
            severity="WARN",
            evaluations=9,
            failures=3,
            flips=2,
            last_failed_at=MONDAY,
        )
    ]
    report = build(week(), assets, checks, UNTIL - timedelta(days=7), UNTIL, LONDON)
    text, plain = shown(report), as_json(report)
    for words in ("sales/[bold]", "volume", "Password expired", "INC-2", "Tue 24 Nov 03:00 GMT", "median 7 min"):
        assert words in text
    assert "Data incidents of 7 days: Sat 2026-11-21 00:00 GMT to Sat 2026-11-28 00:00 GMT" in text
    assert json.loads(json.dumps(plain)) == plain
    assert plain["by_cause"][0]["cause"] == "dbt/a/b"
    assert plain["flakiest_assets"][0]["asset_key"] == "sales/[bold]"
    assert plain["out_of_hours"][0]["paged_at"] == "2026-11-24T03:00:00+00:00"
    assert plain["hours"] == {
        "timezone": "Europe/London",
        "start": "09:00:00",
        "end": "18:00:00",
        "days": ["monday", "tuesday", "wednesday", "thursday", "friday"],
    }


TYPES = {str: "STRING", bool: "BOOL", int: "INT64", float: "FLOAT64", datetime: "TIMESTAMP"}


@pytest.fixture
def marts(company: SandboxConfig) -> Iterator[dict[str, str]]:
    """The marts as dbt leaves them, in a warehouse that Google's client speaks to; the variables that lead there."""
    client = bigquery.Client(project=PROJECT)
    client.delete_dataset("data_platform", delete_contents=True, not_found_ok=True)
    client.create_dataset("data_platform")
    now = datetime.now(UTC)
    rows = [
        incident(1, now - timedelta(days=2), minutes_to_acknowledge=3, is_customer_facing=True),
        incident(2, now - timedelta(days=3), is_transient=True, paged_at=None),
        incident(3, now - timedelta(days=12)),
    ]
    load(client, "incident_response", IncidentResponse, [row.model_dump(mode="json") for row in rows])
    days = [(now - timedelta(days=number)).date().isoformat() for number in (1, 2, 20)]
    reliability = [
        {"asset_key": key, "occurred_on": day, "attempts": 4, "failures": failures, "transients": transients}
        for key, failures, transients in (("sales/flaky", 2, 1), ("sales/broken", 3, 0), ("sales/good", 0, 0))
        for day in days
    ]
    load(client, "asset_reliability", AssetReliability, reliability, occurred_on="DATE")
    checks = [
        {"asset_key": "a/b", "check_name": name, "severity": "WARN", "evaluations": 9, "failures": 3, "flips": flips,
         "last_failed_at": (now - timedelta(days=age)).isoformat()}
        for name, flips, age in (("volume", 2, 1), ("keys", 0, 2), ("old", 9, 30))
    ]  # fmt: skip
    load(client, "check_flakiness", CheckFlakiness, checks)
    yield environment(company)
    client.delete_dataset("data_platform", delete_contents=True)


def load(
    client: bigquery.Client, name: str, model: type[BaseModel], rows: list[dict[str, Any]], **columns: str
) -> None:
    kinds = {
        field: next(kind for kind in TYPES if kind.__name__ in str(info.annotation))
        for field, info in model.model_fields.items()
    }
    schema = [bigquery.SchemaField(field, TYPES[kind]) for field, kind in kinds.items()]
    schema += [bigquery.SchemaField(field, kind) for field, kind in columns.items()]
    config = bigquery.LoadJobConfig(schema=schema)
    client.load_table_from_json(rows, f"data_platform.{name}", job_config=config).result()


def test_a_period_is_read_from_the_marts(marts: dict[str, str]) -> None:
    reader, now = PlatformMarts(PROJECT, "US", 30), datetime.now(UTC)
    since = now - timedelta(days=7)
    assert [one.reference for one in reader.incidents(since, now)] == ["INC-2", "INC-1"]
    assert [one.reference for one in reader.incidents(now - timedelta(days=30), now)] == ["INC-3", "INC-2", "INC-1"]
    assert [(one.asset_key, one.attempts, one.failures, one.transients) for one in reader.assets(since, now, 9)] == [
        ("sales/flaky", 8, 4, 2),
        ("sales/broken", 8, 6, 0),
    ]
    assert len(reader.assets(since, now, 1)) == 1
    assert [one.check_name for one in reader.checks(since, now, 9)] == ["volume", "keys"]


def test_the_command_prints_a_week(marts: dict[str, str], tmp_path: Path) -> None:
    command = ["-m", "orchestration.cli", "incidents", "report"]
    printed = python(tmp_path, marts | {"COLUMNS": "160"}, *command)
    assert printed.returncode == 0, printed.stderr
    assert "Incidents: 1, of them 1 customer-facing, 0 flapping, 1 not resolved." in printed.stdout
    assert "Flakiest assets" in printed.stdout
    assert "(09:00 to 17:00 Europe/London, Monday to Friday)" in " ".join(printed.stdout.split())

    plain = python(tmp_path, marts, *command, "--json", "--weeks", "2", "--timezone", "UTC", "--hours", "00:00-23:59")
    assert plain.returncode == 0, plain.stderr
    report = json.loads(plain.stdout)
    assert (report["incidents"], report["transients"], report["pages"]) == (2, 1, 2)
    assert report["hours"]["timezone"] == "UTC"
    span = datetime.fromisoformat(report["until"]) - datetime.fromisoformat(report["since"])
    assert span == timedelta(weeks=2)


def test_marts_that_are_not_there_and_a_warehouse_that_does_not_answer_are_said(
    marts: dict[str, str], tmp_path: Path
) -> None:
    command = ["-m", "orchestration.cli", "incidents", "report"]
    missing = python(tmp_path, marts | {"DBT_TARGET": "dev", "DBT_SCHEMA_PREFIX": "dev_nobody"}, *command)
    assert missing.returncode == 1
    assert "The data_platform marts are not there" in missing.stderr
    away = marts | {"BIGQUERY_EMULATOR_HOST": f"http://127.0.0.1:{refused_port()}", "BIGQUERY_RETRY_SECONDS": "1"}
    refused = python(tmp_path, away, *command)
    assert refused.returncode == 1
    assert "BigQuery cannot be read" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_hours_of_another_zone_and_of_other_days() -> None:
    sunday = datetime(2026, 11, 22, 3, tzinfo=UTC)
    assert Hours("Asia/Tokyo", time(9), time(18), ("sunday",)).include(sunday)
    assert not Hours("Asia/Tokyo", time(9), time(18)).include(sunday)
