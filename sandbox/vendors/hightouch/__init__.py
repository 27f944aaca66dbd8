"""Hightouch's REST API; runs really query the warehouse and upsert into Salesforce.

Unverified against the real service: the fields of `configuration`, and what a run says when a model's primary key is not unique (here
it fails).
"""

from __future__ import annotations

import json
import math
import sqlite3
import threading
import time
from collections import deque
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from sandbox.vendors.context import VendorContext
from sandbox.vendors.hightouch import catalogue, run, state

KEY = "local-hightouch-key"
REQUESTS, WINDOW_SECONDS = 200, 10

Limit = Annotated[int, Query(ge=1)]
Offset = Annotated[int, Query(ge=0)]


def build(context: VendorContext) -> FastAPI:
    state.prepare(context.store)
    app = FastAPI(title="Hightouch", openapi_url=None)
    guards = [Depends(_RateLimit().check), Depends(_authorise)]
    app.include_router(_Api(context).router, prefix="/api/v1", dependencies=guards)

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


class _RateLimit:
    """At most 200 requests in any 10 seconds."""

    def __init__(self) -> None:
        self._times: deque[float] = deque()
        self._lock = threading.Lock()

    def check(self) -> None:
        with self._lock:
            now = time.monotonic()
            while self._times and self._times[0] <= now - WINDOW_SECONDS:
                self._times.popleft()
            if len(self._times) >= REQUESTS:
                wait = math.ceil(self._times[0] + WINDOW_SECONDS - now)
                raise HTTPException(429, "Too many requests", {"Retry-After": str(wait)})
            self._times.append(now)


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
        self, number: int, runId: int | None = None, limit: Limit = 5, offset: Offset = 0
    ) -> Any:  # fmt: skip
        self._find(number)
        rows = self._store.execute(
            "select * from hightouch_run where sync = ?1 and (?2 is null or id = ?2) order by id desc limit ?3 offset ?4",
            (number, runId, limit + 1, offset),
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
