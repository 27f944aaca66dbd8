"""Counts of rows in the tables that a loader has written."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from google.api_core.exceptions import NotFound
from google.cloud import bigquery

SYNCED = "_fivetran_synced"
TIMEOUT_SECONDS = 300
CALL_SECONDS = 60.0
RETRY_SECONDS = 60.0
"""How long a BigQuery that cannot be reached is tried. Google's clients would try for ten minutes, call by call."""


@dataclass(frozen=True)
class Landed:
    """Rows of a table: all of them, and those which the last sync wrote (inserted, updated, or marked as deleted)."""

    rows: int
    moved: int


class Warehouse:
    """One BigQuery project. Every call raises google.api_core's exceptions."""

    def __init__(self, project: str, location: str, retry_seconds: float = RETRY_SECONDS) -> None:
        self._client = bigquery.Client(project=project, location=location)
        self._retry = bigquery.DEFAULT_RETRY.with_timeout(retry_seconds)

    def newest(self, dataset: str, tables: Collection[str]) -> dict[str, datetime]:
        """When the newest row of each table was written; tables that do not exist or are empty are left out."""
        query = " union all ".join(
            f"select '{table}' as name, max({SYNCED}) as newest from `{dataset}.{table}`"
            for table in self._existing(dataset, tables)
        )
        return {row["name"]: row["newest"] for row in self._rows(query, []) if row["newest"] is not None}

    def landed(self, dataset: str, tables: Collection[str], since: Mapping[str, datetime]) -> dict[str, Landed]:
        """What each existing table holds, and what was written into it after `since`; a table without that counts wholly.

        The loader's own times are compared with each other, never with this machine's clock.
        """
        parts: list[str] = []
        parameters: list[bigquery.ScalarQueryParameter] = []
        for number, table in enumerate(self._existing(dataset, tables)):
            moved = "count(*)"
            if table in since:
                moved = f"countif({SYNCED} > @since_{number})"
                parameters.append(bigquery.ScalarQueryParameter(f"since_{number}", "TIMESTAMP", since[table]))
            parts.append(f"select '{table}' as name, count(*) as total, {moved} as moved from `{dataset}.{table}`")
        rows = self._rows(" union all ".join(parts), parameters)
        return {row["name"]: Landed(row["total"], row["moved"]) for row in rows}

    def _existing(self, dataset: str, tables: Collection[str]) -> list[str]:
        try:
            found: set[str] = {
                table.table_id
                for table in cast(Any, self._client.list_tables(dataset, retry=self._retry, timeout=CALL_SECONDS))
            }
        except NotFound:
            return []
        return sorted(found & set(tables))

    def _rows(self, query: str, parameters: list[bigquery.ScalarQueryParameter]) -> list[Any]:
        if not query:
            return []
        config = bigquery.QueryJobConfig(query_parameters=parameters)
        job = self._client.query(query, job_config=config, retry=self._retry, timeout=CALL_SECONDS)
        return list(job.result(timeout=TIMEOUT_SECONDS, retry=self._retry))
