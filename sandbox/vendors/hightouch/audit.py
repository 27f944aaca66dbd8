"""Warehouse sync logs: what Hightouch writes about its runs into the dataset `hightouch_audit`."""

from __future__ import annotations

import json
from typing import Any

from google.cloud import bigquery

from sandbox.config import PROJECT
from sandbox.services.bigquery import client_of_environment

DATASET = "hightouch_audit"
RUNS = {
    "sync_id": "STRING", "sync_run_id": "STRING", "status": "STRING", "error": "STRING", "started_at": "TIMESTAMP",
    "finished_at": "TIMESTAMP", "planned": "INTEGER", "successful": "INTEGER", "failed": "INTEGER",
}  # fmt: skip
ROW = "model_row_id"
"""Hightouch calls it `row_id`, which the DuckLake under the emulator keeps for itself."""
CHANGELOG = dict.fromkeys(("sync_id", "sync_run_id", ROW, "op_type", "status", "failure_reason", "fields"), "STRING")


def write(run: dict[str, Any], changes: list[dict[str, Any]]) -> None:
    """Append a run and what it did to each row: one load job a table, the two at once."""
    client = client_of_environment()
    client.create_dataset(DATASET, exists_ok=True)
    log = [change | {"fields": json.dumps(change["fields"])} for change in changes]
    jobs = [_load(client, "sync_changelog", CHANGELOG, log), _load(client, "sync_runs", RUNS, [run])]
    for job in jobs:
        job.result(timeout=120)


def _load(client: bigquery.Client, table: str, columns: dict[str, str], rows: list[dict[str, Any]]) -> bigquery.LoadJob:
    config = bigquery.LoadJobConfig(
        schema=[bigquery.SchemaField(name, kind) for name, kind in columns.items()], write_disposition="WRITE_APPEND"
    )
    return client.load_table_from_json(rows, f"{PROJECT}.{DATASET}.{table}", job_config=config)
