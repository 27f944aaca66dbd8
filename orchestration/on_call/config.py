"""The file that says who is told of which failure: `deploy/on_call.yaml`, checked as a whole before anything is sent."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from datetime import datetime, time
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from orchestration.settings import REPOSITORY

FILE = REPOSITORY / "deploy" / "on_call.yaml"
NOBODY = "nobody"


class OnCallConfigError(ValueError):
    """The file cannot be used; each line of the message names the file, the key, what is wrong and the remedy."""


def _time_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name!r} is no time zone; use a name of the tz database, such as Europe/London") from None
    return name


def _wall_clock(text: str) -> str:
    try:
        parsed = time.fromisoformat(text)
    except ValueError:
        parsed = None
    if parsed is None or f"{parsed:%H:%M}" != text:
        raise ValueError(f'{text!r} is no time of day; write it in quotes, such as "09:00"')
    return text


def _local(moment: datetime) -> datetime:
    if moment.tzinfo:
        raise ValueError("has a time zone of its own; leave it out, the schedule's is meant")
    return moment


Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Email = Annotated[str, StringConstraints(pattern=r"^[^@\s]+@[^@\s]+$")]
WallClock = Annotated[str, AfterValidator(_wall_clock)]
Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Handover(Part):
    """The first member comes on shift at `first`, by the wall clock of the schedule; the next one a day or a week later."""

    first: Annotated[datetime, AfterValidator(_local)]
    every: Literal["day", "week"]


class WorkingHours(Part):
    days: tuple[Weekday, ...] = Field(min_length=1)
    opens: WallClock = Field(alias="from")
    closes: WallClock = Field(alias="to")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.closes <= self.opens:
            raise ValueError(f"ends at {self.closes}, before it starts at {self.opens}; give hours within one day")
        return self


class Schedule(Part):
    time_zone: Annotated[Text, AfterValidator(_time_zone)]
    handover: Handover
    working_hours: WorkingHours | None = None
    members: tuple[Email, ...] = Field(min_length=1)
    slack_user_group: Annotated[str, StringConstraints(pattern=r"^S[A-Z0-9]+$")] | None = None


class EscalationPath(Part):
    schedule: Text
    urgency: Literal["high", "low"]
    acknowledge_minutes: int = Field(ge=1)
    wait_for_working_hours: bool = False


class Route(Part):
    when: Mapping[str, bool]
    severity: Text
    escalate_to: Text


class Heartbeat(Part):
    name: Text
    every_seconds: int = Field(ge=60)
    grace_seconds: int = Field(ge=0)
    attributes: Mapping[str, bool | Text]


class OnCall(Part):
    alert_source: Text
    attributes: Mapping[Annotated[str, StringConstraints(pattern=r"^\w+$")], Literal["flag", "text"]]
    incident_fields: Mapping[str, str] = {}
    schedules: Mapping[Text, Schedule] = Field(min_length=1)
    escalation_paths: Mapping[Text, EscalationPath]
    routes: Mapping[Text, Route] = Field(min_length=1)
    heartbeat: Heartbeat

    @property
    def flags(self) -> tuple[str, ...]:
        return tuple(name for name, kind in self.attributes.items() if kind == "flag")


def load(path: Path) -> OnCall:
    """The file, checked. Raises OnCallConfigError, which tells all that is wrong at once."""
    try:
        content = yaml.load(path.read_text(), Loader=_Strict)  # noqa: S506  (a SafeLoader)
    except OSError as error:
        raise OnCallConfigError(f"{path}: cannot be read: {error.strerror}; give another with --file") from None
    except yaml.YAMLError as error:
        raise OnCallConfigError(f"{path}: is no valid YAML: {' '.join(str(error).split())}") from None
    try:
        config = TypeAdapter(OnCall).validate_python(content)
    except ValidationError as error:
        raise OnCallConfigError("\n".join(f"{path}: {_explain(one)}" for one in error.errors())) from None
    if problems := [*_unknown_names(config), *_gaps(config)]:
        raise OnCallConfigError("\n".join(f"{path}: {one}" for one in problems))
    return config


class _Strict(yaml.SafeLoader):
    """YAML would take the last of two keys that are the same, and say nothing."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        for key in {str(key) for key in keys if keys.count(key) > 1}:  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
            raise yaml.constructor.ConstructorError(None, None, f"{key!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]


def _explain(error: ErrorDetails) -> str:
    key = ".".join(str(part) for part in error["loc"] if part != "[key]") or "the file"
    match error["type"]:
        case "missing":
            return f"{key} is missing; add it (docs/on-call.md says what it is)"
        case "extra_forbidden":
            return f"{key} is not known; remove it, or correct its name"
        case "value_error":
            return f"{key}: {error['msg'].removeprefix('Value error, ')}"
        case _:
            return f"{key}: {error['msg']}, and it is {error['input']!r}; correct it"


def _unknown_names(config: OnCall) -> Iterator[str]:
    """References to what the file does not have."""

    def known(key: str, name: str, choices: Mapping[str, Any] | tuple[str, ...], what: str) -> Iterator[str]:
        if name not in choices:
            yield f"{key}: there is no {what} {name!r}; it has {', '.join(choices) or 'none'}"

    for field, attribute in config.incident_fields.items():
        yield from known(f"incident_fields.{field}", attribute, config.attributes, "attribute")
    for name, path in config.escalation_paths.items():
        key = f"escalation_paths.{name}"
        yield from known(f"{key}.schedule", path.schedule, config.schedules, "schedule")
        schedule = config.schedules.get(path.schedule)
        if path.wait_for_working_hours and schedule and not schedule.working_hours:
            yield f"{key}.wait_for_working_hours: the schedule {path.schedule!r} has no working_hours; add them, or leave this out"
        if not path.wait_for_working_hours and schedule and schedule.working_hours:
            yield f"{key}: nobody is on {path.schedule!r} outside of its working_hours; set wait_for_working_hours: true"
    for name, route in config.routes.items():
        for attribute in route.when:
            yield from known(f"routes.{name}.when", attribute, config.flags, "flag among the attributes")
        paths = (NOBODY, *config.escalation_paths)
        yield from known(f"routes.{name}.escalate_to", route.escalate_to, paths, "escalation path")
    for attribute, value in config.heartbeat.attributes.items():
        key = f"heartbeat.attributes.{attribute}"
        yield from known(key, attribute, config.attributes, "attribute")
        if attribute in config.attributes and isinstance(value, bool) != (attribute in config.flags):
            yield f"{key}: is {value!r}; a flag is true or false, and a text is neither"


def _gaps(config: OnCall) -> Iterator[str]:
    """Alerts that no route takes, or more than one: every route that fits would raise an incident."""
    used = sorted({attribute for route in config.routes.values() for attribute in route.when})
    for values in itertools.product((False, True), repeat=len(used)):
        alert = dict(zip(used, values, strict=True))
        fits = [name for name, route in config.routes.items() if route.when.items() <= alert.items()]
        what = ", ".join(f"{name}: {str(value).lower()}" for name, value in alert.items()) or "any"
        if not fits:
            yield f"routes: none takes an alert with {{{what}}}; add one, or widen another's `when`"
        if len(fits) > 1:
            yield f"routes: {' and '.join(map(repr, fits))} both take an alert with {{{what}}}; narrow one's `when`"
