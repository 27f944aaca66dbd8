"""Finds what open alerts wait for and can never get: assets, checks, partitions, jobs, sensors and schedules that are defined no longer.

A code location that does not load just now says nothing of what it defines, so nothing is removed until it loads. What is missing for
a moment only, in the middle of a deploy, is not removed either: it has to be missing at every look for `ABSENT_SECONDS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache

import dagster as dg
from dagster import DagsterEventType
from dagster._core.definitions.partitions.context import partition_loading_context
from pydantic import TypeAdapter, ValidationError

from orchestration.incidents import instigators
from orchestration.incidents.instigators import Instigator
from orchestration.incidents.locations import Location, Workspace
from orchestration.incidents.model import Signal
from orchestration.incidents.state import State
from orchestration.lineage import runs

ABSENT_SECONDS = 180.0
"""A deploy loads code locations one after the other; each takes up to a minute."""
KEY = "dataplatform/incident_alerts_removed"
IMPLICIT_JOBS = "__"
"""Dagster's own jobs of assets begin so: every code location with assets has one."""
FRESH, JOB = "fresh:", "job:"
BY_ITSELF = ("queue",)
"""Tokens that are of no definition."""
PLANNED = (DagsterEventType.ASSET_MATERIALIZATION_PLANNED, DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED)


@dataclass(frozen=True)
class Look:
    """The earlier looks at one awaited token."""

    defined: bool = False
    """It was defined at some time. An alert about what was never defined anywhere is not ended because it is not defined."""
    absent_since: float | None = None
    """Since when it is missing, in seconds since the epoch."""


LOOKS = TypeAdapter(dict[str, Look])


def find_removed(instance: dg.DagsterInstance, state: State, workspace: Workspace, now: float) -> list[Signal]:
    """Return a signal of what open alerts and pending failures wait for and is no longer defined, each token with the reason.

    What was seen at earlier looks is kept in Dagster's key-value storage, so that a restart loses nothing. `now` is in seconds
    since the epoch.
    """
    awaited = _find_awaited_tokens(state)
    before = _load_looks(instance)
    if not awaited:
        _store_looks(instance, before, {})
        return []
    why = _Definitions(instance, workspace)
    after, removed = dict[str, Look](), dict[str, str]()
    for token, run_ids in awaited.items():
        look = before.get(token, Look())
        verdict = why.reason(token)
        if verdict is None:
            # Not known now: what was seen earlier still counts.
            after[token] = look
        elif not verdict:
            after[token] = Look(defined=True)
        elif look.defined or (look.absent_since is None and why.was_planned(token, run_ids)):
            since = now if look.absent_since is None else min(look.absent_since, now)
            after[token] = Look(defined=True, absent_since=since)
            if now - since >= ABSENT_SECONDS:
                removed[token] = verdict
        else:
            # Marked as looked at: the runs are not read at every tick.
            after[token] = Look(absent_since=now if look.absent_since is None else look.absent_since)
    _store_looks(instance, before, after)
    return [Signal(id="", at=now, removed=removed)] if removed else []


def _find_awaited_tokens(state: State) -> dict[str, set[str]]:
    """Every token that an alert or a pending failure waits for, with the runs that failed."""
    found: dict[str, set[str]] = {}
    for alert in state.alerts.values():
        for token in alert.missing:
            found.setdefault(token, set()).update([alert.run_id] if alert.run_id else [])
    for known in state.pending.values():
        for tokens in known.missing.values():
            for token in tokens:
                found.setdefault(token, set()).update([known.run_id] if known.run_id else [])
    return found


class _Definitions:
    """Decides about single tokens, by one workspace."""

    def __init__(self, instance: dg.DagsterInstance, workspace: Workspace) -> None:
        self._instance, self._workspace = instance, workspace
        self._planned = cache(self._read_planned)
        self._local_names = cache(self._read_local_names)

    def reason(self, token: str) -> str | None:
        """Return why a token is no longer defined; an empty text where it is, None where that is not known now."""
        if token.startswith(instigators.TICK_TOKEN):
            return self._of_tick(token)
        if token.startswith(runs.CHECKS):
            return self._of_check(token)
        if token.startswith(FRESH):
            return self._of_freshness(token.removeprefix(FRESH))
        if token.startswith(JOB):
            return self._of_job(token.removeprefix(JOB))
        if token.startswith(runs.STEPS):
            return self._of_step(token)
        asset, _at, partition = token.partition("@")
        # What else has a colon, the queue among them, ends by itself.
        return "" if ":" in asset or asset in BY_ITSELF else self._of_asset(asset, partition)

    def was_planned(self, token: str, run_ids: Iterable[str]) -> bool:
        """Return whether a run that failed was planned to make it: then it was defined when the run began."""
        if token.startswith((instigators.TICK_TOKEN, FRESH, JOB, runs.STEPS)):
            # Dagster ticks, watches and runs only what is defined.
            return True
        return any(token.partition("@")[0] in self._planned(run_id) for run_id in run_ids)

    def _reason_unless(self, has: Callable[[Location], bool], what: str) -> str | None:
        """Return that something is not part of the platform any more, unless a code location has it."""
        if any(has(location) for location in self._workspace.locations.values()):
            return ""
        return f"{what} is no longer part of the platform" if self._workspace.is_complete else None

    def _of_job(self, name: str) -> str | None:
        if name.startswith(IMPLICIT_JOBS):
            return ""
        return self._reason_unless(lambda one: name in one.jobs, f"the job `{name}`")

    def _of_step(self, token: str) -> str | None:
        """A step of a job of ops is there as long as the job is: which steps it has is not known here."""
        _location, job, step = token.removeprefix(runs.STEPS).split(":", 2)
        if job:
            return self._of_job(job)
        # `graph.op` of an asset that is a graph, `op[key]` of a mapped step.
        name = step.partition(".")[0].partition("[")[0]
        return self._reason_unless(lambda one: name in one.steps, f"the step `{step}`")

    def _of_check(self, token: str) -> str | None:
        asset, _colon, name = token.removeprefix(runs.CHECKS).rpartition(":")
        what = f"the check `{name}` of the asset {asset}"
        return self._of_asset(asset) or self._reason_unless(lambda one: token in one.checks, what)

    def _of_freshness(self, asset: str) -> str | None:
        if (why := self._of_asset(asset)) != "":
            return why
        found = self._reason_unless(lambda one: asset in one.fresh, "")
        return found and f"the asset {asset} has no freshness policy any more"

    def _of_asset(self, key: str, partition: str = "") -> str | None:
        found = self._reason_unless(lambda one: one.graph.is_known(key), f"the asset {key}")
        if found or found is None or not partition:
            return found
        definitions = [one.partitions.get(key) for one in self._workspace.locations.values() if one.graph.is_known(key)]
        if any(self._has_partition(one, partition) for one in definitions if one is not None):
            return ""
        if not self._workspace.is_complete:
            return None
        if all(one is None for one in definitions):
            return f"the asset {key} has no partitions any more"
        return f"the asset {key} has no partition `{partition}` any more"

    def _has_partition(self, definition: dg.PartitionsDefinition, partition: str) -> bool:
        try:
            with partition_loading_context(dynamic_partitions_store=self._instance):
                return definition.has_partition_key(partition)
        except dg.DagsterUnknownPartitionError:
            return False
        except Exception:
            # A definition that decides by code of its own: it is not known to be gone.
            return True

    def _of_tick(self, token: str) -> str | None:
        one = instigators.of_token(token)
        what = f"the sensor or schedule `{one.name}`"
        location = self._workspace.locations.get(one.location)
        if location and (one.repository, one.name) in location.instigators:
            return ""
        if one.is_local and one.name not in self._local_names() and self._is_elsewhere(one):
            # An alert of an earlier version, which did not name the code location: that sensor's next good tick ends it.
            return ""
        if one.location in self._workspace.unread:
            listed = self._workspace.listed
            if listed is None or one.location in listed:
                return None
            return f"{what} was in the code location `{one.location}`, which is no longer part of the workspace"
        if location:
            where = "" if one.is_local else f" in the code location `{one.location}`"
            return f"{what}{where} is no longer part of the platform"
        # No address of its code location is known at all.
        return f"{what} is no longer part of the platform" if self._workspace.listed is not None else None

    def _is_elsewhere(self, wanted: Instigator) -> bool:
        return any(name == wanted.name for one in self._workspace.locations.values() for _repo, name in one.instigators)

    def _read_local_names(self) -> frozenset[str]:
        """Return the names of the sensors and schedules that this code location has or had."""
        found = map(instigators.of_state, self._instance.all_instigator_state())
        return frozenset(one.name for one in found if one.is_local)

    def _read_planned(self, run_id: str) -> frozenset[str]:
        """Return the assets and check tokens that a run was planned to make."""
        found: set[str] = set()
        for kind in PLANNED:
            for record in self._instance.get_records_for_run(run_id, of_type=kind).records:
                event = record.event_log_entry.dagster_event
                if event is None:
                    continue
                if kind == DagsterEventType.ASSET_MATERIALIZATION_PLANNED:
                    found |= {event.asset_key.to_user_string()} if event.asset_key else set()
                else:
                    planned = event.asset_check_planned_data
                    found.add(runs.check_token(planned.asset_key.to_user_string(), planned.check_name))
        return frozenset(found)


def _load_looks(instance: dg.DagsterInstance) -> dict[str, Look]:
    stored = instance.daemon_cursor_storage.get_cursor_values({KEY}).get(KEY)
    try:
        return LOOKS.validate_json(stored) if stored else {}
    except ValidationError:
        # It only delays what is removed.
        return {}


def _store_looks(instance: dg.DagsterInstance, before: Mapping[str, Look], after: Mapping[str, Look]) -> None:
    if dict(before) != dict(after):
        instance.daemon_cursor_storage.set_cursor_values({KEY: LOOKS.dump_json(dict(after)).decode()})
