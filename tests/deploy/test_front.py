"""The proxies in front of Dagster's UI: deploy/Caddyfile under Caddy, and the Ingress' snippet under nginx, both real.

Where a binary is not installed (Debian: `caddy`, `nginx`; or CADDY and NGINX name them), its tests are skipped. Not exercised: the TLS
of Caddy, a real oauth2-proxy, an ingress controller, and a browser.
"""

from __future__ import annotations

import http.server
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvicorn
import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from sandbox.config import REPOSITORY
from tests.foreign_requests import ACCEPTED, REFUSED, Sent, send
from tests.stand_ins import wait_for

DEPLOY = REPOSITORY / "deploy"
ANNOTATIONS = yaml.safe_load((DEPLOY / "helm" / "values.yaml").read_text())["ingress"]["annotations"]
SNIPPET = ANNOTATIONS["nginx.ingress.kubernetes.io/configuration-snippet"]
REFUSALS = {403, 405, 415}
NGINX = """
daemon off; user root; pid nginx.pid; error_log stderr;
events {}
http {
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  map $http_upgrade $connection_upgrade { default upgrade; '' close; }
  server {
    listen 127.0.0.1:%(port)d;
    server_name dagster.example.com;
    location / {
      %(snippet)s
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
      proxy_pass http://127.0.0.1:%(upstream)d;
    }
  }
}
"""


@dataclass
class Upstream:
    """Stands for Dagster's webserver, and counts what reaches it; at another port for oauth2-proxy, with everybody signed in."""

    port: int
    sign_in_port: int
    reached: int = 0


class SignedIn(http.server.BaseHTTPRequestHandler):
    """oauth2-proxy's answer about who is signed in (https://oauth2-proxy.github.io/oauth2-proxy/features/endpoints)."""

    def do_GET(self) -> None:
        self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@dataclass(frozen=True)
class Front:
    port: int
    host: str
    own: str
    upstream: Upstream

    def send(self, sent: Sent) -> tuple[int, int]:
        """Return the status, and how many requests have reached Dagster by it."""
        before = self.upstream.reached
        return send(self.port, self.host, self.own, sent), self.upstream.reached - before


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    sign_in = http.server.ThreadingHTTPServer(("127.0.0.1", 0), SignedIn)
    threading.Thread(target=sign_in.serve_forever, daemon=True).start()
    made = Upstream(free_port(), sign_in.server_port)

    def answer(_request: Request) -> Response:
        made.reached += 1
        return PlainTextResponse("carried out")

    async def talk(websocket: WebSocket) -> None:
        made.reached += 1
        await websocket.accept(subprotocol="graphql-ws")
        await websocket.close()

    every = ["GET", "POST", "HEAD", "OPTIONS"]
    routes = [
        WebSocketRoute("/graphql", talk),
        Route("/{path:path}", answer, methods=every),
    ]
    server = uvicorn.Server(uvicorn.Config(Starlette(routes=routes), port=made.port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_for(lambda: listens(made.port), 20, "the upstream listens")
    yield made
    server.should_exit = True
    thread.join(10)
    sign_in.shutdown()
    sign_in.server_close()


def binary(name: str) -> str:
    found = os.environ.get(name.upper()) or shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if not found:
        pytest.skip(f"{name} is not installed (Debian: apt-get install {name}): the rules were not tried in it")
    return found


@pytest.fixture(scope="module", params=["caddy", "nginx"])
def front(
    request: pytest.FixtureRequest, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Front]:
    program, folder, port = binary(request.param), tmp_path_factory.mktemp(request.param), free_port()
    if request.param == "caddy":
        command, made = caddy(program, folder, port, upstream)
    else:
        command, made = nginx(program, folder, port, upstream)
    variables = os.environ | {
        "HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder),
        "DATAPLATFORM_HOST": f"http://dagster.localhost:{port}", "DATAPLATFORM_VIEWER_HOST": f"http://viewer.localhost:{port}",
        "DATAPLATFORM_OPERATORS": "ada@example.com",
    }  # fmt: skip
    process = subprocess.Popen(command, env=variables, stderr=(folder / "stderr").open("wb"))
    try:
        wait_for(lambda: listens(port), 20, f"{request.param} listens")
        yield made
    finally:
        process.terminate()
        process.wait(20)


def caddy(program: str, folder: Path, port: int, upstream: Upstream) -> tuple[list[str], Front]:
    """The Caddyfile as it is, but for the addresses of what is behind it."""
    text = (DEPLOY / "Caddyfile").read_text()
    for name in ("webserver-read-only:3000", "webserver:3000"):
        assert name in text
        text = text.replace(name, f"127.0.0.1:{upstream.port}")
    text = text.replace("oauth2-proxy:4180", f"127.0.0.1:{upstream.sign_in_port}")
    version = subprocess.run([program, "version"], capture_output=True, text=True, check=True).stdout
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < (2, 7):
        # Debian 12 has 2.6, which writes arguments of an import in another way. The image of compose.yaml is newer.
        text = re.sub(r"\{args\[(\d)\]\}", r"{args.\1}", text)
    file = folder / "Caddyfile"
    file.write_text("{\n\tadmin off\n}\n" + text)
    host = f"dagster.localhost:{port}"
    return [program, "run", "--config", str(file), "--adapter", "caddyfile"], Front(
        port, host, f"http://{host}", upstream
    )


def nginx(program: str, folder: Path, port: int, upstream: Upstream) -> tuple[list[str], Front]:
    """The snippet in a location, as ingress-nginx has it. The Ingress has TLS, so that its own origin is https."""
    file = folder / "nginx.conf"
    file.write_text(NGINX % {"port": port, "snippet": SNIPPET, "upstream": upstream.port})
    host = "dagster.example.com"
    return [program, "-p", str(folder), "-c", str(file)], Front(port, host, f"https://{host}", upstream)


@pytest.mark.parametrize("sent", REFUSED.values(), ids=REFUSED.keys())
def test_what_another_page_sends_does_not_reach_dagster(front: Front, sent: Sent) -> None:
    status, reached = front.send(sent)
    assert (status in REFUSALS, reached) == (True, 0), status


@pytest.mark.parametrize("sent", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_what_the_ui_links_and_programs_send_reaches_dagster(front: Front, sent: Sent) -> None:
    status, reached = front.send(sent)
    assert (status in {101, 200}, reached) == (True, 1), status


def test_every_rule_is_in_both_configurations() -> None:
    """A look at the texts, for where neither proxy is installed."""
    caddyfile = (DEPLOY / "Caddyfile").read_text()
    [guarded] = [part for part in caddyfile.split("\n(") if "forward_auth" in part]
    assert (
        guarded.index("import own_pages_only")
        < guarded.index("forward_auth")
        < guarded.index("reverse_proxy {args[1]}")
    )
    for text in (caddyfile, SNIPPET):
        for said in (
            "same-origin",
            "none",
            "navigate",
            "document",
            "/graphql",
            "application/json",
            "403",
            "405",
            "415",
        ):
            assert said in text, said
    assert "not header Origin {scheme}://{hostport}" in caddyfile
    assert '$http_origin = "https://$http_host"' in SNIPPET


def test_the_session_cookie_is_not_sent_with_what_another_site_posts() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    assert services["oauth2-proxy"]["environment"]["OAUTH2_PROXY_COOKIE_SAMESITE"] == "lax"
