"""Fivetran's REST API, as its OpenAPI file and `dagster_fivetran` know it; syncs really move rows.

Unverified against the real service: the answer to a sync of a paused connection (here 409), and `sync-history`, which the OpenAPI file
does not have (here a sync's times, status, reason and rows by table). `force` does not restart a sync that runs.
"""

from __future__ import annotations

import base64
import contextlib
import json
import sqlite3
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import httpx
import psycopg
from fastapi import APIRouter, Body, Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from sandbox.vendors.context import VendorContext
from sandbox.vendors.faults import Fault
from sandbox.vendors.fivetran import schema, state, sync
from sandbox.vendors.rate_limits import RateLimit, RateLimited, RateLimits
from sandbox.vendors.zendesk import EMAIL

KEY, SECRET = "local-fivetran-key", "local-fivetran-secret"
HIDDEN = "******"
CONFIG = {
    "stripe": {"api_key": HIDDEN, "historical_sync_time_frame": "ALL_TIME"},
    "zendesk": {
        "domain": "example.zendesk.com",
        "email": EMAIL,
        "api_token": HIDDEN,
        "historical_sync_time_frame": "ALL_TIME",
    },
}
"""What the API shows of a connection's settings beside its schema: secrets are masked."""
Limit = Annotated[int, Query(ge=1, le=1000)]
LIMITS = (
    RateLimit("requests_hour", 20_000, 3600),
    RateLimit("source_requests_minute", 500, 60),
    RateLimit("source_requests_hour", 5_000, 3600),
)
"""Of an account (https://fivetran.com/docs/rest-api/rate-limiting). Those of the source are for endpoints that ask it: the reload of a schema
and the columns of a table. Trial accounts have lower limits."""
TABLE_RESYNC = {"postgres", "salesforce"}
"""The services whose tables can be re-synced one by one, "typically database connectors" (ResyncConnectorRequest in the OpenAPI file).
That Salesforce's can, and Stripe's and Zendesk's cannot, is unverified."""
NO_DESTINATION = "group_without_destination"


def build(context: VendorContext) -> FastAPI:
    state.prepare(context.store)
    app = FastAPI(title="Fivetran", openapi_url=None)
    limits = RateLimits(context.store, "fivetran", *LIMITS)

    def count() -> None:
        limits.take("requests_hour")

    api = _Api(context, limits)
    app.include_router(api.router, prefix="/v1", dependencies=[Depends(_authorise), Depends(count)])

    @app.exception_handler(RateLimited)
    def limited(_request: Request, error: RateLimited) -> JSONResponse:
        # Whether `Retry-After` comes with it is unverified: the client has to do without.
        return JSONResponse({"code": "TooManyRequests", "message": f"Too many requests: {error}"}, 429)

    @app.exception_handler(HTTPException)
    def failed(_request: Request, error: HTTPException) -> JSONResponse:
        code = (error.headers or {}).get("x-code", "NotFound")
        return JSONResponse({"code": code, "message": error.detail}, error.status_code)

    @app.exception_handler(RequestValidationError)
    def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        [problem, *_] = error.errors()
        message = f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
        return JSONResponse({"code": "InvalidInput", "message": message}, 400)

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


def _items(items: list[dict[str, Any]], next_cursor: str | None = None) -> dict[str, Any]:
    """A page; the last one has no cursor."""
    return _done({"items": items} | ({"next_cursor": next_cursor} if next_cursor else {}))


class _Api:
    def __init__(self, context: VendorContext, limits: RateLimits) -> None:
        self._context, self._store, self._limits = context, context.store, limits
        self.router = APIRouter()
        route = self.router.add_api_route
        route("/groups", self.groups)
        route("/destinations/{group}", self.destination)
        route("/connections", self.connections)
        route("/groups/{group}/connections", self.group_connections)
        route("/groups/{group}/connectors", self.group_connections)
        # The older `connectors` paths are still served, and dagster_fivetran calls them.
        for name in ("connections", "connectors"):
            route(f"/{name}/{{connection}}", self.connection)
            route(f"/{name}/{{connection}}", self.change, methods=["PATCH"])
            route(f"/{name}/{{connection}}", self.delete, methods=["DELETE"])
            route(f"/{name}/{{connection}}/schemas", self.schemas)
        route("/connections/{connection}/schemas/{name}/tables/{table}/columns", self.columns)
        route("/connections/{connection}/schemas/reload", self.reload, methods=["POST"])
        route("/connections/{connection}/sync", self.trigger, methods=["POST"])
        route("/connectors/{connection}/force", self.trigger, methods=["POST"])
        route("/connections/{connection}/resync", self.resync, methods=["POST"])
        route("/connections/{connection}/schemas/tables/resync", self.resync_tables, methods=["POST"])
        route("/connections/{connection}/sync-history", self.history)

    def groups(self) -> Any:
        created = self._store.execute("select min(created_at) as at from fivetran_connection")[0]["at"]
        groups = [{"id": state.GROUP, "name": "Warehouse", "created_at": created}]
        if self._context.faults.active("fivetran", kind=NO_DESTINATION):
            groups.append({"id": "empty_group", "name": "Empty", "created_at": created})
        return _items(groups)

    def destination(self, group: str) -> Any:
        if group != state.GROUP:
            raise _problem(404, "NotFound_Destination", f"Cannot find destination with id '{group}'")
        config = {"project_id": self._context.config.raw_project, "data_set_location": self._context.config.location}
        return _done({
            "id": group, "group_id": group, "service": "big_query", "region": "GCP_US_EAST4", "setup_status": "CONNECTED",
            "time_zone_offset": "0", "config": config,
        })  # fmt: skip

    def connections(self, group_id: str | None = None, cursor: str | None = None, limit: Limit = 100) -> Any:
        rows = [] if group_id not in {None, state.GROUP} else self._page(cursor, limit + 1)
        more = rows[limit - 1]["id"] if len(rows) > limit else None
        return _items([self._show(row) for row in rows[:limit]], more)

    def group_connections(self, group: str, cursor: str | None = None, limit: Limit = 100) -> Any:
        return self.connections(group, cursor, limit)

    def connection(self, connection: str) -> Any:
        return _done(self._show(self._find(connection)))

    def change(self, connection: str, body: Annotated[dict[str, Any], Body()]) -> Any:
        self._find(connection)
        for field in ("paused", "schedule_type", "sync_frequency"):
            if field in body:
                self._store.execute(
                    f"update fivetran_connection set {field} = ? where id = ?", (body[field], connection)
                )
        return self.connection(connection)

    def delete(self, connection: str) -> Any:
        """Delete a connection. The rows that it has landed stay."""
        self._find(connection)
        with self._store.transaction():
            for table, column in (("connection", "id"), ("table", "connection"), ("sync", "connection")):
                self._store.execute(f"delete from fivetran_{table} where {column} = ?", (connection,))
        return _done(message=f"Connection with id '{connection}' has been deleted")

    def trigger(self, connection: str, body: Annotated[dict[str, Any] | None, Body()] = None) -> Any:
        row = self._find(connection)
        if self._paused(row):
            raise _problem(409, "Conflict", f"Connection with id '{connection}' is paused")
        self._start(row)
        return _done(message=f"Sync has been successfully triggered for connection with id '{connection}'")

    def resync(self, connection: str, body: Annotated[dict[str, Any] | None, Body()] = None) -> Any:
        """Reload everything, or the tables of `scope`; a paused connection does it when it is enabled again."""
        row = self._find(connection)
        scope = (body or {}).get("scope")
        self._reload(row, None if scope is None else self._scope(row, scope))
        return _done(message=f"Sync has been successfully triggered for connection with id '{connection}'")

    def resync_tables(self, connection: str, body: Annotated[dict[str, Any], Body()]) -> Any:
        row = self._find(connection)
        self._reload(row, self._scope(row, body))
        return _done(message="Re-sync has been triggered successfully")

    def _start(self, row: sqlite3.Row) -> None:
        """Start a sync, unless the source accepts no more API calls: then it is put off."""
        if row["sync_state"] == "syncing":
            return
        if any(not fault.params["starts"] for fault in self._faults(row, "broken")):
            return
        if row["rescheduled_for"] and datetime.now(UTC) < datetime.fromisoformat(row["rescheduled_for"]):
            return
        for fault in self._context.faults.active("fivetran", row["schema"], "reschedule"):
            self._context.faults.consume(fault)
            until = datetime.now(UTC) + timedelta(seconds=float(fault.params["seconds"]))
            state.reschedule(self._store, row["id"], until)
            return
        self._store.execute("update fivetran_connection set rescheduled_for = null where id = ?", (row["id"],))
        if row["service"] in state.WITHOUT_SOURCE:
            self._end_at_once(row)
        else:
            sync.start(self._context, row["id"])

    def _end_at_once(self, row: sqlite3.Row) -> None:
        """Sync a connection that has nothing to land here."""
        connection = row["id"]
        struck = [fault for kind in ("broken_credentials", "sync_failure") for fault in self._faults(row, kind)]
        for fault in struck:
            self._context.faults.consume(fault)
        if not struck:
            self._context.faults.remove("fivetran", row["schema"], "broken")
        with self._store.transaction():
            [run] = self._store.execute(
                "insert into fivetran_sync (connection, status, started_at) values (?, 'running', ?) returning id",
                (connection, state.moment()),
            )
            reason = struck[0].params["reason"] if struck else None
            reconnect = bool(struck) and struck[0].kind == "broken_credentials"
            state.finish(self._store, run["id"], connection, reason=reason, reconnect=reconnect)

    def _faults(self, row: sqlite3.Row, kind: str) -> list[Fault]:
        return self._context.faults.active("fivetran", row["schema"], kind)

    def _scope(self, row: sqlite3.Row, scope: dict[str, Any]) -> list[str]:
        """The tables that a scope names, `{schema: [table, …]}`."""
        if row["service"] not in TABLE_RESYNC:
            raise _problem(400, "InvalidInput", f"Connector '{row['service']}' does not support table-level re-sync")
        if not scope or not all(isinstance(tables, list) and tables for tables in scope.values()):
            raise _problem(400, "InvalidInput", "The scope has to name a schema, and each schema at least one table")
        name, tables = next(iter(schema.config(row)["schemas"].items()))
        wanted = [(given, table) for given, listed in scope.items() for table in listed]
        for given, table in wanted:
            if given != name or table not in tables["tables"]:
                raise _problem(400, "InvalidInput", f"Table with name '{given}.{table}' does not exist")
        return [table for _, table in wanted]

    def _reload(self, row: sqlite3.Row, tables: list[str] | None) -> None:
        if row["sync_state"] == "syncing":
            raise _problem(409, "Conflict", f"Connection with id '{row['id']}' is syncing")
        with self._store.transaction():
            for table in self._tables(row["id"]) if tables is None else tables:
                self._store.execute(
                    "update fivetran_table set dirty = 1 where connection = ? and name = ?", (row["id"], table)
                )
            if tables is None:
                self._store.execute("update fivetran_connection set historical = 1 where id = ?", (row["id"],))
        if not self._paused(row):
            self._start(row)

    def schemas(self, connection: str) -> Any:
        """The tables as a sync or a reload last saw them; a connection that has seen none yet looks now."""
        row = self._find(connection)
        if row["tables"] is None:
            self._look(row)
        return _done(schema.config(self._find(connection)))

    def columns(self, connection: str, name: str, table: str) -> Any:
        """All columns of a table, as a sync or a reload last saw them. Fivetran asks the source each time."""
        row = self._find(connection)
        self._limits.take("source_requests_minute", "source_requests_hour")
        if row["tables"] is None:
            self._look(row)
            row = self._find(connection)
        found = schema.columns(row, table) if name == schema.source_schema(row) else None
        if found is None:
            raise _problem(404, "NotFound_Table", f"Table with name '{name}.{table}' does not exist")
        return _done({"columns": found}, "Column configuration retrieved successfully")

    def reload(self, connection: str, body: Annotated[dict[str, Any] | None, Body()] = None) -> Any:
        row = self._find(connection)
        self._limits.take("source_requests_minute", "source_requests_hour")
        self._look(row)
        return _done(schema.config(self._find(connection)))

    def _look(self, row: sqlite3.Row) -> None:
        """See which tables the source has now."""
        if row["service"] in state.WITHOUT_SOURCE:
            return
        try:
            with contextlib.closing(sync.source_of(self._context, row["service"], row["schema"])) as source:
                state.keep_schema(self._store, row["id"], source.tables())
        except (httpx.HTTPError, psycopg.Error) as error:
            raise _problem(500, "ServiceError", f"The source could not be read: {error}") from error

    def history(
        self,
        connection: str,
        start_time: datetime | None = None,
        end_time: datetime | None = None,
        cursor: int | None = None,
        limit: Limit = 100,
    ) -> Any:
        """Syncs by their start, newest first."""
        self._find(connection)
        bounds = [state.written(at) if at else None for at in (start_time, end_time)]
        rows = self._store.execute(
            "select * from fivetran_sync where connection = ?1 and (?2 is null or started_at >= ?2)"
            " and (?3 is null or started_at <= ?3) and (?4 is null or id < ?4) order by id desc limit ?5",
            (connection, *bounds, cursor, limit + 1),
        )
        items = [
            {"sync_id": str(row["id"]), "status": row["status"], "sync_start_time": row["started_at"],
             "sync_end_time": row["ended_at"], "reason": row["reason"], "rows": json.loads(row["rows"])}
            for row in rows[:limit]
        ]  # fmt: skip
        return _items(items, items[-1]["sync_id"] if len(rows) > limit else None)

    def _page(self, cursor: str | None, limit: int) -> list[sqlite3.Row]:
        return self._store.execute(
            "select * from fivetran_connection where id > ? order by id limit ?", (cursor or "", limit)
        )

    def _tables(self, connection: str) -> list[str]:
        rows = self._store.execute("select name from fivetran_table where connection = ?", (connection,))
        return [row["name"] for row in rows]

    def _find(self, connection: str) -> sqlite3.Row:
        found = self._store.execute("select * from fivetran_connection where id = ?", (connection,))
        if not found:
            raise _problem(404, "NotFound_Connection", f"Cannot find connection with id '{connection}'")
        return self._rescheduled(found[0])

    def _rescheduled(self, row: sqlite3.Row) -> sqlite3.Row:
        """Start a sync that was put off until now, if Fivetran starts syncs of this connection by itself."""
        due = row["rescheduled_for"]
        if not due or row["schedule_type"] == "manual" or datetime.now(UTC) < datetime.fromisoformat(due):
            return row
        self._start(row)
        return self._store.execute("select * from fivetran_connection where id = ?", (row["id"],))[0]

    def _paused(self, row: sqlite3.Row) -> bool:
        return bool(row["paused"]) or bool(self._context.faults.active("fivetran", row["schema"], "paused"))

    def _show(self, row: sqlite3.Row) -> dict[str, Any]:
        paused = self._paused(row)
        tasks = json.loads(row["tasks"])
        name = row["schema"]
        # A task is there until the next success, but who has reconnected the source has mended its setup.
        refused = bool(tasks) and bool(self._faults(row, "broken_credentials"))
        broken = refused or bool(self._faults(row, "broken"))
        return {
            "id": row["id"], "service": row["service"], "schema": name, "service_version": 1, "group_id": state.GROUP,
            "connected_by": "local_user", "created_at": row["created_at"], "succeeded_at": row["succeeded_at"],
            "failed_at": row["failed_at"], "paused": paused, "pause_after_trial": False,
            "sync_frequency": row["sync_frequency"], "schedule_type": row["schedule_type"], "daily_sync_time": None,
            "data_delay_sensitivity": "NORMAL", "data_delay_threshold": 0, "networking_method": "Directly",
            "status": {
                "setup_state": "broken" if broken else "connected", "schema_status": "ready",
                "sync_state": "paused" if paused else row["sync_state"],
                "update_state": "on_schedule" if not tasks else "delayed",
                "is_historical_sync": bool(row["historical"]), "tasks": tasks, "warnings": [],
                "rescheduled_for": row["rescheduled_for"],
            },
            "config": CONFIG.get(row["service"], {}) | {"schema_prefix" if row["service"] == "postgres" else "schema": name},
        }  # fmt: skip
