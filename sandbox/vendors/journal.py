"""What a vendor was asked, for whoever wants to count requests."""

from __future__ import annotations

from collections import deque

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

KEPT = 10_000
PATH = "/_inspect/requests"


class JournalMiddleware:
    """Answers GET `/_inspect/requests` with the newest requests that reached the vendor, oldest first, as `"GET /v1/projects"`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._requests: deque[str] = deque(maxlen=KEPT)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            if scope["path"] == PATH:
                await JSONResponse(list(self._requests))(scope, receive, send)
                return
            if not scope["path"].startswith("/_inspect"):
                self._requests.append(f"{scope['method']} {scope['path']}")
        await self._app(scope, receive, send)
