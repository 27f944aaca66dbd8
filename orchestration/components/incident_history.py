"""What incident.io knows of the platform's alerts, as rows of BigQuery tables: the alerts, and the incidents that they are part of."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from orchestration.vendors import incident_io
from orchestration.vendors.incident_io import Escalation, IncidentIo

RESOLVED = ("resolved", "fixed", "closed")
"""Names of incident timestamps that say when it was over, the best first: organisations have the ones that they set up."""
CAUSE = "cause"
"""The custom field of an incident in which people write what it was due to."""


@dataclass(frozen=True)
class Alert:
    id: str
    title: str
    status: str
    deduplication_key: str
    unit: str
    kind: str | None
    team: str | None
    customer_facing: bool
    transient: bool
    flapping: bool
    created_at: datetime
    updated_at: datetime
    resolved_at: datetime | None
    incident_id: str | None


@dataclass(frozen=True)
class Incident:
    id: str
    reference: str
    name: str
    status_category: str
    severity: str | None
    created_at: datetime
    updated_at: datetime
    reported_at: datetime | None
    paged_at: datetime | None
    acknowledged_at: datetime | None
    resolved_at: datetime | None
    cause: str | None


def alerts(api: IncidentIo, source_id: str, since: datetime | None) -> list[Alert]:
    """The alerts of the platform's own source that have changed since; all of them for None. Raises VendorError."""
    return [_alert(alert, api.incident_of(alert.id)) for alert in api.alerts(source_id, since)]


def incidents(api: IncidentIo, ours: Collection[str], known: Collection[str], since: datetime | None) -> list[Incident]:
    """Those of `ours` that are not `known` yet, or that have changed since. Raises VendorError.

    Other incidents of the organisation are listed by the API too, and are none of the warehouse's business.
    """
    found = {incident.id: incident for incident in api.incidents(since) if incident.id in ours} if since else {}
    # That somebody has acknowledged a page changes the escalation, and not the incident.
    escalated = {
        item.id for escalation in (api.escalations(since) if since else []) for item in escalation.related_incidents
    }
    for missing in sorted((set(ours) - set(known) | escalated & set(ours)) - found.keys()):
        found[missing] = api.incident(missing)
    escalations = api.escalations_of(found.keys()) if found else []
    paged, acknowledged = _first(escalations, "notified_users"), _first(escalations, "acked")
    return [_incident(incident, paged.get(incident.id), acknowledged.get(incident.id)) for incident in found.values()]


def _first(escalations: Iterable[Escalation], what: str) -> dict[str, datetime]:
    """Incident to when an event of this name happened first, in any of its escalations."""
    first: dict[str, datetime] = {}
    for escalation in escalations:
        for event in escalation.events:
            for incident in escalation.related_incidents if event.event == what else ():
                first[incident.id] = min(first.get(incident.id, event.occurred_at), event.occurred_at)
    return first


def _alert(alert: incident_io.Alert, incident_id: str | None) -> Alert:
    return Alert(
        id=alert.id,
        title=alert.title,
        status=alert.status,
        deduplication_key=alert.deduplication_key,
        # Always there, where the attribute has to be set up in incident.io: the key begins with the unit.
        unit=alert.attribute("unit") or alert.deduplication_key.partition(":")[0],
        kind=alert.attribute("kind"),
        team=alert.attribute("team"),
        customer_facing=alert.attribute("customer_facing") == "true",
        transient=alert.attribute("transient") == "true",
        flapping=alert.attribute("flapping") == "true",
        created_at=alert.created_at,
        updated_at=alert.updated_at,
        resolved_at=alert.resolved_at,
        incident_id=incident_id,
    )


def _incident(incident: incident_io.Incident, paged_at: datetime | None, acknowledged_at: datetime | None) -> Incident:
    return Incident(
        id=incident.id,
        reference=incident.reference,
        name=incident.name,
        status_category=incident.incident_status.category,
        severity=incident.severity.name if incident.severity else None,
        created_at=incident.created_at,
        updated_at=incident.updated_at,
        reported_at=incident.moment("reported"),
        paged_at=paged_at,
        acknowledged_at=acknowledged_at,
        resolved_at=incident.moment(*RESOLVED),
        cause=incident.field(CAUSE),
    )
