"""What this Hightouch workspace holds: one source, one destination, one model and one sync, as the API shows them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sandbox.config import PROJECT

WORKSPACE = 1
MADE = "2026-01-05T09:00:00.000Z"


@dataclass(frozen=True)
class Sync:
    """What a run needs to know: the model's query and its key, and how a row becomes a record."""

    id: int
    slug: str
    query: str
    primary_key: str
    object: str
    external_id: str
    mappings: dict[str, str]
    """Salesforce's field, by the model's column."""


ACCOUNT_HEALTH = Sync(
    id=1,
    slug="salesforce_account_health",
    query=(
        "select organisation_id, health_score, health_band, incidents_28d, open_tasks, mrr"
        f" from `{PROJECT}.sales.account_health`"
    ),
    primary_key="organisation_id",
    object="Account",
    external_id="Organisation_Id__c",
    mappings={
        "organisation_id": "Organisation_Id__c",
        "health_score": "Health_Score__c",
        "health_band": "Health_Band__c",
        "incidents_28d": "Incidents_28d__c",
        "open_tasks": "Open_Tasks__c",
        "mrr": "Mrr__c",
    },
)
SYNCS = {ACCOUNT_HEALTH.id: ACCOUNT_HEALTH}

_COMMON = {"workspaceId": WORKSPACE, "createdAt": MADE, "updatedAt": MADE}

SOURCES: list[dict[str, Any]] = [
    _COMMON
    | {"id": 1, "name": "Warehouse", "slug": "warehouse", "type": "bigquery", "configuration": {"project_id": PROJECT}}
]
DESTINATIONS: list[dict[str, Any]] = [
    _COMMON
    | {"id": 1, "name": "Salesforce", "slug": "salesforce", "type": "salesforce", "syncs": ["1"], "configuration": {}}
]
MODELS: list[dict[str, Any]] = [
    _COMMON
    | {
        "id": 1,
        "name": "Account health",
        "slug": "account_health",
        "sourceId": 1,
        "primaryKey": ACCOUNT_HEALTH.primary_key,
        "queryType": "raw_sql",
        "raw": {"sql": ACCOUNT_HEALTH.query},
        "isSchema": False,
        "syncs": ["1"],
        "tags": {},
    }
]


def sync_as_shown(sync: Sync, status: str, last_run_at: str | None) -> dict[str, Any]:
    return _COMMON | {
        "id": sync.id,
        "slug": sync.slug,
        "modelId": 1,
        "destinationId": 1,
        "primaryKey": sync.primary_key,
        "schedule": None,
        "status": status,
        "disabled": False,
        "lastRunAt": last_run_at,
        "configuration": {
            "mode": "upsert",
            "object": sync.object,
            "externalIdMapping": {"from": sync.primary_key, "to": sync.external_id, "type": "standard"},
            "mappings": [
                {"from": column, "to": field, "type": "standard"}
                for column, field in sync.mappings.items()
                if column != sync.primary_key
            ],
        },
    }
