"""Fivetran's REST API, version 1 (https://fivetran.com/docs/rest-api)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
from pydantic import BaseModel

from orchestration.vendors.http import VendorClient, VendorError
from orchestration.vendors.waiting import FIRST_SECONDS, SyncFailed, Wait

NEVER = datetime.min.replace(tzinfo=UTC)
BUSY = 409

Scope = Mapping[str, Sequence[str]]
"""Names of tables by their schema, both as at the source."""


RECONNECT = "reconnect"
"""The code of a task for which somebody has to set the connection up anew."""


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
    def wishes(self) -> list[str]:
        """What Fivetran wants done about it, though it may sync all the same."""
        return [wish.message for wish in (*self.status.tasks, *self.status.warnings)]

    @property
    def finished_at(self) -> datetime:
        return max(self.succeeded_at or NEVER, self.failed_at or NEVER)

    @property
    def failure(self) -> str | None:
        """Why its last sync failed; None where that succeeded."""
        if (self.failed_at or NEVER) <= (self.succeeded_at or NEVER):
            return None
        return self.reason

    @property
    def reason(self) -> str:
        """What Fivetran says of why it does not work."""
        reasons = " ".join(task.message for task in self.status.tasks)
        return reasons or f"Fivetran gives no reason; its log has one: {self.url}"


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

    def connections(self) -> list[Connection]:
        """Every connection of the account."""
        return [_connection(details) for details in self.items("connections")]

    def connection(self, connection_id: str) -> Connection:
        return _connection(self.request("GET", f"connections/{connection_id}"))

    def hand_over_schedule(self, connection_id: str) -> None:
        """Let Fivetran sync this connection only when it is told to."""
        self.request("PATCH", f"connections/{connection_id}", body={"schedule_type": "manual"})

    def tables(self, connection_id: str) -> set[tuple[str, str]]:
        """The tables that a connection syncs, by their schema's and their own name in the destination."""
        schemas = self.request("GET", f"connections/{connection_id}/schemas").get("schemas", {})
        return {
            (schema["name_in_destination"], table["name_in_destination"])
            for schema in schemas.values()
            if schema["enabled"]
            for table in schema.get("tables", {}).values()
            if table["enabled"]
        }

    def sync(self, connection_id: str, wait: Wait) -> Synced:
        """Sync a connection and wait for the end. A sync that runs already is waited for, and another one follows it.

        Raises SyncFailed with Fivetran's reason.
        """
        return self._run(connection_id, wait, "sync", {"force": False})

    def resync(self, connection_id: str, scope: Scope, wait: Wait) -> Synced:
        """Read tables at the source all over again, and wait for the end; an empty scope means the whole connection.

        A sync that runs already is waited for. Raises SyncFailed with Fivetran's reason.
        """
        # Fivetran refuses an empty scope, and takes its absence for everything.
        body = {"scope": {schema: list(tables) for schema, tables in scope.items()}} if scope else {}
        return self._run(connection_id, wait, "resync", body)

    def _run(self, connection_id: str, wait: Wait, action: str, body: object) -> Synced:
        while True:
            before = self._until(connection_id, wait, lambda _now: True)
            _refuse(before)
            wait.sleep(0)  # where the step was cancelled meanwhile, nothing is started
            try:
                self.request("POST", f"connections/{connection_id}/{action}", body=body)
                break
            except VendorError as error:
                if error.status != BUSY or wait.passed > wait.seconds:
                    raise
                wait.sleep(FIRST_SECONDS)  # another sync has begun since it was looked at
        wait.log(f"{before.name}: {action} started, {before.url}")
        after = self._until(connection_id, wait, lambda now: now.finished_at > before.finished_at)
        if (failure := after.failure) is not None:
            raise SyncFailed(failure, permanent=any(task.code == RECONNECT for task in after.status.tasks))
        return Synced(after, wait.passed)

    def _until(self, connection_id: str, wait: Wait, done: Callable[[Connection], bool]) -> Connection:
        """The connection when it does not sync and is `done`."""

        def look() -> Connection:
            return self.connection(connection_id)

        def ended(now: Connection) -> bool:
            if now.status.sync_state != "syncing" and done(now):
                return True
            _refuse(now)
            return False

        return wait.until(look, ended, _state)


def _connection(details: dict[str, Any]) -> Connection:
    return Connection.model_validate(details | {"name": details["schema"]})


def _state(connection: Connection) -> str:
    later = connection.status.rescheduled_for
    put_off = f", put off by Fivetran until {later:%Y-%m-%d %H:%M} UTC" if later else ""
    return f"{connection.name}: {connection.status.sync_state}{put_off}"


def _refuse(connection: Connection) -> None:
    if connection.paused:
        raise SyncFailed(
            f"The connection `{connection.name}` is paused in Fivetran, so nothing was synced. Resume it: {connection.url}",
            permanent=True,
        )
    if connection.status.setup_state != "connected":
        raise SyncFailed(
            f"The connection `{connection.name}` is {connection.status.setup_state} in Fivetran. {connection.reason}",
            permanent=True,
        )
