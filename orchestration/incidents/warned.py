"""All that only warns, from Dagster's storage: checks that fail with severity warn, data that is late but not yet too late, and assets
that the automation should build and has not built for long."""

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
AUTOMATION = "automation"
UNBUILT_FOR = timedelta(days=7)
"""How long an asset without a freshness policy may go without being built."""

FAILED, SUCCEEDED = AssetCheckExecutionRecordStatus.FAILED, AssetCheckExecutionRecordStatus.SUCCEEDED


@dataclass(frozen=True)
class Warned:
    """Something that warns, and has not been well since `since`."""

    asset: str
    check: str
    """The check's name, `freshness` or `automation`."""
    text: str
    """As it was written: it can have values of rows in it."""
    since: datetime
    owners: tuple[str, ...] = ()


def read(instance: dg.DagsterInstance, assets: AssetGraph) -> list[Warned]:
    """Everything that warns now, of the assets and checks that there are now; what has warned longest comes first."""
    found = [*_checks(instance, assets), *_late(instance, assets), *find_unbuilt(instance, assets, datetime.now(UTC))]
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


def find_unbuilt(instance: dg.DagsterInstance, assets: AssetGraph, now: datetime) -> Iterator[Warned]:
    """Yield the assets with an automation condition that were not built for longer than their freshness policy allows, or for a week.

    What is made of nothing newer than itself is left out: a seed that no one has edited, and what only reads such seeds. Storage does
    not say when a table was last looked at, so such a table counts as new. All times come from one query.
    """
    made = [key for key in assets.toposorted_asset_keys if assets.get(key).is_materializable]
    built: dict[dg.AssetKey, datetime] = {}
    for record in instance.get_asset_records(made) if made else ():
        last = record.asset_entry.last_materialization_record
        if last is not None:
            built[record.asset_entry.asset_key] = datetime.fromtimestamp(last.timestamp, UTC)
    newest: dict[dg.AssetKey, datetime] = {}
    for key in assets.toposorted_asset_keys:
        node = assets.get(key)
        above = [found for parent in node.parent_keys if parent != key and (found := newest.get(parent))]
        own = built.get(key) if node.is_materializable else now if node.is_observable else None
        newest_above = max(above, default=None)
        if found := max(filter(None, (own, newest_above)), default=None):
            newest[key] = found
        if node.automation_condition is None or not node.is_materializable:
            continue
        if own is None:
            text = "It has never been built. `dataplatform lineage check` lists what reads tables that nothing lands."
            yield Warned(key.to_user_string(), AUTOMATION, text, now, _owners(assets, key))
            continue
        policy = node.freshness_policy
        window = policy.fail_window.to_timedelta() if isinstance(policy, TimeWindowFreshnessPolicy) else None
        if now - own <= (window or UNBUILT_FOR):
            continue
        if window is not None:
            text = f"It was last built {age(now - own)} ago; its freshness policy allows {age(window)}."
        elif newest_above is not None and newest_above > own:
            text = f"It was last built {age(now - own)} ago, and what it reads has changed since."
        else:
            continue
        yield Warned(key.to_user_string(), AUTOMATION, text, own, _owners(assets, key))


def _owners(assets: AssetGraph, key: dg.AssetKey) -> tuple[str, ...]:
    return tuple(assets.get(key).owners or ()) if assets.has(key) else ()
