"""Hex's public API; runs really query the warehouse.

Unverified against the real service: which 4xx it answers where its spec allows several, what it says to a run that is killed after its
end (here nothing happens), and whether `Retry-After` comes with a 429 (here it does not).
"""

from __future__ import annotations

import html
import json
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Body, Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException

from sandbox.vendors.context import VendorContext
from sandbox.vendors.hex import run, shown, state
from sandbox.vendors.rate_limits import RateLimit, RateLimited, RateLimits

TOKEN = "local-hex-token"
LIMITS = (
    RateLimit("runs_minute", 20, 60),
    RateLimit("runs_hour", 60, 3600),
    RateLimit("requests_minute", 30, 60),
    RateLimit("requests_hour", 1800, 3600),
)
"""Those of runs are of POST /v1/projects/{projectId}/runs. Those of requests are the group `hex-api`, which Hex's OpenAPI file has for
single calls only: of those that are served here, for GET /v1/projects/{projectId}."""

Limit = Annotated[int, Query(ge=1, le=100)]
Status = Literal["PENDING", "RUNNING", "ERRORED", "COMPLETED", "KILLED", "UNABLE_TO_ALLOCATE_KERNEL"]
SORTS = {"CREATED_AT": "created_at", "LAST_EDITED_AT": "edited_at", "LAST_PUBLISHED_AT": "published_at"}


class RunRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    inputParams: dict[str, Any] | None = None
    dryRun: bool = False
    updateCache: bool | None = None
    notifications: list[dict[str, Any]] | None = None
    updatePublishedResults: bool = False
    useCachedSqlResults: bool = True
    viewId: str | None = None


def build(context: VendorContext) -> FastAPI:
    state.prepare(context.store)
    state.end_left_behind(context.store)
    app = FastAPI(title="Hex", openapi_url=None)
    api = _Api(context)
    app.include_router(api.router, prefix="/api/v1", dependencies=[Depends(_authorise)])
    app.add_api_route(f"/{shown.WORKSPACE}/{{kind}}/{{project}}{{rest:path}}", api.app, response_class=HTMLResponse)

    @app.exception_handler(RateLimited)
    def limited(_request: Request, error: RateLimited) -> JSONResponse:
        return JSONResponse({"reason": f"Too many requests: {error}", "traceId": shown.trace()}, 429)

    @app.exception_handler(HTTPException)
    def failed(_request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse(
            {"reason": error.detail, "traceId": shown.trace()}, error.status_code, headers=error.headers
        )

    @app.exception_handler(RequestValidationError)
    def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        fields = {".".join(map(str, problem["loc"])): problem["msg"] for problem in error.errors()}
        body = {"reason": "Validation Failed", "details": json.dumps(fields), "traceId": shown.trace()}
        return JSONResponse(body, 422)

    return app


def _authorise(request: Request) -> None:
    if request.headers.get("authorization") != f"Bearer {TOKEN}":
        raise HTTPException(401, "Invalid or missing token")


class _Api:
    def __init__(self, context: VendorContext) -> None:
        self._context, self._store = context, context.store
        self._limits = RateLimits(context.store, "hex", *LIMITS)
        self._host = context.config.url("hex")
        self.router = APIRouter()
        route = self.router.add_api_route
        route("/projects", self.projects)
        route("/projects/{project}", self.project)
        route("/projects/{project}/queriedTables", self.queried_tables)
        route("/projects/{project}/runs", self.runs)
        route("/projects/{project}/runs", self.trigger, methods=["POST"], status_code=201)
        route("/projects/{project}/runs/{run_id}", self.run)
        route("/projects/{project}/runs/{run_id}", self.kill, methods=["DELETE"], status_code=204)

    def projects(
        self,
        includeArchived: bool = False,
        includeTrashed: bool = False,
        categories: Annotated[list[str] | None, Query()] = None,
        ownerEmail: str | None = None,
        limit: Limit = 25,
        after: str | None = None,
        before: str | None = None,
        sortBy: Literal["CREATED_AT", "LAST_EDITED_AT", "LAST_PUBLISHED_AT"] = "CREATED_AT",
        sortDirection: Literal["DESC", "ASC"] = "DESC",
    ) -> Any:
        rows = self._store.execute(
            "select * from hex_project where (?1 or archived_at is null) and (?2 or trashed_at is null)"
            f" and (?3 is null or owner = ?3) order by {SORTS[sortBy]} {sortDirection}, id",
            (includeArchived, includeTrashed, ownerEmail),
        )
        found = [row for row in rows if not categories or set(categories) & set(json.loads(row["categories"]))]
        return self._page(found, shown.project, limit, after, before)

    def project(self, project: UUID) -> Any:
        self._limits.take("requests_minute", "requests_hour")
        return shown.project(self._project(project, 404))

    def queried_tables(
        self, project: UUID, limit: Limit = 25, after: str | None = None, before: str | None = None
    ) -> Any:
        self._project(project, 404)
        rows = self._store.execute("select * from hex_table where project = ? order by position", (str(project),))
        return self._page(rows, shown.table, limit, after, before) | {"traceId": shown.trace()}

    def runs(
        self,
        project: UUID,
        limit: Limit = 25,
        offset: Annotated[int, Query(ge=0)] = 0,
        statusFilter: Status | None = None,
        runTriggerFilter: Literal["API", "SCHEDULED", "APP_REFRESH", "ALL"] = "ALL",
    ) -> Any:
        self._project(project, 403)
        rows = self._store.execute(
            "select * from hex_run where project = ?1 and (?2 is null or status = ?2) and (?3 = 'ALL' or run_trigger = ?3)"
            " order by number desc limit ?4 offset ?5",
            (str(project), statusFilter, runTriggerFilter, limit + 1, offset),
        )
        here = f"{self._host}/api/v1/projects/{project}/runs?limit={limit}&offset="
        return {
            "runs": [shown.run(row, self._host) for row in rows[:limit]],
            "nextPage": f"{here}{offset + limit}" if len(rows) > limit else None,
            "previousPage": f"{here}{max(0, offset - limit)}" if offset else None,
            "traceId": shown.trace(),
        }

    def run(self, project: UUID, run_id: UUID) -> Any:
        return shown.run(self._run(project, run_id), self._host)

    def trigger(self, project: UUID, body: Annotated[RunRequest | None, Body()] = None) -> Any:
        self._limits.take("runs_minute", "runs_hour")
        row, wanted = self._project(project, 403), body or RunRequest()
        if wanted.inputParams and (wanted.viewId or wanted.updatePublishedResults):
            raise HTTPException(400, "inputParams go with neither viewId nor updatePublishedResults")
        if row["published_at"] is None:
            raise HTTPException(422, "The project has no published version")
        if wanted.dryRun:
            dummy = {"project": row["id"], "id": str(UUID(int=0)), "version": row["version"]}
            return shown.triggered(dummy, self._host)
        run_id = state.start(self._store, row, "API", wanted.updatePublishedResults)
        run.start(self._context, row["id"], run_id)
        return shown.triggered(self._run(project, UUID(run_id)), self._host)

    def kill(self, project: UUID, run_id: UUID) -> Response:
        self._run(project, run_id)
        state.end(self._store, str(run_id), "KILLED")
        return Response(status_code=204)

    def app(self, kind: str, project: str, rest: str) -> str:
        """What the links of projects and runs lead to: Hex's own pages are no part of this stand-in."""
        row = state.project(self._store, project)
        if row is None or kind not in {"hex", "app"}:
            raise HTTPException(404, "There is no such page")
        return f"<title>Hex</title><p>Here Hex would show the project {html.escape(row['title'])}."

    def _page(self, rows: list[Any], show: Any, limit: int, after: str | None, before: str | None) -> dict[str, Any]:
        try:
            found, pagination = shown.page(rows, limit, after, before)
        except ValueError as error:
            raise HTTPException(400, "The cursor is malformed") from error
        return {"values": [show(row) for row in found], "pagination": pagination}

    def _project(self, id_: UUID, missing: int) -> Any:
        found = state.project(self._store, str(id_))
        if found is None:
            raise HTTPException(missing, f"There is no project {id_} that this token may see")
        return found

    def _run(self, project: UUID, run_id: UUID) -> Any:
        found = state.run(self._store, str(project), str(run_id))
        if found is None:
            raise HTTPException(422, f"The project has no run {run_id}")
        return found
