"""A server that plays back answers on a real socket, one for each request, so that a client meets faults as a network makes them."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

HELD: list[socket.socket] = []
RESET = object()
"""Closes the connection with a TCP reset instead of an answer."""


@dataclass(frozen=True)
class Slow:
    seconds: float


@dataclass
class Wire:
    """Answers in the order of `script`; the last one is repeated. `requests` are the request lines that arrived, `bodies` what came with them."""

    script: list[Any]
    port: int = 0
    requests: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answer(self) -> Any:
        return self.script[min(len(self.requests), len(self.script)) - 1]


def reply(status: int, body: Any, **headers: str) -> bytes:
    """An HTTP answer; a text body goes out as it is."""
    content = (body if isinstance(body, str) else json.dumps(body)).encode()
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(content)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + content


@contextlib.contextmanager
def wire(*script: Any) -> Iterator[Wire]:
    """Serve the answers on a free port until the end of the block."""
    server = socket.create_server(("127.0.0.1", 0))
    playing = Wire(list(script), server.getsockname()[1])
    thread = threading.Thread(target=_serve, args=(server, playing), daemon=True)
    thread.start()
    try:
        yield playing
    finally:
        server.close()


@dataclass
class Cut:
    """A way to a server that takes so many bytes from its clients, and then neither goes on nor breaks off."""

    port: int
    to: int
    after: int
    sent: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def forward(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self.to)) as server, contextlib.suppress(OSError):
            threading.Thread(target=self._answers, args=(server, client), daemon=True).start()
            while received := client.recv(65536):
                self.sent += len(received)
                if self.sent >= self.after:
                    while client.recv(65536):  # until the client has gone
                        pass
                    return
                server.sendall(received)

    def _answers(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while received := server.recv(65536):
                client.sendall(received)


@contextlib.contextmanager
def cut(to: int, after: int) -> Iterator[Cut]:
    """Serve the way to the port `to` on a free one until the end of the block."""
    listening = socket.create_server(("127.0.0.1", 0))
    made = Cut(listening.getsockname()[1], to, after)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=made.forward, args=(listening.accept()[0],), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield made
    finally:
        listening.close()


def _serve(server: socket.socket, playing: Wire) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        threading.Thread(target=_play, args=(connection, playing), daemon=True).start()


def _play(connection: socket.socket, playing: Wire) -> None:
    with connection, contextlib.suppress(OSError):
        line, body = _read(connection)
        playing.bodies.append(body)
        playing.requests.append(line)
        answer = playing.answer()
        if isinstance(answer, Slow):
            time.sleep(answer.seconds)
        elif answer is RESET:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            connection.sendall(answer)


def _read(connection: socket.socket) -> tuple[str, bytes]:
    received = b""
    while b"\r\n\r\n" not in received:
        received += _some(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    length = next(
        (int(v) for k, _, v in (h.partition(b":") for h in head.split(b"\r\n")) if k.lower() == b"content-length"), 0
    )
    while len(body) < length:
        body += _some(connection)
    return head.split(b"\r\n")[0].decode(), body


def _some(connection: socket.socket) -> bytes:
    received = connection.recv(65536)
    if not received:
        raise ConnectionResetError("the client has gone")
    return received


def refused_port() -> int:
    """A port on which nothing listens, nor will while the tests run: what still tries it must not meet another test's server."""
    held = socket.socket()
    held.bind(("127.0.0.1", 0))
    HELD.append(held)
    return held.getsockname()[1]
