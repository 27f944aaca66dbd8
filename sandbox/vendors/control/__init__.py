"""The sandbox's own port: the faults and the on-call clock under `/_control`, and the control room, a page for people."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import AwareDatetime, BaseModel, Field, JsonValue

from sandbox.config import VENDORS
from sandbox.vendors import rate_limits
from sandbox.vendors.context import VendorContext
from sandbox.vendors.control import content, room
from sandbox.vendors.control.recent import targets
from sandbox.vendors.faults import KINDS, UnknownFault
from sandbox.vendors.incident_io.alerting import Alerting
from sandbox.vendors.incident_io.settings import Settings
from sandbox.vendors.rate_limits import UnknownLimit
from sandbox.vendors.slack import Workspace


class NewFault(BaseModel):
    vendor: str
    target: str | None = None
    kind: str | None = None
    params: dict[str, JsonValue] = {}
    times: Annotated[int, Field(ge=1)] | None = None


class NewTime(BaseModel):
    at: AwareDatetime


class NewLimit(BaseModel):
    """`requests` in `seconds`; `burst` is what a token bucket holds (by default `requests`)."""

    vendor: str
    name: str
    requests: Annotated[int, Field(ge=0)]
    seconds: Annotated[float, Field(gt=0)] | None = None
    burst: Annotated[int, Field(ge=1)] | None = None


def build(context: VendorContext) -> FastAPI:
    app = FastAPI(title="Control", openapi_url=None)
    alerting, workspace = Alerting(context, Settings(context)), Workspace(context)

    @app.exception_handler(UnknownFault)
    @app.exception_handler(UnknownLimit)
    def unknown(_request: Request, error: UnknownFault | UnknownLimit) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 422)

    @app.exception_handler(RequestValidationError)
    def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        problems = [f"{'.'.join(str(part) for part in d['loc'][1:])}: {d['msg']}" for d in error.errors()]
        return JSONResponse({"detail": "; ".join(problems)}, 422)

    app.include_router(_faults(context), prefix="/_control")
    app.include_router(_clock(context), prefix="/_control")
    app.include_router(_limits(context), prefix="/_control")
    app.include_router(content.router(context), prefix="/_control")

    @app.get("/_control/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/", response_class=HTMLResponse)
    def page() -> str:
        alerting.advance()
        return room.render(context, alerting.pages(), workspace.messages())

    return app


def _faults(context: VendorContext) -> APIRouter:
    router = APIRouter()
    faults = context.faults

    @router.get("/faults")
    def active() -> list[dict[str, Any]]:
        return [asdict(fault) for fault in faults.active()]

    @router.post("/faults")
    def add(body: NewFault) -> dict[str, Any]:
        kind = KINDS.get(body.kind or "")
        if body.target and (kind is None or kind.needs_target):
            _check_target(context, body.vendor, body.target)
        return asdict(faults.add(body.vendor, body.target, body.kind, body.params, body.times))

    @router.delete("/faults")
    def remove(vendor: str | None = None, target: str | None = None, kind: str | None = None) -> dict[str, int]:
        if vendor is not None and vendor not in VENDORS:
            raise UnknownFault(f"no vendor {vendor!r}; there are {', '.join(VENDORS)}")
        if kind is not None and kind not in KINDS:
            raise UnknownFault(f"no fault {kind!r}; there are {', '.join(KINDS)}")
        removed = faults.remove(vendor, target, kind)
        if vendor and target and not removed:
            _check_target(context, vendor, target)
        return {"removed": removed}

    return router


def _check_target(context: VendorContext, vendor: str, target: str) -> None:
    known = targets(context.store, vendor)
    if known and target not in known:
        raise UnknownFault(f"{vendor} has no {target!r}; it has {', '.join(known)}")


def _clock(context: VendorContext) -> APIRouter:
    router = APIRouter()
    clock = context.clock

    @router.get("/clock")
    def show() -> dict[str, datetime]:
        return {"now": clock.now()}

    @router.post("/clock")
    def put(body: NewTime) -> dict[str, datetime]:
        clock.set(body.at)
        return show()

    @router.delete("/clock")
    def reset() -> dict[str, datetime]:
        clock.reset()
        return show()

    return router


def _limits(context: VendorContext) -> APIRouter:
    router = APIRouter()

    @router.get("/limits")
    def show() -> list[dict[str, Any]]:
        return rate_limits.shown(context.store)

    @router.put("/limits")
    def change(body: NewLimit) -> list[dict[str, Any]]:
        rate_limits.override(context.store, body.vendor, body.name, body.requests, body.seconds, body.burst)
        return show()

    @router.delete("/limits")
    def reset(vendor: str | None = None, name: str | None = None) -> dict[str, int]:
        return {"reset": rate_limits.reset(context.store, vendor, name)}

    return router
