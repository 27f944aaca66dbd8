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

from orchestration.incidents.model import Signal
from orchestration.lineage.failures import FailedUnit
from orchestration.lineage.runs import MOST_PARTITIONS, partition_token

BROKEN = [BulkActionStatus.FAILING, BulkActionStatus.FAILED]
BACKFILLS_A_TICK, DAYS = 20, 7
"""Dagster finds them by when they were asked for only: so long one may go on, and these are the newest of them."""
MADE_A_QUERY = 1_000

Targets = Mapping[dg.AssetKey, tuple[str, ...]]
"""Assets with their partitions; without any where they have none."""


def failed(instance: dg.DagsterInstance, since: float, now: float, handled: Mapping[str, float]) -> Iterator[Signal]:
    """Signals of the backfills that broke after `since`. Times are in seconds since the epoch."""
    oldest = datetime.fromtimestamp(now - DAYS * 86400, UTC)
    filters = BulkActionsFilter(statuses=BROKEN, created_after=oldest)
    for backfill in instance.get_backfills(filters=filters, limit=BACKFILLS_A_TICK):
        id_, ended_at = f"backfill:{backfill.backfill_id}", backfill.backfill_end_timestamp
        # It breaks at a time that Dagster does not note, and ends when its last run has.
        if id_ in handled or (ended_at is not None and ended_at < since):
            continue
        targets = _targets(backfill)
        missing = {key: left for key, some in targets.items() if (left := _unmade(instance, backfill, key, some))}
        if missing or not targets:
            unit = _unit(backfill, targets, missing)
            job = f"job:{backfill.job_name}" if backfill.job_name else None
            yield Signal(id=id_, at=ended_at or now, failed=(unit,), kind="run", job=job)


def words(error: SerializableErrorInfo | None) -> str:
    """What an error says at its root."""
    while error is not None and error.cause is not None:
        error = error.cause
    return " ".join(error.message.split()) if error else "it gives no reason."


def _targets(backfill: PartitionBackfill) -> Targets:
    """What it was to make, and of each asset the newest of very many partitions. One of a job does not know."""
    data = backfill.asset_backfill_data
    if data is None:
        return dict.fromkeys(backfill.asset_selection or (), ())
    parts = data.target_subset.partitions_subsets_by_asset_key
    found = {key: tuple(subset.get_partition_keys())[-MOST_PARTITIONS:] for key, subset in parts.items()}
    return {key: some for key, some in found.items() if some} | dict.fromkeys(
        data.target_subset.non_partitioned_asset_keys, ()
    )


def _unmade(
    instance: dg.DagsterInstance, backfill: PartitionBackfill, key: dg.AssetKey, partitions: tuple[str, ...]
) -> tuple[str, ...]:
    """What has to be made of an asset: nothing of what was made since the backfill was asked for, by whomever."""
    filters = dg.AssetRecordsFilter(key, partitions or None, after_timestamp=backfill.backfill_timestamp)
    made = {record.partition_key for record in instance.fetch_materializations(filters, MADE_A_QUERY).records}
    asset = key.to_user_string()
    if not partitions:
        return () if made else (asset,)
    return tuple(partition_token(asset, partition) for partition in partitions if partition not in made)


def _unit(backfill: PartitionBackfill, targets: Targets, missing: Mapping[dg.AssetKey, tuple[str, ...]]) -> FailedUnit:
    # Of what was asked for: the next one of the same assets, for other partitions, is the same outage.
    asked = [backfill.job_name or "", *sorted(key.to_user_string() for key in targets)]
    name = hashlib.sha256("\n".join(asked).encode()).hexdigest()[:10]
    return FailedUnit(
        f"backfill/{name}",
        tuple(sorted(key.to_user_string() for key in missing)),
        f"Backfill `{backfill.backfill_id}` broke: {words(backfill.error)}",
        awaits=tuple(token for _key, tokens in sorted(missing.items()) for token in tokens),
    )
