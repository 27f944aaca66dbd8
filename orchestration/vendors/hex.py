"""Hex's public API, version 1 (https://learn.hex.tech/docs/api/api-reference)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from orchestration.vendors.http import PATIENCE_SECONDS, VendorClient, VendorError
from orchestration.vendors.waiting import SyncFailed, Wait

PAGE = 100
ENDED = {"COMPLETED", "ERRORED", "KILLED", "UNABLE_TO_ALLOCATE_KERNEL"}
WHY = {
    "ERRORED": "A cell of it failed. Hex's API does not say why; the run does",
    "KILLED": "Somebody, or a limit of the workspace, stopped it at Hex",
    "UNABLE_TO_ALLOCATE_KERNEL": "Hex had no machine free to run it on",
}
"""What each bad end means: of a run, the API gives the status only."""
RUNS_A_MINUTE = "Hex takes 20 runs a minute and 60 an hour"
"""Of POST /v1/projects/{projectId}/runs in Hex's OpenAPI file. Its default limit of other calls, 30 a minute and 1,800 an hour, is not for
those that are made here, by the same file."""
LIMIT_SECONDS = 60.0
"""How long a limit of so many a minute lasts, where Hex does not say when to come back."""
LOOKS, LOOK_SECONDS = 3, 1.0
"""How often a run whose trigger had no answer is looked for: the listing may have it a little later."""


class _Payload(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class Person(_Payload):
    email: str | None = None


class Category(_Payload):
    name: str


class Project(_Payload):
    """Times are as Hex writes them: they are only compared with those of another day."""

    id: str
    title: str | None = None
    owner: Person | None = None
    categories: list[Category] = Field(default_factory=list[Category])
    last_edited_at: str | None = None
    last_published_at: str | None = None
    archived_at: str | None = None
    trashed_at: str | None = None

    @property
    def name(self) -> str:
        return (self.title or "").strip() or "Untitled"

    @property
    def gone(self) -> bool:
        return bool(self.archived_at or self.trashed_at)


class Run(_Payload):
    """A run, as it is told of when it is triggered (without a status) and later."""

    run_id: str
    run_url: str
    status: str = "PENDING"
    start_time: str | None = None


@dataclass(frozen=True)
class Ran:
    run: Run
    seconds: float


class Hex:
    """A client of one workspace. Every call raises VendorError where Hex does not answer as documented."""

    def __init__(
        self,
        base_url: str,
        token: str,
        *,
        sleep: Callable[[float], None] = time.sleep,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._client = VendorClient(
            "Hex",
            base_url,
            headers={"Authorization": f"Bearer {token}"},
            window_seconds=LIMIT_SECONDS,
            patience_seconds=patience_seconds,
            sleep=sleep,
        )

    def projects(self) -> list[Project]:
        """The projects that the token may see, without components, archived and trashed ones."""
        found = (Project.model_validate(item) for item in self._items("v1/projects"))
        return [project for project in found if not project.gone]

    def queried_tables(self, project_id: str) -> list[str]:
        """The tables that a project queries, each spelled as in its SQL: with a dataset and a project or without, quoted or not."""
        items = self._items(f"v1/projects/{project_id}/queriedTables")
        return list(dict.fromkeys(str(item["tableName"]) for item in items))

    def run_of(self, project_id: str, run_id: str) -> Run:
        return Run.model_validate(self._client.request("GET", f"v1/projects/{project_id}/runs/{run_id}"))

    def trigger(self, project_id: str, sleep: Callable[[float], None] = time.sleep) -> Run:
        """Start a run of what is published, by what the warehouse has now, whose results the published app then shows.

        A trigger is not safe to repeat: when its answer is lost, the run that it has started is looked up instead.
        """
        before = {run.run_id for run in self._triggered(project_id)}
        # Results that Hex has cached are those from before the tables were made anew.
        body = {"updatePublishedResults": True, "useCachedSqlResults": False}
        try:
            # The limit of runs may last an hour: whoever waits for it says so, and can be cancelled.
            answer = self._client.request(
                "POST", f"v1/projects/{project_id}/runs", body=body, repeatable=False, patience_seconds=0
            )
            return Run.model_validate(answer)
        except VendorError as error:
            if not error.started or (error.status is not None and error.status < 500):
                raise
            for look in range(LOOKS):
                if look:
                    sleep(LOOK_SECONDS)
                new = [run for run in self._triggered(project_id) if run.run_id not in before]
                if new:
                    return new[0]
            raise

    def cancel(self, project_id: str, run_id: str) -> None:
        self._client.request("DELETE", f"v1/projects/{project_id}/runs/{run_id}")

    def run(self, project: Project, wait: Wait) -> Ran:
        """Run a project and wait for its end.

        Raises SyncFailed where the run ends badly or not in time, or the wait is ended; what runs then at Hex is cancelled.
        """
        if not project.last_published_at:
            raise SyncFailed(f"`{project.name}` was never published, and Hex runs what is published.", permanent=True)
        started = self._started(project, wait)

        def state(run: Run) -> str:
            return f"{project.name}: run {run.run_id} {run.status}"

        try:
            run = wait.until(lambda: self.run_of(project.id, started.run_id), lambda run: run.status in ENDED, state)
        except Exception as problem:
            # Whatever it is: nobody looks at that run any more, and a retry starts another, beside which it must not go on.
            told = self._told_to_cancel(project, started)
            if isinstance(problem, SyncFailed):
                raise SyncFailed(f"{problem} {told}", permanent=problem.permanent) from problem
            wait.log(told)
            raise
        if run.status != "COMPLETED":
            raise SyncFailed(f"Run {run.run_id} of `{project.name}` {run.status}. {WHY[run.status]}: {run.run_url}")
        return Ran(run, wait.passed)

    def _started(self, project: Project, wait: Wait) -> Run:
        """Trigger a run as soon as Hex takes one more."""
        while True:
            wait.sleep(0)  # where the step was cancelled meanwhile, nothing is started
            try:
                return self.trigger(project.id, wait.sleep)
            except VendorError as error:
                pause = error.retry_after or LIMIT_SECONDS
                if error.status != 429 or wait.passed + pause > wait.seconds:
                    raise
                wait.log(f"{project.name}: {RUNS_A_MINUTE}; trying again in {pause:.0f} s")
                wait.sleep(pause)

    def _told_to_cancel(self, project: Project, run: Run) -> str:
        """Cancel a run, and say how that went: it never hides why."""
        try:
            self.cancel(project.id, run.run_id)
        except VendorError as error:
            return f"Run {run.run_id} could not be cancelled either: {error} See {run.run_url}"
        return f"Run {run.run_id} was cancelled at Hex: {run.run_url}"

    def _triggered(self, project_id: str) -> list[Run]:
        """The newest runs that were triggered by the API, newest first."""
        params = {"runTriggerFilter": "API", "limit": PAGE}
        found = self._client.request("GET", f"v1/projects/{project_id}/runs", params=params)["runs"]
        # A run that has not begun has no time yet, and is newer than those that have.
        return sorted(map(Run.model_validate, found), key=lambda run: run.start_time or "9", reverse=True)

    def _items(self, path: str) -> Iterator[dict[str, Any]]:
        after: str | None = None
        while True:
            params = {"limit": PAGE} | ({"after": after} if after else {})
            page = self._client.request("GET", path, params=params)
            yield from page["values"]
            following = page["pagination"]["after"]
            if not following or following == after or not page["values"]:
                return
            after = following
