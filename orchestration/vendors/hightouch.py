"""Hightouch's REST API, version 1 (https://hightouch.com/docs/developer-tools/api-guide)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from orchestration.vendors.http import VendorClient, VendorError
from orchestration.vendors.waiting import SyncFailed, Wait

PAGE = 100
SENT = {"success", "warning"}
"""How a run ends that has sent what its destination accepts; of a warning, that is not all."""
ENDED = SENT | {"failed", "cancelled", "interrupted"}


class _Payload(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class Sync(_Payload):
    id: int
    slug: str
    model_id: int
    destination_id: int
    disabled: bool = False


class RawSql(_Payload):
    sql: str


class NamedTable(_Payload):
    name: str


class DbtModel(_Payload):
    """A model of dbt, by the dataset and table that it makes (fields as in Hightouch's Terraform provider)."""

    name: str
    schema_: str = Field(alias="schema")


class Model(_Payload):
    """What a sync reads: a query, a table, or a dbt model."""

    id: int
    slug: str
    name: str
    primary_key: str | None = None
    raw: RawSql | None = None
    table: NamedTable | None = None
    dbt: DbtModel | None = None


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


class Hightouch:
    """A client of one workspace. Every call raises VendorError where Hightouch does not answer as documented."""

    def __init__(self, base_url: str, key: str) -> None:
        self._client = VendorClient("Hightouch", base_url, headers={"Authorization": f"Bearer {key}"})

    def syncs(self) -> list[Sync]:
        return [Sync.model_validate(item) for item in self._items("syncs")]

    def models(self) -> list[Model]:
        return [Model.model_validate(item) for item in self._items("models")]

    def destinations(self) -> list[Destination]:
        return [Destination.model_validate(item) for item in self._items("destinations")]

    def run(self, sync_id: int, run_id: int) -> SyncRun | None:
        """A run by its id; None while the listing does not have it yet."""
        found = self._client.request("GET", f"syncs/{sync_id}/runs", params={"runId": run_id})["data"]
        return next((SyncRun.model_validate(item) for item in found if int(item["id"]) == run_id), None)

    def newest_run(self, sync_id: int) -> SyncRun | None:
        found = self._client.request("GET", f"syncs/{sync_id}/runs", params={"limit": 5})["data"]
        runs = [SyncRun.model_validate(item) for item in found]
        return max(runs, key=lambda run: run.id, default=None)

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
        run_id = self.trigger(sync.id, full_resync=full_resync)

        def state(run: SyncRun | None) -> str:
            return f"{sync.slug}: run {run_id} {run.status if run else 'not listed yet'}"

        run = wait.until(lambda: self.run(sync.id, run_id), lambda run: run is not None and run.status in ENDED, state)
        assert run is not None
        if run.status not in SENT:
            raise SyncFailed(f"Run {run_id} of `{sync.slug}` {run.status}: {run.reason}")
        return Synced(run, wait.passed)

    def _items(self, path: str) -> Iterator[dict[str, Any]]:
        offset = 0
        while True:
            page = self._client.request("GET", path, params={"limit": PAGE, "offset": offset, "orderBy": "id"})
            yield from page["data"]
            if not page.get("hasMore") or not page["data"]:
                return
            offset += len(page["data"])
