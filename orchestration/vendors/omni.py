"""Omni's REST API (https://docs.omni.co/api)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast
from urllib.parse import quote

from orchestration.vendors.http import PATIENCE_SECONDS, VendorClient, VendorError, excerpt
from orchestration.vendors.omni_payloads import Broken, Document, Job, Model, Query, objects, valid
from orchestration.vendors.pace import shared_pace
from orchestration.vendors.waiting import SyncFailed, Wait

PAGE = 100
REQUESTS, WINDOW_SECONDS = 60, 60.0
"""What Omni allows a key; its support raises that to 500 (https://docs.omni.co/api/rate-limits). A 429 has no documented `Retry-After`."""
AGAIN_SECONDS = 2.0


class Omni:
    """A client of one organisation; `base_url` is where people open it. Every call raises VendorError where Omni does not answer as documented.

    `requests_per_minute` is what Omni allows the key.
    """

    def __init__(
        self,
        base_url: str,
        key: str,
        requests_per_minute: int = REQUESTS,
        *,
        sleep: Callable[[float], None] = time.sleep,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._client = VendorClient(
            "Omni",
            base_url,
            headers={"Authorization": f"Bearer {key}"},
            pace=shared_pace(f"omni {base_url} {key}", requests_per_minute, WINDOW_SECONDS),
            window_seconds=WINDOW_SECONDS,
            patience_seconds=patience_seconds,
            sleep=sleep,
        )

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

    def refresh(self, model: Model, wait: Wait, branch: str | None = None) -> float:
        """Have Omni read the warehouse's schema into a schema model, and return how many seconds that took.

        `branch` is the id of the branch into which it is read, where Omni's connection has branch-based schema refresh on. Raises SyncFailed
        where Omni refuses, fails, or takes too long.
        """
        wait.sleep(0)  # where the step was cancelled in the meantime, nothing is started
        name = model.name or model.id
        try:
            started = self._start(model, wait, branch)
        except VendorError as error:
            if (remedy := _remedy(model, branch, error.status)) is None:
                raise
            raise SyncFailed(
                f"Omni does not refresh the schema model `{name}`. {remedy} {error}", permanent=True
            ) from error
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

    def _start(self, model: Model, wait: Wait, branch: str | None) -> Mapping[str, Any]:
        """Start a refresh, and return its job.

        Omni lists no jobs, so one whose answer was lost cannot be found and waited for. It is started once more then, not five times as a
        request that is safe to repeat: a second refresh comes to the same, and only costs the warehouse another look at its schema.
        """
        path = f"api/v1/models/{quote(model.id, safe='')}/refresh"
        params = {"branch_id": branch} if branch else None
        try:
            return self._call("POST", path, params, repeatable=False)
        except VendorError as error:
            if not error.started or (error.status is not None and error.status < 500):
                raise
            wait.log(f"{error} Whether it was started is not known; starting it once more")
        wait.sleep(AGAIN_SECONDS)
        return self._call("POST", path, params, repeatable=False)

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
        answer = self._client.request(method, path, params=params, repeatable=repeatable)
        if not isinstance(answer, dict):
            raise VendorError(f"Omni: {method} {path} answered {excerpt(repr(answer))}, which is no object")
        return cast("dict[str, Any]", answer)


def _remedy(model: Model, branch: str | None, status: int | None) -> str | None:
    """What to change where a refresh is refused, by the answers of POST /api/v1/models/{modelId}/refresh in Omni's OpenAPI file."""
    setting = "`branch_of` of OmniDocuments in defs/analytics/defs.yaml"
    match status:
        case 400 if branch:
            return (
                f"{setting} names the branch {branch} for it, but Omni takes one only where branch-based schema refresh is on for its"
                " connection. Remove it, or switch that on."
            )
        case 400:
            return (
                "Branch-based schema refresh is probably on for its connection, which needs a branch. Add"
                f" `{model.id}: <id of the branch>` to {setting} (GET /api/v1/models?include=activeBranches lists the ids), or switch that off."
            )
        case 403:
            return "The owner of OMNI_API_KEY needs the role of connection admin in Omni."
        case _:
            return None
