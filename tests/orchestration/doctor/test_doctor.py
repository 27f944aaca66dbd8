"""`dataplatform doctor` against a sandbox: by the command that people type, with real faults in what it looks at."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Any

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from google.cloud.storage import Client

from sandbox.config import PROJECT
from sandbox.services.storage import BUCKET
from tests.orchestration.doctor.billing import OLD_STRIPE, STRIPE, billing
from tests.orchestration.doctor.sandbox import LANDED, Doctors, another_clock, beat, doctors

KEYS = ("local-", "wrong-")
"""How every secret begins that a test gives."""


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doctors]:
    with doctors(tmp_path_factory.mktemp("doctor") / "sandbox") as made:
        yield made


@pytest.fixture
def called(sandbox: Doctors) -> Iterator[Doctors]:
    """The sandbox, which is well again after the test."""
    yield sandbox
    sandbox.furnish()


def wrong(result: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    """Whatever is neither well nor left out, by name."""
    lines = json.loads(result.stdout)
    return {line["name"]: line for line in lines if line["status"] not in {"ok", "skipped"}}


def test_where_all_is_well_nothing_is_named(sandbox: Doctors) -> None:
    looked = sandbox.look("--json")
    assert (wrong(looked), looked.returncode, looked.stderr) == ({}, 0, "")
    lines = {line["name"]: line for line in json.loads(looked.stdout)}
    left_out = {name for name, line in lines.items() if line["status"] == "skipped"}
    assert all(name.startswith("setting: ") for name in left_out), left_out
    assert lines["dataset: salesforce"]["found"] == "exists"
    assert lines["storage: bucket"]["found"] == "an object was written, read and deleted"
    assert all(word not in looked.stdout for word in KEYS)


def test_ten_faults_are_ten_lines_and_no_other(called: Doctors) -> None:
    called.faults.add("hightouch", kind="refused")
    called.faults.add("omni", kind="hang")
    called.faults.add("explo", kind="html")
    called.warehouse.delete_dataset("salesforce", delete_contents=True)
    with called.api() as api:
        [route] = [one for one in api.get("/v3/alert_routes").json()["alert_routes"] if "internal" in one["name"]]
        api.delete(f"/v3/alert_routes/{route['id']}").raise_for_status()
    with another_clock(called.config.url("incident_io"), timedelta(minutes=-10)) as incident_io:
        looked = called.look(
            "--json",
            HEX_API_TOKEN=None,
            DIGEST_CRON="at nine",
            FIVETRAN_API_SECRET="wrong-secret",
            DATAPLATFORM_STATE_BUCKET="another-bucket",
            INCIDENT_IO_API_URL=incident_io,
        )
    named = wrong(looked)
    said = {name: f"{line['status']}: {line['found']} -> {line['remedy']}" for name, line in named.items()}
    expected = {
        "setting: HEX_API_TOKEN": ("is not set", "Hex: Settings, API keys"),
        "setting: DIGEST_CRON": ("is malformed", "five fields of cron"),
        "clock": ("ahead of 127.0.0.1", "Set it by NTP"),
        "dataset: salesforce": ("does not exist", "Run what lands `salesforce`"),
        "storage: bucket": ("there is no bucket another-bucket", "See DATAPLATFORM_STATE_BUCKET"),
        "fivetran: credentials": ("401: Invalid API key or secret", "set FIVETRAN_API_KEY and FIVETRAN_API_SECRET"),
        "hightouch: credentials": ("could not connect", "See HIGHTOUCH_API_URL"),
        "omni: credentials": ("no answer within 6 s", "--timeout"),
        "explo: credentials": ("502", "EXPLO_API_URL is not its API"),
        "on-call: alert routes": ("to create: alert route 'Data platform: internal'", "`dataplatform on-call plan`"),
    }
    assert said.keys() == expected.keys(), said
    for name, words in expected.items():
        assert said[name].startswith("failed: "), said[name]
        assert all(word in said[name] for word in words), said[name]
    assert looked.returncode == 1
    assert all(word not in looked.stdout for word in KEYS)


@pytest.mark.long
def test_thirteen_others_are_named_too_and_what_only_hurts_later_is_a_warning(called: Doctors) -> None:
    called.faults.add("fivetran", "product", kind="paused")
    (called.home / "hex.json").unlink()
    called.save("omni.json", datetime.now(UTC) - timedelta(days=3))
    called.parsed("1.10.4")
    beat(called.config.root / "dagster", datetime.now(UTC) - timedelta(hours=1))
    looked = called.look(
        "--json",
        BIGQUERY_LOCATION="EU",
        EXPLO_API_TOKEN="wrong-token",
        INCIDENT_IO_ALERT_SOURCE_ID="01ANOTHER",
        INCIDENT_IO_HEARTBEAT_TOKEN="wrong-token",
        INCIDENT_IO_SCHEDULE="Nobody's",
        SLACK_ALERTS_CHANNEL="C00000009",
        SMTP_PASSWORD="wrong-password",
        DAGSTER_COMPUTE_LOGS_BUCKET="another-bucket",
    )
    assert {name: line["status"] for name, line in wrong(looked).items()} == {
        "bigquery: location": "failed",
        "dagster: daemons": "failed",
        "dbt: manifest": "failed",
        "explo: credentials": "failed",
        "fivetran: connections": "warning",
        "incident.io: alert source": "failed",
        "incident.io: heartbeat token": "failed",
        "incident.io: schedule": "failed",
        "mail: server": "failed",
        "slack: alerts channel": "failed",
        "state: hex.json": "failed",
        "state: omni.json": "warning",
        "storage: compute logs": "failed",
    }
    assert all(word not in looked.stdout for word in KEYS)


@pytest.mark.long
def test_a_containers_state_is_as_old_as_that_of_the_bucket(called: Doctors, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", called.config.url("storage"))
    called.save("omni.json", datetime.now(UTC) - timedelta(days=3))
    called.save("explo.json", datetime.now(UTC) - timedelta(days=3))
    bucket = Client(project=PROJECT, credentials=AnonymousCredentials()).bucket(BUCKET)
    bucket.blob("state/omni.json").upload_from_string("{}")
    looked = called.look("--json", DATAPLATFORM_STATE_ON_LOAD="true")
    assert wrong(looked).keys() == {"state: explo.json"}
    bucket.blob("state/omni.json").delete()


@pytest.mark.long
def test_sources_in_a_project_of_their_own_are_looked_for_there(called: Doctors) -> None:
    for dataset in LANDED:
        called.warehouse.create_dataset(f"acme-sources.{dataset}")
    [line] = wrong(called.look("--json", BIGQUERY_RAW_PROJECT="acme-sources")).values()
    assert line["found"] == f"parsed for sources in {PROJECT}, and the settings say acme-sources"
    called.parsed(version("dbt-core"), raw="acme-sources")
    looked = called.look("--json", BIGQUERY_RAW_PROJECT="acme-sources")
    assert wrong(looked) == {}
    lines = {line["name"]: line for line in json.loads(looked.stdout)}
    assert lines["bigquery: queries in acme-sources"]["found"] == "a query ran"
    assert lines["dataset: product_public"]["status"] == "ok"
    called.warehouse.delete_dataset("acme-sources.product_public")
    assert wrong(called.look("--json", BIGQUERY_RAW_PROJECT="acme-sources")).keys() == {"dataset: product_public"}


def test_a_warehouse_with_stripes_old_layout_is_told_apart_from_what_models_read(called: Doctors) -> None:
    warehouse = called.warehouse
    called.parsed(version("dbt-core"), more=billing())
    warehouse.create_dataset("stripe")
    try:
        for table, columns in OLD_STRIPE.items():
            schema = [bigquery.SchemaField(name, kind) for name, kind in columns.items()]
            warehouse.create_table(bigquery.Table(f"{PROJECT}.stripe.{table}", schema))
        looked = called.look("--json")
        assert wrong(looked).keys() == {"columns: stripe"}, looked.stdout
        line = wrong(looked)["columns: stripe"]
        assert (line["status"], looked.returncode) == ("failed", 1)
        below = "would fail: stg_stripe__subscriptions, and downstream mrr_by_month, subscriptions"
        customers = "would fail: stg_stripe__customers, and downstream mrr_by_month, subscriptions"
        found = line["found"].split("; ")
        print(*found, f"-> {line['remedy']}", sep="\n")
        assert [one.split(" (")[0] for one in found] == [
            "column `metadata` of `stripe.customer` is missing",
            "column `is_deleted` of `stripe.customer` is missing",
            "table `stripe.price` is missing",
            "table `stripe.subscription_history` is missing",
            "column `current_period_end` of `stripe.subscription_item` is missing",
        ]
        assert [one.endswith(customers) for one in found] == [True, True, False, False, False]
        assert [one.endswith(below) for one in found] == [False, False, True, True, True]
        assert "Fivetran lands `subscription_history` for connections made since February 2022" in found[3]
        assert "Make a new Stripe connection in Fivetran" in line["remedy"]
        # As soon as what is read has landed, nothing is wrong.
        for table, columns in STRIPE.items():
            warehouse.delete_table(f"{PROJECT}.stripe.{table}", not_found_ok=True)
            schema = [bigquery.SchemaField(name, kind.upper()) for name, kind in columns.items()]
            warehouse.create_table(bigquery.Table(f"{PROJECT}.stripe.{table}", schema))
        assert wrong(called.look("--json")) == {}
    finally:
        warehouse.delete_dataset("stripe", delete_contents=True)
