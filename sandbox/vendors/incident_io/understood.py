"""What of incident.io's settings the stand-in acts on. The rest is refused when it is written, so that nothing is ignored in silence."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import time
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sandbox.vendors.incident_io.names import Problem
from sandbox.vendors.incident_io.rota import PEOPLE

Content = Mapping[str, Any]
Exists = Callable[[str, str], bool]

# `one_of` of a text is told back as `contains_one_of`.
OPERATIONS = {"one_of": "contains_one_of", "contains_one_of": "contains_one_of", "is_set": "is_set"}
ATTRIBUTE = re.compile(r"^alert\.attributes\.(\w+)$")
EXPRESSION = re.compile(r'^expressions\["([^"]+)"\]$')
SOURCE = re.compile(r"^\$((?:\.\w+)+)$")
"""Of a parse: a path of plain names into the event, such as `$.metadata.team`."""


def understand(kind: str, content: Content, exists: Exists) -> None:
    """Raises Problem (422) for a setting that the stand-in would not act on as incident.io does, or that refers to nothing."""
    check = {
        "alert_attribute": _attribute,
        "alert_source": _source,
        "alert_route": _route,
        "escalation_path": _path,
        "schedule": _schedule,
        "schedule_sync_target": _sync_target,
        "schedule_sync_rule": _sync_rule,
    }[kind]
    check(content, exists)


def _attribute(content: Content, _exists: Exists) -> None:
    _need(content["type"] in {"String", "Bool"} and not content["array"], "type", "only a single String or Bool")


def _source(content: Content, exists: Exists) -> None:
    kind = content["source_type"]
    _need(kind in {"http", "heartbeat"}, "source_type", "only http and heartbeat")
    _need(
        (kind == "heartbeat") == ("heartbeat_options" in content),
        "heartbeat_options",
        "only for a heartbeat, and needed",
    )
    for expression in content["template"]["expressions"]:
        operations = expression["operations"]
        parses = len(operations) == 1 and operations[0]["operation_type"] == "parse" and "parse" in operations[0]
        _need(
            parses and expression["root_reference"] == "payload",
            "template/expressions",
            "only one parse of the payload",
        )
        place = operations[0]["parse"]["source"]
        _need(bool(SOURCE.match(place)), "template/expressions", f"only paths such as $.metadata.team, not {place}")
    known = {expression["reference"] for expression in content["template"]["expressions"]}
    for attribute in content["template"]["attributes"]:
        _refers(exists, "alert_attribute", attribute["alert_attribute_id"], "template/attributes")
        value = attribute["binding"].get("value", {})
        used = EXPRESSION.match(value.get("reference", ""))
        bound = "literal" in value or (used is not None and used[1] in known)
        _need(bound, "template/attributes", "only a literal, or an expression of this template")


def _route(content: Content, exists: Exists) -> None:
    _need(not content["grouping_config"]["default"]["enabled"], "grouping_config", "no grouping")
    _need(not content["message_config"]["destinations"], "message_config/destinations", "no messages to channels")
    _need(not content["expressions"], "expressions", "no expressions")
    groups = [*content["condition_groups"], *content["incident_config"].get("condition_groups", [])]
    for source in content["alert_sources"]:
        _refers(exists, "alert_source", source["alert_source_id"], "alert_sources")
        groups += source["condition_groups"]
    for condition in (one for group in groups for one in group["conditions"]):
        subject = ATTRIBUTE.match(condition["subject"])
        _need(subject is not None, "condition_groups", "only conditions on an alert's attributes")
        assert subject
        _refers(exists, "alert_attribute", subject[1], "condition_groups")
        _need(condition["operation"] in OPERATIONS, "condition_groups", f"only {', '.join(OPERATIONS)}")
    for target in content["escalation_config"]["escalation_targets"]:
        paths = target.get("escalation_paths", {}).get("array_value", [])
        _need(
            bool(paths) and "users" not in target,
            "escalation_config/escalation_targets",
            "only lists of escalation paths",
        )
        for path in paths:
            _refers(exists, "escalation_path", path.get("literal", ""), "escalation_config/escalation_targets")
    for field in content["incident_config"].get("template", {}).get("custom_fields", []):
        value = field["binding"].get("value", {}).get("reference", "")
        _need(bool(ATTRIBUTE.match(value)), "incident_config/template/custom_fields", "only an alert's attribute")


def _path(content: Content, exists: Exists) -> None:
    nodes = content["path"]
    known = {hours["id"] for hours in content.get("working_hours", [])}
    for hours in content.get("working_hours", []):
        _zone(hours["timezone"], "working_hours/timezone")
        _intervals(hours["weekday_intervals"], "working_hours/weekday_intervals")
    kinds = [node["type"] for node in nodes]
    _need(kinds in (["level"], ["delay", "level"]), "path", "only one level, and a delay before it")
    if kinds[0] == "delay":
        delay = nodes[0].get("delay", {})
        waits = (
            delay.get("delay_interval_condition") == "active" and delay.get("delay_weekday_interval_config_id") in known
        )
        _need(waits, "path/0/delay", "only until working hours of this path are active")
    targets = nodes[-1].get("level", {}).get("targets", [])
    _need(len(targets) == 1 and targets[0]["type"] == "schedule", "path/level/targets", "only one schedule")
    _need(targets[0].get("schedule_mode", "") in {"", "currently_on_call"}, "path/level/targets", "only who is on call")
    _refers(exists, "schedule", targets[0]["id"], "path/level/targets")


def _schedule(content: Content, _exists: Exists) -> None:
    _need(bool(content.get("name")), "schedule/name", "is required")
    _zone(content.get("timezone", ""), "schedule/timezone")
    rotations = content.get("config", {}).get("rotations", [])
    _need(len(rotations) == 1, "schedule/config/rotations", "only one rotation")
    [rotation] = rotations
    _need(len(rotation.get("layers", [])) == 1, "schedule/config/rotations/layers", "only one layer")
    _need(len(rotation.get("handovers", [])) == 1, "schedule/config/rotations/handovers", "only one handover")
    _need("handover_start_at" in rotation, "schedule/config/rotations/handover_start_at", "is required")
    _need(
        "effective_from" not in rotation, "schedule/config/rotations/effective_from", "only one version of a rotation"
    )
    _intervals(rotation.get("working_intervals", []), "schedule/config/rotations/working_intervals")
    emails = {person.email for person in PEOPLE.values()}
    for user in rotation.get("users", []):
        known = user.get("id") in PEOPLE or user.get("email") in emails
        _need(known, "schedule/config/rotations/users", f"there is no user {user}")


def _sync_target(content: Content, _exists: Exists) -> None:
    given = ("slack_user_group_id" in content) + ("new_slack_user_group" in content)
    _need(given == 1, "schedule_sync_target", "needs either slack_user_group_id or new_slack_user_group")


def _sync_rule(content: Content, exists: Exists) -> None:
    _refers(
        exists, "schedule_sync_target", content["schedule_sync_target_id"], "schedule_sync_rule/schedule_sync_target_id"
    )


def _intervals(intervals: list[Content], field: str) -> None:
    for one in intervals:
        try:
            opens, closes = time.fromisoformat(one["start_time"]), time.fromisoformat(one["end_time"])
        except ValueError as error:
            raise Problem(422, "invalid_value", "a time is written as 09:00", field) from error
        _need(opens < closes or closes == time(), field, "only intervals within a day")


def _zone(name: str, field: str) -> None:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise Problem(422, "invalid_value", f"{name!r} is no time zone", field) from error


def _refers(exists: Exists, kind: str, name: str, field: str) -> None:
    if not exists(kind, name):
        raise Problem(422, "not_found", f"there is no {kind.replace('_', ' ')} {name!r}", field)


def _need(holds: bool, field: str, what: str) -> None:
    if not holds:
        raise Problem(422, "invalid_value", f"not understood here: {what}", field)
