"""What a Hightouch workspace holds: destinations, models and syncs, as they are kept and as the API shows them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from sandbox.config import PROJECT
from sandbox.vendors.store import Store

WORKSPACE = 1
MADE = "2026-01-05T09:00:00.000Z"
INSIGHTS_CHANNEL = "C00000003"

SCHEMA = """
create table if not exists hightouch_model (id integer primary key, slug text not null unique, definition text not null);
create table if not exists hightouch_sync (id integer primary key, slug text not null unique, definition text not null);
"""

_COMMON = {"workspaceId": WORKSPACE, "createdAt": MADE, "updatedAt": MADE}


@dataclass(frozen=True)
class Model:
    """What syncs read, as `kind` says, which is the API's `queryType`.

    `reads` is the query (`raw_sql`, `custom`), or `dataset.table` (`table`, `dbt`, `dbt_cloud`). A `visual` model filters the rows of the
    model `parent`. The OpenAPI file names these kinds, but not the `queryType` of a model of dbt Cloud, which is unverified.
    """

    id: int
    name: str
    slug: str
    kind: Literal["raw_sql", "table", "dbt", "dbt_cloud", "visual", "custom"]
    reads: str
    primary_key: str
    parent: int | None = None

    def query(self, models: Mapping[int, Model]) -> str:
        """The SQL that the warehouse is asked. Raises ValueError for a custom query, which is of a source without SQL."""
        if self.kind == "visual":
            assert self.parent is not None
            return models[self.parent].query(models)
        if self.kind == "custom":
            raise ValueError(f"The source of the model {self.name} has no SQL.")
        return self.reads if self.kind == "raw_sql" else f"select * from `{PROJECT}.{self.reads}`"


@dataclass(frozen=True)
class Sync:
    """What a run needs to know: its model, and how a row becomes a record of Salesforce, or a message in Slack.

    `mappings` are Salesforce's fields by the model's columns; `message` is a text with `{column}` in it.
    """

    id: int
    slug: str
    model: int
    destination: Literal["salesforce", "slack"]
    object: str = ""
    external_id: str = ""
    mappings: dict[str, str] = field(default_factory=dict)
    channel: str = ""
    message: str = ""
    disabled: bool = False


SOURCES: list[dict[str, Any]] = [
    _COMMON
    | {"id": 1, "name": "Warehouse", "slug": "warehouse", "type": "bigquery", "configuration": {"project_id": PROJECT}}
]
DESTINATIONS: list[dict[str, Any]] = [
    _COMMON
    | {"id": number, "name": name, "slug": name.lower(), "type": name.lower(), "configuration": {}, "syncs": [number]}
    for number, name in ((1, "Salesforce"), (2, "Slack"))
]
NUMBERS = {item["type"]: item["id"] for item in DESTINATIONS}

COMPANY = (
    (
        Model(
            id=1, name="Account health", slug="account_health", kind="dbt", reads="sales.account_health",
            primary_key="organisation_id",
        ),
        Sync(
            id=1, slug="salesforce_account_health", model=1, destination="salesforce", object="Account",
            external_id="Organisation_Id__c",
            mappings={
                "organisation_id": "Organisation_Id__c", "health_score": "Health_Score__c",
                "health_band": "Health_Band__c", "incidents_28d": "Incidents_28d__c", "open_tasks": "Open_Tasks__c",
                "mrr": "Mrr__c",
            },
        ),
    ),
    (
        Model(
            id=2, name="Support load of the last week", slug="weekly_support_load", kind="raw_sql",
            reads="select concat(cast(created_week as string), ' ', priority) as week_and_priority, priority, tickets_created,"
            f" tickets_resolved from `{PROJECT}.support.support_load_by_week` where created_week ="
            f" (select max(created_week) from `{PROJECT}.support.support_load_by_week`)",
            primary_key="week_and_priority",
        ),
        Sync(
            id=2, slug="slack_weekly_support_load", model=2, destination="slack", channel=INSIGHTS_CHANNEL,
            message="{week_and_priority}: {tickets_created} tickets, of which {tickets_resolved} are resolved",
        ),
    ),
)  # fmt: skip
"""The company's own: the health of accounts into Salesforce, and a weekly insight into a Slack channel."""


def prepare(store: Store) -> None:
    """Create the tables with the company's own models and syncs."""
    store.script(SCHEMA)
    add(store, COMPANY)


def add(store: Store, pairs: Iterable[tuple[Model, Sync]]) -> None:
    """Keep models with their syncs; one that is there already stays as it is."""
    with store.transaction():
        for made, sync in pairs:
            for table, item in (("model", made), ("sync", sync)):
                store.execute(
                    f"insert or ignore into hightouch_{table} values (?, ?, ?)",
                    (item.id, item.slug, json.dumps(asdict(item))),
                )


def models(store: Store) -> dict[int, Model]:
    rows = store.execute("select definition from hightouch_model order by id")
    return {made.id: made for made in (Model(**json.loads(row["definition"])) for row in rows)}


def syncs(store: Store) -> dict[int, Sync]:
    rows = store.execute("select definition from hightouch_sync order by id")
    return {sync.id: sync for sync in (Sync(**json.loads(row["definition"])) for row in rows)}


def model_as_shown(model: Model, its_syncs: Iterable[int]) -> dict[str, Any]:
    """The fields of the schema `Model` in Hightouch's OpenAPI file; what `table.name` looks like is unverified."""
    shown = _COMMON | {
        "id": model.id,
        "name": model.name,
        "slug": model.slug,
        "description": "",
        "sourceId": 1,
        "primaryKey": model.primary_key,
        "queryType": model.kind,
        "isSchema": False,
        "syncs": list(its_syncs),
        "tags": {},
        "lastRunSize": None,
    }
    match model.kind:
        case "raw_sql":
            return shown | {"raw": {"sql": model.reads}}
        case "table":
            return shown | {"table": {"name": f"{PROJECT}.{model.reads}"}}
        case "visual":
            return shown | {"visual": {"parentId": model.parent, "filter": {"conditions": []}}}
        case "custom":
            return shown | {"custom": {"query": model.reads}}
        case "dbt":
            return shown | {"dbt": _dbt(model) | {"schema": model.reads.split(".")[0], "database": PROJECT}}
        case "dbt_cloud":
            return shown | {"dbt_cloud": _dbt(model) | {"compiledSql": model.query({})}}


def _dbt(model: Model) -> dict[str, Any]:
    name = model.reads.split(".")[1]
    unique_id = f"model.dataplatform.{name}"
    return {"dbtUniqueId": unique_id, "modelId": model.id, "name": name, "rawSql": "", "compiledSql": ""}


def sync_as_shown(sync: Sync, primary_key: str, status: str, last_run_at: str | None) -> dict[str, Any]:
    if sync.destination == "slack":
        configuration: dict[str, Any] = {"mode": "insert", "channel": sync.channel, "message": sync.message}
    else:
        configuration = {
            "mode": "upsert",
            "object": sync.object,
            "externalIdMapping": {"from": primary_key, "to": sync.external_id, "type": "standard"},
            "mappings": [
                {"from": column, "to": name, "type": "standard"}
                for column, name in sync.mappings.items()
                if column != primary_key
            ],
        }
    return _COMMON | {
        "id": sync.id,
        "slug": sync.slug,
        "modelId": sync.model,
        "destinationId": NUMBERS[sync.destination],
        "primaryKey": primary_key,
        "schedule": None,
        "status": status,
        "disabled": sync.disabled,
        "lastRunAt": last_run_at,
        "configuration": configuration,
        "referencedColumns": [primary_key, *sync.mappings],
        "externalSegment": {},
        "tags": {},
    }
