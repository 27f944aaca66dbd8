"""The file as incident.io's settings: one object for each, with the names of its API. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from orchestration.on_call.config import NOBODY, EscalationPath, Heartbeat, OnCall, Route, Schedule, WorkingHours
from orchestration.vendors.incident_io_settings import Json, Kind

HOURS = "working-hours"
"""What a path calls its own working hours."""


@dataclass(frozen=True)
class Ref:
    """The id of another object, which is known once that one exists; with `prefix` in front."""

    kind: Kind
    name: str
    prefix: str = ""


@dataclass(frozen=True)
class Wanted:
    """A setting as it should be. `name` is lasting; `shown` is what people see, where that is another."""

    kind: Kind
    name: str
    body: Json
    parent: Ref | None = None
    written_by_vendor: tuple[str, ...] = ()
    """Fields that the API demands, and fills itself."""

    @property
    def shown(self) -> str:
        return str(self.body.get("name", self.name))


@dataclass(frozen=True)
class Directory:
    """What incident.io has that is only referred to: ids by name."""

    severities: Mapping[str, str]
    custom_fields: Mapping[str, str]


def wanted(config: OnCall, directory: Directory) -> tuple[Wanted, ...]:
    """Everything that the file asks for, each after what it refers to. Names of the directory have to be known."""
    return (
        *(_attribute(name) for name in config.attributes),
        *(_schedule(name, schedule) for name, schedule in config.schedules.items()),
        *_syncs(config),
        _http_source(config),
        _heartbeat(config.heartbeat, config.flags),
        *(_path(name, path, config.schedules[path.schedule]) for name, path in config.escalation_paths.items()),
        *(_route(name, route, config, directory) for name, route in config.routes.items()),
    )


def _attribute(name: str) -> Wanted:
    # A flag is a text, too: how conditions on texts are written is documented, and on truths it is not.
    return Wanted("alert_attribute", name, {"name": name, "type": "String", "array": False})


def _schedule(name: str, schedule: Schedule) -> Wanted:
    first = schedule.handover.first.replace(tzinfo=ZoneInfo(schedule.time_zone))
    rotation: Json = {
        "name": name,
        "handover_start_at": moment(first),
        "handovers": [{"interval_type": {"day": "daily", "week": "weekly"}[schedule.handover.every], "interval": 1}],
        "layers": [{"name": "Layer 1"}],
        "users": [{"email": email} for email in schedule.members],
        "working_intervals": _intervals(schedule.working_hours),
    }
    return Wanted("schedule", name, {"name": name, "timezone": schedule.time_zone, "config": {"rotations": [rotation]}})


def _syncs(config: OnCall) -> Iterator[Wanted]:
    """For each schedule with a group in Slack: the group as a target, and the rule that puts on it who is on shift."""
    for name, schedule in config.schedules.items():
        if group := schedule.slack_user_group:
            # The group of a target cannot be changed: another group is another target, and another rule.
            lasting = f"{name} in {group}"
            target: Json = {"slack_user_group_id": group, "add_bot_to_group": False}
            yield Wanted("schedule_sync_target", lasting, target)
            rule: Json = {"schedule_sync_target_id": Ref("schedule_sync_target", lasting), "sync_type": "on_call"}
            yield Wanted("schedule_sync_rule", lasting, rule, Ref("schedule", name))


def _http_source(config: OnCall) -> Wanted:
    expressions = [_expression(name, flag=kind == "flag") for name, kind in config.attributes.items()]
    bindings = [_bound(name, {"reference": f'expressions["{name}"]'}) for name in config.attributes]
    template: Json = {
        "title": {"literal": _document("title", "Payload → Title")},
        "description": {"literal": _document("description", "Payload → Description")},
        "attributes": bindings,
        "expressions": expressions,
    }
    return Wanted("alert_source", "http", {"name": config.alert_source, "source_type": "http", "template": template})


def _heartbeat(heartbeat: Heartbeat, flags: tuple[str, ...]) -> Wanted:
    given = dict.fromkeys(flags, False) | dict(heartbeat.attributes)
    values = {name: str(value).lower() if isinstance(value, bool) else value for name, value in given.items()}
    template: Json = {
        "title": {"literal": _document("title", "Payload → Title")},
        "description": {"literal": _document("description", "Payload → Description")},
        "attributes": [_bound(name, {"literal": value}) for name, value in values.items()],
        "expressions": [],
    }
    options = {
        "interval_seconds": heartbeat.every_seconds,
        "grace_period_seconds": heartbeat.grace_seconds,
        "failure_threshold": 1,
    }
    body: Json = {
        "name": heartbeat.name,
        "source_type": "heartbeat",
        "template": template,
        "heartbeat_options": options,
    }
    return Wanted("alert_source", "heartbeat", body, written_by_vendor=("template.title", "template.description"))


def _path(name: str, path: EscalationPath, schedule: Schedule) -> Wanted:
    target = {
        "type": "schedule", "id": Ref("schedule", path.schedule), "urgency": path.urgency,
        "schedule_mode": "currently_on_call",
    }  # fmt: skip
    level = {"targets": [target], "ack_mode": "first", "time_to_ack_seconds": 60 * path.acknowledge_minutes}
    nodes: list[Json] = [{"id": "page", "type": "level", "level": level}]
    body: Json = {"name": name, "path": nodes}
    if path.wait_for_working_hours:
        until_open = {"delay_weekday_interval_config_id": HOURS, "delay_interval_condition": "active"}
        nodes.insert(0, {"id": "wait", "type": "delay", "delay": until_open})
        intervals = _intervals(schedule.working_hours)
        hours = {"id": HOURS, "name": "Working hours", "timezone": schedule.time_zone, "weekday_intervals": intervals}
        body["working_hours"] = [hours]
    return Wanted("escalation_path", name, body)


def _route(name: str, route: Route, config: OnCall, directory: Directory) -> Wanted:
    conditions = [
        {
            "subject": Ref("alert_attribute", attribute, "alert.attributes."),
            "operation": "one_of",
            "param_bindings": [{"array_value": [{"literal": str(value).lower()}]}],
        }
        for attribute, value in route.when.items()
    ]
    paths = [] if route.escalate_to == NOBODY else [{"literal": Ref("escalation_path", route.escalate_to)}]
    fields = [
        {
            "custom_field_id": directory.custom_fields[field],
            "binding": {"value": {"reference": Ref("alert_attribute", attribute, "alert.attributes.")}},
            "merge_strategy": "first-wins",
        }
        for field, attribute in config.incident_fields.items()
    ]
    template: Json = {
        "name": {"autogenerated": False, "binding": {"value": {"literal": _document("alert.title", "Alert → Title")}}},
        "summary": {
            "autogenerated": False,
            "binding": {"value": {"literal": _document("alert.description", "Alert → Description")}},
        },
        "severity": {
            "binding": {"value": {"literal": directory.severities[route.severity]}},
            "merge_strategy": "first-wins",
        },
        "start_in_triage": {"binding": {"value": {"literal": "false"}}},
        "custom_fields": fields,
    }
    sources = ("http", "heartbeat")
    body: Json = {
        "name": name,
        "enabled": True,
        "is_private": False,
        "alert_sources": [
            {"alert_source_id": Ref("alert_source", source), "condition_groups": []} for source in sources
        ],
        "condition_groups": [{"conditions": conditions}] if conditions else [],
        "expressions": [],
        "grouping_config": {"default": {"enabled": False}},
        "message_config": {"destinations": []},
        "escalation_config": {
            "auto_cancel_escalations": True,
            "escalation_targets": [{"escalation_paths": {"array_value": paths}}] if paths else [],
        },
        "incident_config": {
            "enabled": True, "auto_decline_enabled": False, "condition_groups": [], "template": template,
        },
    }  # fmt: skip
    return Wanted("alert_route", name, body)


def _expression(name: str, *, flag: bool) -> Json:
    parse = {"returns": {"type": "String", "array": False}, "source": f"$.metadata.{name}"}
    expression: Json = {
        "label": name, "reference": name, "root_reference": "payload",
        "operations": [{"operation_type": "parse", "parse": parse}],
    }  # fmt: skip
    # An event that lacks a flag has to fit a route all the same.
    return expression | ({"else_branch": {"result": {"value": {"literal": "false"}}}} if flag else {})


def _bound(name: str, value: Json) -> Json:
    attribute = Ref("alert_attribute", name)
    return {"alert_attribute_id": attribute, "binding": {"value": value, "merge_strategy": "last_wins"}}


def _intervals(hours: WorkingHours | None) -> list[Json]:
    if hours is None:
        return []
    return [{"weekday": day, "start_time": hours.opens, "end_time": hours.closes} for day in hours.days]


def _document(variable: str, label: str) -> str:
    """A text of one variable, as incident.io's editor writes it."""
    spec = {"type": "varSpec", "attrs": {"label": label, "missing": False, "name": variable}}
    return json.dumps({"type": "doc", "content": [{"type": "paragraph", "content": [spec]}]}, ensure_ascii=False)


def moment(value: datetime) -> str:
    """A time as the API writes it, in UTC."""
    return value.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
