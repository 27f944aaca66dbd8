"""What an alert becomes, by the settings: its attributes, the routes that take it, and when a path pages whom. Pure functions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time
from functools import reduce
from typing import Any
from zoneinfo import ZoneInfo

from sandbox.vendors.incident_io.rota import PEOPLE, WEEKDAYS, Hours, Interval, Schedule, next_open
from sandbox.vendors.incident_io.settings import Setting
from sandbox.vendors.incident_io.understood import ATTRIBUTE, EXPRESSION, SOURCE

Content = Mapping[str, Any]
Attributes = dict[str, str]
"""By the attribute's id."""


@dataclass(frozen=True)
class Routed:
    """What one route makes of an alert. `severity` is an id, `fields` are the values of custom fields by their id."""

    route: str
    incident: bool
    paths: tuple[str, ...]
    auto_cancel: bool
    severity: str | None
    fields: Mapping[str, str]


@dataclass(frozen=True)
class Target:
    """Whom a path pages, how urgently, and not before when."""

    schedule: str
    urgency: str
    due: datetime


def attributes(source: Setting, event: Content) -> Attributes:
    """What the source's template makes of an event; an attribute for which the event has no value is left out."""
    expressions = {one["reference"]: one for one in source.body["template"]["expressions"]}
    found: dict[str, str | None] = {}
    for one in source.body["template"]["attributes"]:
        value = one["binding"]["value"]
        used = EXPRESSION.match(value.get("reference", ""))
        found[one["alert_attribute_id"]] = _evaluate(expressions[used[1]], event) if used else value["literal"]
    return {name: value for name, value in found.items() if value is not None}


def routes(settings: Sequence[Setting], source: str, given: Attributes) -> list[Routed]:
    """What each route that takes the alert makes of it: all that fit do."""
    return [_routed(route, given) for route in settings if _takes(route.body, source, given)]


def target(path: Content, now: datetime) -> Target:
    """Of an escalation that starts now."""
    [one] = path["path"][-1]["level"]["targets"]
    first = path["path"][0]
    due = now
    if first["type"] == "delay":
        name = first["delay"]["delay_weekday_interval_config_id"]
        [config] = [hours for hours in path["working_hours"] if hours["id"] == name]
        due = next_open(_hours(config["timezone"], config["weekday_intervals"]), now)
    return Target(one["id"], one["urgency"], due)


def schedule(setting: Setting) -> Schedule:
    """A schedule's settings as the rota computes with them."""
    [rotation] = setting.body["config"]["rotations"]
    [handover] = rotation["handovers"]
    by_email = {person.email: person for person in PEOPLE.values()}
    every = handover["interval"]
    return Schedule(
        setting.id,
        setting.name,
        tuple(PEOPLE.get(user.get("id", "")) or by_email[user["email"]] for user in rotation.get("users", [])),
        datetime.fromisoformat(rotation["handover_start_at"]),
        {"daily": every, "weekly": 7 * every, "hourly": 0}[handover["interval_type"]],
        every if handover["interval_type"] == "hourly" else 0,
        _hours(setting.body["timezone"], rotation.get("working_intervals", [])),
    )


def _hours(zone: str, intervals: Sequence[Content]) -> Hours:
    return Hours(
        ZoneInfo(zone),
        tuple(
            Interval(
                WEEKDAYS.index(one["weekday"]),
                time.fromisoformat(one["start_time"]),
                time.fromisoformat(one["end_time"]),
            )
            for one in intervals
        ),
    )


def _evaluate(expression: Content, event: Content) -> str | None:
    place = SOURCE.match(expression["operations"][0]["parse"]["source"])
    assert place  # checked when it was written
    steps = place[1].strip(".").split(".")
    value = reduce(lambda inner, step: inner.get(step) if isinstance(inner, Mapping) else None, steps, event)
    if value is None:
        return expression.get("else_branch", {}).get("result", {}).get("value", {}).get("literal")
    return value if isinstance(value, str) else json.dumps(value)


def _takes(route: Content, source: str, given: Attributes) -> bool:
    of_source = [one["condition_groups"] for one in route["alert_sources"] if one["alert_source_id"] == source]
    return (
        route["enabled"]
        and any(_holds(groups, given) for groups in of_source)
        and _holds(route["condition_groups"], given)
    )


def _holds(groups: Sequence[Content], given: Attributes) -> bool:
    """Where there are groups, all conditions of at least one have to hold."""
    return not groups or any(all(_fits(one, given) for one in group["conditions"]) for group in groups)


def _fits(condition: Content, given: Attributes) -> bool:
    subject = ATTRIBUTE.match(condition["subject"])
    assert subject  # checked when it was written
    value = given.get(subject[1])
    if condition["operation"] == "is_set":
        return value is not None
    wanted = [one.get("literal") for binding in condition["param_bindings"] for one in binding.get("array_value", [])]
    return value is not None and value in wanted


def _routed(route: Setting, given: Attributes) -> Routed:
    escalation, incident = route.body["escalation_config"], route.body["incident_config"]
    template = incident.get("template", {})
    severity = template.get("severity", {}).get("binding", {}).get("value", {}).get("literal")
    fields = {
        one["custom_field_id"]: given.get(one["binding"]["value"]["reference"].removeprefix("alert.attributes."))
        for one in template.get("custom_fields", [])
    }
    return Routed(
        route.id,
        incident["enabled"] and _holds(incident.get("condition_groups", []), given),
        tuple(
            path["literal"]
            for one in escalation["escalation_targets"]
            for path in one["escalation_paths"]["array_value"]
        ),
        escalation["auto_cancel_escalations"],
        severity,
        {name: value for name, value in fields.items() if value is not None},
    )
