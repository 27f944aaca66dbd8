"""A Docker engine for the run launcher: the few calls that docker-py makes, with a process in place of each container.

A container has the variables of its image and those that it is given, and nothing of this process's own. What it stands in for is written
from Docker's Engine API (https://docs.docker.com/reference/api/engine/).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass
class Container:
    wanted: Mapping[str, Any]
    """The body of the request that made it."""
    process: subprocess.Popen[bytes] | None = None

    @property
    def status(self) -> str:
        if self.process is None:
            return "created"
        return "running" if self.process.poll() is None else "exited"


@dataclass
class DockerEngine:
    """The engine, which has one image and one network. `environment` is the image's."""

    image: str
    network: str
    environment: Mapping[str, str]
    folder: Path
    containers: dict[str, Container] = field(default_factory=dict[str, Container])

    def __post_init__(self) -> None:
        engine = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                engine.answer(self, {})

            def do_POST(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                engine.answer(self, json.loads(self.rfile.read(length) or b"{}"))

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"tcp://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the engine, and every container with it."""
        for container in self.containers.values():
            if container.process and container.process.poll() is None:
                os.killpg(container.process.pid, signal.SIGKILL)
                container.process.wait(10)
        self._server.shutdown()
        self._server.server_close()

    def answer(self, request: BaseHTTPRequestHandler, body: Mapping[str, Any]) -> None:
        url = urlsplit(request.path)
        parts = url.path.strip("/").split("/")
        if parts[0].startswith("v1."):
            parts = parts[1:]
        status, said = self._called(request.command, parts, body, parse_qs(url.query))
        text = json.dumps(said).encode() if said is not None else b""
        request.send_response(status)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(text)))
        request.end_headers()
        request.wfile.write(text)

    def _called(
        self, method: str, parts: list[str], body: Mapping[str, Any], query: Mapping[str, list[str]]
    ) -> tuple[int, object]:
        match method, parts:
            case "GET", ["version"]:
                return 200, {"ApiVersion": "1.47", "MinAPIVersion": "1.24", "Version": "27.0"}
            case "POST", ["containers", "create"]:
                return self._create(body)
            case "GET", ["containers", id_, "json"] if id_ in self.containers:
                container = self.containers[id_]
                if container.status == "exited" and container.wanted["HostConfig"].get("AutoRemove"):
                    return 404, {"message": f"No such container: {id_}"}
                return 200, {"Id": id_, "Config": container.wanted, "State": {"Status": container.status}}
            case "POST", ["containers", id_, "start"] if id_ in self.containers:
                self._start(id_)
                return 204, None
            case "POST", ["containers", id_, "stop"] if id_ in self.containers:
                process = self.containers[id_].process
                if process:
                    process.terminate()
                    try:
                        process.wait(float(query["t"][0]))
                    except subprocess.TimeoutExpired:
                        os.killpg(process.pid, signal.SIGKILL)
                return 204, None
        return 404, {"message": f"page not found: {method} {'/'.join(parts)}"}

    def _create(self, body: Mapping[str, Any]) -> tuple[int, object]:
        if body["Image"] != self.image:
            return 404, {"message": f"No such image: {body['Image']}"}
        if [*body["NetworkingConfig"]] != [self.network] and body["HostConfig"].get("NetworkMode") != self.network:
            return 404, {"message": f"network not found: {body}"}
        id_ = uuid.uuid4().hex
        self.containers[id_] = Container(body)
        return 201, {"Id": id_, "Warnings": []}

    def _start(self, id_: str) -> None:
        container = self.containers[id_]
        given = dict(pair.split("=", 1) for pair in container.wanted["Env"])
        with (self.folder / f"{id_}.log").open("wb") as log:
            container.process = subprocess.Popen(
                container.wanted["Cmd"],
                env={**self.environment, **given},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
