"""Syncs that a vendor ran without Dagster: their failures are failures, and what they landed has landed.

A sync is Dagster's own only if a run has recorded exactly that sync, by the vendor's identity of it (`SYNC_KEY`). When it ended says
nothing: a run may work on another connection at that time. A sync that a run has asked for and not recorded, since the run was
killed or had waited for too long, is reported here as any other.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import batched
from typing import Any, Literal, cast

import dagster as dg

from orchestration.lineage.failures import SYNC_KEY, SYNC_STARTED, FailedUnit, to_metadata
from orchestration.vendors.http import VendorError

INTERVAL_SECONDS = 60
RECORDS = 100
"""So many of the latest materializations, and of the latest observations, of a sync's asset are read for the syncs of runs."""
NOT_FOUND, REFUSED = 404, 401
FAILED_IN_A_ROW = 3
"""After so many units in a row that the vendor could not be asked for, the tick ends: each takes seconds, and a tick has 60."""
TICK_SECONDS = 40.0
"""How long a tick begins to look at further units. Dagster ends a tick after 60 s, and what it had read would be lost."""
RECHECKED = 20
"""So many units whose state in the vendor's listing is unchanged are asked for at each tick, in turn. A vendor may not say what exactly
its listing shows."""
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


class UnitFault(Exception):
    """A unit that has no syncs to read: it was deleted at the vendor, or the vendor describes it in a way that cannot be read.

    It is reported once, as a failure of the unit. `state` is a word for it. `ended` has the unit's assets, the text of the failure, and
    an identity that is the same at each tick. When the unit can be read again, the last sync that it has then is reported.
    """

    def __init__(self, state: str, ended: Ended) -> None:
        super().__init__(f"{ended.sync}: {state}")
        self.state, self.ended = state, ended


@dataclass(frozen=True)
class Look:
    """The source of the last syncs of one unit."""

    unit: str
    """The name under which it fails here as well, such as `fivetran/product`."""
    ends: Callable[[], Sequence[Ended]]
    """Returns the last sync that ended; of a vendor that gives both, the last that succeeded and the last that failed.

    Raises VendorError where the vendor cannot be asked now, and UnitFault.
    """
    listed: str | None = None
    """The state of the unit in the vendor's listing: while it is the same, there is no new sync. None where the listing does not say."""


@dataclass(frozen=True)
class Recorded:
    """A note about a sync on its asset, written by a run or by this sensor. `at` is in seconds since the epoch."""

    run_id: str
    value: str
    at: float = 0.0


@dataclass
class Progress:
    """The sensor's cursor: what it has seen of each unit."""

    ended: dict[str, str] = field(default_factory=dict[str, str])
    """When the newest sync ended that was judged (ISO time), by unit."""
    listed: dict[str, str] = field(default_factory=dict[str, str])
    """The state in the vendor's listing at that time, by unit."""
    faults: dict[str, str] = field(default_factory=dict[str, str])
    """The identity of the fault that was reported, by unit."""
    rechecked: str = ""
    """The last unit that was asked for although its state in the listing was unchanged."""
    unread: list[str] = field(default_factory=list[str])
    """Units that the vendor could not be asked for at the last tick. They come last: they must not keep a tick from the others."""

    @classmethod
    def load(cls, cursor: str | None) -> Progress:
        """Return the progress of a cursor. The names of units have a slash, so that those of the other parts are free."""
        found: object = json.loads(cursor) if cursor else {}
        fields = cast("dict[str, Any]", found) if isinstance(found, dict) else {}
        return cls(
            ended={unit: value for unit, value in fields.items() if "/" in unit and isinstance(value, str)},
            listed=dict(fields.get("listed") or {}),
            faults=dict(fields.get("faults") or {}),
            rechecked=str(fields.get("rechecked") or ""),
            unread=list(fields.get("unread") or []),
        )

    def dump(self, units: Iterable[str]) -> str:
        """Return the cursor. What is known of units that are no longer looked at is left out."""
        kept = set(units)
        parts = {"listed": self.listed, "faults": self.faults}
        more: dict[str, Any] = {
            name: found
            for name, values in parts.items()
            if (found := {unit: value for unit, value in values.items() if unit in kept})
        }
        more |= {"rechecked": self.rechecked} if self.rechecked else {}
        more |= {"unread": self.unread} if self.unread else {}
        return json.dumps({unit: at for unit, at in self.ended.items() if unit in kept} | more)


Answer = Sequence[Ended] | VendorError | UnitFault


def watch(name: str, vendor: str, looks: Callable[[], Iterable[Look]], *, at_once: int = 1) -> dg.SensorDefinition:
    """Return a sensor that reports the syncs that no run of Dagster asked for.

    A failure becomes an observation from which an alert is made, a success a materialization, which what is downstream follows. A
    unit that the vendor cannot be asked for is looked at again by the next tick, and so are those for which a tick has no time left. The
    tick fails only where none can be asked for.

    Args:
        looks: Returns what to look at; it may list all units by few requests. It raises VendorError where nothing can be listed.
        at_once: How many units are asked for side by side.
    """

    @dg.sensor(
        name=name,
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Reports the syncs that {vendor} ran without Dagster: failures as alerts, successes as materializations.",
    )
    def outside_syncs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        tick = _Tick(context, vendor, Progress.load(context.cursor))
        tick.run(list(looks()), at_once)
        return tick.finish()

    return outside_syncs


class _Tick:
    """One tick of the sensor."""

    def __init__(self, context: dg.SensorEvaluationContext, vendor: str, progress: Progress) -> None:
        self._context, self._vendor, self._progress = context, vendor, progress
        self._began = time.monotonic()
        self._units: list[str] = []
        self._reported: list[str] = []
        self._faults: list[str] = []
        self._unread: list[VendorError] = []
        self._read = self._in_a_row = self._left = 0
        self._unread_before, progress.unread = set(progress.unread), []
        self._stopped = False

    def run(self, looks: Sequence[Look], at_once: int) -> None:
        """Ask for the units that may have a new sync, and report what is new."""
        self._units = [look.unit for look in looks]
        due = self._find_due(looks)
        for done, chunk in enumerate(batched(due, at_once, strict=False)):
            if self._stopped or time.monotonic() - self._began > TICK_SECONDS:
                left = due[done * at_once :]
                self._left = len(left)
                self._progress.unread += [look.unit for look in left if look.unit in self._unread_before]
                return
            for look, answer in zip(chunk, _ask(chunk), strict=True):
                self._take(look, answer)

    def finish(self) -> dg.SkipReason:
        """Save the progress, and say what was reported. Raises the first VendorError where no unit could be read."""
        if self._unread and not self._read:
            raise self._unread[0]
        self._context.update_cursor(self._progress.dump(self._units))
        parts = [f"Without Dagster: {', '.join(self._reported)}." if self._reported else "No sync ran without Dagster."]
        if self._faults:
            parts.append(f"Reported: {', '.join(self._faults)}.")
        if self._unread:
            parts.append(f"{len(self._unread)} could not be looked at: {self._unread[0]}")
        if self._left and not self._stopped:
            parts.append(f"{self._left} are left to the next tick.")
        return dg.SkipReason(" ".join(parts))

    def _find_due(self, looks: Sequence[Look]) -> list[Look]:
        """The units that may have a new sync, and some of the others in turn."""
        known = self._progress
        due, quiet = list[Look](), list[Look]()
        for look in looks:
            same = look.listed is not None and known.listed.get(look.unit) == look.listed
            seen = look.unit in known.ended and look.unit not in known.faults
            (quiet if same and seen else due).append(look)
        due.sort(key=lambda look: look.unit in self._unread_before)
        quiet.sort(key=lambda look: (look.unit <= known.rechecked, look.unit))
        if quiet:
            known.rechecked = quiet[:RECHECKED][-1].unit
        return due + quiet[:RECHECKED]

    def _take(self, look: Look, answer: Answer) -> None:
        if isinstance(answer, UnitFault):
            self._read, self._in_a_row = self._read + 1, 0
            self._report_fault(look, answer)
        elif isinstance(answer, VendorError):
            self._note_unread(look, answer)
        else:
            self._read, self._in_a_row = self._read + 1, 0
            self._judge(look, sorted(answer, key=lambda one: one.at))

    def _note_unread(self, look: Look, error: VendorError) -> None:
        self._context.log.warning(f"{look.unit} cannot be looked at: {error}")
        if error.status == NOT_FOUND:
            # It was deleted, and leaves the graph with the next refresh.
            return
        self._unread.append(error)
        self._progress.unread.append(look.unit)
        self._in_a_row += 1
        self._stopped |= not error.reached or error.status == REFUSED or self._in_a_row == FAILED_IN_A_ROW

    def _judge(self, look: Look, ends: Sequence[Ended]) -> None:
        known, unit = self._progress, look.unit
        newest = ends[-1].at if ends else NEVER
        # The first look at a unit says nothing of what was before it.
        if (text := known.ended.get(unit)) is not None or unit in known.faults:
            before = datetime.fromisoformat(text) if text else NEVER
            # After a fault, the last sync is reported also where it was judged before: it says how the unit is now.
            after = ends[-1:] if unit in known.faults else [one for one in ends if one.at > before]
            new = _report_new(self._context.instance, unit, self._vendor, after, again=unit in known.faults)
            if new is None:
                return
            self._reported += new
            newest = max(newest, before)
        known.ended[unit] = newest.isoformat()
        known.faults.pop(unit, None)
        if look.listed is not None:
            known.listed[unit] = look.listed

    def _report_fault(self, look: Look, fault: UnitFault) -> None:
        """Report a fault once, also where the cursor that said so was lost."""
        ended, instance = fault.ended, self._context.instance
        if self._progress.faults.get(look.unit) == ended.sync:
            return
        newest = max(_read_recorded(instance, ended.keys[0]), key=lambda one: one.at, default=None)
        if newest is None or newest.value != ended.sync:
            report_sync(instance, look.unit, ended, self._vendor, ended.problem())
            self._faults.append(f"{look.unit} {fault.state}")
        self._progress.faults[look.unit] = ended.sync


def _ask(looks: Sequence[Look]) -> list[Answer]:
    if len(looks) == 1:
        return [_answer_of(looks[0])]
    with ThreadPoolExecutor(len(looks)) as pool:
        return list(pool.map(_answer_of, looks))


def _answer_of(look: Look) -> Answer:
    """Ask for one unit. An answer that is not as documented concerns this unit only."""
    try:
        return look.ends()
    except (UnitFault, VendorError) as error:
        return error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return VendorError(f"{look.unit}: the answer cannot be read ({type(error).__name__})")


def _report_new(
    instance: dg.DagsterInstance, unit: str, vendor: str, ends: Sequence[Ended], *, again: bool = False
) -> list[str] | None:
    """Report the syncs of one unit that no run asked for, the oldest first; None where that is not known yet.

    What counts is how the newest ended. An earlier failure is over by then; an earlier success has landed something. With `again`, the
    newest is reported also where a run, or this sensor, has recorded it.
    """
    if not ends:
        return []
    *earlier, newest = ends
    owner = whose(instance, newest)
    if owner == "under_way":
        return None
    if owner == "ours" and not again:
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
    found = [(one.run_id, one.timestamp, one.asset_observation) for one in observed]
    found += [(one.run_id, one.timestamp, one.asset_materialization) for one in made]
    return list(_read_values(found))


def _read_values(
    events: Iterable[tuple[str, float, dg.AssetObservation | dg.AssetMaterialization | None]],
) -> Iterator[Recorded]:
    for run_id, at, event in events:
        value = event.metadata.get(SYNC_KEY) if event is not None else None
        if value is not None and isinstance(value.value, str):
            yield Recorded(run_id, value.value, at)


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
