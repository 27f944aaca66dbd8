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
        # Without this the SDK waits for ever.
        self._client = AuthenticatedClient(base_url=base_url.rstrip("/"), token=token, timeout=TIMEOUT)

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
            answer = create.sync_detailed(self._source_id, client=self._client, body=body)
        except httpx.TransportError as error:
            raise VendorError(f"{what} was not delivered: {error or type(error).__name__}") from error
        except (ValueError, KeyError) as error:
            # The SDK parses before it says which status came: broken JSON surfaces as its decoder's error.
            raise VendorError(f"{what} was answered with no valid JSON") from error
        if answer.status_code != 202:
            text = excerpt(answer.content.decode(errors="replace"))
            raise VendorError(
                f"{what} was answered {answer.status_code.value}: {text}",
                status=answer.status_code.value,
                retry_after=retry_after(answer.headers),
            )
