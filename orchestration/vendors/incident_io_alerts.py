"""incident.io's list of alerts: which deduplication keys it has, and which of them fire.

The API is GET /v2/alerts (https://docs.incident.io/api-reference/alerts-v2). Filters are used together, each with its operator in
brackets: `deduplication_key[is]`, `status[one_of]` and `alert_source[one_of]`. Pages follow each other by `after`. Alerts in a
maintenance window are listed by default. The API key needs the permission to view alerts. An API key has 1,200 requests a minute
(https://docs.incident.io/api-reference/introduction). That a page has at most 50 alerts is unverified: with fewer on a page, the
list has more pages.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import httpx
from pydantic import BaseModel, ValidationError

from orchestration.vendors.http import VendorError, excerpt
from orchestration.vendors.incident_io_http import IncidentIoClient

PATH = "v2/alerts"
PAGE = 50
TIMEOUT, ATTEMPTS = httpx.Timeout(8, connect=4), 2
"""Short: a sensor waits for the answer, and a tick has a minute. The next tick asks again."""
LONGEST_WAIT = 5.0
"""Seconds. A longer wait, which a 429 may ask for, is left to the next tick."""
REMEDY = "Set INCIDENT_IO_API_KEY to a key that may view alerts: incident.io, Settings, API keys"


class _ListedAlert(BaseModel):
    deduplication_key: str
    status: str
    alert_source_id: str


@dataclass(frozen=True)
class FiringKeys:
    """The deduplication keys of the alerts that fire. Not `complete`: incident.io has more than were read."""

    keys: frozenset[str]
    complete: bool
    unreadable: int = 0
    """How many entries of the list were not readable. They are not among the keys."""


class AlertList:
    """Reads the alerts of one alert source with an API key."""

    def __init__(self, base_url: str, key: str, source_id: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = IncidentIoClient(base_url, key, timeout=TIMEOUT, attempts=ATTEMPTS, longest_wait=LONGEST_WAIT)
        self._source_id, self._clock = source_id, clock

    def read_firing_keys(self, most_pages: int, deadline: float) -> FiringKeys:
        """Return the keys of the alerts that fire, from the newest alert on.

        Args:
            most_pages: How many pages are read at most.
            deadline: The time of the clock after which no further page is read.

        Raises:
            VendorError: No page was read, or the API key is refused. An error of a later page leaves the list incomplete.
        """
        keys, unreadable, after = set[str](), 0, ""
        for number in range(most_pages):
            if number and self._clock() > deadline:
                break
            try:
                page = self._read_page({"status[one_of]": "firing"}, after)
            except VendorError as error:
                if not number or error.permanent:
                    raise
                break
            for item in page.items:
                alert = _read_alert(item)
                if alert is None:
                    unreadable += 1
                elif alert.status == "firing" and alert.alert_source_id == self._source_id:
                    keys.add(alert.deduplication_key)
            if not page.after or not page.items:
                return FiringKeys(frozenset(keys), complete=True, unreadable=unreadable)
            after = page.after
        return FiringKeys(frozenset(keys), complete=False, unreadable=unreadable)

    def has_alert(self, deduplication_key: str) -> bool:
        """Return whether the source has an alert of this key, firing or resolved.

        Raises VendorError, also where the answer is about other alerts: it then says nothing about this one.
        """
        page = self._read_page({"deduplication_key[is]": deduplication_key}, "")
        if not page.items:
            return False
        for item in page.items:
            alert = _read_alert(item)
            if alert and (alert.deduplication_key, alert.alert_source_id) == (deduplication_key, self._source_id):
                return True
        raise VendorError(f"incident.io: GET {PATH} answered with alerts that were not asked for")

    def _read_page(self, filters: Mapping[str, str], after: str) -> _Page:
        parameters = {"page_size": PAGE, "alert_source[one_of]": self._source_id, **filters}
        if after:
            parameters["after"] = after
        try:
            answer = self._client.request("GET", PATH, params=parameters)
        except VendorError as error:
            if error.status not in {401, 403}:
                raise
            raise VendorError(f"{error}. {REMEDY}", status=error.status, started=error.started) from error
        fields = cast("dict[str, Any]", answer) if isinstance(answer, dict) else {}
        items, meta = fields.get("alerts"), fields.get("pagination_meta")
        if not isinstance(items, list):
            raise VendorError(f"incident.io: GET {PATH} answered without `alerts`: {excerpt(str(fields))}")
        following = cast("dict[str, Any]", meta).get("after") if isinstance(meta, dict) else None
        return _Page(cast("list[Any]", items), following if isinstance(following, str) else "")


@dataclass(frozen=True)
class _Page:
    items: list[Any]
    after: str


def _read_alert(item: Any) -> _ListedAlert | None:
    try:
        return _ListedAlert.model_validate(item)
    except ValidationError:
        return None
