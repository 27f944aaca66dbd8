"""Rows and rotas as incident.io's API shows them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sandbox.vendors.incident_io.alerting import identifier, reference, stamp
from sandbox.vendors.incident_io.rota import (
    CLOSES,
    FIRST_MONDAY,
    OPENS,
    PEOPLE,
    WEEKDAYS,
    ZONE,
    Path,
    Person,
    Schedule,
    Shift,
    next_shift,
)

ALERT_SOURCE, ALERT_ROUTE = "01LOCALALERTSOURCE00000000", "01LOCALALERTROUTE000000001"
# The settings' own times: they have been as they are since the rotas began.
SETTLED = stamp(datetime.combine(FIRST_MONDAY, OPENS, ZONE))
TEAM = "T00000001"

Shown = dict[str, Any]


def alert(row: sqlite3.Row) -> Shown:
    return alert_slim(row) | {"attributes": [_attribute(k, v) for k, v in json.loads(row["metadata"]).items()]}


def alert_slim(row: sqlite3.Row) -> Shown:
    shown = {
        "id": identifier("ALERT", row["id"]),
        "alert_source_id": ALERT_SOURCE,
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
    level = ("Major", 3) if row["customer_facing"] else ("Minor", 1)
    moments = {"Reported": row["created_at"], "Resolved": row["closed_at"]}
    cause = json.loads(opened_by["metadata"]).get("unit")
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
        "custom_field_entries": [_cause(cause)] if cause else [],
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
        "alert_route_id": ALERT_ROUTE,
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


def path(value: Path, now: datetime) -> Shown:
    hours = identifier("HOURS", 1)
    target = {
        "id": value.schedule.id,
        "type": "schedule",
        "urgency": value.urgency,
        "schedule_mode": "currently_on_call",
    }
    level = {
        "id": identifier("LEVEL", 1),
        "type": "level",
        "level": {"targets": [target], "time_to_ack_seconds": 900, "ack_mode": "first"},
    }
    wait = {
        "id": identifier("DELAY", 1),
        "type": "delay",
        "delay": {"delay_interval_condition": "active", "delay_weekday_interval_config_id": hours},
    }
    waits = value.schedule.working_hours
    working_hours = {
        "id": hours,
        "name": "Working hours",
        "timezone": ZONE.key,
        "weekday_intervals": _working_intervals(),
    }
    shift = next_shift(value.schedule, now)
    return {
        "id": value.id,
        "name": value.name,
        "kind": "standalone",
        "path": [wait, level] if waits else [level],
        "team_ids": [],
        "working_hours": [working_hours] if waits else [],
        "current_responders": [user(shift.person)] if shift.start <= now else [],
    }


def schedule(value: Schedule, now: datetime) -> Shown:
    shift = next_shift(value, now)
    on = shift.start <= now
    following = next_shift(value, shift.end) if on else shift
    rotation = {
        "id": _rotation(value),
        "name": value.name,
        "handover_start_at": SETTLED,
        "handovers": [{"interval": 1, "interval_type": "weekly"}],
        "layers": [{"id": identifier("LAYER", 1), "name": "Layer 1"}],
        "users": [user(person) for person in value.people],
        "working_intervals": _working_intervals() if value.working_hours else [],
    }
    return {
        "id": value.id,
        "name": value.name,
        "timezone": ZONE.key,
        "permalink": f"https://app.incident.io/local/on-call/schedules/{value.id}",
        "annotations": {},
        "team_ids": [],
        "config": {"rotations": [rotation]},
        "current_shifts": [entry(value, shift)] if on else [],
        "next_shifts": [entry(value, following)],
        "created_at": SETTLED,
        "updated_at": SETTLED,
    }


def entry(value: Schedule, shift: Shift) -> Shown:
    name = f"{value.id}-{stamp(shift.start)}"
    return {
        "entry_id": name,
        "fingerprint": name,
        "rotation_id": _rotation(value),
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


def alert_source(events_url: str) -> Shown:
    return {
        "id": ALERT_SOURCE,
        "name": "Data platform",
        "source_type": "http",
        "alert_events_url": events_url,
        "template": {
            "title": {"label": "Payload → Title", "reference": "title"},
            "description": {"label": "Payload → Description", "reference": "description"},
            "attributes": [],
            "expressions": [],
            "is_private": False,
        },
    }


def _status(category: str) -> Shown:
    name, rank = {"live": ("Investigating", 1), "closed": ("Closed", 5)}[category]
    return _named("STATUS", name, rank) | {"category": category}


def _named(kind: str, name: str, rank: int) -> Shown:
    return {
        "id": identifier(kind, rank),
        "name": name,
        "description": name,
        "rank": rank,
        "created_at": SETTLED,
        "updated_at": SETTLED,
    }


def _events(row: sqlite3.Row, pages: Sequence[sqlite3.Row], acked_at: str | None) -> list[Shown]:
    events: list[Shown] = []
    for page in pages:
        if page["sent_at"]:
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


def _cause(unit: str) -> Shown:
    """The custom field that the alert route fills with the alert's attribute `unit`."""
    field = {"id": identifier("FIELD", 1), "name": "Cause", "description": "What it was due to", "field_type": "text"}
    return {"custom_field": field | {"options": []}, "values": [{"value_text": unit}]}


def _attribute(name: str, value: Any) -> Shown:
    many = isinstance(value, list)
    kind = "Bool" if isinstance(value, bool) else "String"
    shown: Shown = {
        "attribute": {"id": f"01LOCALATTRIBUTE_{name}", "name": name, "type": kind, "array": many, "required": False}
    }
    return shown | ({"array_value": [_literal(v) for v in value]} if many else {"value": _literal(value)})


def _literal(value: Any) -> Shown:
    text = value if isinstance(value, str) else json.dumps(value)
    return {"literal": text, "label": text}


def _rotation(value: Schedule) -> str:
    return value.id.replace("SCHEDULE", "ROTATION")


def _working_intervals() -> list[Shown]:
    return [{"weekday": day, "start_time": f"{OPENS:%H:%M}", "end_time": f"{CLOSES:%H:%M}"} for day in WEEKDAYS]
