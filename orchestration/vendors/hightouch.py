"""Hightouch's REST API, version 1 (https://hightouch.com/docs/developer-tools/api-guide)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from orchestration.vendors.http import PATIENCE_SECONDS, VendorClient, VendorError
from orchestration.vendors.pace import shared_pace
from orchestration.vendors.waiting import SyncFailed, Wait

PAGE = 100
NOT_FOUND = 404
REQUESTS, WINDOW_SECONDS = 180, 10.0
"""How fast requests are sent. "The Hightouch API rate limit is 200 requests per 10 seconds per workspace"
(https://hightouch.com/docs/developer-tools/api-guide#hightouch-api-rate-limits); it sends no `Retry-After`."""
SENT = {"success", "warning"}
"""How a run ends that has sent what its destination accepts; of a warning, that is not all."""
ENDED = SENT | {"failed", "cancelled"}
INTERRUPTED = "interrupted"
""""The sync had a temporary interruption and will resume in a new run" (https://hightouch.com/docs/syncs/overview): not an end."""
RECENT_MINUTES = 7 * 24 * 60
NEWEST_FIRST = {"orderBy": "id", "orderDirection": "desc"}
"""The default order of runs is not documented, nor is `orderDirection` in every copy of the OpenAPI file: it may be ignored."""


class _Payload(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class Sync(_Payload):
    id: int
    slug: str
    model_id: int
    destination_id: int
    disabled: bool = False
    status: str | None = None
    """The overall status of the sync (SyncStatus of Hightouch's OpenAPI file). With `last_run_at`, it changes when a run begins or ends."""
    last_run_at: str | None = None
    """"The timestamp of the last sync run". Whether that is the run's beginning or end is unverified: it is only compared."""


class RawSql(_Payload):
    sql: str


class NamedTable(_Payload):
    name: str


class DbtModel(_Payload):
    """A model of dbt, by the dataset and table that it makes."""

    name: str
    schema_: str = Field(alias="schema")


class DbtCloudModel(_Payload):
    """A model of dbt Cloud: Hightouch knows its SQL and its id in dbt, and not the dataset of its table."""

    name: str = ""
    dbt_unique_id: str = ""
    compiled_sql: str = ""


class VisualQuery(_Payload):
    """A filter of the rows of another model, an audience."""

    parent_id: int


class CustomQuery(_Payload):
    """A query of a source that has no SQL. Its `query` may be of any shape."""


class Model(_Payload):
    """What a sync reads. Which one of the six kinds it is, the key that is there says (schema `Model` of Hightouch's OpenAPI file)."""

    id: int
    slug: str
    name: str
    query_type: str | None = None
    primary_key: str | None = None
    raw: RawSql | None = None
    table: NamedTable | None = None
    dbt: DbtModel | None = None
    # Its key is in snake case, unlike all others.
    dbt_cloud: DbtCloudModel | None = Field(None, alias="dbt_cloud")
    visual: VisualQuery | None = None
    custom: CustomQuery | None = None


class Destination(_Payload):
    id: int
    slug: str
    name: str
    type: str


class RowCounts(_Payload):
    added_count: int | None = 0
    changed_count: int | None = 0
    removed_count: int | None = 0

    @property
    def total(self) -> int:
        return sum(count or 0 for count in (self.added_count, self.changed_count, self.removed_count))


class SyncRun(_Payload):
    """One run of a sync. Counts are absent while it still queries its model."""

    id: int
    status: str
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    query_size: int | None = None
    planned_rows: RowCounts | None = None
    successful_rows: RowCounts | None = None
    failed_rows: RowCounts | None = None
    error: dict[str, Any] | str | None = None

    @property
    def rejected(self) -> int:
        """Rows that the destination refused: Hightouch calls such a run a warning."""
        return self.failed_rows.total if self.failed_rows else 0

    @property
    def reason(self) -> str:
        """The vendor's words on why it failed."""
        if isinstance(self.error, dict):
            return str(self.error.get("message") or self.error)
        return self.error or "Hightouch gives no reason."


@dataclass(frozen=True)
class Synced:
    run: SyncRun
    seconds: float


def run_identity(sync_id: int, run_id: int) -> str:
    """Return the identity of a run of a sync, as a run of Dagster records it."""
    return f"hightouch/{sync_id}/{run_id}"


class Hightouch:
    """A client of one workspace. Every call raises VendorError where Hightouch does not answer as documented."""

    def __init__(self, base_url: str, key: str, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._client = VendorClient(
            "Hightouch",
            base_url,
            headers={"Authorization": f"Bearer {key}"},
            pace=shared_pace(f"hightouch {base_url} {key}", REQUESTS, WINDOW_SECONDS),
            window_seconds=WINDOW_SECONDS,
            patience_seconds=patience_seconds,
        )

    def syncs(self) -> list[Sync]:
        return [Sync.model_validate(item) for item in self._items("syncs")]

    def sync_exists(self, sync_id: int) -> bool:
        """Whether Hightouch has a sync, by a request of its own. Raises VendorError for other answers than 200 and 404."""
        try:
            self._client.request("GET", f"syncs/{sync_id}")
        except VendorError as error:
            if error.status == NOT_FOUND:
                return False
            raise
        return True

    def models(self) -> list[Model]:
        return [Model.model_validate(item) for item in self._items("models")]

    def destinations(self) -> list[Destination]:
        return [Destination.model_validate(item) for item in self._items("destinations")]

    def run(self, sync_id: int, run_id: int) -> SyncRun | None:
        """A run by its id; None while the listing does not have it yet."""
        runs, _more = self._runs(sync_id, {"runId": run_id})
        return next((run for run in runs if run.id == run_id), None)

    def newest_run(self, sync_id: int) -> SyncRun | None:
        """The run with the highest id, whichever order Hightouch lists runs in."""
        return max(self._recent_runs(sync_id), key=lambda run: run.id, default=None)

    def newest_ended_run(self, sync_id: int) -> SyncRun | None:
        """Return the run with the highest id of those that have ended; another one may be under way."""
        ended = [run for run in self._recent_runs(sync_id) if run.finished_at is not None and run.status in ENDED]
        return max(ended, key=lambda run: run.id, default=None)

    def _recent_runs(self, sync_id: int) -> list[SyncRun]:
        """A page of runs with the newest among them, whichever order Hightouch lists runs in."""
        runs, more = self._runs(sync_id, {})
        if more and runs[0].id < runs[-1].id:
            # Oldest first: the newest is on the last page, of the recent ones if there are any.
            runs = self._all_runs(sync_id, {"within": RECENT_MINUTES}) or self._all_runs(sync_id, {})
        return runs

    def _all_runs(self, sync_id: int, params: Mapping[str, Any]) -> list[SyncRun]:
        found: list[SyncRun] = []
        while True:
            runs, more = self._runs(sync_id, {**params, "offset": len(found)})
            found += runs
            if not more:
                return found

    def _runs(self, sync_id: int, params: Mapping[str, Any]) -> tuple[list[SyncRun], bool]:
        """A page of the runs of a sync, and whether there are more."""
        page = self._client.request("GET", f"syncs/{sync_id}/runs", params={"limit": PAGE, **NEWEST_FIRST, **params})
        runs = [SyncRun.model_validate(item) for item in page["data"]]
        return runs, bool(page.get("hasMore")) and bool(runs)

    def trigger(self, sync_id: int, *, full_resync: bool = False) -> int:
        """Start a run, or queue one behind the run that is under way, and return its id; of every row with `full_resync`.

        A trigger is not safe to repeat: when its answer is lost, the run that it has started is looked up instead.
        """
        before = self.newest_run(sync_id)
        try:
            body = {"fullResync": True} if full_resync else {}
            return int(self._client.request("POST", f"syncs/{sync_id}/trigger", body=body, repeatable=False)["id"])
        except VendorError as error:
            if not error.started or (error.status is not None and error.status < 500):
                raise
            after = self.newest_run(sync_id)
            if after is None or (before is not None and after.id == before.id):
                raise
            return after.id

    def sync(self, sync: Sync, wait: Wait, *, full_resync: bool = False) -> Synced:
        """Trigger a sync and wait for its end; `success` and `warning` (some rows rejected) are both an end.

        Raises SyncFailed with Hightouch's reason.
        """
        if sync.disabled:
            raise SyncFailed(
                f"The sync `{sync.slug}` is disabled in Hightouch, so nothing was synced. Enable it there.",
                permanent=True,
            )
        wait.sleep(0)  # where the step was cancelled meanwhile, nothing is started
        followed = self.trigger(sync.id, full_resync=full_resync)

        def look() -> SyncRun | None:
            """The run that was triggered, or the newest one that has resumed it."""
            nonlocal followed
            run = self.run(sync.id, followed)
            if run is not None and run.status == INTERRUPTED:
                newest = self.newest_run(sync.id)
                if newest is not None and newest.id > run.id:
                    followed, run = newest.id, newest
            return run

        def state(run: SyncRun | None) -> str:
            waits = ", which a new run will resume" if run is not None and run.status == INTERRUPTED else ""
            return f"{sync.slug}: run {followed} {run.status if run else 'not listed yet'}{waits}"

        run = wait.until(look, lambda run: run is not None and run.status in ENDED, state)
        assert run is not None
        if run.status not in SENT:
            raise SyncFailed(
                f"Run {run.id} of `{sync.slug}` {run.status}: {run.reason}", sync=run_identity(sync.id, run.id)
            )
        return Synced(run, wait.passed)

    def _items(self, path: str) -> Iterator[dict[str, Any]]:
        offset = 0
        while True:
            page = self._client.request("GET", path, params={"limit": PAGE, "offset": offset, "orderBy": "id"})
            yield from page["data"]
            if not page.get("hasMore") or not page["data"]:
                return
            offset += len(page["data"])
