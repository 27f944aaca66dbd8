"""Which node of dbt, or which object of a vendor, an error about a new state comes from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from orchestration.components.dbt_files import MANIFEST, ManifestError, normalize_node, read_manifest
from orchestration.settings import DBT_PROJECT

NAMED = 3
"""So many objects are named; of more, the number is given."""
SHORTEST = 3
"""The length of the shortest text by which an object is recognised in an error."""
NAME_FIELDS = ("slug", "name", "title", "label", "identifier", "id")
NODE_FIELDS = (
    "unique_id",
    "name",
    "alias",
    "original_file_path",
    "config",
    "meta",
    "tags",
    "owner",
    "group",
    "identifier",
    "version",
)
SECTIONS = (
    "nodes",
    "sources",
    "exposures",
    "groups",
    "metrics",
    "semantic_models",
    "saved_queries",
    "unit_tests",
    "functions",
)
PUNCTUATION = re.compile(r"\[\s*'([^\[\]]*)'\s*\]|\[\s*\"([^\[\]]*)\"\s*\]")


@dataclass(frozen=True)
class Item:
    """One object of a state: a node of dbt, or what a vendor lists."""

    label: str
    """What messages call it, with its file if it has one."""
    texts: frozenset[str]
    """The texts by which it is recognised in an error."""
    content: object
    """To be compared with the same object of another state."""


def find_culprits(error: str, new: Path, last: Path | None) -> list[str]:
    """Return the labels of what an error is about, most likely first; none where nothing points to any.

    `new` is the state that is at fault, `last` the one in place: only what has changed between them can be at fault. Where the error's
    text names none of that, all that has changed is returned if it is little.
    """
    items = read_items(new)
    before = {item.label: item.content for item in read_items(last).values()} if last else {}
    changed = [item for item in items.values() if before.get(item.label) != item.content] or list(items.values())
    text = _plain(error)
    lengths = {item.label: max((len(one) for one in item.texts if _contains(text, one)), default=0) for item in changed}
    longest = max(lengths.values(), default=0)
    if longest:
        return [label for label, length in lengths.items() if length == longest]
    return [item.label for item in changed] if before and len(changed) <= NAMED else []


def name_culprits(labels: Iterable[str]) -> str:
    """Return the labels as text, empty where there are none."""
    found = list(labels)
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return ", ".join(found[:NAMED]) + more


def read_items(state: Path) -> Mapping[str, Item]:
    """Return the objects of a saved state, by their own ids; none of one that cannot be read."""
    try:
        if state.is_dir():
            manifest = read_manifest(state / MANIFEST)
            return {
                id_: _node_item(id_, cast("Mapping[str, Any]", node))
                for section in SECTIONS
                for id_, node in cast("Mapping[str, Any]", manifest.get(section) or {}).items()
                if isinstance(node, dict)
            }
        return dict(_vendor_items(json.loads(state.read_text("utf-8"))["state"], ()))
    except (OSError, ManifestError, ValueError, LookupError, TypeError, AttributeError):
        return {}


def _node_item(id_: str, node: Mapping[str, Any]) -> Item:
    files = [node.get("original_file_path"), str(node.get("patch_path") or "").rpartition("://")[2]]
    where = " or ".join(f"{DBT_PROJECT.name}/{file}" for file in dict.fromkeys(file for file in files if file))
    config: Mapping[str, Any] = node.get("config") or dict[str, Any]()
    schema = config.get("schema") or node.get("schema")
    names = {node.get("name"), node.get("alias"), node.get("identifier")} - {None}
    keys = {f"{schema}{mark}{name}" for name in names for mark in ("/", "__", ".")}
    texts = keys | {id_} | {text for name in NODE_FIELDS for text in _leaves(node.get(name))}
    label = f"the {node.get('resource_type', 'node')} `{node.get('name', id_)}`{f' in {where}' if where else ''}"
    return Item(label, _long(texts), normalize_node(node))


def _vendor_items(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Item]]:
    """Yield each object of a vendor's state that has a name of its own, or that is kept by one."""
    if isinstance(value, list):
        for number, one in enumerate(cast("list[Any]", value)):
            yield from _vendor_items(one, (*path, str(number)))
        return
    if not isinstance(value, dict):
        return
    known = cast("dict[str, Any]", value)
    names = [str(known[name]) for name in NAME_FIELDS if isinstance(known.get(name), str | int)]
    nested: list[object] = [one for one in known.values() if isinstance(one, dict | list)]
    if names or not any(isinstance(one, dict) for one in nested):
        label = f"`{'`, `'.join(dict.fromkeys(names))}`" if names else f"`{'.'.join(path)}`"
        texts = set(_leaves(known)) | {"/".join(path[-2:]), path[-1] if path else ""}
        yield ".".join(path), Item(label, _long(texts), known)
    for name, one in known.items():
        yield from _vendor_items(one, (*path, name))


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in cast("dict[str, Any]", value).values():
            yield from _leaves(one)
    elif isinstance(value, list):
        for one in cast("list[Any]", value):
            yield from _leaves(one)


def _long(texts: Iterable[str]) -> frozenset[str]:
    return frozenset(text for text in texts if len(text) >= SHORTEST)


def _plain(error: str) -> str:
    """Return an error with the asset keys in it as this project writes them: `AssetKey(['a', 'b'])` as `a/b`."""
    return PUNCTUATION.sub(lambda found: re.sub(r"['\"]\s*,\s*['\"]", "/", found[1] or found[2]), error)


def _contains(text: str, part: str) -> bool:
    """Return whether a text has another one as a whole word: `load` is not in `loaded`."""
    start = text.find(part)
    while start >= 0:
        end = start + len(part)
        if not (text[start - 1 : start].isalnum() and part[0].isalnum()) and not (
            text[end : end + 1].isalnum() and part[-1].isalnum()
        ):
            return True
        start = text.find(part, start + 1)
    return False
