"""All that only warns, from Dagster's storage: checks that fail with severity warn, and data that is late but not yet too late."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import batched

import dagster as dg
from dagster import AssetCheckSeverity
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph
from dagster._core.definitions.freshness import FreshnessState, TimeWindowFreshnessPolicy
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecord,
    AssetCheckExecutionRecordStatus,
)

from orchestration.lineage.ages import age

KEYS_A_QUERY = 200
FAILED_ROWS = "dagster_dbt/failed_row_count"
"""In the metadata of a dbt test's evaluation, which has no text."""
FRESHNESS = "freshness"

FAILED, SUCCEEDED = AssetCheckExecutionRecordStatus.FAILED, AssetCheckExecutionRecordStatus.SUCCEEDED


@dataclass(frozen=True)
class Warned:
    """Something that warns, and has not been well since `since`."""

    asset: str
    check: str
    """The check's name, or `freshness`."""
    text: str
    """As it was written: it can have values of rows in it."""
    since: datetime
    owners: tuple[str, ...] = ()


def read(instance: dg.DagsterInstance, assets: AssetGraph) -> list[Warned]:
    """Everything that warns now, of the assets and checks that there are now; what has warned longest comes first."""
    found = [*_checks(instance, assets), *_late(instance, assets)]
    return sorted(found, key=lambda warned: (warned.since, warned.asset, warned.check))


def _checks(instance: dg.DagsterInstance, assets: AssetGraph) -> Iterator[Warned]:
    storage = instance.event_log_storage
    for keys in batched(sorted(assets.asset_check_keys), KEYS_A_QUERY, strict=False):
        for latest in storage.get_latest_asset_check_execution_by_key(keys).values():
            record = _ended(instance, latest)
            if record is None or record.status != FAILED:
                continue
            evaluation = record.evaluation
            if evaluation is None or evaluation.severity != AssetCheckSeverity.WARN:
                continue
            rows = evaluation.metadata.get(FAILED_ROWS)
            text = evaluation.description or (f"{rows.value} rows fail it." if rows else "It gives no reason.")
            key = record.key.asset_key
            yield Warned(
                key.to_user_string(), record.key.name, text, _time(_first(instance, record)), _owners(assets, key)
            )


def _ended(instance: dg.DagsterInstance, latest: AssetCheckExecutionRecord) -> AssetCheckExecutionRecord | None:
    """The newest evaluation that there is: the newest record may be of a run that is under way, or has died."""
    if latest.status in {FAILED, SUCCEEDED}:
        return latest
    return next(iter(_before(instance, latest, latest.id, {FAILED, SUCCEEDED})), None)


def _first(instance: dg.DagsterInstance, latest: AssetCheckExecutionRecord) -> AssetCheckExecutionRecord:
    """The first of the failures without a success in between that `latest` is the last of.

    Storage gives the newest records only, and a check that is ignored for months has thousands: so their ids are halved, which
    takes some twenty queries of one record each, however many there are.
    """
    passed = _before(instance, latest, latest.id, {SUCCEEDED})
    floor = passed[0].id if passed else 0
    first, low = latest, floor
    while low + 1 < first.id:
        middle = (low + first.id) // 2
        earlier = _before(instance, latest, middle + 1, {FAILED})
        if earlier and earlier[0].id > floor:
            first = earlier[0]
        else:
            low = middle
    return first


def _before(
    instance: dg.DagsterInstance,
    latest: AssetCheckExecutionRecord,
    cursor: int,
    status: set[AssetCheckExecutionRecordStatus],
) -> Sequence[AssetCheckExecutionRecord]:
    """The newest record of the same check below an id."""
    return instance.event_log_storage.get_asset_check_execution_history(latest.key, 1, cursor, status)


def _time(record: AssetCheckExecutionRecord) -> datetime:
    return datetime.fromtimestamp(record.event.timestamp if record.event else record.create_timestamp, UTC)


def _late(instance: dg.DagsterInstance, assets: AssetGraph) -> Iterator[Warned]:
    policies = {key: policy for key in assets.get_all_asset_keys() if (policy := assets.get(key).freshness_policy)}
    for keys in batched(sorted(policies), KEYS_A_QUERY, strict=False):
        for key, record in instance.event_log_storage.get_freshness_state_records(keys).items():
            if record.freshness_state == FreshnessState.WARN:
                text = _lateness(policies[key])
                yield Warned(key.to_user_string(), FRESHNESS, text, record.updated_at, _owners(assets, key))


def _lateness(policy: dg.FreshnessPolicy) -> str:
    if not isinstance(policy, TimeWindowFreshnessPolicy) or policy.warn_window is None:
        return "It was not made in time."
    warn: timedelta = policy.warn_window.to_timedelta()
    return f"It was not made for {age(warn)}; after {age(policy.fail_window.to_timedelta())} that is an incident."


def _owners(assets: AssetGraph, key: dg.AssetKey) -> tuple[str, ...]:
    return tuple(assets.get(key).owners or ()) if assets.has(key) else ()
