"""`python -m product_events` as it is typed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from google.cloud import bigquery
from typer.testing import CliRunner, Result

from product_events.__main__ import app
from sandbox.config import PROJECT
from tests.orchestration.wire import refused_port
from tests.product_events.conftest import DATASET, Tables


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})


def publish(tables: Tables, *arguments: str) -> Result:
    return run("publish", "insight_viewed", "--dataset", DATASET, "--organisation", tables.organisation, *arguments)


def test_as_a_process(warehouse: bigquery.Client) -> None:
    command = [sys.executable, "-m", "product_events", "check"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout) == (0, "4 events, 5 versions: all right\n")


def test_the_registry_is_listed() -> None:
    command = [sys.executable, "-m", "product_events", "list"]
    listed = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=True, env={**os.environ, "COLUMNS": "200"}
    )
    assert "workflow_id*, outcome*, duration_ms*" in listed.stdout


def test_tables_says_what_it_did(warehouse: bigquery.Client) -> None:
    done = run("tables", "--dataset", DATASET)
    assert (done.exit_code, done.output.splitlines()[0]) == (0, f"{DATASET}.insight_viewed: unchanged")


def test_one_event_by_hand(tables: Tables) -> None:
    done = publish(
        tables,
        "--property",
        "insight=on_call_load",
        "--property",
        "load_ms=12",
        "--occurred-at",
        "2026-03-02T10:00+02:00",
    )
    assert done.exit_code == 0, done.output
    [row] = tables.rows("insight_viewed")
    assert done.output == f"{row['event_id']} is in {DATASET}.insight_viewed\n"
    assert (row["load_ms"], row["occurred_at"].isoformat()) == (12, "2026-03-02T08:00:00+00:00")


def test_what_does_not_fit_or_arrive_fails(tables: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = publish(tables, "--property", "insight=on_call_load", "--property", "load_ms=soon")
    assert dead.exit_code == 1
    assert f"is in {DATASET}.dead_letters: load_ms: 'soon' is not of type 'integer'" in dead.output
    assert len(tables.rows("dead_letters")) == 1
    assert publish(tables, "--property", "insight").exit_code == 2
    assert publish(tables, "--occurred-at", "noon").exit_code == 2
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", f"http://127.0.0.1:{refused_port()}")
    away = publish(tables, "--spool-dir", str(tmp_path), "--seconds", "0.2")
    assert away.exit_code == 1
    assert f"1 events are not delivered and stay in {tmp_path}/{PROJECT}.{DATASET}" in away.output
