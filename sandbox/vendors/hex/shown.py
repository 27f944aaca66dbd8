"""Projects and runs as Hex's API shows them."""

from __future__ import annotations

import base64
import json
import sqlite3
import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sandbox.vendors.hex.catalogue import RUN_WHEN_LANDED

WORKSPACE = "example"
CONNECTION_ID = "0195f0c1-5d1e-7a3b-8c11-0242ac12ffff"
CONNECTION = "Warehouse"
MEANINGS = {RUN_WHEN_LANDED: "The data platform runs these."}


def project(row: sqlite3.Row) -> dict[str, Any]:
    return {
        "id": row["id"],
        "title": row["title"],
        "description": row["description"],
        "type": "PROJECT",
        "creator": {"email": row["owner"]},
        "owner": {"email": row["owner"]},
        "status": {"name": "Production"} if row["published_at"] else None,
        "categories": [{"name": name, "description": MEANINGS.get(name)} for name in json.loads(row["categories"])],
        "reviews": {"required": False},
        "analytics": {
            "publishedResultsUpdatedAt": row["results_at"] or row["published_at"],
            "lastViewedAt": None,
            "appViews": {"lastThirtyDays": 0, "lastFourteenDays": 0, "lastSevenDays": 0, "allTime": 0},
        },
        "lastEditedAt": row["edited_at"],
        "lastPublishedAt": row["published_at"],
        "createdAt": row["created_at"],
        "archivedAt": row["archived_at"],
        "trashedAt": row["trashed_at"],
        "schedules": [],
    }


def table(row: sqlite3.Row) -> dict[str, Any]:
    return {"dataConnectionId": CONNECTION_ID, "dataConnectionName": CONNECTION, "tableName": row["spelling"]}


def run(row: sqlite3.Row, host: str) -> dict[str, Any]:
    """A run as its status is told; `host` is the address of this Hex."""
    ended = row["ended_at"] and row["started_at"] and _milliseconds(row["started_at"], row["ended_at"])
    return {
        "projectId": row["project"],
        "projectVersion": row["version"],
        "runId": row["id"],
        "runUrl": _run_url(row, host),
        "status": row["status"],
        "runTrigger": row["run_trigger"],
        "startTime": row["started_at"],
        "endTime": row["ended_at"],
        "elapsedTime": ended,
        "traceId": trace(),
        "notifications": [],
    }


def triggered(row: sqlite3.Row, host: str) -> dict[str, Any]:
    """A run as the request that triggers it is answered."""
    return {
        "projectId": row["project"],
        "runId": row["id"],
        "runUrl": _run_url(row, host),
        "runStatusUrl": f"{host}/api/v1/projects/{row['project']}/runs/{row['id']}",
        "traceId": trace(),
        "projectVersion": row["version"],
        "notifications": [],
    }


def trace() -> str:
    return uuid.uuid4().hex


def page[T](
    items: Sequence[T], limit: int, after: str | None, before: str | None
) -> tuple[Sequence[T], dict[str, Any]]:
    """The items of a page, and its cursors. Raises ValueError for a cursor that no page has given."""
    start = _position(after) if after else 0
    if before:
        stop = _position(before)
        start, limit = max(0, stop - limit), min(limit, stop)
    found = items[start : start + limit]
    following = _cursor(start + len(found)) if start + len(found) < len(items) else None
    return found, {"after": following, "before": _cursor(start) if start else None}


def _cursor(position: int) -> str:
    return base64.urlsafe_b64encode(f"hex:{position}".encode()).decode()


def _position(cursor: str) -> int:
    text = base64.urlsafe_b64decode(cursor.encode()).decode()
    if not text.startswith("hex:"):
        raise ValueError(f"{cursor!r} is no cursor")
    return int(text.removeprefix("hex:"))


def _run_url(row: sqlite3.Row, host: str) -> str:
    return f"{host}/{WORKSPACE}/hex/{row['project']}/draft/logic?runId={row['id']}"


def _milliseconds(begin: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds() * 1000
