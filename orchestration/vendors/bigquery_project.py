"""One BigQuery project, with limits on how long it may take: what reads landed tables and what writes the platform's own share."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, Self

from google.cloud import bigquery

from orchestration.settings import settings

TIMEOUT_SECONDS = 300
CALL_SECONDS = 60.0
TYPES = {str: "STRING", int: "INTEGER", float: "FLOAT", bool: "BOOLEAN", datetime: "TIMESTAMP"}


class BigQueryProject:
    """A client of one project. Every call raises google.api_core's exceptions.

    `retry_seconds` is how long a BigQuery that cannot be reached is tried; Google's clients would try for ten minutes, call by call.
    """

    raw: ClassVar[bool] = False
    """Whether it is the project that sources land in, and not the one that dbt builds in."""

    def __init__(self, project: str, location: str, retry_seconds: float) -> None:
        self._client = bigquery.Client(project=project, location=location)
        self._retry = bigquery.DEFAULT_RETRY.with_timeout(retry_seconds)

    @classmethod
    def configured(cls) -> Self:
        """The project of the settings."""
        values = settings()
        project = values.raw_project if cls.raw else values.modelled_project
        return cls(project, values.bigquery_location, values.bigquery_retry_seconds)

    def number_of_rows(self, table: str) -> int:
        """All rows of `[project.]dataset.table`, as BigQuery knows them without reading."""
        return self._client.get_table(table, retry=self._retry, timeout=CALL_SECONDS).num_rows or 0

    def _run(self, query: str, parameters: Mapping[str, str | datetime] | None = None) -> bigquery.QueryJob:
        given = [
            bigquery.ScalarQueryParameter(name, TYPES[type(value)], value) for name, value in (parameters or {}).items()
        ]
        config = bigquery.QueryJobConfig(query_parameters=given)
        # With its `job_retry`, the client begins a job for ten minutes again and again, whatever `retry` says.
        return self._client.query(query, job_config=config, retry=self._retry, timeout=CALL_SECONDS, job_retry=None)

    def _rows(self, query: str, parameters: Mapping[str, str | datetime] | None = None) -> list[Any]:
        return list(self._run(query, parameters).result(timeout=TIMEOUT_SECONDS, retry=self._retry))
