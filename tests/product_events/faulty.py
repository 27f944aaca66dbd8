"""A network between the publisher and BigQuery's stand-in, on which requests meet faults."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import httpx

from tests.orchestration.wire import RESET, reply

CUT = object()
"""The request arrives, and half of its answer comes back."""


@dataclass
class Network:
    """Faults of inserts: `script` gives the next ones in order, None for none, and `judge` looks at a request when none is left.

    `changes` are those of the next changes to a table, and `query` gives that of a query.
    """

    target: str
    script: list[Any] = field(default_factory=list)
    judge: Callable[[bytes], Any] = lambda _body: None
    changes: list[Any] = field(default_factory=list)
    query: Callable[[bytes], Any] = lambda _body: None
    port: int = 0
    inserts: list[tuple[float, list[str]]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def sent(self) -> list[str]:
        """The insertId of each row of each request."""
        return [row for _, rows in self.inserts for row in rows]


@contextlib.contextmanager
def network(target: str) -> Iterator[Network]:
    """Listen until the end of the block."""
    between = Network(target)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            _carry(self, between)

        do_POST = do_PATCH = do_GET

        def log_message(self, *_arguments: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    between.port = server.server_port
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield between
    finally:
        server.shutdown()
        server.server_close()


def _carry(handler: BaseHTTPRequestHandler, between: Network) -> None:
    body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
    fault = between.changes.pop(0) if handler.command == "PATCH" and between.changes else None
    path = handler.path.partition("?")[0]
    if handler.command == "POST" and path.endswith(("/queries", "/jobs")):
        fault = between.query(body)
    if path.endswith("/insertAll"):
        between.inserts.append((time.monotonic(), [row["insertId"] for row in json.loads(body)["rows"]]))
        fault = between.script.pop(0) if between.script else between.judge(body)
    handler.close_connection = True
    if fault is RESET:
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.connection.close()
        return
    if isinstance(fault, bytes):
        handler.connection.sendall(fault)
        return
    headers = {"Content-Type": handler.headers.get("Content-Type", "")}
    answer = httpx.request(handler.command, between.target + handler.path, content=body, headers=headers, timeout=30)
    whole = reply(answer.status_code, answer.text, Content_Type="application/json")
    handler.connection.sendall(whole[: len(whole) - len(answer.content) // 2] if fault is CUT else whole)
