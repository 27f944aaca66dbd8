"""Writes to Salesforce over its REST API, 200 records a call, and to a channel in Slack, a message a row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any, ClassVar, Self

import httpx
import stamina

from sandbox.config import SandboxConfig
from sandbox.vendors import salesforce, slack
from sandbox.vendors.hightouch.catalogue import Sync

LIMITED_TRIES = 5


def _wait_for_slack(error: Exception) -> bool | float:
    """Wait as long as Slack asks: it takes about one message a second for a channel (https://docs.slack.dev/apis/web-api/rate-limits)."""
    if not isinstance(error, httpx.HTTPStatusError) or error.response.status_code != httpx.codes.TOO_MANY_REQUESTS:
        return False
    return float(error.response.headers["Retry-After"])


class _Destination(ABC):
    """`write` returns, for each record, None where it was accepted, else the reason of its rejection.

    It raises httpx.HTTPError where the destination did not answer for all of them.
    """

    batch: ClassVar[int]

    def __init__(self, url: str, token: str, sync: Sync) -> None:
        self._http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=30)
        self._sync = sync

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    @abstractmethod
    def write(self, records: list[dict[str, Any]]) -> list[str | None]: ...


class Salesforce(_Destination):
    batch = 200

    def write(self, records: list[dict[str, Any]]) -> list[str | None]:
        """Upsert records, each by itself."""
        name, key = self._sync.object, self._sync.external_id
        body = {"allOrNone": False, "records": [{"attributes": {"type": name}} | record for record in records]}
        answer = self._http.patch(f"/services/data/v59.0/composite/sobjects/{name}/{key}", json=body)
        results = answer.raise_for_status().json()
        return [None if result["success"] else _reason(result["errors"]) for result in results]


class Slack(_Destination):
    batch = 1

    def write(self, records: list[dict[str, Any]]) -> list[str | None]:
        [record] = records
        answer = self._post({"channel": self._sync.channel, "text": record["text"]}).json()
        return [None if answer["ok"] else answer["error"]]

    @stamina.retry(on=_wait_for_slack, attempts=LIMITED_TRIES, timeout=None)
    def _post(self, body: dict[str, Any]) -> httpx.Response:
        return self._http.post("/api/chat.postMessage", json=body).raise_for_status()


def of(config: SandboxConfig, sync: Sync) -> Salesforce | Slack:
    """A client of the place that a sync writes to."""
    if sync.destination == "slack":
        return Slack(config.url("slack"), slack.TOKEN, sync)
    return Salesforce(config.url("salesforce"), salesforce.TOKEN, sync)


def _reason(errors: list[dict[str, Any]]) -> str:
    return "; ".join(f"{error['statusCode']}: {error['message']}" for error in errors)
