"""One BigQuery project, with limits on how long it may take: what reads landed tables and what writes the platform's own share."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, ClassVar, Self, cast

from google.api_core.exceptions import GoogleAPIError, NotFound
from google.cloud import bigquery

from orchestration.settings import settings

TIMEOUT_SECONDS = 300
CALL_SECONDS = 60.0
TYPES = {str: "STRING", int: "INT64", float: "FLOAT64", bool: "BOOL", datetime: "TIMESTAMP"}
"""Python's types by GoogleSQL's names, which DDL, query parameters and the API's schemas all take.

INTEGER, FLOAT and BOOLEAN are names of the API alone; FLOAT is an error in DDL
(https://cloud.google.com/bigquery/docs/reference/rest/v2/tables#TableFieldSchema, .../standard-sql/data-types).
"""

NOT_IN_LOCATION = re.compile(
    r"Not found: Dataset (?P<project>[^\s:]+(?::[^\s:]+)?):(?P<dataset>\w+) was not found in location"
)
"""The error of a job in another location than its dataset's; also that of a dataset which does not exist at all
(https://cloud.google.com/bigquery/docs/troubleshoot-queries, "dataset not found in location")."""


class DatasetElsewhere(GoogleAPIError):
    """A dataset is in another location than the jobs that use it."""

    def __init__(self, dataset: str, location: str, wanted: str) -> None:
        super().__init__(
            f"Dataset {dataset} is in {location}, and BIGQUERY_LOCATION is {wanted}. BigQuery cannot move a dataset: set "
            f"BIGQUERY_LOCATION to {location}, or copy its tables into a new dataset in {wanted} and delete this one."
        )


def bigquery_client(project: str, location: str) -> bigquery.Client:
    """Return a client that creates datasets and runs jobs in `location`. All of the platform's clients are made here."""
    return bigquery.Client(project=project, location=location)


def require_location(dataset: bigquery.Dataset, wanted: str) -> None:
    """Raise DatasetElsewhere where a dataset that exists is not in the wanted location."""
    location = str(cast(Any, dataset).location)
    if location.upper() != wanted.upper():
        raise DatasetElsewhere(f"{dataset.project}.{dataset.dataset_id}", location, wanted)


class BigQueryProject:
    """A client of one project. Every call raises google.api_core's exceptions.

    `retry_seconds` is how long a BigQuery that cannot be reached is tried; Google's clients would try for ten minutes, call by call.
    """

    raw: ClassVar[bool] = False
    """Whether it is the project that sources land in, and not the one that dbt builds in."""

    def __init__(self, project: str, location: str, retry_seconds: float) -> None:
        self._client = bigquery_client(project, location)
        self._location = location
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

    def failure_reason(self, job_id: str, project: str, location: str | None) -> str | None:
        """Return BigQuery's reason for the failure of a job, such as `quotaExceeded`; None where BigQuery does not know the job."""
        try:
            job = self._client.get_job(
                job_id, project=project, location=location, retry=self._retry, timeout=CALL_SECONDS
            )
        except NotFound:
            return None
        result = cast("Mapping[str, Any] | None", job.error_result)
        return str(result["reason"]) if result else ""

    def _run(self, query: str, parameters: Mapping[str, str | datetime] | None = None) -> bigquery.QueryJob:
        given = [
            bigquery.ScalarQueryParameter(name, TYPES[type(value)], value) for name, value in (parameters or {}).items()
        ]
        config = bigquery.QueryJobConfig(query_parameters=given)
        # With its `job_retry`, the client begins a job for ten minutes again and again, whatever `retry` says.
        return self._client.query(query, job_config=config, retry=self._retry, timeout=CALL_SECONDS, job_retry=None)

    def _rows(self, query: str, parameters: Mapping[str, str | datetime] | None = None) -> list[Any]:
        with self._locating():
            return list(self._run(query, parameters).result(timeout=TIMEOUT_SECONDS, retry=self._retry))

    @contextmanager
    def _locating(self) -> Generator[None]:
        """Raise DatasetElsewhere where a job inside does not find a dataset that exists in another location."""
        try:
            yield
        except NotFound as error:
            if found := NOT_IN_LOCATION.search(str(error)):
                path = f"{found['project']}.{found['dataset']}"
                require_location(
                    self._client.get_dataset(path, retry=self._retry, timeout=CALL_SECONDS), self._location
                )
            raise
