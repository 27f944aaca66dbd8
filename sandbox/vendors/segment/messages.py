"""From a message of Segment's API to the rows of its warehouse tables.

Tables, columns and the flattening of nested objects follow Segment's "Warehouse Schemas" page, the times its "Common fields" page.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

Body = dict[str, Any]
Row = dict[str, Any]

TYPES = ("track", "page", "screen", "identify", "group", "alias")
TABLES = {"page": "pages", "screen": "screens", "identify": "identifies", "group": "groups", "alias": "aliases"}
NEEDED = {"track": "event", "group": "groupId", "alias": "previousId"}
USERS = "users"
OWN_TABLES = {"tracks", USERS, *TABLES.values()}
TIMES = ("timestamp", "original_timestamp", "sent_at", "received_at", "uuid_ts", "loaded_at")
STANDARD = {"id": "STRING", "anonymous_id": "STRING", "user_id": "STRING"} | dict.fromkeys(TIMES, "TIMESTAMP")
"""The columns that every table of messages has, as "Warehouse Schemas" lists them for each table. Whether `anonymous_id` and
`user_id` are there before their first value is unverified; the staging models build with either."""
STANDARD_OF_USERS = {"id": "STRING"} | dict.fromkeys(TIMES[3:], "TIMESTAMP")
_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[^A-Za-z0-9]+")


def problem(body: Body) -> str | None:
    """Why Segment would answer this message with 200 and then drop it; None for one that it keeps."""
    return next(_problems(body), None)


def rows(body: Body, received_at: datetime, loaded_at: datetime) -> Iterator[tuple[str, Row]]:
    """The rows of an acceptable message, each with its table."""
    kind = body["type"]
    row = _standard(body, received_at, loaded_at)
    if kind == "track":
        row |= {"event": snake_case(str(body["event"])), "event_text": body["event"]}
        yield "tracks", row
        yield row["event"], _flat(body.get("properties")) | row
    elif kind in {"page", "screen"}:
        names = {name: body[name] for name in ("name", "category") if body.get(name)}
        yield TABLES[kind], _flat(body.get("properties")) | names | row
    elif kind == "alias":
        yield TABLES[kind], row | {"previous_id": str(body["previousId"])}
    else:
        traits = _flat(body.get("traits"))
        group = {"group_id": str(body["groupId"])} if kind == "group" else {}
        yield TABLES[kind], traits | group | row
        if kind == "identify" and body.get("userId"):
            times = {name: row[name] for name in TIMES[3:]}
            yield USERS, traits | times | {"id": str(body["userId"])}


def moment(text: str) -> datetime:
    """A time as Segment reads it: ISO 8601, in UTC where it names no zone."""
    at = datetime.fromisoformat(text)
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def snake_case(name: str) -> str:
    """A name of a table or a column, such as `order_completed` for `Order Completed` or `orderCompleted`."""
    words = "_".join(word for word in _WORDS.split(name) if word).lower()
    return f"_{words}" if words[:1].isdigit() else words


def _problems(body: Body) -> Iterator[str]:
    """Each check relies on the ones before it."""
    kind = body.get("type")
    if kind not in TYPES:
        yield f"type {kind!r} is none of {', '.join(TYPES)}"
    if not body.get("userId") and not body.get("anonymousId"):
        yield "neither userId nor anonymousId is given"
    needed = NEEDED.get(str(kind))
    if needed and not body.get(needed):
        yield f"{kind} has no {needed}"
    if kind == "track" and snake_case(str(body["event"])) in {"", *OWN_TABLES}:
        yield f"event {body['event']!r} cannot have a table of its own"
    for name in ("context", "properties", "traits"):
        if not isinstance(body.get(name) or {}, dict):
            yield f"{name} is no object"
    try:
        _times(body, datetime.now(UTC))
    except (TypeError, ValueError, OverflowError) as error:
        yield f"timestamp or sentAt is no ISO 8601 time: {error}"


def _standard(body: Body, received_at: datetime, loaded_at: datetime) -> Row:
    context = {f"context_{name}": value for name, value in _flat(body.get("context")).items()}
    ids = {"anonymous_id": body.get("anonymousId"), "user_id": body.get("userId")}
    return context | {
        "id": str(body["messageId"]), **{name: None if value is None else str(value) for name, value in ids.items()},
        **_times(body, received_at), "received_at": received_at, "uuid_ts": loaded_at, "loaded_at": loaded_at,
    }  # fmt: skip


def _times(body: Body, received_at: datetime) -> Row:
    original = moment(body["timestamp"]) if body.get("timestamp") else received_at
    sent = moment(body["sentAt"]) if body.get("sentAt") else received_at
    # A device's clock may be wrong: what matters is how long before sending the event happened.
    happened = received_at - (sent - original) if body.get("sentAt") else original
    return {"timestamp": happened, "original_timestamp": original, "sent_at": sent}


def _flat(value: dict[str, Any] | None, prefix: str = "") -> Row:
    """Nested objects as columns, arrays as JSON text, and no column for null."""
    flat: Row = {}
    for name, item in (value or {}).items():
        column = f"{prefix}{snake_case(name)}"
        if column == prefix:
            continue
        if isinstance(item, dict):
            flat |= _flat(item, f"{column}_")
        elif isinstance(item, list):
            flat[column] = json.dumps(item)
        elif item is not None:
            flat[column] = item
    return flat
