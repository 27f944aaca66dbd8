"""Failures that Dagster's storage shows only when later events were read: what has recovered since does not come again."""

from __future__ import annotations

from dataclasses import replace

import dagster as dg
from dagster._core.definitions.freshness import FreshnessState

from orchestration.incidents import made
from orchestration.incidents.model import Signal
from orchestration.lineage.failures import FailedUnit

FRESH = "fresh:"
"""Begins the token of an asset that is late by its freshness policy."""


def without_recovered(instance: dg.DagsterInstance, signal: Signal, now: float) -> Signal:
    """Return a failure without what has been made or has passed between it and `now`, in seconds since the epoch."""
    failed: list[FailedUnit] = []
    for unit in signal.failed:
        tokens = signal.awaited(unit)
        left = made.left(instance, tokens, signal.at, now, signal.run_id)
        missing = tuple(token for token in left if not token.startswith(FRESH) or _is_late(instance, token))
        if missing:
            failed.append(unit if missing == tuple(tokens) else replace(unit, awaits=missing))
    return replace(signal, failed=tuple(failed))


def _is_late(instance: dg.DagsterInstance, token: str) -> bool:
    key = dg.AssetKey.from_user_string(token.removeprefix(FRESH))
    record = instance.event_log_storage.get_freshness_state_records([key]).get(key)
    return record is not None and record.freshness_state == FreshnessState.FAIL
