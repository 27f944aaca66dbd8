"""Counts the rows of a dataset's tables: one table that BigQuery cannot read keeps no other from being counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

import requests
from google.api_core.exceptions import BadRequest, Forbidden, GoogleAPIError, NotFound, TooManyRequests

from orchestration.components.platform_causes import bigquery_cause
from orchestration.core.halving import ask_in_batches
from orchestration.vendors.bigquery import TABLES_A_QUERY, Counted, Look, Warehouse
from orchestration.vendors.waiting import SyncFailed

BIGQUERY_ERRORS = (GoogleAPIError, requests.RequestException, TimeoutError)
ABOUT_THE_TABLE = (BadRequest, Forbidden, NotFound)
"""What BigQuery answers where a table or a view cannot be read until someone has changed it."""


@dataclass(frozen=True)
class Counts:
    """What was counted, by table.

    `failed` are tables that BigQuery cannot read, each with its error. `left` are tables that were not counted because of `error`, which is
    about BigQuery itself, or about more tables than are looked for one by one.
    """

    counted: Mapping[str, Counted] = field(default_factory=dict[str, Counted])
    failed: Mapping[str, Exception] = field(default_factory=dict[str, Exception])
    left: tuple[str, ...] = ()
    error: Exception | None = None


def count_tables(warehouse: Warehouse, dataset: str, looks: Sequence[Look]) -> Counts:
    """Count the rows of tables of a dataset, by a query for each `TABLES_A_QUERY` tables.

    Where a query fails, the tables that make it fail are found by halving. Where no table can be read, all of several are `left`: one
    problem of the dataset is not the problem of each of its tables.
    """
    found = ask_in_batches(looks, partial(warehouse.counted, dataset), BIGQUERY_ERRORS, is_outage, size=TABLES_A_QUERY)
    counted = {table: count for part in found.answers for table, count in part.items()}
    failed = {look.table: error for look, error in found.failed}
    left, error = tuple(look.table for look in found.left), found.error
    if not counted and len(failed) > 1:
        error = error or next(iter(failed.values()))
        failed, left = {}, (*left, *failed)
    return Counts(counted, failed, left, error)


def find_newest(
    warehouse: Warehouse, dataset: str, tables: Sequence[str]
) -> tuple[dict[str, datetime], Exception | None]:
    """Return when the newest row of each table was written, and the first error. Tables that are not read are left out.

    Raises what BigQuery's client raises where it cannot list the tables.
    """
    existing = sorted(warehouse.tables(dataset) & set(tables))
    found = ask_in_batches(
        existing, partial(warehouse.newest_of, dataset), BIGQUERY_ERRORS, is_outage, size=TABLES_A_QUERY
    )
    newest = {table: at for part in found.answers for table, at in part.items()}
    return newest, found.error or next((error for _, error in found.failed), None)


def is_outage(error: Exception) -> bool:
    """Whether an error is about BigQuery, or this platform's access to it, and not about the tables of a query."""
    outage = isinstance(error, requests.RequestException | TooManyRequests)
    return outage or bigquery_cause(error) is not None


def unreadable(dataset: str, table: str, error: Exception) -> SyncFailed:
    """Return the failure of one table or view that BigQuery cannot read."""
    return SyncFailed(
        f"BigQuery cannot read the table or view `{dataset}.{table}`. Correct it or drop it, or exclude it in defs/ingestion/defs.yaml."
        f" {error}",
        permanent=isinstance(error, ABOUT_THE_TABLE),
    )


def not_counted(dataset: str, error: Exception | None) -> SyncFailed:
    """Return the failure of a dataset whose tables could not be counted."""
    return SyncFailed(f"BigQuery could not be asked what {dataset} holds: {error}", cause=bigquery_cause(error))
