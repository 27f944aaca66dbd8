"""The organisation's settings: what its API writes is kept as written, and read back with what the server adds.

Nothing is set at first. A deleted setting keeps its number and its row, since old escalations refer to it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sandbox.vendors.context import VendorContext
from sandbox.vendors.incident_io.contract import mismatches
from sandbox.vendors.incident_io.names import Problem, identifier, numbered, stamp
from sandbox.vendors.incident_io.understood import understand

SCHEMA = """
create table if not exists incident_io_setting (
    kind text not null, number integer not null, body text not null, version integer not null, managed text,
    created_at text not null, updated_at text not null, deleted_at text, primary key (kind, number)
);
"""


@dataclass(frozen=True)
class Kind:
    """A kind of setting: its name in JSON, in ids and in the SDK's models, and the number of the first one."""

    name: str
    prefix: str
    create: str
    update: str
    nested: bool = False
    """The body is below the kind's own name."""
    unique: bool = False
    """No two may have the same name."""
    first: int = 1


ATTRIBUTE = Kind(
    "alert_attribute", "ALERTATTRIBUTE", "AlertAttributesCreatePayloadV2", "AlertAttributesUpdatePayloadV2", unique=True
)
# From 0, so that the first alert source has the id and the token that `sandbox up` writes into the environment.
SOURCE = Kind(
    "alert_source", "ALERTSOURCE", "AlertSourcesCreatePayloadV2", "AlertSourcesUpdatePayloadV2", unique=True, first=0
)
ROUTE = Kind("alert_route", "ALERTROUTE", "AlertRoutesCreatePayloadV3", "AlertRoutesUpdatePayloadV3")
PATH = Kind("escalation_path", "ESCALATIONPATH", "EscalationsCreatePathPayloadV2", "EscalationsUpdatePathPayloadV2")
SCHEDULE = Kind("schedule", "SCHEDULE", "SchedulesCreatePayloadV2", "SchedulesUpdatePayloadV2", nested=True)
SYNC_TARGET = Kind(
    "schedule_sync_target", "SYNCTARGET", "ScheduleSyncTargetsCreatePayloadV2", "ScheduleSyncTargetsUpdatePayloadV2",
    nested=True,
)  # fmt: skip
SYNC_RULE = Kind(
    "schedule_sync_rule", "SYNCRULE", "SchedulesCreateScheduleSyncRulePayloadV2", "SchedulesUpdateScheduleSyncRulePayloadV2",
    nested=True,
)  # fmt: skip
KINDS = {kind.name: kind for kind in (ATTRIBUTE, SOURCE, ROUTE, PATH, SCHEDULE, SYNC_TARGET, SYNC_RULE)}


@dataclass(frozen=True)
class Setting:
    kind: Kind
    number: int
    body: Mapping[str, Any]
    version: int
    created_at: str
    updated_at: str
    deleted: bool

    @property
    def id(self) -> str:
        return identifier(self.kind.prefix, self.number)

    @property
    def name(self) -> str:
        return str(self.body.get("name", ""))


class Settings:
    def __init__(self, context: VendorContext) -> None:
        self._store, self._clock = context.store, context.clock
        self._store.script(SCHEMA)

    def all(self, kind: Kind) -> list[Setting]:
        """In the order in which they were made."""
        rows = self._store.execute(
            "select * from incident_io_setting where kind = ? and deleted_at is null order by number", (kind.name,)
        )
        return [_setting(row) for row in rows]

    def find(self, kind: Kind, name: str, *, deleted: bool = False) -> Setting | None:
        """By its id; one that was deleted only where that is asked for."""
        rows = self._store.execute(
            "select * from incident_io_setting where kind = ? and number = ?", (kind.name, numbered(kind.prefix)(name))
        )
        return _setting(rows[0]) if rows and (deleted or rows[0]["deleted_at"] is None) else None

    def get(self, kind: Kind, name: str, *, deleted: bool = False) -> Setting:
        """By its id. Raises Problem (404)."""
        if found := self.find(kind, name, deleted=deleted):
            return found
        raise Problem(404, "not_found", f"no {kind.name.replace('_', ' ')} {name!r}")

    def create(self, kind: Kind, body: Any, **more: Any) -> Setting:
        """Check and keep a new setting; `more` is kept beside it. Raises Problem (422)."""
        _check(kind.create, body)
        content = body[kind.name] if kind.nested else body
        with self._store.transaction():
            self._refuse_same_name(kind, content, None)
            understand(kind.name, content, self._exists)
            now = stamp(self._clock.now())
            [row] = self._store.execute(
                "insert into incident_io_setting (kind, number, body, version, created_at, updated_at) values (?1, (select"
                " coalesce(max(number) + 1, ?2) from incident_io_setting where kind = ?1), ?3, 1, ?4, ?4) returning *",
                (kind.name, kind.first, json.dumps(content | more), now),
            )
        return _setting(row)

    def update(self, kind: Kind, name: str, body: Any) -> Setting:
        """Check and keep what is given; fields that are not given stay. Raises Problem (404, 409, 422)."""
        _check(kind.update, body)
        given = dict(body[kind.name] if kind.nested else body)
        with self._store.transaction():
            old = self.get(kind, name)
            if given.pop("version", old.version + 1) != old.version + 1:
                raise Problem(409, "conflict", f"the version after this one is {old.version + 1}", "version")
            content = dict(old.body) | given
            self._refuse_same_name(kind, content, old)
            understand(kind.name, content, self._exists)
            [row] = self._store.execute(
                "update incident_io_setting set body = ?, version = version + 1, updated_at = ? where kind = ? and number = ?"
                " returning *",
                (json.dumps(content), stamp(self._clock.now()), kind.name, old.number),
            )
        return _setting(row)

    def delete(self, kind: Kind, name: str) -> None:
        """Raises Problem (404, 422): what another setting refers to is not deleted."""
        with self._store.transaction():
            old = self.get(kind, name)
            users = [
                f"the {other.kind.name.replace('_', ' ')} {other.name!r}"
                for one in KINDS.values()
                for other in self.all(one)
                if other.id != old.id and old.id in _references(other)
            ]
            if users:
                raise Problem(422, "in_use", f"{old.name or old.id} is in use by {', '.join(users)}")
            self._store.execute(
                "update incident_io_setting set deleted_at = ? where kind = ? and number = ?",
                (stamp(self._clock.now()), kind.name, old.number),
            )

    def manage(self, body: Any) -> dict[str, Any]:
        """Who manages a setting, as `POST /v2/managed_resources` says. Raises Problem (404, 422)."""
        _check("ManagedResourcesCreateManagedResourcePayloadV2", body)
        if body["resource_type"] not in KINDS:
            raise Problem(422, "not_in_list", f"{body['resource_type']} is not understood here", "resource_type")
        setting = self.get(KINDS[body["resource_type"]], body["resource_id"])
        annotations = body["annotations"]
        self._store.execute(
            "update incident_io_setting set managed = ? where kind = ? and number = ?",
            (json.dumps(annotations), setting.kind.name, setting.number),
        )
        by = "external" if "incident.io/is-managed-externally" in annotations else "dashboard"
        if by == "dashboard" and "incident.io/terraform/version" in annotations:
            by = "terraform"
        return {
            "annotations": annotations,
            "managed_by": by,
            "resource_id": setting.id,
            "resource_type": setting.kind.name,
        }

    def _exists(self, kind: str, name: str) -> bool:
        return self.find(KINDS[kind], name) is not None

    def _refuse_same_name(self, kind: Kind, content: Mapping[str, Any], old: Setting | None) -> None:
        same = [one for one in self.all(kind) if one.name == content.get("name") and (old is None or one.id != old.id)]
        if kind.unique and same:
            raise Problem(422, "already_exists", f"there is an {kind.name.replace('_', ' ')} of this name", "name")


def _check(model: str, body: Any) -> None:
    found = mismatches(model, body)
    if found:
        first = found[0]
        raise Problem(422, first.code, "; ".join(f"{one.pointer}: {one.message}" for one in found), first.pointer)


def _references(setting: Setting) -> str:
    # Annotations are their writer's own notes: an id in them refers to nothing.
    return json.dumps({name: value for name, value in setting.body.items() if name != "annotations"})


def _setting(row: sqlite3.Row) -> Setting:
    return Setting(
        KINDS[row["kind"]], row["number"], json.loads(row["body"]), row["version"], row["created_at"], row["updated_at"],
        row["deleted_at"] is not None,
    )  # fmt: skip
