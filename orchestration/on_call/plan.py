"""What has to change for incident.io to be as the file says. Pure: from what is wanted and what there is to a list of changes.

**Ownership.** incident.io's API tells who made a setting for schedules only. So the ids of everything made here are written as annotations
on the schedules made here (`record`), and what is not in that record is somebody else's: it is neither changed nor deleted, and where it has the
name of something wanted, the plan is refused. Attributes are the organisation's vocabulary: one that exists is used as it is.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, cast

from orchestration.on_call.wanted import Ref, Wanted, moment
from orchestration.vendors.incident_io_settings import MANAGED, Json, Kind

Action = Literal["create", "update", "adopt", "delete", "nothing"]
Key = tuple[Kind, str]

PREFIX = "dataplatform/"
MADE_HERE = f"{PREFIX}made-here"
UNRECORDED: tuple[Kind, ...] = ("alert_attribute", "schedule")
ORDER: tuple[Kind, ...] = (
    "alert_attribute", "schedule", "schedule_sync_target", "schedule_sync_rule", "alert_source", "escalation_path", "alert_route",
)  # fmt: skip
"""Each kind after those that it refers to."""
OPERATIONS = {"contains_one_of": "one_of"}
"""incident.io tells the operation of a condition on a text by its other name."""


class Refused(Exception):
    """The plan would touch what was not made here; the message names each object and the remedy."""


@dataclass(frozen=True)
class Existing:
    """A setting as incident.io has it. `name` is what people see; of a foreign alert route the body is not read."""

    kind: Kind
    id: str
    name: str
    body: Json
    parent: str = ""


@dataclass(frozen=True)
class Change:
    action: Action
    kind: Kind
    name: str
    """The lasting name."""
    shown: str
    wanted: Wanted | None = None
    existing: Existing | None = None
    diff: tuple[str, ...] = ()


def owned(existing: Sequence[Existing]) -> dict[str, Key]:
    """By id, what was made here, from the record on the schedules."""
    found: dict[str, Key] = {}
    for one in existing:
        annotations = cast("dict[str, str]", one.body.get("annotations") or {})
        if one.kind == "schedule" and MADE_HERE in annotations:
            found[one.id] = ("schedule", annotations[MADE_HERE])
            for key, lasting in annotations.items():
                kind, _, name = key.removeprefix(PREFIX).partition("/")
                if key.startswith(PREFIX) and kind in ORDER:
                    found[name] = (kind, lasting)
    return found


def record(schedule: str, ids: Mapping[Key, str]) -> dict[str, str]:
    """The annotations of a schedule that was made here: its own name, and the ids of everything else that was."""
    others = {f"{PREFIX}{kind}/{name}": lasting for (kind, lasting), name in ids.items() if kind not in UNRECORDED}
    return {MANAGED: "true", MADE_HERE: schedule, **others}


def plan(wanted: Sequence[Wanted], existing: Sequence[Existing], adopt: Collection[str] = ()) -> tuple[Change, ...]:
    """The changes in the order in which they can be made. `adopt` names foreign objects, as `kind/name`, that become ours.

    Raises Refused.
    """
    by_id = {one.id: one for one in existing}
    ours = {key: by_id[name] for name, key in owned(existing).items() if name in by_id}
    foreign = [one for one in existing if one not in ours.values()]
    attributes = {one.name: one for one in foreign if one.kind == "alert_attribute"}
    changes, conflicts = list[Change](), list[str]()
    ids: dict[Key, str] = {key: one.id for key, one in ours.items()}
    ids |= {("alert_attribute", name): one.id for name, one in attributes.items()}
    for one in wanted:
        key = (one.kind, one.name)
        same = next((other for other in foreign if other.kind == one.kind and _same(one, other)), None)
        if one.kind == "alert_attribute":
            changes.append(_attribute(one, same, conflicts))
        elif key in ours:
            diff = tuple(differences(one, ours[key], ids))
            changes.append(Change("update" if diff else "nothing", *key, one.shown, one, ours[key], diff))
        elif same is None:
            changes.append(Change("create", *key, one.shown, one, None, tuple(_lines(resolve(one.body, ids)))))
        elif f"{one.kind}/{one.shown}" in adopt:
            ids[key] = same.id
            changes.append(Change("adopt", *key, one.shown, one, same, tuple(differences(one, same, ids))))
        else:
            conflicts.append(
                f"there is a {_words(one.kind)} {one.shown!r} in incident.io (id {same.id}) that was not made here, and it is left alone: "
                f'rename it there, choose another name in the file, or take it over with --adopt "{one.kind}/{one.shown}"'
            )
    if conflicts:
        raise Refused("\n".join(conflicts))
    return (*changes, *_gone(wanted, ours))


def _gone(wanted: Sequence[Wanted], ours: Mapping[Key, Existing]) -> Iterator[Change]:
    """What was made here and is no longer wanted: last, so that no alert is without a route meanwhile."""
    keys = {(one.kind, one.name) for one in wanted}
    for kind in reversed(ORDER):
        for key, one in ours.items():
            if key[0] == kind and key not in keys:
                yield Change("delete", *key, one.name or key[1], None, one)


def _attribute(one: Wanted, same: Existing | None, conflicts: list[str]) -> Change:
    if same is None:
        return Change("create", one.kind, one.name, one.shown, one, None, tuple(_lines(one.body)))
    if (same.body.get("type"), same.body.get("array")) != (one.body["type"], one.body["array"]):
        conflicts.append(
            f"the alert attribute {one.name!r} of incident.io is of type {same.body.get('type')}, and a {one.body['type']} is needed: "
            "rename it there, or choose another name in the file"
        )
    return Change("nothing", one.kind, one.name, one.shown, one, same)


def _same(one: Wanted, other: Existing) -> bool:
    if one.kind == "schedule_sync_target":
        return other.body.get("slack_user_group_id") == one.body["slack_user_group_id"]
    return one.kind != "schedule_sync_rule" and other.name == one.shown


def resolve(value: Any, ids: Mapping[Key, str]) -> Any:
    """A wanted body with the ids that are known; the others are written as words."""
    if isinstance(value, Ref):
        return value.prefix + ids.get((value.kind, value.name), f"<id of the {_words(value.kind)} {value.name}>")
    if isinstance(value, dict):
        return {name: resolve(one, ids) for name, one in cast("Json", value).items()}
    return [resolve(one, ids) for one in cast("list[Any]", value)] if isinstance(value, list) else value


def differences(one: Wanted, existing: Existing, ids: Mapping[Key, str]) -> Iterator[str]:
    """A line for each field that is not as wanted. What only incident.io has (ids, labels, defaults) is no difference."""
    there = _as_written(existing.body)
    for path, new, old in _compare(_as_written(resolve(one.body, ids)), there, ""):
        if not path.startswith(one.written_by_vendor):
            yield f"{path}: {_text(old)} -> {_text(new)}"


def _compare(new: Any, old: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(new, dict) and isinstance(old, dict):
        for name, value in cast("Json", new).items():
            yield from _compare(value, cast("Json", old).get(name), f"{path}.{name}" if path else name)
    elif isinstance(new, list) and isinstance(old, list) and len(cast("list[Any]", new)) == len(cast("list[Any]", old)):
        for number, (value, other) in enumerate(zip(cast("list[Any]", new), cast("list[Any]", old), strict=True)):
            yield from _compare(value, other, f"{path}.{number}")
    # What was left empty may be left out of an answer.
    elif new != old and (new or old):
        yield path, new, old


def _as_written(value: Any) -> Any:
    """A setting as it is read, in the form in which it is written, so that the two can be compared."""
    if isinstance(value, list):
        return [_as_written(one) for one in cast("list[Any]", value)]
    if isinstance(value, str):
        return _plain(value)
    if not isinstance(value, dict):
        return value
    content = {name: _as_written(one) for name, one in cast("Json", value).items()}
    if {"operation", "subject", "param_bindings"} <= content.keys():
        operation, subject = cast("Json | str", content["operation"]), cast("Json | str", content["subject"])
        told = operation["value"] if isinstance(operation, dict) else operation
        content["operation"] = OPERATIONS.get(told, told)
        content["subject"] = subject["reference"] if isinstance(subject, dict) else subject
    # Sets, whose order is incident.io's.
    for name, by in (("attributes", "alert_attribute_id"), ("expressions", "reference")):
        if isinstance(content.get(name), list):
            content[name] = sorted(content[name], key=lambda one: str(one.get(by)))
    if "handover_start_at" in content:
        content["handover_start_at"] = moment(datetime.fromisoformat(content["handover_start_at"]))
    return content


def _plain(text: str) -> str:
    """A text that is JSON, written in one way."""
    if not text.startswith("{"):
        return text
    try:
        return json.dumps(json.loads(text), sort_keys=True, ensure_ascii=False)
    except ValueError:
        return text


def _lines(value: Any, path: str = "") -> Iterator[str]:
    """A line for each value of a new object."""
    if isinstance(value, dict):
        for name, one in cast("Json", value).items():
            yield from _lines(one, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for number, one in enumerate(cast("list[Any]", value)):
            yield from _lines(one, f"{path}.{number}")
    else:
        yield f"{path}: {_text(value)}"


def _text(value: Any) -> str:
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False)


def _words(kind: Kind) -> str:
    return kind.replace("_", " ")


def describe(change: Change) -> str:
    """A heading and the fields below it."""
    sign = {"create": "+", "update": "~", "adopt": "~", "delete": "-", "nothing": "="}[change.action]
    return "\n".join(
        [f"{sign} {change.action} {_words(change.kind)} {change.shown!r}", *(f"    {line}" for line in change.diff)]
    )
