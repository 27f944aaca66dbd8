"""Which connections of a Fivetran account are in the graph, by patterns in `defs/`. Pure, and without Dagster: the doctor reads it too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any

PLATFORM = ("fivetran_log",)
"""The service of the Platform connection, which Fivetran adds to each destination under the name `fivetran_metadata`
(https://fivetran.com/docs/logs/fivetran-platform). It is left out by default."""
KINDS = ("name", "service", "group", "project")
"""What a pattern may be about, written before it, such as `group:analytics`. A pattern without one of these may be about any."""


@dataclass(frozen=True)
class Group:
    """A group of Fivetran, which is one destination: "Groups and destinations are mapped 1:1" (GET /v1/destinations/{id} in Fivetran's
    OpenAPI file). `project` is the BigQuery project of the destination; None where that is not known, or none."""

    id: str
    name: str
    project: str | None = None

    def values(self, kind: str) -> tuple[str, ...]:
        """The texts that a pattern of a kind is compared with."""
        if kind == "group":
            return (self.id, self.name)
        return (self.project,) if kind == "project" and self.project else ()

    def __str__(self) -> str:
        place = f", BigQuery project `{self.project}`" if self.project else ""
        return f"the destination `{self.name}` (group {self.id}{place})"


@dataclass(frozen=True)
class Listed:
    """A connection as Fivetran lists it, with its group."""

    id: str
    name: str
    service: str
    group: Group

    def values(self, kind: str) -> tuple[str, ...]:
        """The texts that a pattern of a kind is compared with."""
        own = {"name": self.name, "service": self.service}
        return (own[kind],) if kind in own else self.group.values(kind)


def matches(listed: Listed | Group, pattern: str) -> bool:
    """Whether a connection, or all connections of a group, are meant by a pattern. Upper and lower case differ."""
    kind, colon, rest = pattern.partition(":")
    kinds, text = ((kind,), rest) if colon and kind in KINDS else (KINDS, pattern)
    return any(fnmatchcase(value, text) for one in kinds for value in listed.values(one))


def is_selected(listed: Listed, include: Sequence[str], exclude: Sequence[str]) -> bool:
    """Whether a connection is in the graph: one of `include` matches it, if there are any, and none of `exclude` does."""
    included = not include or any(matches(listed, pattern) for pattern in include)
    return included and not is_excluded(listed, exclude)


def is_excluded(listed: Listed | Group, exclude: Iterable[str]) -> bool:
    """Whether one of the patterns leaves out a connection, or a whole group."""
    return any(matches(listed, pattern) for pattern in exclude)


def to_json(groups: Iterable[Group], connections: Iterable[Listed]) -> dict[str, Any]:
    """What an account had at a refresh, also what is not selected, for the saved state."""
    return {
        "groups": [asdict(group) for group in groups],
        "connections": [
            {"id": one.id, "name": one.name, "service": one.service, "group": one.group.id} for one in connections
        ],
    }


def from_json(saved: Mapping[str, Any]) -> tuple[list[Group], list[Listed]]:
    """Return what `to_json` has written; nothing of a state that an earlier version of this code has written."""
    groups = {group["id"]: Group(**group) for group in saved.get("groups", ())}
    connections = [
        Listed(one["id"], one["name"], one["service"], groups[one["group"]])
        for one in saved.get("connections", ())
        if one["group"] in groups
    ]
    return list(groups.values()), connections


def names_of(groups: Iterable[Group], connections: Iterable[Listed]) -> Iterator[str]:
    """Every text with which a pattern may be compared."""
    for listed in (*groups, *connections):
        for kind in KINDS:
            yield from listed.values(kind)
