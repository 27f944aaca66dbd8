"""incident.io's settings for people on call, by its REST API (https://api-docs.incident.io): read, create, update, delete.

The SDK has these calls too, and models of 3 MB that take two seconds to import; bodies here are JSON with the names of its models.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from orchestration.vendors.http import VendorError, excerpt
from orchestration.vendors.incident_io_http import IncidentIoClient

Kind = Literal[
    "alert_attribute",
    "schedule",
    "schedule_sync_target",
    "schedule_sync_rule",
    "alert_source",
    "escalation_path",
    "alert_route",
]
Json = dict[str, Any]

PAGE = 25
"""More than this, and schedules come without what the list says of shifts."""
MANAGED = "incident.io/is-managed-externally"
"""The annotation by which incident.io knows that a setting is made by code, and locks it in its own pages."""
REMEDIES = {
    401: "INCIDENT_IO_API_KEY is not valid there: make one in incident.io, Settings, API keys",
    403: "the key may not do this: incident.io, Settings, API keys, has the scopes that docs/on-call.md lists",
}


@dataclass(frozen=True)
class Endpoint:
    """`wrapped`: the body is below the kind's own name."""

    path: str
    wrapped: bool = False
    claimed: bool = False
    """It has no annotations of its own: who manages it is said in a call of its own."""


ENDPOINTS: dict[Kind, Endpoint] = {
    "alert_attribute": Endpoint("v2/alert_attributes"),
    "schedule": Endpoint("v2/schedules", wrapped=True),
    "schedule_sync_target": Endpoint("v2/schedule_sync_targets", wrapped=True),
    "schedule_sync_rule": Endpoint("v2/schedules/{parent}/sync_rules", wrapped=True),
    "alert_source": Endpoint("v2/alert_sources", claimed=True),
    "escalation_path": Endpoint("v2/escalation_paths", claimed=True),
    "alert_route": Endpoint("v3/alert_routes", claimed=True),
}


class OnCallSettings:
    """Every call raises VendorError, whose message says what to do where that is known."""

    def __init__(self, base_url: str, key: str) -> None:
        self._client = IncidentIoClient(base_url, key)

    def all(self, kind: Kind, parent: str = "") -> list[Json]:
        """Every setting of a kind; of an alert route only id, name and whether it is enabled."""
        return list(self._pages(ENDPOINTS[kind].path.format(parent=parent), f"{kind}s"))

    def show(self, kind: Kind, name: str) -> Json:
        return self._send("GET", f"{ENDPOINTS[kind].path}/{name}", kind)

    def create(self, kind: Kind, body: Mapping[str, Any], parent: str = "") -> Json:
        """The setting as incident.io has it now. Not sent twice, unless incident.io cannot have acted on it."""
        made = self._send("POST", ENDPOINTS[kind].path.format(parent=parent), kind, body)
        self.claim(kind, made["id"])
        return made

    def claim(self, kind: Kind, name: str) -> None:
        """Say that a setting is made by code, where it has no annotations for it."""
        if ENDPOINTS[kind].claimed:
            claim = {"resource_type": kind, "resource_id": name, "annotations": {MANAGED: "true"}}
            self._request("POST", "v2/managed_resources", body=claim)

    def update(self, kind: Kind, name: str, body: Mapping[str, Any], parent: str = "") -> Json:
        return self._send("PUT", f"{ENDPOINTS[kind].path.format(parent=parent)}/{name}", kind, body)

    def delete(self, kind: Kind, name: str, parent: str = "") -> None:
        self._request("DELETE", f"{ENDPOINTS[kind].path.format(parent=parent)}/{name}")

    def has_user(self, email: str) -> bool:
        return any(self._pages("v2/users", "users", {"email": email}))

    def severities(self) -> dict[str, str]:
        """Id by name."""
        return {one["name"]: one["id"] for one in self._pages("v1/severities", "severities")}

    def custom_fields(self) -> dict[str, str]:
        """Id by name."""
        return {one["name"]: one["id"] for one in self._pages("v2/custom_fields", "custom_fields")}

    def _pages(self, path: str, name: str, filters: Mapping[str, str] | None = None) -> Iterator[Json]:
        after: dict[str, str] = {}
        while True:
            answer = self._request("GET", path, {"page_size": PAGE, **(filters or {}), **after})
            found = answer.get(name) if isinstance(answer, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
            if not isinstance(found, list):
                raise VendorError(f"incident.io: GET {path} answered without `{name}`: {excerpt(str(answer))}")  # pyright: ignore[reportUnknownArgumentType]
            items = cast("list[Json]", found)
            yield from items
            last = cast("dict[str, str]", cast("Json", answer).get("pagination_meta") or {}).get("after")
            if not last or not items:
                return
            after = {"after": last}

    def _send(self, method: str, path: str, name: str, body: Mapping[str, Any] | None = None) -> Json:
        """The one object that the answer is about."""
        wrapped = any(one.wrapped for kind, one in ENDPOINTS.items() if kind == name)
        answer = self._request(method, path, body={name: body} if wrapped and body is not None else body)
        found = cast("Json", answer).get(name) if isinstance(answer, dict) else None
        if not isinstance(found, dict) or "id" not in found:
            raise VendorError(
                f"incident.io: {method} {path} answered without `{name}`: {excerpt(str(cast('Json', answer)))}"
            )
        return cast("Json", found)

    def _request(
        self, method: str, path: str, params: Mapping[str, Any] | None = None, body: Mapping[str, Any] | None = None
    ) -> Any:
        try:
            return self._client.request(method, path, params=params, body=body, repeatable=method != "POST")
        except VendorError as error:
            remedy = REMEDIES.get(error.status or 0)
            if remedy is None:
                raise
            raise VendorError(
                f"{error}. {remedy}", status=error.status, retry_after=error.retry_after, started=error.started
            ) from error
