"""Decides which code location sends the alerts, where several of them load the alert sensor on one storage.

Two would share one state and page twice. So one of them holds a lease in Dagster's key-value storage, and the others do nothing but say so.
A lease that its holder has not renewed for `LEASE_SECONDS` passes to the next one that ticks: its code location is gone, or its sensor off.
"""

from __future__ import annotations

from dataclasses import dataclass

import dagster as dg
from dagster._core.scheduler.instigation import InstigatorStatus
from pydantic import TypeAdapter, ValidationError

from orchestration.incidents import instigators
from orchestration.incidents.instigators import Instigator

ALERTS = "incident_alerts"
"""The name of the alert sensor."""
KEY = "dataplatform/incident_alerts_owner"
LEASE_SECONDS, RENEWAL_SECONDS = 600.0, 60.0
"""Longer than a deploy takes, so that the alerts do not move in the middle of one."""


@dataclass(frozen=True)
class Lease:
    label: str
    """The code location that sends the alerts."""
    renewed_at: float
    """In seconds since the epoch."""


@dataclass(frozen=True)
class Claim:
    """The result of a claim. `other` is the code location that sends the alerts; None where this one does."""

    other: str | None = None
    took_over: bool = False
    """The lease was another code location's until now, whose alerts are gone on with."""


LEASE = TypeAdapter(Lease)


def claim_lease(instance: dg.DagsterInstance, label: str, now: float) -> Claim:
    """Take or renew the lease for the code location `label`, unless another one holds it. `now` is in seconds since the epoch."""
    lease = read_lease(instance)
    if lease is not None and lease.label != label and _is_held(lease, now):
        return Claim(other=lease.label)
    if lease is None or lease.label != label or not 0 <= now - lease.renewed_at < RENEWAL_SECONDS:
        instance.daemon_cursor_storage.set_cursor_values({KEY: LEASE.dump_json(Lease(label, now)).decode()})
    return Claim(took_over=lease is not None and lease.label != label)


def find_other(instance: dg.DagsterInstance, label: str, now: float) -> str | None:
    """Return the code location that sends the alerts where that is not `label`; None where none does."""
    lease = read_lease(instance)
    return lease.label if lease is not None and lease.label != label and _is_held(lease, now) else None


def find_all(instance: dg.DagsterInstance) -> tuple[Instigator, ...]:
    """Return the alert sensors that are on, of all code locations."""
    states = (state for state in instance.all_instigator_state() if state.instigator_name == ALERTS)
    return tuple(instigators.of_state(state) for state in states if state.status != InstigatorStatus.STOPPED)


def read_lease(instance: dg.DagsterInstance) -> Lease | None:
    stored = instance.daemon_cursor_storage.get_cursor_values({KEY}).get(KEY)
    try:
        return LEASE.validate_json(stored) if stored else None
    except ValidationError:
        # The next tick of any alert sensor writes it again.
        return None


def _is_held(lease: Lease, now: float) -> bool:
    # A time in the future is of a clock that was ahead.
    return abs(now - lease.renewed_at) < LEASE_SECONDS
