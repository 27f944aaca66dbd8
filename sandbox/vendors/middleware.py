"""Faults on the wire, in front of a vendor's app."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from sandbox.vendors.faults import KINDS, Fault, Faults

PROXY_PAGE = "<html><head><title>502 Bad Gateway</title></head><body><center><h1>502 Bad Gateway</h1></center></body></html>"
WIRE_KINDS = {name for name, kind in KINDS.items() if kind.on_the_wire}


class FaultMiddleware:
    """Strikes requests of one vendor with its active wire faults; `/_inspect` paths, which are no vendor's, are spared.

    A fault with a target strikes only the requests whose path contains it.
    """

    def __init__(self, app: ASGIApp, vendor: str, faults: Faults) -> None:
        self._app, self._vendor, self._faults = app, vendor, faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        fault = self._strike(scope) if scope["type"] == "http" else None
        if fault is None:
            await self._app(scope, receive, send)
            return
        self._faults.consume(fault)
        if fault.kind == "truncated":
            await self._truncated(scope, receive, send)
        elif fault.kind == "hang":
            await asyncio.sleep(fault.params["seconds"])
            await self._app(scope, receive, send)
        elif fault.kind in {"reset", "refused"}:
            # Headers without the body that they promise: the server closes the connection in the middle.
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"100000")]})
            await send({"type": "http.response.body", "body": b"{", "more_body": True})
            scope["extensions"] = {}
            raise ConnectionResetError("fault: reset")
        else:
            await _answer(fault)(scope, receive, send)

    def _strike(self, scope: Scope) -> Fault | None:
        if scope["path"].startswith("/_inspect"):
            return None
        active = self._faults.active(self._vendor)
        return next((f for f in active if f.kind in WIRE_KINDS and (not f.target or f.target in scope["path"])), None)

    async def _truncated(self, scope: Scope, receive: Receive, send: Send) -> None:
        started: dict[str, Any] = {}
        body = b""

        async def collect(message: Any) -> None:
            nonlocal body
            if message["type"] == "http.response.start":
                started.update(message)
            else:
                body += message.get("body", b"")

        await self._app(scope, receive, collect)
        cut = body[: len(body) // 2]
        headers = {"content-type": "application/json"}
        await Response(cut, started["status"], headers)(scope, receive, send)


def _answer(fault: Fault) -> Response:
    match fault.kind:
        case "http_500":
            return JSONResponse({"code": "InternalError", "message": "Internal server error"}, 500)
        case "http_429":
            headers = {"Retry-After": str(fault.params["retry_after"])}
            return JSONResponse({"code": "RateLimited", "message": "Too many requests"}, 429, headers)
        case "html":
            return HTMLResponse(PROXY_PAGE, 502)
        case kind:
            raise ValueError(json.dumps({"not a fault on the wire": kind}))
