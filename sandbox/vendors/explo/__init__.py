"""Explo's REST API: customers and dashboards. Dashboards are rows here; nobody draws them.

Unverified against the real service: how it words an error, and `GET /api/dashboard/{embed_id}/`, which Explo does not document: it
gives a dashboard with its datasets.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from sandbox.vendors.context import VendorContext
from sandbox.vendors.explo import state
from sandbox.vendors.explo.catalogue import Dataset, without_filter
from sandbox.vendors.rate_limits import RateLimit, RateLimited, RateLimits

TOKEN = "local-explo-token"
LIMITS = (RateLimit("requests", 180, 60),)
""""180 requests per minute across all endpoints, on a requestor IP basis" (https://docs.explo.co/security/rate-limits)."""
TEAM = 1

PageSize = Annotated[int, Query(ge=1, le=1000)]
Page = Annotated[int, Query(ge=1)]
Customer = Annotated[dict[str, Any], Body()]


def build(context: VendorContext) -> FastAPI:
    state.prepare(context.store)
    app = FastAPI(title="Explo", openapi_url=None, redirect_slashes=False)
    limits = RateLimits(context.store, "explo", *LIMITS)

    def count(request: Request) -> None:
        limits.take("requests", key=request.client.host if request.client else "")

    app.include_router(_Api(context).router, dependencies=[Depends(count), Depends(_authorise)])

    @app.exception_handler(RateLimited)
    def limited(_request: Request, error: RateLimited) -> JSONResponse:
        return _refused(429, f"Request was throttled: {error}")

    @app.exception_handler(HTTPException)
    def failed(request: Request, error: HTTPException) -> JSONResponse:
        # The one thing that Explo's documentation says of paths: without the slash at the end, it is not the method that is allowed.
        if error.status_code == 404 and not request.url.path.endswith("/"):
            return _refused(405, f'Method "{request.method}" not allowed.')
        return _refused(error.status_code, error.detail)

    @app.exception_handler(RequestValidationError)
    def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        return _refused(400, "; ".join(f"{problem['loc'][-1]}: {problem['msg']}" for problem in error.errors()))

    return app


def _refused(status: int, message: str) -> JSONResponse:
    return JSONResponse({"success": 0, "message": message}, status)


def _authorise(request: Request) -> None:
    if request.headers.get("explo-authorization") != f"Token {TOKEN}":
        raise HTTPException(401, "Invalid token.")


class _Api:
    def __init__(self, context: VendorContext) -> None:
        self._store, self._faults = context.store, context.faults
        self.router = APIRouter()
        route = self.router.add_api_route
        route("/v2/api/customers/", self.customers)
        route("/api/create_customer/", self.create, methods=["POST"])
        route("/api/get_customer/", self.get, methods=["POST"])
        route("/api/update_customer/", self.update, methods=["POST"])
        route("/api/dashboard/", self.dashboards)
        route("/api/dashboard/{embed_id}/", self.dashboard)

    def customers(self, pageSize: PageSize = 100, page: Page = 1) -> Any:
        total, found = state.customers(self._store, pageSize, page)
        return {"total_count": total, "results": {"customers": found}}

    def create(self, body: Customer) -> Any:
        _require(body, "provided_id", "name")
        new = state.create(self._store, body)
        return {"success": 1, "new_customer": new, "customer": state.customer(self._store, body["provided_id"])}

    def get(self, body: Customer) -> Any:
        _require(body, "provided_id")
        found = state.customer(self._store, body["provided_id"])
        if found is None:
            raise HTTPException(404, "Customer not found.")
        return {"success": 1, "customer": found}

    def update(self, body: Customer) -> Any:
        _require(body, "provided_id")
        if not state.update(self._store, body):
            raise HTTPException(404, "Customer not found.")
        return {"success": 1, "customer": state.customer(self._store, body["provided_id"])}

    def dashboards(self) -> Any:
        return {"success": 1, "dashboards": [_shown(row) for row in state.dashboards(self._store)]}

    def dashboard(self, embed_id: str) -> Any:
        row = next((row for row in state.dashboards(self._store) if row["embed_id"] == embed_id), None)
        if row is None:
            raise HTTPException(404, "Dashboard not found.")
        found = state.datasets(self._store, embed_id)
        if found and self._faults.active("explo", row["slug"], "tenant_filter_removed"):
            number, first = found[0]
            found[0] = number, Dataset(first.name, without_filter(first.query))
        datasets = [{"id": str(number), "name": one.name, "query": one.query} for number, one in found]
        return _shown(row) | {"datasets": datasets}


def _require(body: dict[str, Any], *names: str) -> None:
    missing = [name for name in names if not isinstance(body.get(name), str) or not body[name]]
    if missing:
        raise HTTPException(400, f"{' and '.join(missing)} is required.")


def _shown(row: Any) -> dict[str, Any]:
    return {
        "team_id": TEAM,
        "name": row["name"],
        "embed_id": row["embed_id"],
        "attributes": [],
        "is_drilldown": False,
    }
