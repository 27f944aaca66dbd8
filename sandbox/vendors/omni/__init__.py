"""Omni's REST API; a refresh of the schema model really reads the warehouse's columns.

Unverified against the real service: whether `Retry-After` comes with a 429 (here it does not), what its errors look like beyond `detail`, and
whether a document's owner has the same id as the user in SCIM (here it has, as dagster-omni takes it).
"""

from __future__ import annotations

import html
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException

from sandbox.vendors.context import VendorContext
from sandbox.vendors.omni import refresh, shown, state
from sandbox.vendors.omni.catalogue import SCHEMA_MODEL
from sandbox.vendors.rate_limits import RateLimit, RateLimited, RateLimits

KEY = "local-omni-key"
LIMITS = (RateLimit("requests", 60, 60),)
""""60 requests per minute per API key" (https://docs.omni.co/api/rate-limits); support raises it to 500 for those who ask."""

PageSize = Annotated[int, Query(ge=1, le=100)]
Direction = Literal["asc", "desc"]
DOCUMENTS = (
    "select d.*, u.id as owner_id, u.name as owner_name from omni_document d left join omni_user u on u.email = d.owner"
)
SORTS = {"name": "lower(d.name)", "updatedAt": "d.updated_at", "favorites": "d.identifier", "visits": "d.identifier"}


def build(context: VendorContext) -> FastAPI:
    state.prepare(context.store)
    state.end_left_behind(context.store)
    app = FastAPI(title="Omni", openapi_url=None)
    api = _Api(context)
    limits = RateLimits(context.store, "omni", *LIMITS)

    def count() -> None:
        limits.take("requests")

    app.include_router(api.router, prefix="/api", dependencies=[Depends(_authorise), Depends(count)])
    app.add_api_route("/{kind}/{identifier}", api.page, response_class=HTMLResponse)

    @app.exception_handler(RateLimited)
    def limited(_request: Request, _error: RateLimited) -> JSONResponse:
        return JSONResponse({"detail": "Too Many Requests", "status": 429}, 429)

    @app.exception_handler(HTTPException)
    def failed(_request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"detail": error.detail, "status": error.status_code}, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        fields = "; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors())
        return JSONResponse({"detail": f"Bad Request: {fields}", "status": 400}, 400)

    return app


def _authorise(request: Request) -> None:
    if request.headers.get("authorization") != f"Bearer {KEY}":
        raise HTTPException(401, "Unauthorized")


class _Api:
    def __init__(self, context: VendorContext) -> None:
        self._context, self._store = context, context.store
        self._host = context.config.url("omni")
        self.router = APIRouter()
        route = self.router.add_api_route
        route("/v1/documents", self.documents)
        route("/v1/documents/{identifier}/queries", self.queries)
        route("/v1/models", self.models)
        route("/v1/models/{model}/refresh", self.refresh, methods=["POST"])
        route("/v1/models/{model}/content-validator", self.content)
        route("/v1/jobs/{job}/status", self.job)
        route("/scim/v2/Users", self.users)
        # As dagster-omni spells it.
        route("/scim/v2/users", self.users)

    def documents(
        self, include: str = "", pageSize: PageSize = 50, cursor: str | None = None,
        sortField: Literal["name", "favorites", "updatedAt", "visits"] = "name", sortDirection: Direction = "asc",
    ) -> Any:  # fmt: skip
        wanted = frozenset(include.split(","))
        rows = self._store.execute(
            f"{DOCUMENTS} where d.deleted = 0 or ? order by {SORTS[sortField]} {sortDirection}, d.identifier",
            ("includeDeleted" in wanted,),
        )
        return self._page([shown.document(row, self._host, wanted) for row in rows], pageSize, cursor)

    def queries(self, identifier: str) -> Any:
        found = state.queries(self._store, identifier)
        if not found:
            raise HTTPException(404, "Not Found: the document has no queries, or does not exist")
        items = [shown.query(identifier, self._host, position, *item) for position, item in enumerate(found)]
        return {"queries": items}

    def models(
        self, modelKind: str | None = None, connectionId: str | None = None, modelId: str | None = None, name: str | None = None,
        pageSize: PageSize = 20, cursor: str | None = None,
    ) -> Any:  # fmt: skip
        wanted = {"modelKind": modelKind, "connectionId": connectionId, "id": modelId, "name": name}
        found = [
            model for model in shown.MODELS if all(value in {None, model[field]} for field, value in wanted.items())
        ]
        return self._page(found, pageSize, cursor)

    def refresh(self, model: str, branch_id: str | None = None) -> Any:
        if self._model(model)["id"] != SCHEMA_MODEL:
            raise HTTPException(400, "Bad Request: only a schema model can be refreshed")
        # The two answers are those that the OpenAPI file has for this call; their words are unverified.
        if self._context.faults.active("omni", kind="not_connection_admin"):
            raise HTTPException(403, "Permission denied: connection admin role required")
        if self._context.faults.active("omni", kind="branch_required"):
            if branch_id is None:
                raise HTTPException(400, "Bad Request: branch_id is required: branch-based schema refresh is enabled")
        elif branch_id is not None:
            raise HTTPException(400, "Bad Request: branch-based schema refresh is not enabled")
        job = state.start_job(self._store, model)
        refresh.start(self._context, job)
        return {"jobId": job, "modelId": model, "status": "running"}

    def job(self, job: str) -> Any:
        found = self._store.execute("select status from omni_job where id = ?", (job,))
        if not found:
            raise HTTPException(404, "Not Found: job not found")
        return {"job_id": job, "job_type": "REFRESH_SCHEMA", "status": found[0]["status"]}

    def content(
        self, model: str, content_filter_mode: Literal["ALL", "WITH_ISSUES", "NO_ISSUES"] = "ALL",
        include_personal_folders: bool = False,
    ) -> Any:  # fmt: skip
        self._model(model)
        known = state.model_fields(self._store)
        rows = self._store.execute(
            f"{DOCUMENTS} where d.deleted = 0 and exists (select 1 from omni_query q where q.document = d.identifier) order by d.name"
        )
        found = [shown.validated(row, state.queries(self._store, row["identifier"]), known) for row in rows]
        if content_filter_mode != "ALL":
            found = [item for item in found if _is_broken(item) == (content_filter_mode == "WITH_ISSUES")]
        return {"model_id": model, "branch": None, "content": found}

    def users(
        self, count: Annotated[int, Query(ge=0)] = 100, startIndex: Annotated[int, Query(ge=1)] = 1,
        filter: str | None = None,
    ) -> Any:  # fmt: skip
        email = (filter or "").removeprefix('userName eq "').removesuffix('"')
        rows = self._store.execute("select * from omni_user where ?1 = '' or email = ?1 order by email", (email,))
        found = [shown.user(row) for row in rows[startIndex - 1 : startIndex - 1 + count]]
        return {
            "Resources": found,
            "itemsPerPage": len(found),
            "schemas": [shown.LIST_SCHEMA],
            "startIndex": startIndex,
            "totalResults": len(rows),
        }

    def page(self, kind: str, identifier: str) -> str:
        """What the links of documents lead to: Omni's own pages are no part of this stand-in."""
        found = self._store.execute("select name from omni_document where identifier = ?", (identifier,))
        if not found or kind not in {"dashboards", "w"}:
            raise HTTPException(404, "Not Found")
        return f"<title>Omni</title><p>Here Omni would show the document {html.escape(found[0]['name'])}."

    def _page(self, items: list[Any], size: int, cursor: str | None) -> dict[str, Any]:
        try:
            return shown.page(items, size, cursor)
        except ValueError as error:
            raise HTTPException(400, "Bad Request: the cursor is malformed") from error

    def _model(self, id_: str) -> dict[str, Any]:
        found = [model for model in shown.MODELS if model["id"] == id_]
        if not found:
            raise HTTPException(404, "Not Found: model not found")
        return found[0]


def _is_broken(item: dict[str, Any]) -> bool:
    return any(query["issues"] for query in item["queries_and_issues"])
