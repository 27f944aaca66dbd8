"""Explo's REST API (https://docs.explo.co/api-reference). Its paths end with a slash; without one it answers 405."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from pydantic import BaseModel, ValidationError

from orchestration.core.redaction import redact
from orchestration.vendors.http import PATIENCE_SECONDS, VendorClient, VendorError, describe_error
from orchestration.vendors.pace import shared_pace

PAGE = 100
REQUESTS, WINDOW_SECONDS = 150, 60.0
"""How fast requests are sent. Explo allows 180 a minute "across all endpoints, on a requestor IP basis"
(https://docs.explo.co/security/rate-limits); its own example waits a minute after a 429."""
KEPT_BACK = (400, 404, 405)
"""What an Explo may answer that has no such endpoint, or no such dashboard."""


class Customer(BaseModel):
    """Whom dashboards are embedded for. `provided_id` is the id that we know it by."""

    provided_id: str
    name: str


class Dashboard(BaseModel):
    embed_id: str
    name: str

    @property
    def url(self) -> str:
        return f"https://app.explo.co/embed_id/{self.embed_id}"


class Dataset(BaseModel):
    """One query of a dashboard, in the warehouse's SQL with Explo's variables."""

    id: str
    name: str
    query: str


class Explo:
    """A client of one data visibility group. Every call raises VendorError where Explo does not answer as documented."""

    def __init__(self, base_url: str, token: str, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._client = VendorClient(
            "Explo",
            base_url,
            headers={"Explo-Authorization": f"Token {token}"},
            # Not by token: the limit is that of an address.
            pace=shared_pace(f"explo {base_url}", REQUESTS, WINDOW_SECONDS),
            window_seconds=WINDOW_SECONDS,
            patience_seconds=patience_seconds,
        )

    def customers(self) -> list[Customer]:
        """Each once, also where somebody makes or deletes one while the pages are read."""
        return list({customer.provided_id: customer for customer in self._pages()}.values())

    def create_customer(self, provided_id: str, name: str) -> bool:
        """Get or create the customer with this id: safe to repeat, also when an answer was lost. Returns whether it is new."""
        answer = self._call("POST", "api/create_customer/", {"provided_id": provided_id, "name": name})
        return bool(answer.get("new_customer"))

    def update_customer(self, provided_id: str, name: str) -> None:
        """Give a customer this name; what else it has stays."""
        self._call("POST", "api/update_customer/", {"provided_id": provided_id, "name": name})

    def dashboards(self) -> list[Dashboard]:
        found = self._call("GET", "api/dashboard/").get("dashboards")
        return [_valid(Dashboard, item) for item in _list(found)]

    def datasets(self, embed_id: str) -> list[Dataset] | None:
        """The datasets of a dashboard as they are in Explo now; None where Explo does not give them.

        Unverified: Explo documents no endpoint for what a dashboard is made of. This one is modelled on its list of dashboards, and is
        the only place that would change.
        """
        try:
            answer = self._call("GET", f"api/dashboard/{embed_id}/")
        except VendorError as error:
            if error.status in KEPT_BACK:
                return None
            raise
        if "datasets" not in answer:
            return None
        return [_valid(Dataset, item) for item in _list(answer["datasets"])]

    def _pages(self) -> Iterator[Customer]:
        page, seen = 1, 0
        while True:
            answer = self._call("GET", "v2/api/customers/", params={"pageSize": PAGE, "page": page})
            try:
                found, total = _list(answer["results"]["customers"]), int(answer["total_count"])
            except (KeyError, TypeError, ValueError) as error:
                raise VendorError(f"Explo's list of customers is not as documented: {redact(repr(error))}") from error
            yield from (_valid(Customer, item) for item in found)
            page, seen = page + 1, seen + len(found)
            if not found or seen >= total:
                return

    def _call(
        self, method: str, path: str, body: object = None, params: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        answer = self._client.request(method, path, params=params, body=body)
        if not isinstance(answer, dict):
            raise VendorError(f"Explo: {method} {path} answered something else than an object.")
        fields = cast("dict[str, Any]", answer)
        # It can say no with status 200.
        if fields.get("success", 1) != 1:
            why = describe_error(fields.get("message") or fields.get("error"))
            raise VendorError(f"Explo: {method} {path} did not succeed: {why}")
        return fields


def _valid[M: BaseModel](kind: type[M], item: object) -> M:
    try:
        return kind.model_validate(item)
    except ValidationError as error:
        raise VendorError(f"Explo: a {kind.__name__.lower()} is not as documented: {describe_error(error)}") from error


def _list(found: object) -> list[Any]:
    if not isinstance(found, list):
        raise VendorError("Explo answered without the list that was asked for.")
    return cast("list[Any]", found)
