"""Fivetran's REST API, version 1 (https://fivetran.com/docs/rest-api)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
from pydantic import BaseModel

from orchestration.vendors.http import VendorClient

NEVER = datetime.min.replace(tzinfo=UTC)
FIRST_POLL_SECONDS, LONGEST_POLL_SECONDS, POLL_GROWTH = 0.5, 30.0, 1.3


class Task(BaseModel):
    """Something that Fivetran wants a person to do before a connection works again."""

    code: str
    message: str


class Status(BaseModel):
    setup_state: str
    sync_state: str
    rescheduled_for: datetime | None = None
    tasks: list[Task] = []
    warnings: list[Task] = []


class Connection(BaseModel):
    """One connection. Its `schema` is its name in the UI."""

    id: str
    service: str
    name: str
    group_id: str
    paused: bool
    succeeded_at: datetime | None = None
    failed_at: datetime | None = None
    status: Status

    @property
    def url(self) -> str:
        return connection_url(self.id)

    @property
    def finished_at(self) -> datetime:
        return max(self.succeeded_at or NEVER, self.failed_at or NEVER)


class SyncFailed(Exception):
    """A sync ended badly, did not end in time, or could not start. The message is the vendor's reason and the remedy."""


@dataclass(frozen=True)
class Synced:
    connection: Connection
    seconds: float


def connection_url(connection_id: str) -> str:
    """Where a person looks at a connection's syncs."""
    return f"https://fivetran.com/dashboard/connections/{connection_id}/status"


class Fivetran:
    """A client of one account. Every call raises VendorError where Fivetran does not answer as documented."""

    def __init__(self, base_url: str, key: str, secret: str) -> None:
        headers = {"Accept": "application/json;version=2"}
        self._client = VendorClient("Fivetran", base_url, headers=headers, auth=httpx.BasicAuth(key, secret))

    def request(
        self, method: str, path: str, *, params: Mapping[str, Any] | None = None, body: object = None
    ) -> dict[str, Any]:
        """The `data` of an answer; the whole answer where it has none."""
        # Each call of this API may be repeated: a sync that is triggered while it runs is left to run.
        answer = self._client.request(method, f"v1/{path.lstrip('/')}", params=params, body=body)
        return answer.get("data", answer)

    def items(self, path: str, **filters: str) -> Iterator[dict[str, Any]]:
        """Every item of a listing, page by page."""
        params: dict[str, Any] = {"limit": 1000, **filters}
        cursor: str | None = None
        while True:
            page = self.request("GET", path, params=params | ({"cursor": cursor} if cursor else {}))
            yield from page["items"]
            cursor = page.get("next_cursor")
            if not cursor:
                return

    def connection(self, connection_id: str) -> Connection:
        details = self.request("GET", f"connections/{connection_id}")
        return Connection.model_validate(details | {"name": details["schema"]})

    def hand_over_schedule(self, connection_id: str) -> None:
        """Let Fivetran sync this connection only when it is told to."""
        self.request("PATCH", f"connections/{connection_id}", body={"schedule_type": "manual"})

    def sync(
        self,
        connection_id: str,
        timeout_seconds: float,
        log: Callable[[str], None],
        sleep: Callable[[float], None] = time.sleep,
    ) -> Synced:
        """Sync a connection and wait for the end. A sync that runs already is waited for, and another one follows it.

        Raises SyncFailed with Fivetran's reason.
        """
        began = time.monotonic()
        deadline = began + timeout_seconds
        before = self._idle(connection_id, deadline, log, sleep)
        _refuse(before)
        sleep(0)  # where the step was cancelled meanwhile, nothing is started
        self.request("POST", f"connections/{connection_id}/sync", body={"force": False})
        log(f"{before.name}: sync started, {before.url}")
        after = self._poll(
            connection_id,
            lambda now: now.finished_at > before.finished_at and now.status.sync_state != "syncing",
            deadline,
            log,
            sleep,
        )
        if (after.failed_at or NEVER) > (after.succeeded_at or NEVER):
            raise SyncFailed(_reason(after))
        return Synced(after, time.monotonic() - began)

    def _idle(
        self, connection_id: str, deadline: float, log: Callable[[str], None], sleep: Callable[[float], None]
    ) -> Connection:
        return self._poll(connection_id, lambda now: now.status.sync_state != "syncing", deadline, log, sleep)

    def _poll(
        self,
        connection_id: str,
        done: Callable[[Connection], bool],
        deadline: float,
        log: Callable[[str], None],
        sleep: Callable[[float], None],
    ) -> Connection:
        wait, said = FIRST_POLL_SECONDS, ""
        while True:
            now = self.connection(connection_id)
            if done(now):
                return now
            _refuse(now)
            state = f"{now.name}: {now.status.sync_state}"
            if now.status.rescheduled_for:
                state += f", put off by Fivetran until {now.status.rescheduled_for:%Y-%m-%d %H:%M} UTC"
            if state != said:
                log(state)
                said = state
            if time.monotonic() + wait > deadline:
                raise SyncFailed(
                    f"{state}, and not finished within the time limit. It may still finish: look at {now.url}; "
                    "raise `sync_timeout_minutes` in defs/ingestion/defs.yaml if it is only slow."
                )
            sleep(wait)
            wait = min(wait * POLL_GROWTH, LONGEST_POLL_SECONDS)


def _refuse(connection: Connection) -> None:
    if connection.paused:
        raise SyncFailed(
            f"The connection `{connection.name}` is paused in Fivetran, so nothing was synced. Resume it: {connection.url}"
        )
    if connection.status.setup_state != "connected":
        raise SyncFailed(
            f"The connection `{connection.name}` is {connection.status.setup_state} in Fivetran. {_reason(connection)}"
        )


def _reason(connection: Connection) -> str:
    reasons = " ".join(task.message for task in connection.status.tasks)
    return reasons or f"Fivetran gives no reason; its log has one: {connection.url}"
