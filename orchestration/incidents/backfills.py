"""Backfills that broke: Dagster then cancels their runs, which says of no run that it failed, and asks for no more of them.

One that went through to its end has told its failures by its runs, and one that somebody cancelled is nobody's emergency.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

import dagster as dg
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus, PartitionBackfill
from dagster_shared.error import SerializableErrorInfo

from orchestration.core.redaction import redact_line
from orchestration.incidents import made
from orchestration.incidents.model import Signal
from orchestration.lineage import runs
from orchestration.lineage.dagster_errors import dagster_cause
from orchestration.lineage.failures import FailedUnit

BROKEN = [BulkActionStatus.FAILING, BulkActionStatus.FAILED]
BACKFILLS_A_TICK, DAYS = 20, 7
"""Dagster finds them by when they were asked for only: so long one may go on, and these are the newest of them."""

Targets = Mapping[str, tuple[str, ...]]
"""Assets with their partitions; without any where they have none."""


def broken(
    instance: dg.DagsterInstance, since: float, now: float, handled: Mapping[str, float]
) -> Iterator[PartitionBackfill]:
    """Yield the backfills that broke after `since` and were not judged. Times are in seconds since the epoch."""
    oldest = datetime.fromtimestamp(now - DAYS * 86400, UTC)
    filters = BulkActionsFilter(statuses=BROKEN, created_after=oldest)
    for backfill in instance.get_backfills(filters=filters, limit=BACKFILLS_A_TICK):
        ended_at = backfill.backfill_end_timestamp
        # It breaks at a time that Dagster does not note, and ends when its last run has.
        if f"backfill:{backfill.backfill_id}" not in handled and (ended_at is None or ended_at >= since):
            yield backfill


def signals_of(instance: dg.DagsterInstance, backfill: PartitionBackfill, now: float) -> Iterator[Signal]:
    """Yield the signal of a broken backfill, if something of it is still missing."""
    targets, asked_at = _targets(backfill), backfill.backfill_timestamp
    # What was made since it was asked for, by anything, has recovered.
    missing = made.left(instance, runs.awaited(targets, targets), asked_at, now)
    if missing or not targets:
        unit = _unit(backfill, targets, missing)
        job = f"job:{backfill.job_name}" if backfill.job_name else None
        at = backfill.backfill_end_timestamp or now
        yield Signal(id=f"backfill:{backfill.backfill_id}", at=at, failed=(unit,), kind="run", job=job)


def words(error: SerializableErrorInfo | None) -> str:
    """What an error says at its root."""
    while error is not None and error.cause is not None:
        error = error.cause
    return redact_line(error.message) if error else "it gives no reason."


def _targets(backfill: PartitionBackfill) -> Targets:
    """What it was to make, and of each asset the newest of very many partitions. One of a job does not know."""
    data = backfill.asset_backfill_data
    if data is None:
        return {key.to_user_string(): () for key in backfill.asset_selection or ()}
    subset = data.target_subset
    days = {
        key.to_user_string(): tuple(some.get_partition_keys())[-runs.MOST_PARTITIONS :]
        for key, some in subset.partitions_subsets_by_asset_key.items()
    }
    without = {key.to_user_string(): () for key in subset.non_partitioned_asset_keys}
    return {key: some for key, some in days.items() if some} | without


def _unit(backfill: PartitionBackfill, targets: Targets, missing: tuple[str, ...]) -> FailedUnit:
    # Of what was asked for: the next one of the same assets, for other partitions, is the same outage.
    asked = [backfill.job_name or "", *sorted(targets)]
    name = hashlib.sha256("\n".join(asked).encode()).hexdigest()[:10]
    return FailedUnit(
        f"backfill/{name}",
        tuple(sorted({token.partition("@")[0] for token in missing})),
        f"Backfill `{backfill.backfill_id}` broke: {words(backfill.error)}",
        awaits=missing,
        cause=dagster_cause(backfill.error),
    )
