"""Requests that another web page can make a browser send to Dagster's UI, and those of the UI and of programs."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass, field
from urllib.parse import quote

MUTATION = 'mutation {stopSensor(jobOriginId: "x") {__typename}}'
QUERY = "{version}"
BODY = json.dumps({"query": MUTATION})
WEBSOCKET = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Protocol": "graphql-ws",
}
FORM, TEXT, JSON = "application/x-www-form-urlencoded", "text/plain", "application/json"
IN_ADDRESS = f"/graphql?query={quote(MUTATION)}"
NAVIGATE = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
FOREIGN = "https://foreign.example"


@dataclass(frozen=True)
class Sent:
    """A request. `{own}` in a header is the origin of the UI."""

    method: str = "POST"
    path: str = "/graphql"
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""


def by_browser(site: str, origin: str | None = None, **more: str) -> dict[str, str]:
    headers = {"Sec-Fetch-Site": site} | ({"Origin": origin} if origin else {})
    return headers | {name.replace("_", "-"): value for name, value in more.items()}


def form(site: str, content_type: str = FORM, origin: str | None = FOREIGN) -> dict[str, str]:
    return by_browser(site, origin, Content_Type=content_type) | NAVIGATE


REFUSED = {
    "a form of another site": Sent(path=IN_ADDRESS, headers=form("cross-site")),
    "a form of a sibling domain": Sent(path=IN_ADDRESS, headers=form("same-site", origin="https://other.example.com")),
    "a form of a sandboxed frame": Sent(path=IN_ADDRESS, headers=form("cross-site", origin="null")),
    "a form of a browser without Sec-Fetch": Sent(path=IN_ADDRESS, headers={"Origin": FOREIGN, "Content-Type": FORM}),
    "a form of a browser without both": Sent(path=IN_ADDRESS, headers={"Content-Type": FORM}),
    "a form without a type": Sent(path=IN_ADDRESS),
    "a form as text that is JSON": Sent(headers={"Content-Type": TEXT}, body=BODY),
    "a text that calls itself JSON": Sent(headers={"Content-Type": "text/plain; application/json"}, body=BODY),
    "a multipart form": Sent(headers={"Content-Type": "multipart/form-data; boundary=application/json"}, body=BODY),
    "GraphQL's own type": Sent(headers={"Content-Type": "application/graphql"}, body=MUTATION),
    "JSON of another site": Sent(headers=by_browser("cross-site", FOREIGN, Content_Type=JSON), body=BODY),
    "JSON of another site, by Origin alone": Sent(headers={"Origin": FOREIGN, "Content-Type": JSON}, body=BODY),
    "JSON of the same host at another port": Sent(headers={"Origin": "{own}1", "Content-Type": JSON}, body=BODY),
    "JSON of the same host without TLS": Sent(headers={"Origin": "ftp://x", "Content-Type": JSON}, body=BODY),
    "the question before a fetch": Sent("OPTIONS", headers=by_browser("cross-site", FOREIGN)),
    "a link with a mutation": Sent("GET", IN_ADDRESS, by_browser("cross-site") | NAVIGATE),
    "a typed link with a mutation": Sent("GET", IN_ADDRESS, by_browser("none") | NAVIGATE),
    "a link with a mutation, by an old browser": Sent("GET", IN_ADDRESS),
    "an encoded link with a mutation": Sent("GET", IN_ADDRESS.replace("/graphql", "/%67raphql")),
    "an image with a mutation": Sent("GET", IN_ADDRESS, by_browser("cross-site") | {"Sec-Fetch-Mode": "no-cors"}),
    "a HEAD with a mutation": Sent("HEAD", IN_ADDRESS),
    "a link to GraphQL": Sent("GET", "/graphql", by_browser("cross-site") | NAVIGATE),
    "a frame of another site": Sent(
        "GET", "/", by_browser("cross-site") | {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}
    ),
    "a script of another site": Sent("GET", "/server_info", by_browser("cross-site") | {"Sec-Fetch-Mode": "no-cors"}),
    "a report of an asset by another site": Sent(
        path="/report_asset_materialization/a", headers=form("cross-site"), body="{}"
    ),
    "a report of an asset by Origin alone": Sent(path="/report_asset_check/a", headers={"Origin": FOREIGN}, body="{}"),
    "a websocket of another site": Sent("GET", headers=WEBSOCKET | by_browser("cross-site", FOREIGN)),
    "a websocket of another site, by Origin alone": Sent("GET", headers=WEBSOCKET | {"Origin": FOREIGN}),
    "a websocket of a sandboxed frame": Sent("GET", headers=WEBSOCKET | {"Origin": "null"}),
}
READ = json.dumps({"query": QUERY})
ACCEPTED = {
    "the UI's queries": Sent(headers=by_browser("same-origin", "{own}", Content_Type=JSON), body=READ),
    "the UI's queries with a character set": Sent(
        headers=by_browser("same-origin", "{own}", Content_Type="application/json; charset=utf-8"), body=READ
    ),
    "the UI's websocket": Sent("GET", headers=WEBSOCKET | by_browser("same-origin", "{own}")),
    "the UI's pages": Sent("GET", "/runs", by_browser("same-origin") | NAVIGATE),
    "a typed address": Sent("GET", "/", by_browser("none") | NAVIGATE),
    "a link of an alert": Sent("GET", "/runs/1", by_browser("cross-site") | NAVIGATE),
    "a program": Sent(headers={"Content-Type": JSON}, body=READ),
    "a program's websocket": Sent("GET", headers=WEBSOCKET),
    "a program's look": Sent("GET", "/server_info"),
}


def send(port: int, host: str, own: str, sent: Sent) -> int:
    """Send a request to 127.0.0.1 and return the status of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.putrequest(sent.method, sent.path, skip_host=True, skip_accept_encoding=True)
        connection.putheader("Host", host)
        for name, value in sent.headers.items():
            connection.putheader(name, value.replace("{own}", own))
        if sent.method == "POST":
            connection.putheader("Content-Length", str(len(sent.body.encode())))
        connection.endheaders(sent.body.encode() or None)
        return connection.getresponse().status
    finally:
        connection.close()
