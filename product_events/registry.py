"""The registry of product events: what may be published, who owns it, and the BigQuery table it lands in.

`registry/<event>.v<N>.yaml` describes one version of one event: its name, version, owner, description, and the JSON Schema (2020-12)
of its properties. All versions of an event share one table, so that a new version may only add properties, and only ones that
earlier rows may lack. To change an event, add the next version's file and run `python -m product_events tables`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from google.cloud.bigquery import SchemaField
from jsonschema import Draft202012Validator, FormatChecker, SchemaError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

FOLDER = Path(__file__).parent / "registry"
DEAD_LETTERS = "dead_letters"
PARTITION = "received_at"
CLUSTERING = "organisation_id"

ENVELOPE = (
    SchemaField("event_id", "STRING", "REQUIRED", description="The event; rows that share it are one event."),
    SchemaField("event_version", "INTEGER", "REQUIRED", description="The version of the event's schema."),
    SchemaField("occurred_at", "TIMESTAMP", "REQUIRED", description="When it happened in the product."),
    SchemaField("received_at", "TIMESTAMP", "REQUIRED", description="When the publisher sent it to BigQuery."),
    SchemaField("organisation_id", "STRING", "REQUIRED", description="The organisation that it happened in."),
    SchemaField("user_id", "STRING", description="The user who did it; null where nobody is signed in."),
)
DEAD_LETTER = (
    SchemaField("event_id", "STRING", description="The event; null where it had no usable id."),
    SchemaField("event_name", "STRING", description="The name it was published by; null where that is no text."),
    SchemaField(
        "event_version", "INTEGER", description="The version it was published by; null where that is no number."
    ),
    SchemaField("payload", "STRING", "REQUIRED", description="What was published, as JSON text."),
    SchemaField("reason", "STRING", "REQUIRED", description="Why it is not in its event's table."),
    SchemaField("received_at", "TIMESTAMP", "REQUIRED", description="When the publisher sent it to BigQuery."),
)

_NAME = r"^[a-z][a-z0-9_]{0,99}$"
_COLUMN_TYPES = {"string": "STRING", "integer": "INTEGER", "number": "FLOAT", "boolean": "BOOLEAN"}
_TEXT_TYPES = {"date-time": "TIMESTAMP", "date": "DATE"}
_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,6})?([Zz]|[+-]\d\d:\d\d)")
_FORMATS = FormatChecker()


@_FORMATS.checks("date-time", raises=ValueError)
def _is_date_time(value: object) -> bool:
    # jsonschema checks this format only where another package is installed, and passes everything where it is not.
    if not isinstance(value, str):
        return True
    return _DATE_TIME.fullmatch(value) is not None and bool(datetime.fromisoformat(value.upper()))


class RegistryError(ValueError):
    """Files of the registry are wrong; the message names each file and field."""


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: str = Field(pattern=_NAME)
    version: int = Field(ge=1)
    owner: str = Field(pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$")
    description: str = Field(min_length=1)
    properties_schema: dict[str, Any] = Field(alias="schema")


@dataclass(frozen=True)
class Version:
    """One version of an event."""

    number: int
    owner: str
    description: str
    schema: Mapping[str, Any]

    def problems(self, properties: Any) -> list[str]:
        """What is wrong with the properties; nothing where they fit."""
        errors = self._validator.iter_errors(properties)
        return sorted(f"{'.'.join(map(str, error.absolute_path)) or 'properties'}: {error.message}" for error in errors)

    @property
    def properties(self) -> Mapping[str, Mapping[str, Any]]:
        return self.schema.get("properties", {})

    @cached_property
    def _validator(self) -> Draft202012Validator:
        return Draft202012Validator(self.schema, format_checker=_FORMATS)


@dataclass(frozen=True)
class Event:
    """An event with its versions, which are numbered from one without a gap."""

    name: str
    versions: tuple[Version, ...]

    @property
    def latest(self) -> Version:
        return self.versions[-1]

    @property
    def owner(self) -> str:
        return self.latest.owner

    def version(self, number: int) -> Version | None:
        return self.versions[number - 1] if 1 <= number <= len(self.versions) else None

    def columns(self) -> list[SchemaField]:
        """The table's schema: the envelope, then the latest version's properties, which include every earlier one's."""
        own = self.latest.properties.items()
        return [
            *ENVELOPE,
            *(SchemaField(name, _column_type(what), description=what["description"]) for name, what in own),
        ]


@dataclass(frozen=True)
class Registry:
    """The events by name."""

    events: Mapping[str, Event]

    def schema(self, table: str) -> list[SchemaField]:
        """The schema of an event's table, or of the dead letters'. Raises KeyError for any other."""
        return list(DEAD_LETTER) if table == DEAD_LETTERS else self.events[table].columns()

    def owners(self) -> dict[str, list[str]]:
        """Who owns each table: an event's owner; all of them for the dead letters, which any event may reach."""
        owners = {event.name: [event.owner] for event in self.events.values()}
        return owners | {DEAD_LETTERS: sorted({event.owner for event in self.events.values()})}


@cache
def registry() -> Registry:
    """The registry of this package. Raises RegistryError."""
    return load(FOLDER)


def events() -> list[str]:
    """The names of the events, which are their tables' names too."""
    return sorted(registry().events)


def expected_schema(event: str) -> list[SchemaField]:
    """The BigQuery schema of an event's table, or of `dead_letters`. Raises KeyError for any other."""
    return registry().schema(event)


def owners() -> dict[str, list[str]]:
    """The owners' e-mail addresses, by table; `dead_letters` included."""
    return registry().owners()


def load(folder: Path) -> Registry:
    """Read and check every file of a registry. Raises RegistryError, which names all that is wrong at once."""
    versions: dict[str, dict[int, Version]] = {}
    problems: list[str] = []
    paths = sorted(folder.glob("*.yaml"))
    if not paths:
        raise RegistryError(f"{folder}: has no events")
    for path in paths:
        try:
            file = _File.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
        except yaml.YAMLError as error:
            problems.append(f"{path.name}: not YAML: {error}")
            continue
        except ValidationError as error:
            problems += [f"{path.name}: {'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors()]
            continue
        found = [f"{path.name}: {problem}" for problem in _file_problems(path, file)]
        problems += found
        if not found:
            version = Version(file.version, file.owner, file.description, file.properties_schema)
            versions.setdefault(file.name, {})[file.version] = version
    if not problems:
        problems = [problem for name, numbered in versions.items() for problem in _version_problems(name, numbered)]
    if problems:
        raise RegistryError("\n".join(problems))
    return Registry({name: Event(name, tuple(v for _, v in sorted(n.items()))) for name, n in sorted(versions.items())})


def _file_problems(path: Path, file: _File) -> Iterator[str]:
    if path.stem != f"{file.name}.v{file.version}":
        yield f"name, version: this file describes {file.name}.v{file.version} and must be called so"
    if file.name == DEAD_LETTERS:
        yield f"name: {DEAD_LETTERS} is the table of what does not fit"
    schema = file.properties_schema
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        yield f"schema.{'.'.join(map(str, error.absolute_path))}: {error.message}"
        return
    if schema.get("type") != "object" or schema.get("additionalProperties") is not False:
        yield "schema: must have `type: object` and `additionalProperties: false`"
    properties = schema.get("properties", {})
    for name in schema.get("required", []):
        if name not in properties:
            yield f"schema.required: {name} is not among the properties"
    reserved = {column.name for column in ENVELOPE}
    for name, what in properties.items():
        for problem in _property_problems(name, what, reserved):
            yield f"schema.properties.{name}: {problem}"


def _property_problems(name: str, what: Mapping[str, Any], reserved: set[str]) -> Iterator[str]:
    if not re.match(_NAME, name):
        yield "is no column name: lower case letters, digits and _, a letter first"
    if name in reserved:
        yield "is a column of every event's table already"
    if not isinstance(what, Mapping) or not _column_type(what):  # pyright: ignore[reportUnnecessaryIsInstance]  (true is a schema)
        yield f"must have one type of {', '.join(_COLUMN_TYPES)}, and may have null beside it"
        return
    if not what.get("description"):
        yield "has no description"
    if "format" in what and what["format"] not in _FORMATS.checkers:
        yield f"format {what['format']} is not one that is checked: {', '.join(sorted(_FORMATS.checkers))}"


def _version_problems(name: str, numbered: Mapping[int, Version]) -> Iterator[str]:
    missing = sorted(set(range(1, max(numbered) + 1)) - set(numbered))
    if missing:
        yield f"{name}: version {', '.join(map(str, missing))} is missing: versions are numbered from 1 without a gap"
        return
    for older, newer in pairwise(version for _, version in sorted(numbered.items())):
        file = f"{name}.v{newer.number}.yaml"
        for column, what in older.properties.items():
            if column not in newer.properties:
                yield f"{file}: schema.properties.{column}: is in version {older.number} and must stay: they share a table"
            elif (was := _column_type(what)) != (now := _column_type(newer.properties[column])):
                yield f"{file}: schema.properties.{column}: is {now}, and was {was} in version {older.number}: they share a table"
        for column in newer.properties.keys() - older.properties.keys():
            if column in newer.schema.get("required", []):
                yield f"{file}: schema.required: {column} is new, and rows of version {older.number} lack it"


def _column_type(what: Mapping[str, Any]) -> str:
    """BigQuery's type for a property's schema; empty where it has none. Names are those that BigQuery's API answers with."""
    kinds = what.get("type")
    kinds = [kind for kind in ([kinds] if isinstance(kinds, str) else kinds or []) if kind != "null"]
    if len(kinds) != 1:
        return ""
    if kinds == ["string"]:
        return _TEXT_TYPES.get(what.get("format", ""), "STRING")
    return _COLUMN_TYPES.get(kinds[0], "")
