"""The same statements, judged by the configured BigQuery: each is dry-run, which costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from google.cloud import bigquery

from orchestration.dbt_loop.check_sql import Rejection, Statement, Verdict
from orchestration.vendors.bigquery_dry_run import DryRunRejectedError, dry_run

AT_ONCE = 8
"""BigQuery allows 100 requests a second to one method and user, and 300 at once (https://cloud.google.com/bigquery/quotas)."""


def judge(statements: Sequence[Statement], client: bigquery.Client, progress: Callable[[int], None]) -> Verdict:
    """Dry-run all statements, and call `progress` with how many are done.

    Raises google.api_core's exceptions where BigQuery cannot be asked.
    """
    verdict = Verdict()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            for done, rejection in enumerate(pool.map(partial(_dry_run, client), statements), 1):
                verdict.analyzed += 1
                if rejection is not None:
                    verdict.rejected.append(rejection)
                progress(done)
        finally:
            # Without the right to run jobs, each further statement would only say so again.
            pool.shutdown(cancel_futures=True)
    return verdict


def _dry_run(client: bigquery.Client, statement: Statement) -> Rejection | None:
    parameters = [bigquery.ScalarQueryParameter(one.name, one.type, "") for one in statement.parameters]
    try:
        dry_run(client, statement.sql, parameters=parameters)
    except DryRunRejectedError as error:
        line = None if error.line is None else max(1, error.line - statement.lines_before)
        return Rejection(statement.node, error.message, line, error.column)
    return None
