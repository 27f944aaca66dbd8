"""BigQuery's own answer to whether it would run a statement. A dry run reads no data and costs nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from google.api_core.exceptions import BadRequest, Forbidden, GoogleAPICallError, NotFound
from google.cloud import bigquery

CALL_SECONDS = 60.0
RETRY_SECONDS = 60.0
POSITION = re.compile(r"(?:;\s*)?\bat \[(\d+):(\d+)\]\s*$")
OF_THE_PROJECT = ("Access Denied: Project", "Not found: Project")
"""What messages begin with that say something of the caller, and nothing of the statement."""


@dataclass(frozen=True)
class DryRun:
    """What BigQuery says of a statement that it would run: the bytes that it would read, and the tables."""

    bytes_processed: int
    tables: tuple[str, ...]


class DryRunRejectedError(Exception):
    """BigQuery would not run a statement. The text is BigQuery's message.

    `reason` is BigQuery's word for the kind (https://cloud.google.com/bigquery/docs/error-messages): `invalidQuery`, `notFound` of a
    table, a dataset or a location, `accessDenied` of a table. `line` and `column` are of the statement, where BigQuery gives them.
    """

    def __init__(self, reason: str, message: str, line: int | None = None, column: int | None = None) -> None:
        super().__init__(message if line is None else f"{message} at [{line}:{column}]")
        self.reason, self.message, self.line, self.column = reason, message, line, column


def dry_run(
    client: bigquery.Client,
    sql: str,
    *,
    parameters: Sequence[bigquery.ScalarQueryParameter] = (),
    retry_seconds: float = RETRY_SECONDS,
) -> DryRun:
    """Ask BigQuery to dry-run one statement, in the location of the client.

    Args:
        client: A client of the project that the job belongs to, with the location of its datasets.
        sql: One statement.
        parameters: What the statement's parameters are.
        retry_seconds: How long a BigQuery that cannot be reached is tried.

    Raises:
        DryRunRejectedError: BigQuery would not run this statement; others may be fine.
        google.api_core.exceptions.GoogleAPIError: BigQuery could not be asked: not reachable, or no right to run jobs.
    """
    # The query cache would answer for a table that has changed since.
    config = bigquery.QueryJobConfig(dry_run=True, use_query_cache=False, query_parameters=list(parameters))
    retry = bigquery.DEFAULT_RETRY.with_timeout(retry_seconds)
    try:
        job = client.query(sql, job_config=config, retry=retry, timeout=CALL_SECONDS, job_retry=None)
    except (BadRequest, NotFound, Forbidden) as error:
        reason, message = _reason(error), _message(error)
        # A quota that is used up is a 403 too.
        if (isinstance(error, Forbidden) and reason != "accessDenied") or message.startswith(OF_THE_PROJECT):
            raise
        raise _rejection(reason, message) from error
    referenced = cast("list[bigquery.TableReference]", job.referenced_tables)
    tables = tuple(f"{table.project}.{table.dataset_id}.{table.table_id}" for table in referenced)
    return DryRun(job.total_bytes_processed or 0, tables)


def _rejection(reason: str, message: str) -> DryRunRejectedError:
    position = POSITION.search(message)
    if position is None:
        return DryRunRejectedError(reason, message)
    return DryRunRejectedError(reason, message[: position.start()].rstrip(), int(position[1]), int(position[2]))


def _message(error: GoogleAPICallError) -> str:
    """BigQuery's message, without the request's address that Google's client puts before it."""
    first = _first(error)
    return str(first.get("message", cast(object, error.message)))


def _reason(error: GoogleAPICallError) -> str:
    return str(_first(error).get("reason", ""))


def _first(error: GoogleAPICallError) -> Mapping[str, Any]:
    errors = cast("list[Mapping[str, Any]]", error.errors)
    return errors[0] if errors else {}
