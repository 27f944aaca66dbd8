"""When assets run by themselves: when what they read has landed, without waiting for what nothing in the platform lands."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, cast

import dagster as dg
from dagster import AutomationCondition
from dagster._core.definitions.asset_selection import GroupsAssetSelection

LANDED_GROUP = "ingestion"
"""The group of the tables that the platform looks at: `landed_step.GROUP`, a module that imports the dbt component."""
Condition = AutomationCondition[Any]


def not_landed(parents: Collection[dg.AssetKey]) -> dg.AssetSelection:
    """Return those of these assets that nothing in the platform builds or looks at, such as a Google Sheet.

    Dagster resolves the selection at each evaluation, over the assets of all code locations. Dagster has no selection of what is only
    observed: what the platform looks at is in the group of landed tables.
    """
    own = dg.AssetSelection.assets(*sorted(parents))
    # Built directly: `AssetSelection.groups(include_sources=True)` warns that it is beta.
    return own - own.materializable() - GroupsAssetSelection(selected_groups=[LANDED_GROUP], include_sources=True)


def when_read_changes(parents: Collection[dg.AssetKey], *, wait: bool = True) -> Condition:
    """Return the condition of an asset that runs whenever what it reads has changed: Dagster's `eager`, which no missing asset blocks
    that never comes.

    Args:
        parents: What it reads, as far as that may be landed by nobody; the rest is always waited for.
        wait: Whether the asset waits for what is missing.
    """
    # Any, here and below: the library's methods leave the type of the keys open.
    eager = cast("Any", AutomationCondition.eager())
    if not wait:
        return eager.without(~AutomationCondition.any_deps_missing())
    return eager.replace("any_deps_missing", missing_parents(parents)) if parents else eager


def on_cron(cron: str, parents: Collection[dg.AssetKey]) -> Condition:
    """Return the condition of an asset that runs at a time of day, in UTC, when what it reads has been updated since then."""
    condition = cast("Any", AutomationCondition.on_cron(cron))
    return condition.ignore(not_landed(parents)) if parents else condition


def missing_parents(parents: Collection[dg.AssetKey]) -> Condition:
    """Return whether something that an asset reads has not been built or seen yet, and will be."""
    missing = cast("Any", AutomationCondition.any_deps_missing())
    return missing.ignore(not_landed(parents)).with_label("any_deps_missing")


def when_source_lands(sources: Sequence[dg.AssetKey], cron: str, *, wait: bool = True) -> Condition:
    """Return the condition of a model that reads nothing but sources.

    It is `when_read_changes` with one more trigger: where nothing lands any of the sources, nothing tells of their changes, and the
    model is built when it is missing, when its code has changed, and by the clock.

    Args:
        sources: The keys of the sources.
        cron: When it is built by the clock: five fields, in UTC.
        wait: Whether the model waits for sources that are missing.
    """
    exists: Condition = AutomationCondition.missing() | ~AutomationCondition.missing()
    any_landed: Condition = cast("Any", AutomationCondition.any_deps_match(exists)).ignore(not_landed(sources))
    updated: Condition = AutomationCondition.newly_missing() | AutomationCondition.any_deps_updated()
    due = _since_handled(_is_due() | cast("Condition", AutomationCondition.cron_tick_passed(cron)))
    alone: Condition = (due & ~any_landed).with_label("nothing_lands_what_it_reads")
    condition: Condition = AutomationCondition.in_latest_time_window() & (updated.since_last_handled() | alone)
    if wait:
        condition = condition & ~missing_parents(sources)
    condition = condition & ~AutomationCondition.any_deps_in_progress() & ~AutomationCondition.in_progress()
    return condition.with_label("eager")


def when_changed() -> Condition:
    """Return the condition of an asset that reads nothing: it is built when it is missing or its code has changed.

    Dagster's `eager` leaves an asset alone that was missing at the first evaluation, and a seed would never be loaded.
    """
    condition = AutomationCondition.in_latest_time_window() & _since_handled(_is_due())
    return (condition & ~AutomationCondition.in_progress()).with_label("when_changed")


def _is_due() -> Condition:
    return AutomationCondition.newly_missing() | AutomationCondition.code_version_changed()


def _since_handled(condition: Condition) -> Condition:
    # A run that fails counts: it is retried by Dagster, and alerted on, and not requested again at the next tick.
    handled = AutomationCondition.newly_requested() | AutomationCondition.newly_updated()
    return cast("Any", condition).since(handled)
