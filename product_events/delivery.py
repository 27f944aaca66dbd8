"""Rows into BigQuery's streaming API: what arrived, what was refused and why, and when to try again."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, cast

from google.api_core.exceptions import GoogleAPICallError
from google.cloud.bigquery import Client, DatasetReference

from product_events.rows import Row

TOO_LARGE_OR_MALFORMED = (400, 413)
LATER = {"stopped", "timeout", "backendError", "internalError", "rateLimitExceeded", "quotaExceeded"}
"""Reasons of a row's error that say nothing about the row (cloud.google.com/bigquery/docs/error-messages)."""
NO_SUCH_FIELD = "no such field"
LONGEST_WAIT = 3600.0


class Delivery:
    """One dataset. Not safe for threads."""

    def __init__(self, client: Client, dataset: str, call_seconds: float) -> None:
        self._client = client
        self._dataset = DatasetReference(client.project, dataset)
        self._seconds = call_seconds

    def insert(self, table: str, rows: Sequence[Row], now: datetime) -> list[tuple[Row, str | None]]:
        """Insert rows as received now; return those that are not in the table, with the reason, or None where they may fit later.

        One attempt. Raises google.api_core's, google.auth's and requests' exceptions; some of the rows may be in the table then.
        """
        if not rows:
            return []
        received = {"received_at": now.astimezone(UTC).isoformat()}
        try:
            problems = cast(Any, self._client).insert_rows_json(
                self._dataset.table(table),
                [row | received for row in rows],
                row_ids=[row.get("event_id") for row in rows],
                skip_invalid_rows=True,
                retry=None,
                timeout=self._seconds,
            )
        except GoogleAPICallError as error:
            if error.code not in TOO_LARGE_OR_MALFORMED:
                raise
            if len(rows) == 1:
                return [(rows[0], str(cast(Any, error).message))]
            # Of a request that is refused whole, the rows to blame are found by halves.
            half = len(rows) // 2
            return self.insert(table, rows[:half], now) + self.insert(table, rows[half:], now)
        return [(rows[problem["index"]], _reason(problem["errors"])) for problem in problems]


def retry_after(error: Exception) -> float | None:
    """The seconds that BigQuery asks to be left alone for, if it does."""
    response = cast(Any, error).response if isinstance(error, GoogleAPICallError) else None
    value = str(response.headers.get("Retry-After", "")) if response is not None else ""
    if value.isdecimal():
        return min(float(value), LONGEST_WAIT)
    try:
        wait = parsedate_to_datetime(value).astimezone(UTC) - datetime.now(UTC)
    except (ValueError, OverflowError):
        return None
    return max(0.0, min(wait.total_seconds(), LONGEST_WAIT))


def backoff(failures: int, first: float, longest: float) -> float:
    """Seconds to wait after so many failures in a row: twice as long each time, spread so that publishers do not meet."""
    return min(longest, first * 2 ** min(failures - 1, 16)) * random.uniform(0.5, 1.0)  # noqa: S311


def _reason(errors: Sequence[Mapping[str, str]]) -> str | None:
    """Why BigQuery refused a row; None where that says nothing about the row.

    The registry has every field, so that one which BigQuery lacks is a table behind the registry: its new columns take minutes to
    reach the streaming API, or `python -m product_events tables` has not run.
    """
    if all(error.get("reason") in LATER or error.get("message", "").startswith(NO_SUCH_FIELD) for error in errors):
        return None
    return "; ".join(f"{error.get('location')}: {error.get('message')} ({error.get('reason')})" for error in errors)
