"""A JSON value against the model that incident.io's own SDK has of it, which is generated from incident.io's OpenAPI file.

Stricter than incident.io in one thing: a field that the model does not have is a problem.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

import attrs

SCALARS: dict[type, tuple[type, ...]] = {str: (str,), int: (int,), bool: (bool,), float: (int, float)}


@dataclass(frozen=True)
class Mismatch:
    """`pointer` is where, such as `path/0/level/targets`; `code` is incident.io's word for the common mistakes."""

    pointer: str
    code: str
    message: str


def mismatches(model: str, value: Any) -> list[Mismatch]:
    """What in `value` is not as the SDK's class `model` has it, such as `AlertRoutesCreatePayloadV3`."""
    # Late: the package is large, and most who serve alert events never write a setting.
    from incident_io import models

    return list(_check(getattr(models, model), value, ""))


def _check(kind: Any, value: Any, at: str) -> Iterator[Mismatch]:
    if get_origin(kind) in {Union, types.UnionType}:
        [kind] = [one for one in get_args(kind) if getattr(one, "__name__", "") != "Unset"]
    if get_origin(kind) is list:
        if not isinstance(value, list):
            yield Mismatch(at, "invalid_value", "is not a list")
            return
        for number, one in enumerate(value):
            yield from _check(get_args(kind)[0], one, _below(at, str(number)))
    elif attrs.has(kind):
        yield from _check_object(kind, value, at)
    elif issubclass(kind, Enum):
        choices = [one.value for one in kind]
        if value not in choices:
            yield Mismatch(at, "not_in_list", f"{value!r} is none of {', '.join(choices)}")
    elif issubclass(kind, datetime):
        if not _is_time(value):
            yield Mismatch(at, "invalid_value", f"{value!r} is not an RFC 3339 time")
    elif not isinstance(value, SCALARS[kind]) or (isinstance(value, bool) and kind is not bool):
        yield Mismatch(at, "invalid_value", f"{value!r} is not of type {kind.__name__}")


def _check_object(kind: type, value: Any, at: str) -> Iterator[Mismatch]:
    if not isinstance(value, dict):
        yield Mismatch(at, "invalid_value", "is not an object")
        return
    fields = _fields(kind)
    for name, (hint, required) in fields.items():
        if name in value:
            yield from _check(hint, value[name], _below(at, name))
        elif required:
            yield Mismatch(_below(at, name), "is_required", "is required")
    # A model without fields of its own, such as annotations, is a map.
    for name in value.keys() - fields.keys() if fields else ():
        yield Mismatch(_below(at, name), "invalid_value", "is no field of this")


@cache
def _fields(kind: type) -> dict[str, tuple[Any, bool]]:
    """The fields of a model by their names in JSON: the type, and whether it is required."""
    import incident_io.types
    from incident_io import models

    # The SDK's modules import each other for type checkers only.
    names = (
        vars(models) | vars(incident_io.types) | vars(sys.modules[kind.__module__]) | {"datetime": _datetime_module()}
    )
    hints = get_type_hints(kind, globalns=names)
    return {
        field.name.removesuffix("_"): (hints[field.name], field.default is attrs.NOTHING)
        for field in attrs.fields(kind)
        if field.name != "additional_properties"
    }


def _datetime_module() -> types.ModuleType:
    import datetime

    return datetime


def _is_time(value: Any) -> bool:
    try:
        return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


def _below(at: str, name: str) -> str:
    return f"{at}/{name}" if at else name
