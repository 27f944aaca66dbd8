"""Faults on the wire, in front of a vendor's app."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import Any

from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sandbox.vendors.faults import KINDS, Fault, Faults

PROXY_PAGE = (
    "<html><head><title>502 Bad Gateway</title></head><body><center><h1>502 Bad Gateway</h1></center></body></html>"
)
SLOW = "slow"
"""The fault after which the request goes on: to the vendor, or to another fault."""
WIRE_KINDS = {name for name, kind in KINDS.items() if kind.on_the_wire}


class FaultMiddleware:
    """Strikes requests of one vendor with its active wire faults; `/_inspect` paths, which are no vendor's, are spared.

    A fault with a target strikes only the requests whose method and path, `GET /v1/projects`, contain it. Only under `truncated` does the vendor do what it was asked.
    It has to be the outermost app, right under uvicorn, whose connection `reset` closes.
    """

    def __init__(self, app: ASGIApp, vendor: str, faults: Faults) -> None:
        self._app, self._vendor, self._faults = app, vendor, faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        active = self._find_active(scope) if scope["type"] == "http" else []
        for fault in (one for one in active if one.kind == SLOW):
            self._faults.consume(fault)
            await asyncio.sleep(float(fault.params["seconds"]))
        fault = next((one for one in active if one.kind != SLOW), None)
        if fault is None:
            await self._app(scope, receive, send)
            return
        self._faults.consume(fault)
        match fault.kind:
            case "truncated":
                await self._truncated(scope, receive, send)
            case "hang":
                # Cancelled means that the listener closes: uvicorn would answer 500 to what it finds unanswered.
                with contextlib.suppress(TimeoutError, asyncio.CancelledError):
                    await asyncio.wait_for(_disconnected(receive), fault.params["seconds"])
                await _reset(receive, send)
            # A listener takes a moment to close: until then its connections are reset.
            case "reset" | "refused":
                await _reset(receive, send)
            case _:
                await _answer(fault)(scope, receive, send)

    def _find_active(self, scope: Scope) -> list[Fault]:
        if scope["path"].startswith("/_inspect"):
            return []
        request = f"{scope['method']} {scope['path']}"
        active = self._faults.active(self._vendor)
        return [fault for fault in active if fault.kind in WIRE_KINDS and (not fault.target or fault.target in request)]

    async def _truncated(self, scope: Scope, receive: Receive, send: Send) -> None:
        started: dict[str, Any] = {}
        body = b""

        async def collect(message: Message) -> None:
            nonlocal body
            if message["type"] == "http.response.start":
                started.update(message)
            else:
                body += message.get("body", b"")

        await self._app(scope, receive, collect)
        answer = Response(body[: len(body) // 2], started["status"], media_type="application/json")
        await answer(scope, receive, send)


async def _reset(receive: Receive, send: Send) -> None:
    """Close the connection with a TCP reset and no answer. ASGI has no word for that, so it is done on uvicorn's transport."""
    transport: asyncio.Transport = send.__self__.transport  # type: ignore[attr-defined]
    linger = struct.pack("ii", 1, 0)
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    transport.abort()
    await _disconnected(receive)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _answer(fault: Fault) -> Response:
    match fault.kind:
        case "http_500":
            return JSONResponse({"code": "InternalError", "message": "Internal server error"}, 500)
        case "http_401":
            return JSONResponse({"code": "Unauthorized", "message": "The key is refused"}, 401)
        case "http_403":
            return JSONResponse({"code": "Forbidden", "message": "The key may not do that"}, 403)
        case "http_429":
            headers = {"Retry-After": str(fault.params["retry_after"])}
            return JSONResponse({"code": "RateLimited", "message": "Too many requests"}, 429, headers)
        case "html":
            return HTMLResponse(PROXY_PAGE, 502)
        case kind:
            raise ValueError(f"{kind} is no fault on the wire")
