"""The alert sensor's state in Dagster's key-value storage, one entry for each part of it.

It is not the sensor's cursor: Dagster copies that into every tick's row, which with 500 open alerts were gigabytes a day. The cursor is
the version of the state. Only the parts that have changed are written, all of them by one statement.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, cast, get_args, get_origin, get_type_hints

import dagster as dg
from pydantic import TypeAdapter, ValidationError

from orchestration.incidents.state import State, loads

PREFIX = "dataplatform/incident_alerts"
TICK = f"{PREFIX}/tick"
"""Holds the tick that began last."""
VERSION = f"{PREFIX}/version"
SET_ASIDE = f"{PREFIX}/set_aside"
"""What could not be read, for a person to look at: the last of each part."""
PARTS: Mapping[str, Any] = {field.name: get_type_hints(State)[field.name] for field in fields(State)}
ADAPTERS: Mapping[str, TypeAdapter[Any]] = {name: TypeAdapter(kind) for name, kind in PARTS.items()}


class SupersededError(Exception):
    """Another tick of the alert sensor has begun, so that this one may neither send nor store anything more."""


def begin_tick(instance: dg.DagsterInstance) -> str:
    """Note that a tick begins, and return what identifies it.

    Where the daemon dies, the code server finishes the tick that it was asked for, while the next daemon already runs its first tick.
    What the older one stored would undo what the newer one has judged.
    """
    tick = uuid.uuid4().hex
    instance.daemon_cursor_storage.set_cursor_values({TICK: tick})
    return tick


def check_is_newest(instance: dg.DagsterInstance, tick: str) -> None:
    """Raise SupersededError where another tick has begun since."""
    if instance.daemon_cursor_storage.get_cursor_values({TICK}).get(TICK) != tick:
        raise SupersededError("Another tick of the alert sensor has begun, and goes on with what this one has left.")


@dataclass(frozen=True)
class Loaded:
    """A stored state. `problems` name what could not be read of it, which was set aside."""

    state: State
    version: int = 0
    problems: tuple[str, ...] = ()
    as_stored: bool = False
    """The entries in storage hold just this state, so that only what changes has to be written."""


def load(instance: dg.DagsterInstance, cursor: str | None) -> Loaded:
    """Return the stored state.

    Where there is no cursor, somebody has reset it in the UI, or the sensor is new: the state that is stored is set aside, and it is
    rebuilt from storage. A cursor of an earlier version of this code is the state itself.
    """
    stored = dict(instance.daemon_cursor_storage.get_cursor_values({VERSION, *map(_key, PARTS)}))
    version = int(stored.pop(VERSION, "0"))
    if not cursor:
        _set_aside(instance, stored)
        return Loaded(State(), version)
    if cursor.startswith("{"):
        try:
            return Loaded(loads(cursor), version)
        except ValueError as error:
            _set_aside(instance, {_key("cursor"): cursor})
            return Loaded(State(), version, (f"the cursor of an earlier version: {error}",))
    values, problems = dict[str, Any](), list[str]()
    for name in PARTS:
        if (text := stored.get(_key(name))) is None:
            continue
        value, wrong = _read(name, text)
        if wrong:
            _set_aside(instance, {_key(name): text})
            problems += [f"{name}: {one}" for one in wrong]
        if value is not None:
            values[name] = value
    return Loaded(State(**values), version, tuple(problems), as_stored=version > 0 and not problems)


def read_part(instance: dg.DagsterInstance, name: str) -> Any:
    """Return one part of the stored state, without what cannot be read of it; None where there is none."""
    text = instance.daemon_cursor_storage.get_cursor_values({_key(name)}).get(_key(name))
    return _read(name, text)[0] if text is not None else None


def read_parts(instance: dg.DagsterInstance, names: Sequence[str]) -> tuple[Any, ...]:
    """Return several parts of the stored state as of one moment, as `read_part` does."""
    stored = instance.daemon_cursor_storage.get_cursor_values({_key(name) for name in names})
    return tuple(_read(name, text)[0] if (text := stored.get(_key(name))) is not None else None for name in names)


def save(instance: dg.DagsterInstance, before: Loaded, after: State) -> tuple[str, tuple[str, ...]]:
    """Store what has changed of a state. Returns the new cursor, and what had to be left out since it could not be read again."""
    storage, changed, problems = instance.daemon_cursor_storage, dict[str, str](), list[str]()
    for name in PARTS:
        if before.as_stored and getattr(before.state, name) == getattr(after, name):
            continue
        text = ADAPTERS[name].dump_json(getattr(after, name)).decode("utf-8")
        value, wrong = _read(name, text)
        if wrong:
            # It would stop the next tick, and every one after it.
            text = ADAPTERS[name].dump_json(value).decode("utf-8")
            problems += [f"{name}: {one}" for one in wrong]
        changed[_key(name)] = text
    version = before.version + 1
    # Where some keys exist and others do not, SQLite's storage writes those that exist and forgets the others.
    known = storage.get_cursor_values({VERSION, *changed})
    if known and (new := {key: text for key, text in changed.items() if key not in known}):
        storage.set_cursor_values(new)
    storage.set_cursor_values({**changed, VERSION: str(version)})
    return f"v{version}", tuple(problems)


def save_and_continue(instance: dg.DagsterInstance, before: Loaded, after: State) -> tuple[Loaded, tuple[str, ...]]:
    """Store a state in the middle of a tick. Returns what the next `save` begins with, and what had to be left out."""
    cursor, problems = save(instance, before, after)
    return Loaded(after, int(cursor.removeprefix("v")), (), as_stored=not problems), problems


def _key(name: str) -> str:
    return f"{PREFIX}/{name}"


def _set_aside(instance: dg.DagsterInstance, stored: Mapping[str, str]) -> None:
    for key, text in stored.items():
        instance.daemon_cursor_storage.set_cursor_values({f"{SET_ASIDE}/{key.removeprefix(PREFIX + '/')}": text})


def _read(name: str, text: str) -> tuple[Any, list[str]]:
    """Return a part's value, and what is wrong with it. Of a mapping or a tuple, the entries that can be read are kept."""
    try:
        return ADAPTERS[name].validate_json(text), []
    except ValidationError as error:
        whole = _first(error)
    try:
        found = json.loads(text)
    except ValueError:
        return None, [whole]
    kind, inner, problems = get_origin(PARTS[name]), get_args(PARTS[name]), list[str]()
    if kind is tuple and isinstance(found, list):
        adapter, kept = TypeAdapter[Any](inner[0]), list[Any]()
        for number, item in enumerate(cast("list[Any]", found)):
            kept += _readable(adapter, item, str(number), problems)
        return tuple(kept), problems
    if kind is Mapping and isinstance(found, dict):
        adapter, entries = TypeAdapter[Any](inner[1]), dict[str, Any]()
        for key, item in cast("dict[str, Any]", found).items():
            for value in _readable(adapter, item, key, problems):
                entries[key] = value
        return entries, problems
    return None, [whole]


def _readable(adapter: TypeAdapter[Any], item: Any, place: str, problems: list[str]) -> list[Any]:
    """Return the entry if it can be read, else nothing and one problem more."""
    try:
        return [adapter.validate_json(json.dumps(item))]
    except ValidationError as error:
        problems.append(f"`{place}`: {_first(error)}")
        return []


def _first(error: ValidationError) -> str:
    first = error.errors(include_input=False, include_url=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'all of it'}: {first['msg']}"
