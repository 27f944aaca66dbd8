"""The product's own events before the sandbox was there, as the publisher would have landed them.

A pure function of a seed, the product database's rows and an hour; each organisation is drawn from its own random numbers.
"""

from __future__ import annotations

import io
import random
import uuid
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
from google.cloud import bigquery

from product_events.registry import CLUSTERING, PARTITION, expected_schema
from product_events.tables import apply
from sandbox.company import product
from sandbox.company.history import DAYS, HOUR_WEIGHTS, Row, Rows
from sandbox.config import SandboxConfig
from sandbox.services import bigquery as warehouse
from sandbox.services import postgres
from sandbox.vendors.context import VendorContext

DATASET = "product_events"
COMMANDS = (
    ("/incident", 6), ("/incident update", 12), ("/incident assign", 5), ("/incident page", 4), ("/incident summary", 9),
    ("/incident close", 5),
)  # fmt: skip
INSIGHTS = ("time_spent_on_incidents", "pages_by_responder", "post_incident_task_completion")
COMPONENTS = ("api", "dashboard", "webhooks", None)
REFERRERS = ("https://www.google.com/", "https://status.example.com/", None)
SECOND_VERSION = timedelta(days=30)
"""How long before the end of the history the product began to publish version 2 of `status_page_viewed`."""
STATE = "create table if not exists product_events_history (only_one integer primary key check (only_one = 1))"
ARROW = {"STRING": pa.string(), "INTEGER": pa.int64(), "BOOLEAN": pa.bool_(), "TIMESTAMP": pa.timestamp("us", tz="UTC")}

Event = dict[str, Any]


def history(seed: int, rows: Rows, until: datetime) -> dict[str, list[Event]]:
    """The rows of each event's table that had been received by `until`, over the 90 days before it, by event and in order of receipt.

    `rows` are the product's `organisations`, `users` and `incidents`.
    """
    tables: dict[str, list[Event]] = defaultdict(list)
    for organisation in _organisations(seed, rows, until):
        for name, event in organisation.events():
            if event["received_at"] <= until:
                tables[name].append(event)
    return {name: sorted(events, key=lambda event: (event["received_at"], event["event_id"])) for name, events in tables.items()}  # fmt: skip


def hour(seed: int, rows: Rows, organisations: set[str], now: datetime) -> list[tuple[str, Event]]:
    """What happened in these organisations in the hour before `now`: names and rows, without a time of receipt.

    `seed` is the history's.
    """
    wanted = rows | {"organisations": [row for row in rows["organisations"] if row["id"] in organisations]}
    events = []
    for organisation in _organisations(seed, wanted, now):
        organisation.rng.seed(f"{seed}:product events of an hour:{organisation.row['id']}:{now.isoformat()}")
        events += list(organisation.hour())
    return [
        (name, {column: value for column, value in event.items() if column != "received_at"}) for name, event in events
    ]


def seed_product_events(config: SandboxConfig) -> dict[str, int]:
    """Land the history, and return its rows by `<dataset>.<table>`; nothing, where it was landed before.

    It replaces whole tables, so it has to run before anything is published. Killed half-way, the next call does all of it again.
    """
    store = VendorContext.of(config).store
    store.script(STATE)
    if store.execute("select 1 from product_events_history"):
        return {}
    company = product.read(postgres.dsn(config))
    client = warehouse.raw_client(config)
    apply(client, DATASET)
    landed = {}
    for name, events in history(company.seed, company.rows, company.now).items():
        _land(client, name, events)
        landed[f"{DATASET}.{name}"] = len(events)
    store.execute("insert or ignore into product_events_history values (1)")
    return landed


def _land(client: bigquery.Client, name: str, events: list[Event]) -> None:
    columns = expected_schema(name)
    fields = [pa.field(c.name, ARROW[c.field_type], nullable=c.mode != "REQUIRED") for c in columns]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(events, schema=pa.schema(fields)), buffer)
    buffer.seek(0)
    config = bigquery.LoadJobConfig(
        source_format=bigquery.SourceFormat.PARQUET,
        write_disposition=bigquery.WriteDisposition.WRITE_TRUNCATE,
        schema=columns,
        time_partitioning=bigquery.TimePartitioning(type_=bigquery.TimePartitioningType.DAY, field=PARTITION),
        clustering_fields=[CLUSTERING],
    )
    client.load_table_from_file(buffer, f"{DATASET}.{name}", job_config=config).result(timeout=120)


def _organisations(seed: int, rows: Rows, until: datetime) -> Iterator[_Organisation]:
    users: dict[str, list[Row]] = defaultdict(list)
    incidents: dict[str, list[Row]] = defaultdict(list)
    for user in rows["users"]:
        users[user["organisation_id"]].append(user)
    for incident in rows["incidents"]:
        incidents[incident["organisation_id"]].append(incident)
    for row in rows["organisations"]:
        yield _Organisation(seed, row, users[row["id"]], incidents[row["id"]], until)


class _Organisation:
    def __init__(self, seed: int, row: Row, users: list[Row], incidents: list[Row], until: datetime) -> None:
        self.rng = random.Random(f"{seed}:product events:{row['id']}")
        self.row, self._users, self._incidents, self._until = row, users, incidents, until
        self._zone = ZoneInfo(row["timezone"])
        number = row["id"].removeprefix("org_")
        self._status_pages = [f"stp_{number}_{index}" for index in range(1 + self.rng.randint(0, 1))]
        self._workflows = [f"wfl_{number}_{index}" for index in range(1 + self.rng.randint(0, 3))]
        # A status page has a small public, and most of it comes back.
        self._visitors = [self._identifier() for _ in range(25)]

    def events(self) -> Iterator[tuple[str, Event]]:
        for incident in self._incidents:
            yield from self._of_incident(incident["declared_at"])
        for days in range(DAYS + 1):
            yield from self._of_day(self._until - timedelta(days=days))

    def hour(self) -> Iterator[tuple[str, Event]]:
        begins = self._until - timedelta(hours=1)
        for make, count in ((self._view, 3), (self._command, 2), (self._run, 1), (self._insight, 1)):
            for _ in range(self.rng.randint(1, count)):
                yield make(begins + timedelta(seconds=self.rng.uniform(1, 3590)))

    def _of_incident(self, declared: datetime) -> Iterator[tuple[str, Event]]:
        """Somebody declares it in Slack, a workflow runs, and the public looks at the status page."""
        rng = self.rng
        for _ in range(rng.randint(0, 2)):
            yield self._command(declared + timedelta(minutes=rng.uniform(0, 40)))
        if rng.random() < 0.7:
            yield self._run(declared + timedelta(seconds=rng.uniform(2, 60)))
        if rng.random() < 0.35:
            for _ in range(rng.randint(1, 5)):
                yield self._view(declared + timedelta(minutes=rng.uniform(1, 90)))

    def _of_day(self, day: datetime) -> Iterator[tuple[str, Event]]:
        rng, weekend = self.rng, day.astimezone(self._zone).weekday() >= 5
        for _ in range(rng.randint(0, 2) if weekend else rng.randint(0, 3)):
            yield self._view(self._moment(day))
        for _ in range(0 if weekend else rng.randint(0, 1)):
            yield self._command(self._moment(day))
        if not weekend and rng.random() < 0.4:
            yield self._insight(self._moment(day))

    def _view(self, at: datetime) -> tuple[str, Event]:
        rng = self.rng
        version = 2 if at >= self._until - SECOND_VERSION else 1
        properties = {
            "status_page_id": rng.choice(self._status_pages),
            "visitor_id": rng.choice(self._visitors) if rng.random() < 0.8 else self._identifier(),
            "component": rng.choice(COMPONENTS),
        }
        if version == 2:
            properties["referrer"] = rng.choice(REFERRERS)
        return self._event("status_page_viewed", version, at, None, properties)

    def _command(self, at: datetime) -> tuple[str, Event]:
        rng = self.rng
        names, weights = zip(*COMMANDS, strict=True)
        properties = {
            "command": rng.choices(names, weights)[0],
            "channel_kind": rng.choices(("public", "private", "direct"), (7, 2, 1))[0],
            "duration_ms": round(rng.lognormvariate(6, 0.6)), "succeeded": rng.random() < 0.97,
        }  # fmt: skip
        return self._event("slack_command_invoked", 1, at, self._user(), properties)

    def _run(self, at: datetime) -> tuple[str, Event]:
        rng = self.rng
        properties = {
            "workflow_id": rng.choice(self._workflows),
            "outcome": rng.choices(("succeeded", "failed", "cancelled"), (92, 6, 2))[0],
            "duration_ms": round(rng.lognormvariate(8, 0.8)),
        }
        return self._event("workflow_run_finished", 1, at, self._user() if rng.random() < 0.3 else None, properties)

    def _insight(self, at: datetime) -> tuple[str, Event]:
        properties = {"insight": self.rng.choice(INSIGHTS), "load_ms": round(self.rng.lognormvariate(6.5, 0.5))}
        return self._event("insight_viewed", 1, at, self._user(), properties)

    def _event(
        self, name: str, version: int, at: datetime, user: str | None, properties: dict[str, Any]
    ) -> tuple[str, Event]:
        rng = self.rng
        # A host of the product that could not reach BigQuery published later.
        wait = timedelta(hours=rng.uniform(0.5, 9)) if rng.random() < 0.01 else timedelta(seconds=rng.uniform(0.5, 12))
        return name, {
            "event_id": self._identifier(), "event_version": version, "occurred_at": at, "received_at": at + wait,
            "organisation_id": self.row["id"], "user_id": user, **properties,
        }  # fmt: skip

    def _user(self) -> str:
        return self.rng.choice(self._users)["id"]

    def _identifier(self) -> str:
        return str(uuid.UUID(int=self.rng.getrandbits(128), version=4))

    def _moment(self, day: datetime) -> datetime:
        rng = self.rng
        clock = time(
            rng.choices(range(24), HOUR_WEIGHTS)[0], rng.randint(0, 59), rng.randint(0, 59), rng.randrange(10**6)
        )
        return datetime.combine(day.astimezone(self._zone).date(), clock, self._zone).astimezone(UTC)
