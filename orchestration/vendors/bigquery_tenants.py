"""What dashboards ask of BigQuery for one tenant at a time, and who the tenants are."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import requests
from google.api_core.exceptions import BadRequest, GoogleAPICallError, GoogleAPIError, NotFound, RetryError
from google.cloud import bigquery

from orchestration.settings import settings
from orchestration.vendors.bigquery_project import CALL_SECONDS, BigQueryProject

MOST_ROWS = 20_000
"""A result with more rows is not read whole: no dashboard shows as many."""
UNAVAILABLE = (GoogleAPIError, requests.RequestException, TimeoutError)
"""What calls raise where BigQuery cannot be asked."""


class QueryRefused(Exception):
    """BigQuery does not run the query; the message has its words."""


class TooSlow(Exception):
    """The query had no answer within the time."""


@dataclass(frozen=True)
class Answer:
    """A result with the seconds that it took to come. `total` counts rows that were not read, too."""

    columns: list[str]
    rows: list[tuple[Any, ...]]
    total: int
    seconds: float


class TenantQueries(BigQueryProject):
    """A project as its tenants' dashboards see it. Calls raise google.api_core's exceptions where BigQuery itself is at fault."""

    def organisations(self) -> dict[str, str]:
        """The tenants' names by their ids, from the mart of the target that the settings name."""
        values = settings()
        prefix = f"{values.dbt_schema_prefix}_" if values.dbt_target != "prod" and values.dbt_schema_prefix else ""
        rows = self._rows(f"select organisation_id, organisation_name from `{prefix}core.organisations`")
        return {row["organisation_id"]: row["organisation_name"] or row["organisation_id"] for row in rows}

    def columns(self, table: str) -> set[str] | None:
        """The columns of `[project.]dataset.table`, in lower case; None where there is no such table."""
        try:
            found = self._client.get_table(table, retry=self._retry, timeout=CALL_SECONDS)
        except (NotFound, BadRequest):
            return None
        return {column.name.lower() for column in cast("list[bigquery.SchemaField]", found.schema)}

    def answer(self, query: str, parameters: Mapping[str, str], seconds: float) -> Answer:
        """Run a query as if nobody had before. Raises QueryRefused, and TooSlow when the time is up."""
        config = _config(parameters, use_query_cache=False)
        in_time = self._retry.with_timeout(seconds)
        began = time.monotonic()
        try:
            job = self._client.query(query, job_config=config, retry=self._retry, timeout=CALL_SECONDS, job_retry=None)
            try:
                found = job.result(timeout=seconds, retry=in_time, max_results=MOST_ROWS, job_retry=None)
            except (TimeoutError, RetryError, requests.Timeout) as error:
                if time.monotonic() - began < seconds:
                    raise
                # One that cannot be cancelled either goes on for nobody.
                with contextlib.suppress(*UNAVAILABLE):
                    job.cancel(retry=None, timeout=CALL_SECONDS)
                raise TooSlow from error
            took = time.monotonic() - began
            rows = [tuple[Any, ...](row.values()) for row in cast(Any, found)]
        except (BadRequest, NotFound) as error:
            raise QueryRefused(_words(error)) from error
        if took > seconds:
            raise TooSlow
        names: list[str] = [column.name for column in cast(Any, found).schema]
        return Answer(names, rows, cast("int | None", found.total_rows) or len(rows), took)

    def refusal(self, query: str, parameters: Mapping[str, str]) -> str | None:
        """Why BigQuery would not run a query, which is not run; None where it would."""
        config = _config(parameters, dry_run=True)
        try:
            self._client.query(query, job_config=config, retry=self._retry, timeout=CALL_SECONDS, job_retry=None)
        except (BadRequest, NotFound) as error:
            return _words(error)
        return None


def _words(error: GoogleAPICallError) -> str:
    """What BigQuery says, without the job's id: the same error is the same the next time."""
    failed: Any = error
    said = failed.errors[0].get("message") if failed.errors else None
    return str(said or failed.message).split("\n\n")[0].strip().rstrip(".") + "."


def _config(parameters: Mapping[str, str], **options: bool) -> bigquery.QueryJobConfig:
    given = [bigquery.ScalarQueryParameter(name, "STRING", value) for name, value in parameters.items()]
    return bigquery.QueryJobConfig(query_parameters=given, **options)
