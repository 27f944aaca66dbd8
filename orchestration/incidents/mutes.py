"""Mutes: of which assets nobody wants to hear for a time. A muted failure is held back, and told when the mute ends and it still fails.

They are kept in Dagster's own storage, beside the daemons' cursors, so that the command line and the sensor share them wherever they run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

import dagster as dg
from dagster._core.definitions.data_version import DATA_VERSION_TAG
from pydantic import TypeAdapter, ValidationError

from orchestration.incidents.instigators import short_unit
from orchestration.lineage.failures import METADATA_KEY

KEY = "dataplatform/incident_mutes"
EVERYTHING = "*"
LONGEST = timedelta(days=31)
"""A mute that nobody remembers is a failure that nobody hears."""
OBSERVED = "incidents_muted"
"""Name in the metadata of the observation that shows a mute on an asset's page."""


@dataclass(frozen=True)
class Mute:
    selection: str
    """Asset keys or patterns of them such as `insights/*`, with commas between; of alerts without assets, their names."""
    until: datetime
    reason: str
    by: str
    since: datetime | None = None
    """When it begins, of one that was planned ahead; None where it began when it was made."""

    def covers(self, key: str) -> bool:
        """Return whether it is about an asset, or an alert of this name, at whatever time.

        A sensor's name without its code location covers the sensors of that name in all of them.
        """
        names = {key, short_unit(key)}
        return any(fnmatchcase(name, pattern) for pattern in patterns_of(self.selection) for name in names)

    def is_planned(self, now: float) -> bool:
        """It has not begun at a time in seconds since the epoch."""
        return self.since is not None and self.since.timestamp() > now

    def overlaps(self, other: Mute) -> bool:
        """Both apply at some time."""
        return (self.since or BEGINNING) < other.until and (other.since or BEGINNING) < self.until


BEGINNING = datetime.min.replace(tzinfo=UTC)
MUTES = TypeAdapter(tuple[Mute, ...])


def active(instance: dg.DagsterInstance, now: float) -> tuple[Mute, ...]:
    """The mutes that apply at a time in seconds since the epoch, the first to end first.

    None where what is stored cannot be read: to hear too much is better than to hear nothing.
    """
    return tuple(mute for mute in _readable(instance, now) if not mute.is_planned(now))


def read(instance: dg.DagsterInstance, now: float) -> tuple[Mute, ...]:
    """The mutes that have not ended, those that are planned among them. Raises ValueError where what is stored cannot be read."""
    stored = instance.daemon_cursor_storage.get_cursor_values({KEY}).get(KEY)
    if not stored:
        return ()
    try:
        mutes = MUTES.validate_json(stored)
    except ValidationError as error:
        raise ValueError(f"the stored mutes cannot be read: {error.errors()[0]['msg']}") from error
    live = (mute for mute in mutes if mute.until.timestamp() > now)
    return tuple(sorted(live, key=lambda mute: (mute.until, mute.selection)))


def is_muted(keys: Sequence[str], mutes: Iterable[Mute]) -> Mute | None:
    """The mute that ends first of those which cover something, where all of `keys` are covered; else None.

    `mutes` are those that apply now. A failure of several assets is muted only when each of them is: of the others somebody does
    want to hear.
    """
    mutes = list(mutes)
    if not keys or not all(any(mute.covers(key) for mute in mutes) for key in keys):
        return None
    return min((mute for mute in mutes if any(map(mute.covers, keys))), key=lambda mute: mute.until)


def add(instance: dg.DagsterInstance, mute: Mute, keys: Iterable[dg.AssetKey], now: float) -> None:
    """Mute, in place of earlier mutes of the same selection at the same time; `keys` are the assets on whose pages it shows."""
    others = (one for one in _readable(instance, now) if one.selection != mute.selection or not one.overlaps(mute))
    _store(instance, (*others, mute))
    until = f"until {_utc(mute.until)}"
    when = f"from {_utc(mute.since)} {until}" if mute.since else until
    _show(instance, keys, f"Incidents are muted {when} by {mute.by}: {mute.reason}", when.removeprefix("until "))


def remove(instance: dg.DagsterInstance, selection: str, keys: Iterable[dg.AssetKey], now: float, by: str) -> bool:
    """End the mute of a selection that applies now, or where none does, what is planned for it; whether there was any."""
    before = _readable(instance, now)
    same = [mute for mute in before if mute.selection == selection]
    # Who ends today's work early has not called off that of next week.
    ended = [mute for mute in same if not mute.is_planned(now)] or same
    if not ended:
        return False
    _store(instance, tuple(mute for mute in before if mute not in ended))
    _show(instance, keys, f"Incidents are no longer muted, says {by}.", "no longer")
    return True


def patterns_of(selection: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in selection.split(",") if part.strip())


def matching(keys: Iterable[dg.AssetKey], selection: str) -> list[dg.AssetKey]:
    """Of some assets those that a selection covers, in the order of their names."""
    mute = Mute(selection, datetime.max.replace(tzinfo=UTC), "", "")
    return sorted((key for key in keys if mute.covers(key.to_user_string())), key=lambda key: key.to_user_string())


def _readable(instance: dg.DagsterInstance, now: float) -> tuple[Mute, ...]:
    try:
        return read(instance, now)
    except ValueError:
        return ()


def _utc(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _store(instance: dg.DagsterInstance, mutes: tuple[Mute, ...]) -> None:
    instance.daemon_cursor_storage.set_cursor_values({KEY: MUTES.dump_json(mutes).decode()})


def _show(instance: dg.DagsterInstance, keys: Iterable[dg.AssetKey], text: str, until: str) -> None:
    for key in keys:
        metadata, tags = _last_look(instance, key)
        remark = dg.AssetObservation(key, description=text, metadata={**metadata, OBSERVED: until}, tags=tags)
        instance.report_runless_asset_event(remark)


def _last_look(instance: dg.DagsterInstance, key: dg.AssetKey) -> tuple[Mapping[str, Any], Mapping[str, str]]:
    """What the last observation says of an asset that is only observed; nothing for others.

    The remark says it again: the next look at the table goes on from the newest observation, and a version of the data that is
    missing would look like new data to what is made of it.
    """
    records = instance.fetch_observations(key, limit=1).records
    last = records[0].asset_observation if records else None
    if last is None or DATA_VERSION_TAG not in last.tags:
        return {}, {}
    return {name: value for name, value in last.metadata.items() if name != METADATA_KEY}, last.tags
