"""What has been made or has passed meanwhile, of which nobody knew yet that it would be waited for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import batched

import dagster as dg
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from orchestration.lineage import runs
from orchestration.lineage.failures import FailedUnit

MADE_A_QUERY = 1_000
KEYS_A_QUERY = 500
RUNS_A_QUERY = 50
"""Most runs that are read, of those that ended between the failure of a step and the end of its run."""
ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


@dataclass(frozen=True)
class Newest:
    """The latest successes of what is awaited, read for all of it at once: mostly there are none since the failure."""

    made: Mapping[str, dg.EventLogEntry]
    """Asset to its latest materialization."""
    passed: Mapping[str, float]
    """Token of a check to when it passed, in seconds since the epoch, if its latest evaluation did."""

    @classmethod
    def read(cls, instance: dg.DagsterInstance, tokens: Iterable[str]) -> Newest:
        """Read the latest success of each token, with one query for several hundred of them."""
        tokens = set(tokens)
        checks = {runs.check_of_token(token): token for token in tokens if token.startswith(runs.CHECKS)}
        assets = sorted({_asset(token) for token in tokens if ":" not in _asset(token)})
        made, passed = dict[str, dg.EventLogEntry](), dict[str, float]()
        for keys in batched((dg.AssetKey.from_user_string(asset) for asset in assets), KEYS_A_QUERY, strict=False):
            for key, entry in instance.event_log_storage.get_latest_materialization_events(keys).items():
                if entry is not None:
                    made[key.to_user_string()] = entry
        for some in batched(checks, KEYS_A_QUERY, strict=False):
            found = instance.event_log_storage.get_latest_asset_check_execution_by_key(list(some))
            for key, record in found.items():
                if record.status == AssetCheckExecutionRecordStatus.SUCCEEDED and record.event is not None:
                    passed[checks[key]] = record.event.timestamp
        return cls(made, passed)


def left(
    instance: dg.DagsterInstance,
    tokens: Iterable[str],
    since: float,
    until: float,
    run_id: str | None = None,
    newest: Newest | None = None,
) -> tuple[str, ...]:
    """Return the tokens that no other run has made or passed between two times, which are in seconds since the epoch.

    What is only observed is returned: it is observed again soon. `newest` holds the latest successes of these tokens, where the
    caller has read them for many failures at once.
    """
    tokens = tuple(tokens)
    newest = newest or Newest.read(instance, tokens)
    recovered = {token for token in tokens if since < newest.passed.get(token, 0.0) <= until}
    assets = dict[str, set[str]]()
    for token in tokens:
        asset, _, partition = token.partition("@")
        if ":" not in asset and asset in newest.made and newest.made[asset].timestamp > since:
            assets.setdefault(asset, set()).update({partition} - {""})
    for asset, partitions in assets.items():
        entry = newest.made[asset]
        if not partitions and entry.timestamp <= until and entry.run_id != run_id:
            recovered.add(asset)
        else:
            recovered |= _made(instance, asset, partitions, since, until, run_id)
    return tuple(token for token in tokens if token not in recovered)


def still_failed(instance: dg.DagsterInstance, outcome: runs.Outcome) -> runs.Outcome:
    """Return a run's outcome without what another run had made before this run ended."""
    until, failed = outcome.ended_at.timestamp(), list[FailedUnit]()
    steps = {token for unit in outcome.failed for token in unit.awaits if token.startswith(runs.STEPS)}
    succeeded = _succeeded_steps(instance, outcome, steps)
    awaited = {unit.unit: unit.awaits or unit.asset_keys for unit in outcome.failed}
    newest = Newest.read(instance, (token for tokens in awaited.values() for token in tokens))
    for unit in outcome.failed:
        tokens, at = awaited[unit.unit], outcome.failed_at.get(unit.unit, until)
        missing = left(instance, tokens, at, until, outcome.run_id, newest) if at < until else tokens
        missing = tuple(token for token in missing if succeeded.get(token, 0.0) <= at)
        if missing == tokens:
            failed.append(unit)
        elif missing:
            failed.append(replace(unit, awaits=missing))
    return replace(outcome, failed=tuple(failed))


def _succeeded_steps(
    instance: dg.DagsterInstance, outcome: runs.Outcome, tokens: Collection[str]
) -> Mapping[str, float]:
    """Return when another run that has ended succeeded in a step last, in seconds since the epoch, by the tokens of steps."""
    failed_at = min(outcome.failed_at.values(), default=outcome.ended_at.timestamp())
    if not tokens or failed_at >= outcome.ended_at.timestamp():
        return {}
    filters = dg.RunsFilter(statuses=ENDED, updated_after=datetime.fromtimestamp(failed_at, UTC))
    found: dict[str, float] = {}
    for record in instance.get_run_records(filters, limit=RUNS_A_QUERY):
        if record.dagster_run.run_id != outcome.run_id:
            made = runs.steps_succeeded(instance, record.dagster_run)
            found |= {token: max(at, found.get(token, 0.0)) for token, at in made.items() if token in tokens}
    return found


def _asset(token: str) -> str:
    return token.partition("@")[0]


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
