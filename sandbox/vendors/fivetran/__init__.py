"""Fivetran's REST API, as its OpenAPI file and `dagster_fivetran` know it; syncs really move rows.

Unverified against the real service: the answer to a sync of a paused connection (here 409), and what `sync-history` has beyond a
sync's times (here its status, reason and rows by table).
"""

from __future__ import annotations

import base64
import json
import sqlite3
from typing import Any

from fastapi import APIRouter, Body, Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse

from sandbox.config import PROJECT
from sandbox.vendors.context import VendorContext
from sandbox.vendors.fivetran import state, sync

KEY, SECRET = "local-fivetran-key", "local-fivetran-secret"


def build(context: VendorContext) -> FastAPI:
    state.prepare(context.store)
    app = FastAPI(title="Fivetran", openapi_url=None)
    api = _Api(context)
    app.include_router(api.router, prefix="/v1", dependencies=[Depends(_authorise)])

    @app.exception_handler(HTTPException)
    def failed(_request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"code": error.headers["x-code"] if error.headers else "Error", "message": error.detail}, error.status_code)

    return app


def _authorise(request: Request) -> None:
    expected = base64.b64encode(f"{KEY}:{SECRET}".encode()).decode()
    if request.headers.get("authorization") != f"Basic {expected}":
        raise _problem(401, "Unauthorized", "Invalid API key or secret")


def _problem(status: int, code: str, message: str) -> HTTPException:
    return HTTPException(status, message, {"x-code": code})


def _done(data: Any = None, message: str | None = None) -> dict[str, Any]:
    answer: dict[str, Any] = {"code": "Success"}
    if message:
        answer["message"] = message
    if data is not None:
        answer["data"] = data
    return answer


class _Api:
    def __init__(self, context: VendorContext) -> None:
        self._context, self._store = context, context.store
        self.router = APIRouter()
        route = self.router.add_api_route
        route("/groups", self.groups)
        route("/destinations/{group}", self.destination)
        route("/connections", self.connections)
        route("/groups/{group}/connectors", self.group_connections)
        # The older `connectors` paths are still served, and dagster_fivetran calls them.
        for name in ("connections", "connectors"):
            route(f"/{name}/{{connection}}", self.connection)
            route(f"/{name}/{{connection}}", self.change, methods=["PATCH"])
            route(f"/{name}/{{connection}}/schemas", self.schemas)
        route("/connections/{connection}/schemas/reload", self.schemas, methods=["POST"])
        route("/connections/{connection}/sync", self.trigger, methods=["POST"])
        route("/connectors/{connection}/force", self.trigger, methods=["POST"])
        route("/connections/{connection}/resync", self.resync, methods=["POST"])
        route("/connections/{connection}/sync-history", self.history)

    def groups(self) -> Any:
        created = self._store.execute("select min(created_at) as at from fivetran_connection")[0]["at"]
        return _done({"items": [{"id": state.GROUP, "name": "Warehouse", "created_at": created}], "next_cursor": None})

    def destination(self, group: str) -> Any:
        if group != state.GROUP:
            raise _problem(404, "NotFound_Destination", f"Cannot find destination with id '{group}'")
        config = {"project_id": PROJECT, "data_set_location": "US"}
        return _done({
            "id": group, "group_id": group, "service": "big_query", "region": "GCP_US_EAST4", "setup_status": "connected",
            "time_zone_offset": "0", "config": config,
        })  # fmt: skip

    def connections(self, group_id: str | None = None, cursor: str | None = None, limit: int = 100) -> Any:
        rows = [] if group_id not in {None, state.GROUP} else self._page(cursor, limit + 1)
        more = rows[limit - 1]["id"] if len(rows) > limit else None
        return _done({"items": [self._show(row) for row in rows[:limit]], "next_cursor": more})

    def group_connections(self, group: str, cursor: str | None = None, limit: int = 100) -> Any:
        return self.connections(group, cursor, limit)

    def connection(self, connection: str) -> Any:
        return _done(self._show(self._find(connection)))

    def change(self, connection: str, body: dict[str, Any] = Body()) -> Any:  # noqa: B008
        self._find(connection)
        for field in ("paused", "schedule_type", "sync_frequency"):
            if field in body:
                self._store.execute(f"update fivetran_connection set {field} = ? where id = ?", (body[field], connection))
        return self.connection(connection)

    def trigger(self, connection: str, body: dict[str, Any] | None = Body(default=None)) -> Any:
        if self._paused(self._find(connection)):
            raise _problem(409, "Conflict", f"Connection with id '{connection}' is paused")
        sync.start(self._context, connection)
        return _done(message=f"Sync has been successfully triggered for connection with id '{connection}'")

    def resync(self, connection: str, body: dict[str, Any] | None = Body(default=None)) -> Any:
        row = self._find(connection)
        if row["sync_state"] == "syncing":
            raise _problem(409, "Conflict", f"Connection with id '{connection}' is syncing")
        wanted = [table for tables in ((body or {}).get("scope") or {}).values() for table in tables]
        for table in wanted or [t["name"] for t in self._tables(connection)]:
            self._store.execute("update fivetran_table set dirty = 1 where connection = ? and name = ?", (connection, table))
        sync.start(self._context, connection)
        return _done(message="Re-sync has been triggered successfully")

    def schemas(self, connection: str) -> Any:
        row = self._find(connection)
        source = sync.source_of(self._context, row["service"], row["schema"])
        tables = {
            table.name: {
                "name_in_destination": table.name, "enabled": True, "sync_mode": "SOFT_DELETE",
                "enabled_patch_settings": {"allowed": True},
                "columns": {
                    column: {
                        "name_in_destination": column, "enabled": True, "hashed": False, "is_primary_key": column == table.key,
                        "enabled_patch_settings": {"allowed": True},
                    }
                    for column in table.columns
                },
            }
            for table in source.tables()
        }  # fmt: skip
        name = "public" if row["service"] == "postgres" else row["schema"]
        schema = {"name_in_destination": source.dataset, "enabled": True, "tables": tables}
        return _done({"enable_new_by_default": True, "schema_change_handling": "ALLOW_ALL", "schemas": {name: schema}})

    def history(self, connection: str, limit: int = 100) -> Any:
        self._find(connection)
        rows = self._store.execute(
            "select * from fivetran_sync where connection = ? order by id desc limit ?", (connection, limit)
        )
        items = [
            {"sync_id": str(row["id"]), "status": row["status"], "sync_start_time": row["started_at"],
             "sync_end_time": row["ended_at"], "reason": row["reason"], "rows": json.loads(row["rows"])}
            for row in rows
        ]  # fmt: skip
        return _done({"items": items, "next_cursor": None})

    def _page(self, cursor: str | None, limit: int) -> list[sqlite3.Row]:
        return self._store.execute(
            "select * from fivetran_connection where id > ? order by id limit ?", (cursor or "", limit)
        )

    def _tables(self, connection: str) -> list[sqlite3.Row]:
        return self._store.execute("select name from fivetran_table where connection = ?", (connection,))

    def _find(self, connection: str) -> sqlite3.Row:
        found = self._store.execute("select * from fivetran_connection where id = ?", (connection,))
        if not found:
            raise _problem(404, "NotFound_Connection", f"Cannot find connection with id '{connection}'")
        return found[0]

    def _paused(self, row: sqlite3.Row) -> bool:
        return bool(row["paused"]) or bool(self._context.faults.active("fivetran", row["schema"], "paused"))

    def _show(self, row: sqlite3.Row) -> dict[str, Any]:
        paused = self._paused(row)
        tasks = json.loads(row["tasks"])
        schema = row["schema"]
        return {
            "id": row["id"], "service": row["service"], "schema": schema, "service_version": 1, "group_id": state.GROUP,
            "connected_by": "local_user", "created_at": row["created_at"], "succeeded_at": row["succeeded_at"],
            "failed_at": row["failed_at"], "paused": paused, "pause_after_trial": False,
            "sync_frequency": row["sync_frequency"], "schedule_type": row["schedule_type"], "daily_sync_time": None,
            "data_delay_sensitivity": "NORMAL", "data_delay_threshold": 0, "networking_method": "Directly",
            "status": {
                "setup_state": "connected", "schema_status": "ready",
                "sync_state": "paused" if paused else row["sync_state"],
                "update_state": "on_schedule" if not tasks else "delayed",
                "is_historical_sync": bool(row["historical"]), "tasks": tasks, "warnings": [], "rescheduled_for": None,
            },
            "config": {"schema_prefix": schema} if row["service"] == "postgres" else {"schema": schema},
        }  # fmt: skip
