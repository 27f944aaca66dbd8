"""Events that fit: cut to what a vendor takes, and reduced further where it refuses them all the same. Pure."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, cast

from orchestration.core.hidden_characters import remove_hidden_characters
from orchestration.vendors.incident_io import AlertEvent

LARGEST = 64_000
"""Bytes of an event as JSON. incident.io documents no limit (https://docs.incident.io/api-reference); its peers have 30 kB to 512 kB."""
LONGEST_TITLE, LONGEST_DESCRIPTION, LONGEST_URL, LONGEST_KEY = 250, 8000, 2000, 400
"""Characters."""
ROUTING = ("customer_facing", "urgent", "transient", "owner", "team", "unit", "kind", "flapping")
"""The metadata that decides whom an alert reaches: it stays whatever else is cut."""
LONGEST_ROUTING = 200
TRIMS = ((50, 2000), (20, 500), (5, 200))
"""Items of a list and characters of a text in the metadata, for those that do not fit."""
DEEPEST, MOST_ITEMS = 5, 5000
LAST_REDUCTION = 3


def bounded(event: AlertEvent) -> AlertEvent:
    """The event as JSON can say it, in at most `LARGEST` bytes. One that fits stays as it is, but for what JSON or UTF-8 cannot say."""
    cut = replace(
        event,
        deduplication_key=_key(_text(event.deduplication_key)),
        title=shortened(_text(event.title), LONGEST_TITLE),
        description=shortened(_text(event.description), LONGEST_DESCRIPTION),
        source_url=_text(event.source_url) if len(event.source_url) <= LONGEST_URL else "",
        metadata=_object(event.metadata, MOST_ITEMS, LARGEST, 1),
    )
    for items, length in TRIMS:
        if size(cut) <= LARGEST:
            return cut
        kept = _routing(cut.metadata)
        rest = _object({name: value for name, value in cut.metadata.items() if name not in kept}, items, length, 1)
        cut = replace(cut, metadata={**kept, **rest, "shortened": True})
    return cut if size(cut) <= LARGEST else replace(cut, metadata={**_routing(cut.metadata), "shortened": True})


def reduced(event: AlertEvent, level: int) -> AlertEvent:
    """A smaller form of a refused event: 0 is all of it; 1 has no lists; 2 has short texts; 3 has the title and the routing only."""
    if level <= 0:
        return event
    if level >= LAST_REDUCTION:
        title = shortened(event.title, LONGEST_ROUTING)
        return replace(event, title=title, description="", source_url="", metadata=_routing(event.metadata))
    single = {name: value for name, value in event.metadata.items() if not isinstance(value, (dict, list, tuple))}
    if level == 1:
        return replace(event, metadata={**single, "shortened": True})
    short = {name: shortened(value, 200) if isinstance(value, str) else value for name, value in single.items()}
    return replace(event, description=shortened(event.description, 1000), metadata={**short, "shortened": True})


def size(event: AlertEvent) -> int:
    """Bytes of the event as JSON."""
    return len(json.dumps(asdict(event), ensure_ascii=False).encode())


def shortened(text: str, length: int) -> str:
    """At most `length` characters, the last of them an ellipsis where there were more."""
    return text if len(text) <= length else text[: length - 1] + "…"


def _routing(metadata: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: metadata[name] for name in ROUTING if name in metadata}
    return {
        name: value
        if isinstance(value, (bool, int, float)) or value is None
        else shortened(str(value), LONGEST_ROUTING)
        for name, value in found.items()
    }


def _key(key: str) -> str:
    """A key that is too long, cut so that it still is a key."""
    return key if len(key) <= LONGEST_KEY else f"{key[:300]}…{hashlib.sha256(key.encode()).hexdigest()[:32]}"


def _text(text: str) -> str:
    """Without halves of characters, which a subprocess's output can have, and without control characters."""
    return remove_hidden_characters(text)


def _object(value: Mapping[Any, Any], items: int, length: int, depth: int) -> dict[str, Any]:
    pairs = list(value.items())[:items]
    return {shortened(_text(str(name)), length): _plain(one, items, length, depth + 1) for name, one in pairs}


def _plain(value: Any, items: int, length: int, depth: int) -> Any:
    """A value as JSON can say it."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if depth > DEEPEST or not isinstance(value, (Mapping, list, tuple)):
        return shortened(_text(str(value)), length)
    if isinstance(value, Mapping):
        return _object(cast("Mapping[Any, Any]", value), items, length, depth)
    return [_plain(one, items, length, depth + 1) for one in cast("Sequence[Any]", value)[:items]]
