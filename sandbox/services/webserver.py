"""Dagster's webserver, which takes requests of its own pages and of programs only: `python -m sandbox.services.webserver …`.

Dagster looks at no Origin and has no sign-in, so that any web page in an open browser could post to http://127.0.0.1:3000/graphql
and stop a sensor. In production the proxy refuses such requests (deploy/Caddyfile); here this does, by the same rules. It also
refuses foreign host names, since on a laptop a page could make its own name lead to 127.0.0.1 (DNS rebinding).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dagster_webserver import cli
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

HOST_NAMES = {"127.0.0.1", "localhost", "[::1]"}
GRAPHQL = re.compile(r"^/graphql(/|$)")
JSON = re.compile(r"^application/json\s*(;|$)", re.IGNORECASE)
REFUSED = "requests of other sites are refused"


class OwnPagesOnly:
    """Refuse what another web page sends. What has neither `Sec-Fetch-Site` nor `Origin` is a program's, and goes on."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = find_refusal(scope) if scope["type"] in {"http", "websocket"} else None
        if refusal is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            # Before it is accepted, this is answered with 403.
            await send({"type": "websocket.close", "code": 1008, "reason": REFUSED})
        else:
            status, why = refusal
            await PlainTextResponse(why, status)(scope, receive, send)


def find_refusal(scope: Mapping[str, Any]) -> tuple[int, str] | None:
    """Return the status and the reason with which a request is refused; None where it goes on."""
    headers, method, path = Headers(scope=dict(scope)), scope.get("method", "GET"), scope["path"]
    if re.sub(r":\d+$", "", headers.get("host", "")) not in HOST_NAMES:
        return 421, "this is not the name of the sandbox"
    follows_link = (
        scope["type"] == "http"
        and method == "GET"
        and headers.get("sec-fetch-mode") == "navigate"
        and headers.get("sec-fetch-dest") == "document"
        and not GRAPHQL.match(path)
    )
    if headers.get("sec-fetch-site", "none") not in {"same-origin", "none"} and not follows_link:
        return 403, REFUSED
    if headers.get("origin", own := f"http://{headers['host']}") != own:
        return 403, REFUSED
    if GRAPHQL.match(path) and method != "POST" and scope.get("query_string"):
        return 405, "GraphQL is sent with POST"
    if GRAPHQL.match(path) and method == "POST" and not JSON.match(headers.get("content-type", "")):
        return 415, "GraphQL is sent as application/json"
    return None


def main() -> None:
    """Run `dagster-webserver` with these rules in front of it."""
    create = cli.create_app_from_workspace_process_context

    def create_guarded(*arguments: Any, **options: Any) -> Any:
        app = create(*arguments, **options)
        app.add_middleware(OwnPagesOnly)
        return app

    # The command has no option for middleware, and its function for the app is looked up when it runs.
    cli.create_app_from_workspace_process_context = create_guarded
    cli.main()


if __name__ == "__main__":
    main()
