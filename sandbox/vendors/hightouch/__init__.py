"""Hightouch's REST API; runs really query the warehouse and upsert into Salesforce.

Unverified against the real service: the fields of `configuration`, and what a run says when a model's primary key is not unique (here
it fails).
"""

from __future__ import annotations

import json
import sqlite3
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from sandbox.vendors.context import VendorContext
from sandbox.vendors.hightouch import catalogue, run, state
from sandbox.vendors.rate_limits import RateLimit, RateLimited, RateLimits

KEY = "local-hightouch-key"
LIMITS = (RateLimit("requests", 200, 10),)
""""200 requests per 10 seconds per workspace" (https://hightouch.com/docs/developer-tools/api-guide#hightouch-api-rate-limits)."""
COLUMNS = {"id": "id", "createdAt": "created_at", "startedAt": "started_at", "finishedAt": "finished_at"}

Limit = Annotated[int, Query(ge=1)]
Offset = Annotated[int, Query(ge=0)]


def build(context: VendorContext) -> FastAPI:
    state.prepare(context.store)
    run.resume_left_behind(context)
    app = FastAPI(title="Hightouch", openapi_url=None)
    limits = RateLimits(context.store, "hightouch", *LIMITS)

    def count() -> None:
        limits.take("requests")

    app.include_router(_Api(context).router, prefix="/api/v1", dependencies=[Depends(count), Depends(_authorise)])

    @app.exception_handler(RateLimited)
    def limited(_request: Request, error: RateLimited) -> JSONResponse:
        # Hightouch says no more than this: its answers have no `Retry-After` and no other header about limits
        # (api-evangelist/hightouch, rate-limits/hightouch-rate-limits.yml). The body is TriggerErrorResponse of the OpenAPI file.
        return JSONResponse({"error": f"Too many requests: {error}"}, 429)

    @app.exception_handler(HTTPException)
    def failed(_request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"message": error.detail}, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        fields = {".".join(map(str, problem["loc"])): problem["msg"] for problem in error.errors()}
        return JSONResponse({"message": "Validation Failed", "details": fields}, 422)

    return app


def _authorise(request: Request) -> None:
    if request.headers.get("authorization") != f"Bearer {KEY}":
        raise HTTPException(401, "Unauthorized: the API key is missing or invalid")


class _Api:
    def __init__(self, context: VendorContext) -> None:
        self._context, self._store = context, context.store
        self.router = APIRouter()
        route = self.router.add_api_route
        route("/sources", self.sources)
        route("/destinations", self.destinations)
        route("/models", self.models)
        route("/syncs", self.syncs)
        route("/sources/{number}", self.source)
        route("/destinations/{number}", self.destination)
        route("/models/{number}", self.model)
        route("/syncs/{number}", self.sync)
        route("/syncs/{number}/runs", self.runs)
        route("/syncs/{number}/trigger", self.trigger, methods=["POST"])

    def sources(self, slug: str | None = None, limit: Limit = 100, offset: Offset = 0) -> Any:
        return _page(catalogue.SOURCES, slug, limit, offset)

    def destinations(self, slug: str | None = None, limit: Limit = 100, offset: Offset = 0) -> Any:
        return _page(catalogue.DESTINATIONS, slug, limit, offset)

    def models(self, slug: str | None = None, limit: Limit = 100, offset: Offset = 0) -> Any:
        return _page(self._models(), slug, limit, offset)

    def syncs(self, slug: str | None = None, limit: Limit = 100, offset: Offset = 0) -> Any:
        return _page([self._show(sync) for sync in catalogue.syncs(self._store).values()], slug, limit, offset)

    def source(self, number: int) -> Any:
        return _one(catalogue.SOURCES, number)

    def destination(self, number: int) -> Any:
        return _one(catalogue.DESTINATIONS, number)

    def model(self, number: int) -> Any:
        return _one(self._models(), number)

    def sync(self, number: int) -> Any:
        return self._show(self._find(number))

    def runs(
        self,
        number: int,
        runId: int | None = None,
        within: Annotated[float | None, Query(gt=0)] = None,
        orderBy: Literal["id", "createdAt", "startedAt", "finishedAt"] = "id",
        orderDirection: Literal["asc", "desc"] = "asc",
        limit: Limit = 100,
        offset: Offset = 0,
    ) -> Any:
        """Runs of a sync, oldest first unless asked otherwise: which order is the default is not documented."""
        self._find(number)
        rows = self._store.execute(
            "select * from hightouch_run where sync = ?1 and (?2 is null or id = ?2) and (?3 is null or started_at >= ?3)"
            f" order by {COLUMNS[orderBy]} {orderDirection} limit ?4 offset ?5",
            (number, runId, within and state.minutes_ago(within), limit + 1, offset),
        )
        return {"data": [_run_as_shown(row) for row in rows[:limit]], "hasMore": len(rows) > limit}

    def trigger(self, number: int, body: Annotated[dict[str, Any] | None, Body()] = None) -> Any:
        if self._find(number).disabled:
            raise HTTPException(422, f"Sync {number} is disabled")
        queued = state.queue(self._store, number, bool((body or {}).get("fullResync")))
        run.start_next(self._context, number)
        return {"id": str(queued)}

    def _find(self, number: int) -> catalogue.Sync:
        found = catalogue.syncs(self._store)
        if number not in found:
            raise HTTPException(404, f"Sync {number} not found")
        return found[number]

    def _models(self) -> list[dict[str, Any]]:
        syncs = catalogue.syncs(self._store).values()
        return [
            catalogue.model_as_shown(model, [sync.id for sync in syncs if sync.model == model.id])
            for model in catalogue.models(self._store).values()
        ]

    def _show(self, sync: catalogue.Sync) -> dict[str, Any]:
        newest = self._store.execute(
            "select status, started_at from hightouch_run where sync = ? order by id desc limit 1", (sync.id,)
        )
        status, at = (newest[0]["status"], newest[0]["started_at"]) if newest else ("pending", None)
        return catalogue.sync_as_shown(sync, catalogue.models(self._store)[sync.model].primary_key, status, at)


def _page(items: list[dict[str, Any]], slug: str | None, limit: int, offset: int) -> dict[str, Any]:
    found = [item for item in items if slug in {None, item["slug"]}]
    return {"data": found[offset : offset + limit], "hasMore": len(found) > offset + limit}


def _one(items: list[dict[str, Any]], number: int) -> dict[str, Any]:
    found = [item for item in items if item["id"] == number]
    if not found:
        raise HTTPException(404, f"There is nothing with id {number}")
    return found[0]


def _run_as_shown(row: sqlite3.Row) -> dict[str, Any]:
    counts = {name: json.loads(row[name]) for name in ("planned", "successful", "failed")}
    rows = {f"{name}Rows": {f"{kind}Count": count for kind, count in value.items()} for name, value in counts.items()}
    return {
        "id": row["id"],
        "status": row["status"],
        "createdAt": row["created_at"],
        "startedAt": row["started_at"],
        "finishedAt": row["finished_at"],
        "querySize": row["query_size"],
        "error": row["error"],
        **_completion(row, counts["planned"]),
        **rows,
    }


def _completion(row: sqlite3.Row, planned: dict[str, int]) -> dict[str, float]:
    """How much of the plan is done. Until there is one it is not there at all: Dagster's own client cannot read a null."""
    if row["done"] is None:
        return {}
    total = planned["added"] + planned["changed"]
    return {"completionRatio": row["done"] / total if total else 1.0}
