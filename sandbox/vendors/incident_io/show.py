"""Rows and rotas as incident.io's API shows them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sandbox.vendors.incident_io.names import identifier, reference, stamp
from sandbox.vendors.incident_io.rota import PEOPLE, Person, Schedule, Shift
from sandbox.vendors.incident_io.settings import Setting

# What every organisation has from the start, with ranks: the fields and severities that nobody here writes.
SEVERITIES = {
    identifier("SEVERITY", rank): (name, rank) for rank, name in ((1, "Minor"), (2, "Major"), (3, "Critical"))
}
FIELDS = {identifier("FIELD", 1): ("Cause", "What it was due to")}
FOUNDED = "2024-01-01T09:00:00.000000Z"
TEAM = "T00000001"

Shown = dict[str, Any]


def alert(row: sqlite3.Row, attributes: Sequence[Setting]) -> Shown:
    """`attributes` are those that the organisation has."""
    values = json.loads(row["attributes"])
    return alert_slim(row) | {"attributes": [_attribute(one, values[one.id]) for one in attributes if one.id in values]}


def alert_slim(row: sqlite3.Row) -> Shown:
    shown = {
        "id": identifier("ALERT", row["id"]),
        "alert_source_id": row["source"] or "",
        "deduplication_key": row["deduplication_key"],
        "status": row["status"],
        "title": row["title"],
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
    }
    optional = ("description", "source_url", "resolved_at")
    return shown | {field: row[field] for field in optional if row[field] is not None}


def incident(row: sqlite3.Row, opened_by: sqlite3.Row) -> Shown:
    """`opened_by` is the alert."""
    level = SEVERITIES.get(row["severity"] or "", SEVERITIES[identifier("SEVERITY", 1)])
    moments = {"Reported": row["created_at"], "Resolved": row["closed_at"]}
    lasted: Shown = {"duration_metric": {"id": identifier("METRIC", 1), "name": "Lasted"}, "status": "calculating"}
    if row["closed_at"]:
        seconds = datetime.fromisoformat(row["closed_at"]) - datetime.fromisoformat(row["created_at"])
        lasted |= {"status": "success", "value_seconds": int(seconds.total_seconds())}
    return {
        "id": identifier("INCIDENT", row["id"]),
        "reference": reference(row["id"]),
        "name": row["name"],
        "summary": row["summary"] or "",
        "incident_status": _status(row["status"]),
        "severity": _named("SEVERITY", *level),
        "creator": {"alert": {"id": identifier("ALERT", row["alert"]), "title": opened_by["title"]}},
        "mode": "standard",
        "visibility": "public",
        "custom_field_entries": [
            _field(key, value) for key, value in json.loads(row["fields"]).items() if key in FIELDS
        ],
        "incident_role_assignments": [],
        "team_ids": [],
        "slack_team_id": TEAM,
        "slack_channel_id": f"C{row['id']:08}",
        "slack_channel_name": reference(row["id"]).lower(),
        "duration_metrics": [lasted],
        "incident_timestamp_values": [_timestamp(rank, name, at) for rank, (name, at) in enumerate(moments.items(), 1)],
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
        "last_activity_at": row["updated_at"],
    }


def incident_alert(row: sqlite3.Row, belonging: sqlite3.Row) -> Shown:
    """`row` is the incident, `belonging` its alert."""
    return {
        "id": identifier("LINK", row["id"]),
        "alert": alert_slim(belonging),
        "incident": incident_slim(row),
        "alert_route_id": row["route"] or "",
    }


def incident_slim(row: sqlite3.Row) -> Shown:
    return {
        "id": identifier("INCIDENT", row["id"]),
        "external_id": row["id"],
        "reference": reference(row["id"]),
        "name": row["name"],
        "summary": row["summary"] or "",
        "status_category": "closed" if row["closed_at"] else "active",
        "visibility": "public",
    }


def escalation(
    row: sqlite3.Row, pages: Sequence[sqlite3.Row], alerts: Sequence[sqlite3.Row], incidents: Sequence[sqlite3.Row],
    acked_at: str | None,
) -> Shown:  # fmt: skip
    urgency = pages[0]["urgency"]
    creator: Shown = {"workflow": {"id": identifier("APIKEY", 1), "name": "API key"}}
    if alerts:
        creator = {"alert": {"id": identifier("ALERT", alerts[0]["id"]), "title": alerts[0]["title"]}}
    shown: Shown = {
        "id": identifier("ESCALATION", row["id"]),
        "title": row["title"],
        "description": row["description"],
        "status": row["status"],
        "priority": {"name": urgency.title()},
        "creator": creator,
        "events": _events(row, pages, acked_at),
        "related_alerts": [alert_slim(a) for a in alerts],
        "related_incidents": [incident_slim(i) for i in incidents],
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
    }
    return shown | ({"escalation_path_id": row["path"]} if row["path"] else {})


def entry(value: Schedule, shift: Shift) -> Shown:
    name = f"{value.id}-{stamp(shift.start)}"
    return {
        "entry_id": name,
        "fingerprint": name,
        "rotation_id": rotation(value.id),
        "start_at": stamp(shift.start),
        "end_at": stamp(shift.end),
        "user": user(shift.person),
    }


def user(person: Person) -> Shown:
    return {
        "id": person.id,
        "name": person.name,
        "email": person.email,
        "role": "responder",
        "slack_user_id": person.slack_user_id,
    }


def member(person: Person) -> Shown:
    """A user as the list of users has them."""
    role = {"id": identifier("ROLE", 1), "name": "Responder", "slug": "responder"}
    seats = {"on_call": "full_access", "response": "full_access"}
    return user(person) | {"base_role": role, "custom_roles": [], "is_active": True, "seats": seats}


def severities() -> list[Shown]:
    return [_named("SEVERITY", name, rank) for name, rank in SEVERITIES.values()]


def custom_fields() -> list[Shown]:
    times = {"created_at": FOUNDED, "updated_at": FOUNDED}
    return [
        {"id": key, "name": name, "description": description, "field_type": "text"} | times
        for key, (name, description) in FIELDS.items()
    ]


def _status(category: str) -> Shown:
    name, rank = {"live": ("Investigating", 1), "closed": ("Closed", 5)}[category]
    return _named("STATUS", name, rank) | {"category": category}


def _named(kind: str, name: str, rank: int) -> Shown:
    return {
        "id": identifier(kind, rank),
        "name": name,
        "description": name,
        "rank": rank,
        "created_at": FOUNDED,
        "updated_at": FOUNDED,
    }


def _events(row: sqlite3.Row, pages: Sequence[sqlite3.Row], acked_at: str | None) -> list[Shown]:
    events: list[Shown] = []
    for page in pages:
        if page["state"] == "sent":
            paged = {"users": [user(PEOPLE[page["person"]])], "urgency": page["urgency"]}
            events.append({"event": "notified_users", "occurred_at": page["sent_at"]} | paged)
    if events:
        events.insert(0, {"event": "triggered", "occurred_at": events[0]["occurred_at"]})
    if acked_at:
        events.append({"event": "acked", "occurred_at": acked_at, "users": []})
    if row["status"] in {"resolved", "cancelled"}:
        events.append({"event": row["status"], "occurred_at": row["updated_at"]})
    return [{"id": f"{identifier('ESCALATION', row['id'])}-{n}"} | event for n, event in enumerate(events, 1)]


def _timestamp(rank: int, name: str, at: str | None) -> Shown:
    known = {"id": identifier("TIMESTAMP", rank), "name": name, "rank": rank}
    return {"incident_timestamp": known} | ({"value": {"value": at}} if at else {})


def _field(key: str, value: str) -> Shown:
    name, description = FIELDS[key]
    field = {"id": key, "name": name, "description": description, "field_type": "text"}
    return {"custom_field": field | {"options": []}, "values": [{"value_text": value}]}


def _attribute(setting: Setting, value: str) -> Shown:
    return {"attribute": attribute(setting), "value": {"literal": value, "label": value}}


def attribute(setting: Setting) -> Shown:
    return {"required": False} | dict(setting.body) | {"id": setting.id}


def rotation(schedule: str) -> str:
    return schedule.replace("SCHEDULE", "ROTATION")
