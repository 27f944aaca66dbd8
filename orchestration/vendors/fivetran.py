"""Fivetran's REST API, version 1 (https://fivetran.com/docs/rest-api)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote

import httpx
from pydantic import AfterValidator, BaseModel, BeforeValidator, ValidationError

from orchestration.vendors.http import PATIENCE_SECONDS, VendorClient, VendorError
from orchestration.vendors.pace import shared_pace
from orchestration.vendors.waiting import FIRST_SECONDS, SyncFailed, Wait

NEVER = datetime.min.replace(tzinfo=UTC)
BUSY = 409
SOURCE_REQUESTS, SOURCE_SECONDS = 400, 60.0
"""How fast requests are sent for which Fivetran asks the source. It allows an account 500 of them a minute and 5,000 an hour, and 20,000
requests an hour in all; a trial account 25 a minute, 250 an hour and 500 an hour in all (https://fivetran.com/docs/rest-api/rate-limiting)."""
WINDOW_SECONDS = 60.0
"""Waited after a 429 without `Retry-After`. Whether Fivetran sends that header is unverified."""
BROKEN_START_SECONDS = 300.0
"""How long after its trigger a broken connection may take to start its sync. Whether Fivetran starts one each time is unverified."""
UNVERSIONED = {"Accept": "application/json"}
"""The endpoints of a connection's schema have no second version (Fivetran's OpenAPI file)."""

Scope = Mapping[str, Sequence[str]]
"""Names of tables by their schema, both as at the source."""

RECONNECT = "reconnect"
"""Begins the code of the task that broken credentials have: someone has to reconnect the source. Other failures have no task.

Fivetran's OpenAPI file does not list the codes (ConnectionTask: "a machine-readable identifier for the condition type"). This one is in the
tests of Fivetran's own Terraform provider (fivetran/terraform-provider-fivetran), also of connections that are not `broken`.
"""
CONNECTED, BROKEN = "connected", "broken"
"""States of a connection's set-up (`setup_state` of ConnectorStatusResponse in Fivetran's OpenAPI file).

`broken` alone does not say that a person has to do something: a source with many endpoints is marked so while one of them does not
answer, and only a sync that succeeds clears the mark (astronomer/airflow-provider-fivetran-async, issue 234 and pull request 235).
"""
RESCHEDULED = "rescheduled"
"""The state of a sync that waits until the source accepts API calls again."""


def _in_utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _filled(value: object) -> object:
    return value or ""


def _listed(value: object) -> object:
    return value or []


Moment = Annotated[datetime, AfterValidator(_in_utc)]
"""A time of Fivetran's. One without a zone is in UTC, as all of its times are."""
Text = Annotated[str, BeforeValidator(_filled)]


class Task(BaseModel):
    """Something that Fivetran asks a person to do. `details` adds to the message (ConnectionTask in Fivetran's OpenAPI file)."""

    code: Text = ""
    message: Text = ""
    details: str | None = None

    @property
    def is_reconnect(self) -> bool:
        """Whether someone has to reconnect the source."""
        return self.code.casefold().startswith(RECONNECT)

    @property
    def text(self) -> str:
        return ": ".join(part for part in (self.message or self.code, self.details) if part)


class Status(BaseModel):
    setup_state: str
    sync_state: str
    rescheduled_for: Moment | None = None
    tasks: Annotated[list[Task], BeforeValidator(_listed)] = []
    warnings: Annotated[list[Task], BeforeValidator(_listed)] = []


class Connection(BaseModel):
    """One connection. Its `schema` is its name in the UI."""

    id: str
    service: str
    name: str
    group_id: str
    paused: bool
    schedule_type: str | None = None
    """`manual`: Fivetran starts no sync by itself, not even one that it has rescheduled."""
    succeeded_at: Moment | None = None
    failed_at: Moment | None = None
    status: Status

    @property
    def url(self) -> str:
        return connection_url(self.id)

    @property
    def wishes(self) -> list[str]:
        """What Fivetran asks someone to do about the connection, although it may sync all the same."""
        return [wish.text for wish in (*self.status.tasks, *self.status.warnings)]

    @property
    def finished_at(self) -> datetime:
        return max(self.succeeded_at or NEVER, self.failed_at or NEVER)

    def sync_that_ended(self, at: datetime) -> str:
        """Return the identity of the sync that ended at one of the connection's times.

        The connection has no id of its last sync, and the record of `GET .../sync-history` has no documented end: of one connection one
        sync runs at a time, so that the time tells them apart.
        """
        return f"fivetran/{self.id}/{at.astimezone(UTC).isoformat()}"

    @property
    def failure(self) -> str | None:
        """Why its last sync failed; None where that succeeded."""
        if (self.failed_at or NEVER) <= (self.succeeded_at or NEVER):
            return None
        return self.reason

    @property
    def reason(self) -> str:
        """Why the connection does not work. The API says so only where someone has to act; the log has every reason."""
        reasons = " ".join(task.text for task in self.status.tasks)
        return reasons or f"Fivetran's API gives no reason. The connection's log has it: {self.url}"

    @property
    def needs_person(self) -> bool:
        """Whether the failure of a sync is not worth an automatic retry: the next scheduled sync tries once more."""
        return self.status.setup_state != CONNECTED or self.must_be_reconnected

    @property
    def must_be_reconnected(self) -> bool:
        """Whether one of its tasks says that someone has to reconnect the source. Until then no sync can succeed."""
        return any(task.is_reconnect for task in self.status.tasks)

    @property
    def is_broken(self) -> bool:
        """Whether Fivetran marks the connection as broken, which a sync that succeeds may clear."""
        return self.status.setup_state == BROKEN


@dataclass(frozen=True)
class Listing:
    """The connections of an account, as one listing has them.

    `connections` are by id. `unreadable` says of each other one, by id, which field of it cannot be read. `error` is why the listing broke
    off: then a connection that is in neither may still be there.
    """

    connections: Mapping[str, Connection]
    unreadable: Mapping[str, str]
    error: VendorError | None = None


@dataclass(frozen=True)
class Synced:
    connection: Connection
    seconds: float


def connection_url(connection_id: str) -> str:
    """Where a person looks at a connection's syncs."""
    return f"https://fivetran.com/dashboard/connections/{connection_id}/status"


class Fivetran:
    """A client of one account. Every call raises VendorError where Fivetran does not answer as documented."""

    def __init__(
        self,
        base_url: str,
        key: str,
        secret: str,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        broken_start_seconds: float = BROKEN_START_SECONDS,
    ) -> None:
        self._broken_start_seconds = broken_start_seconds
        self._client = VendorClient(
            "Fivetran",
            base_url,
            headers={"Accept": "application/json;version=2"},
            auth=httpx.BasicAuth(key, secret),
            window_seconds=WINDOW_SECONDS,
            patience_seconds=patience_seconds,
        )
        self._source_pace = shared_pace(f"fivetran {base_url} {key}", SOURCE_REQUESTS, SOURCE_SECONDS)

    def request(
        self, method: str, path: str, *, params: Mapping[str, Any] | None = None, body: object = None
    ) -> dict[str, Any]:
        """The `data` of an answer; the whole answer where it has none."""
        # Each call of this API may be repeated: a sync that is triggered while it runs is left to run.
        headers = UNVERSIONED if "/schemas" in path else None
        answer = self._client.request(method, f"v1/{path.lstrip('/')}", params=params, headers=headers, body=body)
        return answer.get("data", answer)

    def items(self, path: str, **filters: str) -> Iterator[dict[str, Any]]:
        """Yield every item of a listing, page by page; 1,000 is the largest page (`limit` in Fivetran's OpenAPI file)."""
        params: dict[str, Any] = {"limit": 1000, **filters}
        cursor: str | None = None
        while True:
            page = self.request("GET", path, params=params | ({"cursor": cursor} if cursor else {}))
            following = page.get("next_cursor")
            if not isinstance(page.get("items"), list) or (following and following == cursor):
                raise VendorError(
                    f"Fivetran: GET v1/{path} answered with no valid page of a listing", vendor="Fivetran"
                )
            yield from (item for item in page["items"] if isinstance(item, dict))
            cursor = following
            if not cursor:
                return

    def connections(self) -> list[Connection]:
        """Every connection of the account."""
        return [_connection(details) for details in self.items("connections")]

    def list_connections(self) -> Listing:
        """List every connection of the account with its status: one request for each 1,000 of them.

        An item has all that `GET /v1/connections/{connectionId}` says of the connection (ConnectorResponse in Fivetran's OpenAPI file,
        with `succeeded_at`, `failed_at` and `status.tasks`). What was listed before an error is returned with the error.
        """
        found, unreadable = dict[str, Connection](), dict[str, str]()
        try:
            for details in self.items("connections"):
                id_ = str(details.get("id"))
                try:
                    found[id_] = _connection(details)
                except ValidationError as error:
                    unreadable[id_] = ", ".join(
                        sorted({".".join(map(str, one["loc"])) for one in error.errors(include_input=False)})
                    )
        except VendorError as error:
            return Listing(found, unreadable, error)
        return Listing(found, unreadable)

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

    def columns(self, connection_id: str, schema: str, table: str) -> dict[str, dict[str, Any]]:
        """Read the columns of a table from the source, by name, with `is_primary_key`.

        Only this endpoint has all columns: a connection's schemas have those that someone has edited. It is slow, and has a rate limit
        of its own. Names are those of the source.
        """
        self._source_pace.wait()
        names = f"schemas/{quote(schema, safe='')}/tables/{quote(table, safe='')}"
        found: dict[str, dict[str, Any]] = self.request("GET", f"connections/{connection_id}/{names}/columns")[
            "columns"
        ]
        return found

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

    def _run(self, connection_id: str, wait: Wait, action: str, body: Mapping[str, Any]) -> Synced:
        before = self._start(connection_id, wait, action, body)
        triggered = wait.passed

        def finished(now: Connection) -> bool:
            if now.finished_at > before.finished_at:
                return True
            waits = now.status.sync_state == RESCHEDULED
            if now.is_broken and not waits and wait.passed - triggered > self._broken_start_seconds:
                raise SyncFailed(_not_started(now, action), permanent=True)
            self._resume(now, wait)
            return False

        after = self._until(connection_id, wait, finished)
        if (failure := after.failure) is not None:
            raise SyncFailed(failure, permanent=after.needs_person, sync=after.sync_that_ended(after.finished_at))
        return Synced(after, wait.passed)

    def _start(self, connection_id: str, wait: Wait, action: str, body: Mapping[str, Any]) -> Connection:
        """Start a sync or a resync when no other one runs, and return the connection as it was before."""
        while True:
            before = self._until(connection_id, wait, lambda _now: True)
            _refuse(before)
            wait.sleep(0)  # where the step was cancelled in the meantime, nothing is started
            try:
                self.request("POST", f"connections/{connection_id}/{action}", body=body)
            except VendorError as error:
                if error.status == 400 and body.get("scope"):
                    raise SyncFailed(_no_table_resync(before, body["scope"], error), permanent=True) from error
                # Of a broken connection, a conflict may be something else than a sync that runs: it is not tried again and again.
                if error.status != BUSY or wait.passed > wait.seconds or before.is_broken:
                    raise
                wait.sleep(FIRST_SECONDS)  # another sync has begun since the connection was read
                continue
            wait.log(f"{before.name}: {action} started, {before.url}")
            return before

    def _resume(self, now: Connection, wait: Wait) -> None:
        """Trigger a rescheduled sync when its time has come, if Fivetran does not do so by itself.

        "If `schedule_type` is `manual`, the connection expects the sync to be triggered at the designated time" (`rescheduled_for` of
        ConnectorStatusResponse in Fivetran's OpenAPI file). Raises SyncFailed where that time is after the limit of the step.
        """
        later = now.status.rescheduled_for
        if now.status.sync_state != RESCHEDULED or later is None:
            return
        left = (later - datetime.now(UTC)).total_seconds()
        if left > wait.seconds - wait.passed:
            raise SyncFailed(
                f"Fivetran has rescheduled the sync of `{now.name}` for {later:%Y-%m-%d %H:%M} UTC, which is after the time limit:"
                f" its source accepts no more API calls until then. {wait.remedy}"
            )
        if left <= 0 and now.schedule_type == "manual":
            wait.log(f"{now.name}: the rescheduled sync is due, triggering it")
            self.request("POST", f"connections/{now.id}/sync", body={"force": False})

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


def _connection(details: Mapping[str, Any]) -> Connection:
    return Connection.model_validate({**details, "name": details.get("schema")})


def _state(connection: Connection) -> str:
    later = connection.status.rescheduled_for
    rescheduled = f" for {later:%Y-%m-%d %H:%M} UTC" if later else ""
    return f"{connection.name}: {connection.status.sync_state}{rescheduled}"


def _no_table_resync(connection: Connection, scope: Scope, error: VendorError) -> str:
    """Explain a resync of single tables that was refused (`POST .../resync` 400 in Fivetran's OpenAPI file)."""
    names = ", ".join(name for tables in scope.values() for name in tables)
    return (
        f"Fivetran does not re-sync single tables ({names}) of the connection `{connection.name}`: not every connector can. To re-sync the"
        f" whole connection, give it an empty list: `resync: {{{connection.name}: []}}`. {error}"
    )


def _not_started(connection: Connection, action: str) -> str:
    return (
        f"The connection `{connection.name}` is broken in Fivetran, and the {action} that was triggered has not started."
        f" {connection.reason}"
    )


def _refuse(connection: Connection) -> None:
    """Raise SyncFailed where no sync of a connection can succeed until a person has done something.

    A broken connection is tried, unless one of its tasks says that someone has to reconnect it.
    """
    if connection.paused:
        raise SyncFailed(
            f"The connection `{connection.name}` is paused in Fivetran, so nothing was synced. Resume it: {connection.url}",
            permanent=True,
        )
    tried = connection.is_broken and not connection.must_be_reconnected
    if connection.status.setup_state != CONNECTED and not tried:
        raise SyncFailed(
            f"The connection `{connection.name}` is {connection.status.setup_state} in Fivetran. {connection.reason}",
            permanent=True,
        )
