"""What has been made or has passed meanwhile, of which nobody knew yet that it would be waited for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import dagster as dg
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from orchestration.lineage import runs
from orchestration.lineage.failures import FailedUnit

MADE_A_QUERY = 1_000


def left(
    instance: dg.DagsterInstance, tokens: Iterable[str], since: float, until: float, run_id: str | None = None
) -> tuple[str, ...]:
    """Of what has to be well, what no other run has made between two times, which are in seconds since the epoch.

    What is only looked at is left: it is looked at again soon.
    """
    tokens = tuple(tokens)
    assets = dict[str, set[str]]()
    for token in tokens:
        asset, _, partition = token.partition("@")
        if ":" not in asset:
            assets.setdefault(asset, set()).update({partition} - {""})
    made = _passed(instance, [token for token in tokens if token.startswith(runs.CHECKS)], since, until)
    keys = {asset: dg.AssetKey.from_user_string(asset) for asset in assets}
    # One query for all of them: mostly none was made.
    newest = dict[dg.AssetKey, dg.EventLogEntry | None]()
    if keys:
        newest |= instance.event_log_storage.get_latest_materialization_events(list(keys.values()))
    for asset, partitions in assets.items():
        entry = newest.get(keys[asset])
        if entry is not None and entry.timestamp > since:
            made |= _made(instance, asset, partitions, since, until, run_id)
    return tuple(token for token in tokens if token not in made)


def still_failed(instance: dg.DagsterInstance, outcome: runs.Outcome) -> runs.Outcome:
    """A run's outcome without what was well again before the run had ended, by another one."""
    until, failed = outcome.ended_at.timestamp(), list[FailedUnit]()
    for unit in outcome.failed:
        tokens, at = unit.awaits or unit.asset_keys, outcome.failed_at.get(unit.unit, until)
        missing = left(instance, tokens, at, until, outcome.run_id) if at < until else tokens
        if missing == tokens:
            failed.append(unit)
        elif missing:
            failed.append(replace(unit, awaits=missing))
    return replace(outcome, failed=tuple(failed))


def _made(
    instance: dg.DagsterInstance, asset: str, partitions: set[str], since: float, until: float, run_id: str | None
) -> set[str]:
    filters = dg.AssetRecordsFilter(
        dg.AssetKey.from_user_string(asset), sorted(partitions) or None, after_timestamp=since, before_timestamp=until
    )
    records = instance.fetch_materializations(filters, MADE_A_QUERY).records
    # A run may tell of a table after the test that found it wrong.
    others = [record for record in records if record.run_id != run_id]
    made = {runs.partition_token(asset, record.partition_key) for record in others if record.partition_key}
    return made | {asset} if others else made


def _passed(instance: dg.DagsterInstance, tokens: Iterable[str], since: float, until: float) -> set[str]:
    checks = {runs.check_of_token(token): token for token in tokens}
    newest = instance.event_log_storage.get_latest_asset_check_execution_by_key(list(checks))
    return {
        checks[key]
        for key, record in newest.items()
        if record.status == AssetCheckExecutionRecordStatus.SUCCEEDED
        and record.event is not None
        and since < record.event.timestamp <= until
    }
