"""Alert events of incident.io, by its official SDK (`incident-io`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import httpx

from orchestration.vendors.http import VendorError, excerpt, retry_after

TIMEOUT = httpx.Timeout(10, connect=5)
"""Short: whoever waits is a sensor, which has a minute for all that it does, and comes again in seconds."""


@dataclass(frozen=True)
class AlertEvent:
    """What is sent: events with the same deduplication key are one alert. `description` is markdown."""

    deduplication_key: str
    status: Literal["firing", "resolved"]
    title: str
    description: str
    source_url: str
    metadata: dict[str, Any]


class AlertSource:
    """One HTTP alert source. Its token is its own, not an API key."""

    def __init__(self, base_url: str, source_id: str, token: str) -> None:
        # The package is generated and large: only what one operation needs is imported, when it is needed.
        from incident_io import AuthenticatedClient

        self._source_id = source_id
        self._client = AuthenticatedClient(
            base_url=base_url.rstrip("/"),
            token=token,
            timeout=TIMEOUT,  # without one the SDK waits for ever
            # It decodes an error's body before it says which error, and fails on what is not its JSON: a proxy's page, say.
            httpx_args={"event_hooks": {"response": [_accepted]}},
        )

    def send(self, event: AlertEvent) -> None:
        """Deliver one event; it may be repeated. Raises VendorError unless incident.io has accepted it."""
        from incident_io.api.alert_events_v2 import alert_events_v2_create_http as create
        from incident_io.models import AlertEventsCreateHTTPPayloadV2

        body = AlertEventsCreateHTTPPayloadV2.from_dict({
            "deduplication_key": event.deduplication_key, "status": event.status, "title": event.title,
            "description": event.description, "source_url": event.source_url, "metadata": event.metadata,
        })  # fmt: skip
        what = f"incident.io: {event.status} alert {event.deduplication_key}"
        try:
            create.sync_detailed(self._source_id, client=self._client, body=body)
        except httpx.RequestError as error:
            raise VendorError(f"{what} was not delivered: {error or type(error).__name__}") from error
        except VendorError as error:
            raise VendorError(
                f"{what} was not delivered: {error}", status=error.status, retry_after=error.retry_after
            ) from error
        except (KeyError, TypeError, ValueError):
            pass  # accepted: only a 202 gets as far as being parsed, and what it says is not used


def _accepted(answer: httpx.Response) -> None:
    answer.read()
    if answer.status_code != 202:
        raise VendorError(
            f"the answer was {answer.status_code}: {excerpt(answer.text)}",
            status=answer.status_code,
            retry_after=retry_after(answer.headers),
        )
