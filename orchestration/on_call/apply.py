"""Reads what incident.io has, and makes the changes of a plan."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from orchestration.on_call.config import OnCall, OnCallConfigError
from orchestration.on_call.plan import Change, Existing, Key, owned, plan, record, resolve
from orchestration.on_call.wanted import Directory, Wanted, wanted
from orchestration.vendors.incident_io_settings import Json, Kind, OnCallSettings

FIXED: dict[Kind, tuple[str, ...]] = {
    "alert_source": ("source_type",),
    "schedule_sync_target": ("slack_user_group_id",),
    "schedule_sync_rule": ("schedule_sync_target_id",),
}
"""Fields that are given when a setting is made, and never again."""


@dataclass(frozen=True)
class Planned:
    """What is wanted, with what has to be done for each."""

    wanted: tuple[Wanted, ...]
    changes: tuple[Change, ...]

    @property
    def pending(self) -> tuple[Change, ...]:
        return tuple(change for change in self.changes if change.action != "nothing")


def look(config: OnCall, file: Path, api: OnCallSettings, adopt: Collection[str] = ()) -> Planned:
    """What there is to do. Raises VendorError, Refused, and OnCallConfigError for people and names that incident.io does not have."""
    directory = Directory(api.severities(), api.custom_fields())
    if problems := [*_unknown(config, directory), *_strangers(config, api)]:
        raise OnCallConfigError("\n".join(f"{file}: {one}" for one in problems))
    asked = wanted(config, directory)
    return Planned(asked, plan(asked, tuple(_existing(api, adopt)), adopt))


def carry_out(planned: Planned, api: OnCallSettings, done: Callable[[Change, str], None]) -> None:
    """Make the changes in their order, and tell each with its id when it is made and recorded. Raises VendorError.

    Stopped half-way, the next plan has the rest.
    """
    ids: dict[Key, str] = {(one.kind, one.name): one.existing.id for one in planned.changes if one.existing}
    # Not ours yet: the record must not have it before it is taken over.
    recorded: set[Key] = {(one.kind, one.name) for one in planned.changes if one.existing and one.action != "adopt"}
    for change in planned.pending:
        key: Key = (change.kind, change.name)
        name = _make(change, ids, api)
        if change.action == "delete":
            recorded.discard(key)
        else:
            ids[key] = name
            recorded.add(key)
        if change.action != "update":
            _write_record(planned, {one: ids[one] for one in recorded}, ids, api)
        done(change, name)


def _make(change: Change, ids: dict[Key, str], api: OnCallSettings) -> str:
    """Make one change; returns the id of what it is about."""
    one, there = change.wanted, change.existing
    if one is None:
        assert there  # a change without what is wanted is a deletion
        api.delete(change.kind, there.id, there.parent)
        return there.id
    parent = ids[one.parent.kind, one.parent.name] if one.parent else ""
    body = cast("Json", resolve(one.body, ids))
    if one.kind == "schedule":
        body["annotations"] = (there.body.get("annotations") if there else None) or {}
        body["annotations"] |= record(one.name, {})
    if there is None:
        return str(api.create(one.kind, body, parent)["id"])
    api.update(one.kind, there.id, _updated(one.kind, body, there), parent)
    if change.action == "adopt":
        api.claim(one.kind, there.id)
    return there.id


def _updated(kind: Kind, body: Json, there: Existing) -> Json:
    """A body for an update: without what cannot be changed, and with what tells incident.io that it is the same."""
    body = {name: value for name, value in body.items() if name not in FIXED.get(kind, ())}
    if kind == "alert_route":
        body["version"] = there.body["version"] + 1
    if kind == "schedule":
        _same_rotation(body, there.body)
    return body


def _same_rotation(body: Json, there: Json) -> None:
    """A rotation without its id would be another one, and people's overrides of it would be lost."""
    rotations = cast("list[Json]", (there.get("config") or {}).get("rotations") or [])
    if rotations:
        body["config"]["rotations"][0]["id"] = rotations[0]["id"]
        for layer, old in zip(body["config"]["rotations"][0]["layers"], rotations[0].get("layers") or (), strict=False):
            layer["id"] = old["id"]


def _write_record(planned: Planned, made: dict[Key, str], ids: dict[Key, str], api: OnCallSettings) -> None:
    """Write the ids of what was made here onto every schedule that was."""
    for one in planned.wanted:
        key = (one.kind, one.name)
        if one.kind == "schedule" and key in made:
            there = Existing(one.kind, made[key], one.name, api.show(one.kind, made[key]))
            body = cast("Json", resolve(one.body, ids)) | {"annotations": record(one.name, made)}
            api.update(one.kind, made[key], _updated(one.kind, body, there))


def _existing(api: OnCallSettings, adopt: Collection[str]) -> Iterator[Existing]:
    """Everything of the kinds that a plan is about; of an alert route that others made only as much as tells its name."""
    schedules = [_read("schedule", one) for one in api.all("schedule")]
    ours = owned(schedules)
    yield from schedules
    for kind in cast(
        "tuple[Kind, ...]", ("alert_attribute", "schedule_sync_target", "alert_source", "escalation_path")
    ):
        yield from (_read(kind, one) for one in api.all(kind))
    for schedule in (one for one in schedules if one.id in ours):
        yield from (_read("schedule_sync_rule", one, schedule.id) for one in api.all("schedule_sync_rule", schedule.id))
    for slim in api.all("alert_route"):
        whole = slim["id"] in ours or f"alert_route/{slim['name']}" in adopt
        yield _read("alert_route", api.show("alert_route", slim["id"]) if whole else slim)


def _read(kind: Kind, body: Json, parent: str = "") -> Existing:
    return Existing(kind, str(body["id"]), str(body.get("name", "")), body, parent)


def _unknown(config: OnCall, directory: Directory) -> Iterator[str]:
    """Names that the file takes from incident.io."""
    for name, route in config.routes.items():
        if route.severity not in directory.severities:
            known = ", ".join(directory.severities) or "none"
            yield f"routes.{name}.severity: incident.io has no severity {route.severity!r}; it has {known}"
    for field in config.incident_fields:
        if field not in directory.custom_fields:
            known = ", ".join(directory.custom_fields) or "none"
            yield f"incident_fields.{field}: incident.io has no such field; it has {known}: add it there (Settings, Custom fields)"


def _strangers(config: OnCall, api: OnCallSettings) -> Iterator[str]:
    for name, schedule in config.schedules.items():
        for email in schedule.members:
            if not api.has_user(email):
                yield f"schedules.{name}.members: incident.io has no user {email!r}; correct it, or invite them (Settings, Users)"
