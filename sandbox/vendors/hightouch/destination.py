"""Writes to Salesforce over its REST API, 200 records a call."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import httpx

from sandbox.config import SandboxConfig
from sandbox.vendors.salesforce import TOKEN

BATCH = 200


class Salesforce:
    def __init__(self, config: SandboxConfig) -> None:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        self._http = httpx.Client(base_url=config.url("salesforce"), headers=headers, timeout=30)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def upsert(self, name: str, external_id: str, records: list[dict[str, Any]]) -> list[str | None]:
        """Upsert up to 200 records, each by itself; return None for an accepted one, else the reason of its rejection.

        Raises httpx.HTTPError where Salesforce did not answer for all of them.
        """
        body = {"allOrNone": False, "records": [{"attributes": {"type": name}} | record for record in records]}
        answer = self._http.patch(f"/services/data/v59.0/composite/sobjects/{name}/{external_id}", json=body)
        results = answer.raise_for_status().json()
        return [None if result["success"] else _reason(result["errors"]) for result in results]


def _reason(errors: list[dict[str, Any]]) -> str:
    return "; ".join(f"{error['statusCode']}: {error['message']}" for error in errors)
