"""Failures that Dagster's storage shows only when later events were read, among them those of what has recovered since."""

from __future__ import annotations

import dagster as dg
from dagster._core.definitions.freshness import FreshnessState

from orchestration.incidents import made
from orchestration.incidents.model import Signal

FRESH = "fresh:"
"""Begins the token of an asset that is late by its freshness policy."""


INSTANT = 0.001
"""Seconds, by which a recovery follows its failure: so it recovers nothing that has failed later."""


def with_recoveries(instance: dg.DagsterInstance, signal: Signal, now: float) -> list[Signal]:
    """Return a failure, followed by the recovery of what has been made or has passed between it and `now`.

    That recovery was read before, when no alert awaited it, and is not read again. Times are in seconds since the epoch.
    """
    tokens = tuple(dict.fromkeys(token for unit in signal.failed for token in signal.awaited(unit)))
    left = set(made.left(instance, tokens, signal.at, now, signal.run_id))
    recovered = [
        token for token in tokens if token not in left or (token.startswith(FRESH) and not _is_late(instance, token))
    ]
    if not recovered:
        return [signal]
    at = signal.at + INSTANT
    return [signal, Signal(id="", at=at, well=dict.fromkeys(recovered, at))]


def _is_late(instance: dg.DagsterInstance, token: str) -> bool:
    key = dg.AssetKey.from_user_string(token.removeprefix(FRESH))
    record = instance.event_log_storage.get_freshness_state_records([key]).get(key)
    return record is not None and record.freshness_state == FreshnessState.FAIL
