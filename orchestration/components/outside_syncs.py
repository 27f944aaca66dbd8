"""Syncs that a vendor ran without Dagster: their failures are failures, and what they landed has landed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, cast

import dagster as dg

from orchestration.lineage.failures import FailedUnit, to_metadata

INTERVAL_SECONDS = 60
GRACE_SECONDS = 60.0
"""A run that has waited for a sync ends a little later than the sync; clocks differ, too."""

Whose = Literal["ours", "under_way", "outside"]


@dataclass(frozen=True)
class Ended:
    """How a sync ended last, at the vendor."""

    unit: str
    """The name under which it fails here as well, such as `fivetran/product`."""
    keys: tuple[dg.AssetKey, ...]
    at: datetime
    error: str | None
    """None where it succeeded."""
    url: str


def watch(name: str, vendor: str, look: Callable[[], Iterable[Ended]]) -> dg.SensorDefinition:
    """A sensor that reports syncs which nobody asked for here: a failure as a remark that alerts are made of, a success as a
    materialization, which what is downstream follows.

    `look` gives the last end of each sync, and raises VendorError, which fails the tick.
    """

    @dg.sensor(
        name=name,
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Notices syncs that {vendor} ran without Dagster: what failed is told, what landed is taken note of.",
    )
    def outside_syncs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        seen: dict[str, str] = json.loads(context.cursor or "{}")
        reported: list[str] = []
        for ended in look():
            before = seen.get(ended.unit)
            if before is not None and datetime.fromisoformat(before) >= ended.at:
                continue
            # The first look at a sync says nothing of what was before it.
            owner = whose(context.instance, ended) if before is not None else "ours"
            if owner == "under_way":
                continue
            if owner == "outside":
                report(context.instance, ended, vendor)
                reported.append(f"{ended.unit} {'failed' if ended.error else 'succeeded'}")
            seen[ended.unit] = ended.at.isoformat()
        context.update_cursor(json.dumps(seen))
        return dg.SkipReason(f"Without Dagster: {', '.join(reported)}." if reported else "No sync ran without Dagster.")

    return outside_syncs


def whose(instance: dg.DagsterInstance, ended: Ended) -> Whose:
    """Whether a run of this Dagster has asked for a sync, or looked at its result since; `under_way` while one may just do so."""
    records = instance.get_asset_records(ended.keys)
    # A run may have asked for some of its tables only.
    run_ids = {record.asset_entry.last_run_id for record in records} - {None}
    runs = [run for run in map(instance.get_run_record_by_id, cast("set[str]", run_ids)) if run]
    if any(not run.dagster_run.is_finished for run in runs):
        return "under_way"
    last = max((run.end_time or 0 for run in runs), default=0.0) + GRACE_SECONDS
    return "ours" if ended.at.timestamp() <= last else "outside"


def report(instance: dg.DagsterInstance, ended: Ended, vendor: str) -> None:
    """Write what a sync did into Dagster's storage, as events of no run."""
    link = {vendor.lower(): dg.MetadataValue.url(ended.url)}
    if ended.error is None:
        text = f"{vendor} synced it without Dagster."
        for key in ended.keys:
            instance.report_runless_asset_event(dg.AssetMaterialization(key, description=text, metadata=link))
        return
    unit = FailedUnit(ended.unit, tuple(key.to_user_string() for key in ended.keys), ended.error, ended.url)
    metadata: dict[str, Any] = {**link, **to_metadata([unit])}
    instance.report_runless_asset_event(dg.AssetObservation(ended.keys[0], description=ended.error, metadata=metadata))
