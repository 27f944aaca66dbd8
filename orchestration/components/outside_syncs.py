"""Syncs that a vendor ran without Dagster: their failures are failures, and what they landed has landed.

A sync is Dagster's own only if a run has recorded exactly that sync, by the vendor's identity of it (`SYNC_KEY`). When it ended says
nothing: a run may work on another connection at that time. A sync that a run has asked for and not recorded, since the run was
killed or had waited for too long, is reported here as any other.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import dagster as dg

from orchestration.lineage.failures import SYNC_KEY, SYNC_STARTED, FailedUnit, to_metadata
from orchestration.vendors.http import VendorError

INTERVAL_SECONDS = 60
RECORDS = 100
"""So many of the latest materializations, and of the latest observations, of a sync's asset are read for the syncs of runs."""
NOT_FOUND, REFUSED = 404, 401
FAILED_IN_A_ROW = 3
"""After so many units in a row that the vendor could not be asked for, the tick ends: each takes seconds, and a tick has 60."""
NEVER = datetime.min.replace(tzinfo=UTC)

Whose = Literal["ours", "under_way", "outside"]


@dataclass(frozen=True)
class Ended:
    """A sync that has ended at the vendor."""

    keys: tuple[dg.AssetKey, ...]
    """The assets that it writes. Runs record their syncs on the first of them."""
    at: datetime
    sync: str
    """The vendor's identity of it, as a run of Dagster records it."""
    problem: Callable[[], str | None]
    """Returns why it failed; None where it succeeded. It is asked of syncs that are reported only."""
    url: str


@dataclass(frozen=True)
class Look:
    """The source of the last syncs of one unit."""

    unit: str
    """The name under which it fails here as well, such as `fivetran/product`."""
    ends: Callable[[], Sequence[Ended]]
    """Returns the last sync that ended; of a vendor that gives both, the last that succeeded and the last that failed. Raises VendorError."""


@dataclass(frozen=True)
class Recorded:
    """A note about a sync on its asset, written by a run or by this sensor."""

    run_id: str
    value: str


def watch(name: str, vendor: str, looks: Callable[[], Iterable[Look]]) -> dg.SensorDefinition:
    """Return a sensor that reports the syncs that no run of Dagster asked for.

    A failure becomes an observation from which an alert is made, a success a materialization, which what is downstream follows. A
    unit that the vendor cannot be asked for is looked at again by the next tick. The tick fails only where none can be asked for.
    """

    @dg.sensor(
        name=name,
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Reports the syncs that {vendor} ran without Dagster: failures as alerts, successes as materializations.",
    )
    def outside_syncs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        seen: dict[str, str] = json.loads(context.cursor or "{}")
        reported: list[str] = []
        unread: list[VendorError] = []
        read = in_a_row = 0
        for look in looks():
            try:
                ends = sorted(look.ends(), key=lambda one: one.at)
            except VendorError as error:
                context.log.warning(f"{look.unit} cannot be looked at: {error}")
                if error.status == NOT_FOUND:
                    # It was deleted, and leaves the graph with the next refresh.
                    continue
                unread.append(error)
                in_a_row += 1
                if not error.reached or error.status == REFUSED or in_a_row == FAILED_IN_A_ROW:
                    break
                continue
            read, in_a_row = read + 1, 0
            newest = ends[-1].at if ends else NEVER
            # The first look at a unit says nothing of what was before it.
            if (text := seen.get(look.unit)) is not None:
                before = datetime.fromisoformat(text)
                new = _report_new(context.instance, look.unit, vendor, [one for one in ends if one.at > before])
                if new is None:
                    continue
                reported += new
                newest = max(newest, before)
            seen[look.unit] = newest.isoformat()
        if unread and not read:
            raise unread[0]
        context.update_cursor(json.dumps(seen))
        lost = f" {len(unread)} could not be looked at: {unread[0]}" if unread else ""
        what = f"Without Dagster: {', '.join(reported)}." if reported else "No sync ran without Dagster."
        return dg.SkipReason(what + lost)

    return outside_syncs


def _report_new(instance: dg.DagsterInstance, unit: str, vendor: str, ends: Sequence[Ended]) -> list[str] | None:
    """Report the syncs of one unit that no run asked for, the oldest first; None where that is not known yet.

    What counts is how the newest ended. An earlier failure is over by then; an earlier success has landed something.
    """
    if not ends:
        return []
    *earlier, newest = ends
    owner = whose(instance, newest)
    if owner == "under_way":
        return None
    if owner == "ours":
        return []
    problem = newest.problem()
    found: list[str] = []
    if problem is not None:
        for one in earlier:
            if one.problem() is None and whose(instance, one) == "outside":
                report_sync(instance, unit, one, vendor, None)
                found.append(f"{unit} succeeded")
    report_sync(instance, unit, newest, vendor, problem)
    return [*found, f"{unit} {'succeeded' if problem is None else 'failed'}"]


def whose(instance: dg.DagsterInstance, ended: Ended) -> Whose:
    """Return whether a run of this Dagster has recorded a sync as its own; `under_way` while one that asked for it may still do so."""
    waiting = _find_waiting_runs(_read_recorded(instance, ended.keys[0]))
    runs = {run_id: instance.get_run_by_id(run_id) for run_id in waiting}
    under_way = {run_id for run_id, run in runs.items() if run is not None and not run.is_finished}
    # Read again: a run may have recorded its sync and ended since.
    recorded = _read_recorded(instance, ended.keys[0])
    if any(one.value == ended.sync for one in recorded):
        return "ours"
    if not under_way & _find_waiting_runs(recorded):
        # The first asset may have been another one when the run recorded it.
        others = (one for key in ended.keys[1:] for one in _read_recorded(instance, key))
        return "ours" if any(one.value == ended.sync for one in others) else "outside"
    return "under_way"


def _find_waiting_runs(recorded: Iterable[Recorded]) -> set[str]:
    """The runs that have asked for a sync and not said how it ended."""
    values: dict[str, set[str]] = {}
    for one in recorded:
        values.setdefault(one.run_id, set()).add(one.value)
    return {run_id for run_id, said in values.items() if said == {SYNC_STARTED}}


def _read_recorded(instance: dg.DagsterInstance, key: dg.AssetKey) -> list[Recorded]:
    observed = instance.fetch_observations(key, limit=RECORDS).records
    made = instance.fetch_materializations(key, limit=RECORDS).records
    found = [(one.run_id, one.asset_observation) for one in observed]
    found += [(one.run_id, one.asset_materialization) for one in made]
    return list(_read_values(found))


def _read_values(
    events: Iterable[tuple[str, dg.AssetObservation | dg.AssetMaterialization | None]],
) -> Iterator[Recorded]:
    for run_id, event in events:
        value = event.metadata.get(SYNC_KEY) if event is not None else None
        if value is not None and isinstance(value.value, str):
            yield Recorded(run_id, value.value)


def report_sync(instance: dg.DagsterInstance, unit: str, ended: Ended, vendor: str, problem: str | None) -> None:
    """Write what a sync did into Dagster's storage, as events of no run. `problem` is why it failed."""
    # The first asset's event is the record by which the sync is not reported again, also where the cursor is lost: it is written last.
    link = {vendor.lower(): dg.MetadataValue.url(ended.url), SYNC_KEY: dg.MetadataValue.text(ended.sync)}
    if problem is None:
        text = f"{vendor} synced it without Dagster."
        for key in reversed(ended.keys):
            instance.report_runless_asset_event(dg.AssetMaterialization(key, description=text, metadata=link))
        return
    # Texts of a source or a destination: they say nothing of the platform itself.
    failed = FailedUnit(unit, tuple(key.to_user_string() for key in ended.keys), problem, ended.url)
    metadata: dict[str, Any] = {**link, **to_metadata([failed])}
    instance.report_runless_asset_event(dg.AssetObservation(ended.keys[0], description=problem, metadata=metadata))
