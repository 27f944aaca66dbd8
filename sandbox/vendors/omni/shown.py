"""Documents, models and users as Omni's API shows them."""

from __future__ import annotations

import base64
import json
import sqlite3
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from sandbox.vendors.omni.catalogue import CONNECTION, MADE, NAMESPACE, SCHEMA_MODEL, SHARED_MODEL, Query, user_id
from sandbox.vendors.omni.state import fields

MODELS: list[dict[str, Any]] = [
    {
        "baseModelId": base,
        "connectionId": CONNECTION,
        "createdAt": MADE,
        "deletedAt": None,
        "id": id_,
        "modelKind": kind,
        "name": name,
        "updatedAt": MADE,
    }
    for id_, kind, name, base in (
        (SCHEMA_MODEL, "SCHEMA", "Warehouse", None),
        (SHARED_MODEL, "SHARED", "Company", SCHEMA_MODEL),
    )
]
USER_SCHEMA = "urn:ietf:params:scim:schemas:core:2.0:User"
LIST_SCHEMA = "urn:ietf:params:scim:api:messages:2.0:ListResponse"


def document(row: sqlite3.Row, host: str, include: frozenset[str]) -> dict[str, Any]:
    """A document of the list; `row` has its owner's id and name too, and `host` is the address of this Omni."""
    kind = "dashboards" if row["has_dashboard"] else "w"
    shown: dict[str, Any] = {
        "connectionId": CONNECTION,
        "deleted": bool(row["deleted"]),
        "description": row["description"],
        "folder": _folder(row["folder"]),
        "hasDashboard": bool(row["has_dashboard"]),
        "identifier": row["identifier"],
        "name": row["name"],
        # Of somebody who has left, the document still knows.
        "owner": {"id": row["owner_id"] or user_id(row["owner"]), "name": row["owner_name"] or row["owner"]},
        "scope": "organization",
        "type": "document",
        "updatedAt": row["updated_at"],
        "url": f"{host}/{kind}/{row['identifier']}",
    }
    if "_count" in include:
        shown["_count"] = {"favorites": 0, "views": 0}
    if "labels" in include:
        shown["labels"] = json.loads(row["labels"])
    return shown


def query(identifier: str, host: str, position: int, id_: str, found: Query) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": id_,
        "name": found.name,
        "queryIdentifierMapKey": str(position + 1),
        "url": f"{host}/w/{identifier}?key={position + 1}",
    }
    if not found.bare:
        shown["query"] = {
            "fields": list(found.fields),
            "limit": 1000,
            "modelId": SHARED_MODEL,
            "sorts": [],
            "filters": {},
            "version": 5,
            **({"table": found.table} if found.table else {}),
            **({"userEditedSQL": found.sql} if found.sql else {}),
        }
    return shown


def validated(row: sqlite3.Row, queries: Iterable[tuple[str, Query]], model: set[tuple[str, str]]) -> dict[str, Any]:
    """A document of the content validator, in the shape of the example in docs.omni.co: the spec leaves it open.

    Unverified: the wording of an issue other than that of a missing field.
    """
    return {
        "document_id": row["identifier"],
        "identifier": row["identifier"],
        "name": row["name"],
        "type": "Published",
        "updated_at": row["updated_at"],
        "folder": {"name": row["folder"], "path": _path(row["folder"])} if row["folder"] else None,
        "owner": {"email": row["owner"], "name": row["owner_name"] or row["owner"]},
        "require_pull_request_to_publish": False,
        "queries_and_issues": [
            {
                "query_name": found.name,
                "query_presentation_id": id_,
                "query_id_map_key": str(number),
                "issues": _issues(found, model),
            }
            for number, (id_, found) in enumerate(queries, start=1)
        ],
        "dashboard_filter_issues": [],
    }


def user(row: sqlite3.Row) -> dict[str, Any]:
    return {
        "active": True,
        "displayName": row["name"],
        "emails": [{"primary": True, "value": row["email"]}],
        "groups": [],
        "id": row["id"],
        "meta": {"created": MADE, "lastModified": MADE, "resourceType": "User"},
        "schemas": [USER_SCHEMA],
        "userName": row["email"],
    }


def page(items: Sequence[Any], size: int, cursor: str | None) -> dict[str, Any]:
    """A page of records, and where the next one is. Raises ValueError for a cursor that no page has given."""
    start = _position(cursor) if cursor else 0
    records = items[start : start + size]
    more = start + size < len(items)
    info = {
        "hasNextPage": more,
        "nextCursor": base64.urlsafe_b64encode(f"omni:{start + size}".encode()).decode() if more else None,
        "pageSize": size,
        "totalRecords": len(items),
    }
    return {"pageInfo": info, "records": records}


def _position(cursor: str) -> int:
    text = base64.urlsafe_b64decode(cursor.encode()).decode()
    if not text.startswith("omni:"):
        raise ValueError(f"{cursor!r} is no cursor")
    return int(text.removeprefix("omni:"))


def _folder(name: str | None) -> dict[str, Any] | None:
    if name is None:
        return None
    return {"id": str(uuid.uuid5(NAMESPACE, name)), "name": name, "path": _path(name), "scope": "organization"}


def _path(name: str) -> str:
    return name.lower()


def _issues(found: Query, model: set[tuple[str, str]]) -> list[str]:
    views = {view for view, _field in model}
    issues: dict[str, None] = {}
    for view, field in fields([found]):
        if view not in views:
            issues[f"View '{view}' not found in model"] = None
        elif (view, field) not in model:
            issues[f"Field '{view}.{field}' not found in model"] = None
    return list(issues)
