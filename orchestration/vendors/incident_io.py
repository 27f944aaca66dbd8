"""incident.io: alert events, by its official SDK (`incident-io`); and what became of them, by its REST API (https://api-docs.incident.io)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import batched
from typing import Any, Literal, cast

import httpx
from pydantic import BaseModel, ValidationError

from orchestration.vendors.http import VendorError, describe_error, excerpt
from orchestration.vendors.incident_io_http import IncidentIoClient, asked_wait

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
        # The package is generated: 1,600 modules, of which one is needed. Not imported with this module, since most processes send nothing;
        # nor with the first event, which would wait for ten seconds while something is on fire.
        from incident_io import AuthenticatedClient
        from incident_io.api.alert_events_v2 import alert_events_v2_create_http
        from incident_io.models import AlertEventsCreateHTTPPayloadV2

        self._create, self._payload = alert_events_v2_create_http.sync_detailed, AlertEventsCreateHTTPPayloadV2
        self._source_id, self._accepted = source_id, False
        self._client = AuthenticatedClient(
            base_url=base_url.rstrip("/"),
            token=token,
            timeout=TIMEOUT,  # without one the SDK waits for ever
            # It decodes an error's body before it says which error, and fails on what is not its JSON: a proxy's page, say.
            httpx_args={"event_hooks": {"response": [self._hear]}},
        )

    def send(self, event: AlertEvent) -> None:
        """Deliver one event; it may be repeated. Raises VendorError unless incident.io has accepted it."""
        optional = {"description": event.description, "source_url": event.source_url}
        body = self._payload.from_dict({
            "deduplication_key": event.deduplication_key, "status": event.status, "title": event.title,
            "metadata": event.metadata, **{name: value for name, value in optional.items() if value},
        })  # fmt: skip
        self._accepted = False
        what = f"incident.io: {event.status} alert {event.deduplication_key}"
        try:
            self._create(self._source_id, client=self._client, body=body)
        except httpx.RequestError as error:
            raise VendorError(f"{what} was not delivered: {describe_error(error)}") from error
        except VendorError as error:
            raise VendorError(
                f"{what} was not delivered: {error}", status=error.status, retry_after=error.retry_after
            ) from error
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            # After a 202 it is about what the answer says, which is not used. Before it, the event was no JSON, and was not sent.
            if not self._accepted:
                raise VendorError(
                    f"{what} cannot be written as JSON: {describe_error(error)}", started=False
                ) from error

    def _hear(self, answer: httpx.Response) -> None:
        answer.read()
        if answer.status_code != 202:
            raise VendorError(
                f"the answer was {answer.status_code}: {excerpt(answer.text)}",
                status=answer.status_code,
                retry_after=asked_wait(answer),
            )
        self._accepted = True


PAGE = 50
"""The most that a list of alerts or escalations gives at once."""
IDS_A_REQUEST = 20


class Literally(BaseModel):
    literal: str | None = None
    label: str | None = None


class Named(BaseModel):
    name: str


class AlertAttribute(BaseModel):
    attribute: Named
    value: Literally | None = None


class Alert(BaseModel):
    id: str
    title: str
    status: str
    deduplication_key: str
    attributes: list[AlertAttribute] = []
    created_at: datetime
    updated_at: datetime
    resolved_at: datetime | None = None

    def attribute(self, name: str) -> str | None:
        """The value of a single attribute, by the name that it has in incident.io's settings."""
        found = (entry.value for entry in self.attributes if entry.attribute.name.lower() == name)
        return next((value.literal or value.label for value in found if value), None)


class Status(Named):
    category: str


class Moment(BaseModel):
    value: datetime | None = None


class IncidentTimestamp(BaseModel):
    incident_timestamp: Named
    value: Moment | None = None


class FieldOption(BaseModel):
    value: str


class FieldValue(BaseModel):
    value_text: str | None = None
    value_option: FieldOption | None = None
    value_catalog_entry: Named | None = None

    @property
    def text(self) -> str | None:
        option, entry = self.value_option, self.value_catalog_entry
        return self.value_text or (option.value if option else entry.name if entry else None)


class CustomField(BaseModel):
    custom_field: Named
    values: list[FieldValue] = []


class Incident(BaseModel):
    id: str
    reference: str
    name: str
    incident_status: Status
    severity: Named | None = None
    created_at: datetime
    updated_at: datetime
    incident_timestamp_values: list[IncidentTimestamp] = []
    custom_field_entries: list[CustomField] = []

    def moment(self, *names: str) -> datetime | None:
        """The first of the named timestamps that is set: "resolved" finds "Resolved" and "Resolved at"."""
        known = {
            entry.incident_timestamp.name.lower().removesuffix(" at"): entry.value.value
            for entry in self.incident_timestamp_values
            if entry.value
        }
        return next((known[name] for name in names if known.get(name)), None)

    def field(self, name: str) -> str | None:
        """What people have filled in for a custom field."""
        entries = (entry for entry in self.custom_field_entries if entry.custom_field.name.lower() == name)
        return next((value.text for entry in entries for value in entry.values if value.text), None)


class Reference(BaseModel):
    id: str


class AlertOfIncident(BaseModel):
    """That an alert belongs to an incident."""

    incident: Reference


class EscalationEvent(BaseModel):
    event: str
    occurred_at: datetime


class Escalation(BaseModel):
    id: str
    events: list[EscalationEvent] = []
    related_incidents: list[Reference] = []


class IncidentIo:
    """Reads alerts, incidents and escalations with an API key. Every call raises VendorError."""

    def __init__(self, base_url: str, key: str) -> None:
        self._client = IncidentIoClient(base_url, key)

    def alerts(self, source_id: str, since: datetime | None) -> list[Alert]:
        """The alerts of one source that have changed since, or all of them."""
        filters = {"alert_source[one_of]": source_id} | _changed(since)
        return list(self._items("v2/alerts", "alerts", Alert, filters))

    def incident_of(self, alert_id: str) -> str | None:
        """The id of the incident that an alert belongs to; of the first one that is listed, where there are several."""
        linked = self._items("v2/incident_alerts", "incident_alerts", AlertOfIncident, {"alert_id": alert_id})
        return next((link.incident.id for link in linked), None)

    def incidents(self, since: datetime) -> list[Incident]:
        """Every incident of the organisation that has changed since."""
        return list(self._items("v2/incidents", "incidents", Incident, _changed(since)))

    def incident(self, incident_id: str) -> Incident:
        path = f"v2/incidents/{incident_id}"
        return _read(Incident, self._object(path, {}), "incident", path)

    def escalations(self, since: datetime) -> list[Escalation]:
        """Every escalation of the organisation that has changed since."""
        return list(self._items("v2/escalations", "escalations", Escalation, _changed(since)))

    def escalations_of(self, incident_ids: Collection[str]) -> list[Escalation]:
        found: list[Escalation] = []
        for some in batched(sorted(incident_ids), IDS_A_REQUEST, strict=False):
            found += self._items("v2/escalations", "escalations", Escalation, {"incident[one_of]": list(some)})
        return found

    def _items[T: BaseModel](
        self, path: str, name: str, model: type[T], filters: Mapping[str, str | list[str]]
    ) -> Iterator[T]:
        after: dict[str, str] = {}
        while True:
            page = self._object(path, {"page_size": PAGE, **filters, **after})
            items = page.get(name)
            if not isinstance(items, list):
                raise VendorError(f"incident.io: GET {path} answered without `{name}`: {excerpt(str(page))}")
            for item in items:  # pyright: ignore[reportUnknownVariableType]
                yield _read(model, {name: item}, name, path)
            last = cast("dict[str, str]", page.get("pagination_meta") or {}).get("after")
            if not last or not items:
                return
            after = {"after": last}

    def _object(self, path: str, params: Mapping[str, Any]) -> dict[str, Any]:
        answer = self._client.request("GET", path, params=params)
        if not isinstance(answer, dict):
            raise VendorError(f"incident.io: GET {path} answered no JSON object: {excerpt(str(answer))}")
        return answer  # pyright: ignore[reportUnknownVariableType]


def _changed(since: datetime | None) -> dict[str, str]:
    return {"updated_at[gte]": since.isoformat()} if since else {}


def _read[T: BaseModel](model: type[T], answer: Mapping[str, Any], name: str, path: str) -> T:
    try:
        return model.model_validate(answer.get(name))
    except ValidationError as error:
        [first, *_] = error.errors(include_url=False, include_input=False)
        where = ".".join(str(part) for part in first["loc"])
        raise VendorError(
            f"incident.io: GET {path} answered `{name}` as it is not documented: {where}: {first['msg']}"
        ) from None
