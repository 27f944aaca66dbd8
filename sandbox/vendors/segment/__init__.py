"""Segment's HTTP Tracking API, as its documentation and the official client know it, and its BigQuery destination.

As documented, a request is answered with 200 unless its JSON is broken or it is too large: what has an unknown write key, no identity or
no event name is dropped after that, and shown by `/_inspect/rejected` (Segment has its debugger for it). The body of a 400 is
unverified. `/_inspect` is the stand-in's own.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import json
import uuid
import zlib
from datetime import UTC, datetime
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from sandbox.services import bigquery
from sandbox.vendors.context import VendorContext
from sandbox.vendors.segment.inbox import Inbox
from sandbox.vendors.segment.loader import Loader
from sandbox.vendors.segment.messages import TYPES, Body, problem
from sandbox.vendors.segment.sources import WRITE_KEYS

LARGEST_MESSAGE, LARGEST_BATCH = 32 * 1024, 500 * 1024
FROM_THE_REQUEST = ("sentAt", "writeKey")
"""What a batch says once for all of its messages."""


class BadRequest(ValueError):
    """A request that Segment answers with 400."""


def build(context: VendorContext) -> FastAPI:
    inbox = Inbox(context.store)
    loader = Loader(inbox, bigquery.raw_client(context.config))
    loader.start()
    app = FastAPI(title="Segment", openapi_url=None)

    @app.exception_handler(BadRequest)
    def refused(_request: Request, error: BadRequest) -> JSONResponse:
        return JSONResponse({"success": False, "message": str(error)}, 400)

    @app.get("/_inspect/rejected")
    def rejected() -> list[dict[str, Any]]:
        return inbox.rejected()

    @app.post("/_inspect/load")
    def load() -> dict[str, dict[str, int]]:
        return loader.load()

    @app.post("/v1/batch")
    async def batch(request: Request) -> dict[str, bool]:
        body = await _json(request, LARGEST_BATCH)
        messages = body.get("batch")
        if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
            raise BadRequest("batch is no list of messages")
        if any(len(json.dumps(message)) > LARGEST_MESSAGE for message in messages):
            raise BadRequest(f"a message is larger than {LARGEST_MESSAGE // 1024} KB")
        shared = {name: body[name] for name in FROM_THE_REQUEST if name in body}
        merged = [shared | message | {"context": _merged(body, message)} for message in messages]
        await run_in_threadpool(_receive, context, inbox, _key(request, body), merged)
        return {"success": True}

    @app.post("/v1/{kind}")
    async def call(kind: str, request: Request) -> Any:
        if kind not in TYPES:
            return JSONResponse({"success": False, "message": "not found"}, 404)
        body = await _json(request, LARGEST_MESSAGE)
        await run_in_threadpool(_receive, context, inbox, _key(request, body), [body | {"type": kind}])
        return {"success": True}

    return app


def _receive(context: VendorContext, inbox: Inbox, key: str | None, messages: list[Body]) -> None:
    """Keep the messages, all or none, before anybody is told that they were received."""
    received_at = datetime.now(UTC)
    source = WRITE_KEYS.get(key or "")
    with context.store.transaction():
        for message in messages:
            message.pop("writeKey", None)
            # Libraries name their messages; a bare HTTP call need not.
            message["messageId"] = message.get("messageId") or str(uuid.uuid4())
            reason = problem(message) if source else f"no source has the write key {key!r}"
            if source and reason is None:
                inbox.accept(source, message, received_at)
            else:
                inbox.reject(source, message, str(reason), received_at)


async def _json(request: Request, largest: int) -> Body:
    """The request's body, unpacked. Raises BadRequest."""
    content = await request.body()
    try:
        if request.headers.get("content-encoding") == "gzip":
            content = await run_in_threadpool(gzip.decompress, content)
        body = json.loads(content)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise BadRequest("malformed JSON") from error
    if len(content) > largest:
        raise BadRequest(f"the request is larger than {largest // 1024} KB")
    if not isinstance(body, dict):
        raise BadRequest("the body is no JSON object")
    return body


def _key(request: Request, body: Body) -> str | None:
    """The write key: the user of basic authentication, else `writeKey` in the body."""
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(credentials, validate=True).decode().partition(":")[0]
        except (binascii.Error, UnicodeDecodeError):
            return None
    return body.get("writeKey")


def _merged(body: Body, message: Body) -> Any:
    shared, own = body.get("context") or {}, message.get("context") or {}
    return shared | own if isinstance(shared, dict) and isinstance(own, dict) else own
