"""Omni's REST API (https://docs.omni.co/api)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast
from urllib.parse import quote

from orchestration.vendors.http import VendorClient, VendorError, excerpt
from orchestration.vendors.omni_payloads import Broken, Document, Job, Model, Query, objects, valid
from orchestration.vendors.pace import Pace
from orchestration.vendors.waiting import SyncFailed, Wait

PAGE = 100
WINDOW_SECONDS = 60.0
"""Omni's limit is so many requests a minute for a key."""
AGAIN_SECONDS = 2.0
log = logging.getLogger(__name__)


class Omni:
    """A client of one organisation; `base_url` is where people open it. Every call raises VendorError where Omni does not answer as documented.

    `pace` is what Omni allows the key.
    """

    def __init__(
        self, base_url: str, key: str, pace: Pace | None = None, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._client = VendorClient("Omni", base_url, headers={"Authorization": f"Bearer {key}"})
        self._pace = pace or Pace(60, WINDOW_SECONDS)
        self._sleep = sleep

    def documents(self) -> list[Document]:
        """All that are not deleted; each once, also where somebody renames one while the pages are read."""
        found = (valid(Document, item) for item in self._records("api/v1/documents"))
        return list({document.identifier: document for document in found if not document.deleted}.values())

    def queries(self, identifier: str) -> list[Query]:
        """The queries of a document; none where it has none, which Omni answers with 404."""
        try:
            answer = self._get(f"api/v1/documents/{quote(identifier, safe='')}/queries")
        except VendorError as error:
            if error.status == 404:
                return []
            raise
        return [Query.of(item) for item in objects(answer, "queries")]

    def emails(self) -> dict[str, str]:
        """The e-mail addresses of the users, by their ids."""
        found: dict[str, str] = {}
        start = 1
        while True:
            answer = self._get("api/scim/v2/Users", {"count": PAGE, "startIndex": start})
            users = objects(answer, "Resources")
            found |= {str(user.get("id")): str(user["userName"]) for user in users if user.get("userName")}
            start += len(users)
            total = answer.get("totalResults")
            if not users or (start > total if isinstance(total, int) else len(users) < PAGE):
                return found

    def models(self) -> list[Model]:
        found = (valid(Model, item) for item in self._records("api/v1/models"))
        return [model for model in found if not model.deleted_at]

    def refresh(self, model: Model, wait: Wait) -> float:
        """Have Omni read the warehouse's schema anew into a schema model, and return in how many seconds it has.

        Raises SyncFailed where Omni fails to, or takes too long.
        """
        wait.sleep(0)  # where the step was cancelled meanwhile, nothing is started
        name = model.name or model.id
        started = self._start(model, wait)
        job = str(started["jobId"])

        def look() -> str:
            return valid(Job, self._get(f"api/v1/jobs/{quote(job, safe='')}/status")).status

        status = str(started.get("status") or "").upper()
        if status not in {"COMPLETED", "FAILED"}:
            ended = {"COMPLETED", "FAILED"}
            status = wait.until(look, lambda now: now in ended, lambda now: f"{name}: refresh {job} {now}")
        if status != "COMPLETED":
            raise SyncFailed(
                f"Omni could not refresh the schema model `{name}` (job {job}). Its API does not say why; the connection's page "
                "in Omni does."
            )
        return wait.passed

    def broken(self, model: Model) -> list[Broken]:
        """The published documents that refer to views or fields which the model does not have."""
        path = f"api/v1/models/{quote(model.id, safe='')}/content-validator"
        answer = self._get(path, {"content_filter_mode": "WITH_ISSUES", "include_personal_folders": "true"})
        return [found for item in objects(answer, "content") if (found := Broken.of(item))]

    def _start(self, model: Model, wait: Wait) -> Mapping[str, Any]:
        """Start a refresh, and return its job.

        Omni lists no jobs, so one whose answer was lost cannot be found and waited for. It is started once more then, not five times as a
        request that is safe to repeat: a second refresh comes to the same, and only costs the warehouse another look at its schema.
        """
        path = f"api/v1/models/{quote(model.id, safe='')}/refresh"
        try:
            return self._call("POST", path, repeatable=False)
        except VendorError as error:
            if not error.started or (error.status is not None and error.status < 500):
                raise
            wait.log(f"{error} Whether it was started is not known; starting it once more")
        wait.sleep(AGAIN_SECONDS)
        return self._call("POST", path, repeatable=False)

    def _records(self, path: str) -> Iterator[dict[str, Any]]:
        cursor: str | None = None
        while True:
            page = self._get(path, {"pageSize": PAGE} | ({"cursor": cursor} if cursor else {}))
            yield from objects(page, "records")
            info: dict[str, Any] = page.get("pageInfo") or {}
            following = info.get("nextCursor")
            if not following or info.get("hasNextPage") is False or following == cursor:
                return
            cursor = str(following)

    def _get(self, path: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return self._call("GET", path, params)

    def _call(
        self, method: str, path: str, params: Mapping[str, Any] | None = None, *, repeatable: bool = True
    ) -> dict[str, Any]:
        """The object that is answered. Raises VendorError."""
        self._pace.wait()
        try:
            answer = self._client.request(method, path, params=params, repeatable=repeatable)
        except VendorError as error:
            # Omni does not document a Retry-After. Others may use the key as well: the minute that they share has to pass.
            if error.status != 429 or error.retry_after is not None:
                raise
            log.warning("%s Trying again in %.0f s", error, WINDOW_SECONDS)
            self._sleep(WINDOW_SECONDS)
            answer = self._client.request(method, path, params=params, repeatable=repeatable)
        if not isinstance(answer, dict):
            raise VendorError(f"Omni: {method} {path} answered {excerpt(repr(answer))}, which is no object")
        return cast("dict[str, Any]", answer)
