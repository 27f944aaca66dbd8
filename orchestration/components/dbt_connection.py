"""Recognize a failure of dbt's own connection to BigQuery, by dbt-bigquery's message and the branch that wrote it. Pure.

The text of an error is not enough. A model may fail with any words, for `error('503 POST …')` is SQL. In dbt-bigquery 1.12.1,
`BigQueryConnectionManager.exception_handler` (dbt/adapters/bigquery/connections.py, lines 89 to 130) has three branches, which dbt's
log tells apart:

- BigQuery's answer to a job (BadRequest, Forbidden, NotFound): the job's address is logged, and the message is BigQuery's own;
- credentials that cannot be refreshed (RefreshError): a sentence of dbt-bigquery's own, and nothing is logged;
- any other exception of Google's client: "Unhandled error while running:" is logged, and the message is the exception's text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from orchestration.core.causes import Cause

HEADER = re.compile(r"\A\s*(?:Database|Runtime) Error(?: in [\w ]+? \S+ \([^)\n]*\))?[ \t]*\n\s*")
"""dbt's first line of an error (dbt_common/exceptions/base.py, `DbtRuntimeError.__str__`)."""
UNREFRESHED = (
    "Unable to generate access token, if you're using impersonate_service_account, make sure your initial account has "
)
"""connections.py, line 107."""
NO_CREDENTIALS = "Failed to authenticate with supplied credentials"
"""credentials.py, line 400; in `open`, connections.py, line 204, it stands below a second header."""
RETRIED = re.compile(r"\ATimeout (?:of [\d.]+s )?exceeded, last exception: ")
"""google/api_core/retry/retry_base.py, `build_retry_error`; google/api_core/exceptions.py, `RetryError.__str__`."""
STATUS = re.compile(r"\A(?P<status>\d{3}) (?:GET|POST|PUT|PATCH|DELETE) https?://[^\s/]+(?:/upload)?/bigquery/v2/\S*: ")
"""google/api_core/exceptions.py, `GoogleAPICallError.__str__` and `_format_rest_error_message`, with a path of BigQuery's API."""
NO_CONNECTION = re.compile(
    r"\A(?:HTTPS?ConnectionPool\(host='[^']+', port=\d+\): (?:Max retries exceeded with url: /(?:bigquery/v2/|token\b)|Read timed out)"
    r"|\('Connection aborted\.', )"
)
"""urllib3/exceptions.py, `MaxRetryError` and `ReadTimeoutError`; `ProtocolError` as requests passes it on."""
NO_QUOTA = re.compile(
    r"\A(?:Quota exceeded: Your project exceeded quota|Custom quota exceeded: Your usage exceeded the custom quota)"
)
"""https://cloud.google.com/bigquery/docs/troubleshoot-quotas. That one table's quota is used up says nothing of the others."""
STATUSES: dict[str, Cause] = {
    "401": "bigquery-credentials",
    "429": "bigquery-quota",
    "502": "bigquery-unreachable",
    "503": "bigquery-unreachable",
    "504": "bigquery-unreachable",
}


@dataclass(frozen=True)
class Job:
    """A query job by its address in dbt's log."""

    id: str
    project: str
    location: str | None


@dataclass(frozen=True)
class Evidence:
    """Facts from dbt's log about the branch of dbt-bigquery that wrote an error."""

    unhandled: bool = False
    """An exception of Google's client, and no answer of BigQuery about a job."""
    job: Job | None = None
    """The job that BigQuery's answer is about."""


def connection_cause(message: str, evidence: Evidence) -> Cause | None:
    """Return why dbt's connection to BigQuery failed; None where the error is about what was run.

    `bigquery-quota` of an error with a job holds only if BigQuery does not know the job, or gives the reason `quotaExceeded` for it.
    """
    text = _below_header(message)
    if text is None:
        return None
    if evidence.job is not None:
        return "bigquery-quota" if NO_QUOTA.match(text) else None
    if text.startswith(UNREFRESHED) or (_below_header(text) or text).startswith(NO_CREDENTIALS):
        return "bigquery-credentials"
    if not evidence.unhandled:
        return None
    text = RETRIED.sub("", text)
    if status := STATUS.match(text):
        return STATUSES.get(status["status"])
    return "bigquery-unreachable" if NO_CONNECTION.match(text) else None


def _below_header(message: str) -> str | None:
    header = HEADER.match(message)
    return message[header.end() :] if header else None
