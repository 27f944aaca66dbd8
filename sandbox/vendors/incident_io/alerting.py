"""From alert events to alerts, incidents, escalations and pages, as the organisation's settings have it.

An event for a key whose alert is firing changes that alert only. What is decided when the alert opens stays: its incident, its
escalation path, and the page.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sandbox.vendors.context import VendorContext
from sandbox.vendors.incident_io import routing
from sandbox.vendors.incident_io.names import identifier, reference, stamp
from sandbox.vendors.incident_io.rota import PEOPLE, Person, shift_at
from sandbox.vendors.incident_io.settings import ATTRIBUTE, PATH, ROUTE, SCHEDULE, Setting, Settings
from sandbox.vendors.store import Store

SCHEMA = """
create table if not exists incident_io_alert (
    id integer primary key, deduplication_key text not null, status text not null, title text not null, description text,
    source_url text, metadata text not null, created_at text not null, updated_at text not null, resolved_at text
);
create unique index if not exists incident_io_alert_firing on incident_io_alert (deduplication_key) where status = 'firing';
create table if not exists incident_io_event (
    id integer primary key, alert integer, received_at text not null, deduplication_key text not null, status text not null,
    title text not null, description text, source_url text, metadata text not null
);
create table if not exists incident_io_dropped (
    id integer primary key, received_at text not null, deduplication_key text not null, status text not null, title text not null
);
create table if not exists incident_io_incident (
    id integer primary key, alert integer not null, name text not null, summary text, customer_facing integer not null,
    status text not null, created_at text not null, updated_at text not null, closed_at text
);
create table if not exists incident_io_escalation (
    id integer primary key, idempotency_key text unique, alert integer, incident integer, path text, title text not null,
    description text not null, status text not null, created_at text not null, updated_at text not null
);
create table if not exists incident_io_acknowledgement (escalation integer primary key, acked_at text not null);
create table if not exists incident_io_page (
    id integer primary key, escalation integer not null, state text not null, person text, schedule text, urgency text not null,
    due_at text not null, sent_at text, cancelled_at text
);
"""
# Since the settings decide: a sandbox from before them has tables without these.
ADDED = {
    "incident_io_alert": ("source text", "attributes text not null default '{}'"),
    "incident_io_incident": ("route text", "severity text", "fields text not null default '{}'"),
    "incident_io_escalation": ("auto_cancel integer not null default 1",),
    "incident_io_page": ("target text",),
}

PAGES = """
select page.*, escalation.path, escalation.title, escalation.alert, escalation.incident, alert.deduplication_key, alert.metadata
from incident_io_page as page
join incident_io_escalation as escalation on escalation.id = page.escalation
left join incident_io_alert as alert on alert.id = escalation.alert
order by page.id
"""

# How a page reaches somebody; in incident.io each person chooses it, by urgency.
CHANNEL = {"high": "phone", "low": "slack"}


@dataclass(frozen=True)
class Event:
    deduplication_key: str
    firing: bool
    title: str
    description: str | None = None
    source_url: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def status(self) -> str:
        return "firing" if self.firing else "resolved"

    def payload(self) -> dict[str, Any]:
        """What the alert source's template reads."""
        return {
            "title": self.title, "description": self.description, "status": self.status,
            "deduplication_key": self.deduplication_key, "source_url": self.source_url, "metadata": self.metadata,
        }  # fmt: skip


class Alerting:
    """Everything that changes alerts. Times are the on-call clock's."""

    def __init__(self, context: VendorContext, settings: Settings) -> None:
        self._store, self._clock, self._settings = context.store, context.clock, settings
        self._store.script(SCHEMA)
        for table, columns in ADDED.items():
            for column in columns:
                _add(self._store, table, column)

    def receive(self, source: Setting, event: Event) -> None:
        """Apply an event, wholly or not at all. One that resolves nothing is only recorded."""
        with self._store.transaction():
            alert, now = self._apply(source, event)
            self._store.execute(
                "insert into incident_io_event (alert, received_at, deduplication_key, status, title, description, source_url,"
                " metadata) values (?, ?, ?, ?, ?, ?, ?, ?)",
                (alert, now, event.deduplication_key, event.status, event.title,
                 event.description, event.source_url, json.dumps(event.metadata)),
            )  # fmt: skip

    def drop(self, event: Event) -> None:
        """Record an event that was accepted and is not processed (the fault `drops`)."""
        self._store.execute(
            "insert into incident_io_dropped (received_at, deduplication_key, status, title) values (?, ?, ?, ?)",
            (stamp(self._clock.now()), event.deduplication_key, event.status, event.title),
        )

    def dropped(self) -> list[dict[str, Any]]:
        """Return every event that was accepted and not processed, in the order received."""
        rows = self._store.execute("select * from incident_io_dropped order by id")
        return [{name: row[name] for name in ("received_at", "deduplication_key", "status", "title")} for row in rows]

    def declare(self, source: Setting, event: Event) -> None:
        """Apply what incident.io itself has found out: no event has arrived."""
        with self._store.transaction():
            self._apply(source, event)

    def escalate(
        self,
        key: str,
        title: str,
        description: str,
        *,
        path: Setting | None,
        people: list[Person],
        incident: int | None,
    ) -> int:
        """Start an escalation by hand, to a path or straight to people, once for each idempotency key. Returns its number."""
        with self._store.transaction():
            now = self._clock.now()
            self._send_due(now)
            found = self._store.execute("select id from incident_io_escalation where idempotency_key = ?", (key,))
            if found:
                return found[0]["id"]
            escalation = self._escalation(key, None, incident, path, title, description, now)
            for person in people:
                self._page(escalation, "sent", person, None, "high", now, now)
            self._settle(escalation, now)
            return escalation

    def acknowledge(self, escalation: int) -> bool:
        """Somebody has taken the escalation on: who still waits to be paged is left alone. False for one that has ended."""
        with self._store.transaction():
            now = self._clock.now()
            self._send_due(now)
            acked = self._store.execute(
                "update incident_io_escalation set status = 'acked', updated_at = ? where id = ?"
                " and status in ('pending', 'triggered') returning id",
                (stamp(now), escalation),
            )
            if not acked:
                [row] = self._store.execute("select status from incident_io_escalation where id = ?", (escalation,))
                return row["status"] == "acked"
            self._store.execute("insert into incident_io_acknowledgement values (?, ?)", (escalation, stamp(now)))
            self._cancel_pending(escalation, stamp(now))
            return True

    def advance(self) -> None:
        """Send the pages whose hour has come. Cheap when there is none."""
        now = self._clock.now()
        if self._due(now):
            with self._store.transaction():
                self._send_due(now)

    def firing(self, key: str) -> int | None:
        """The number of the key's alert, while it fires."""
        found = self._store.execute(
            "select id from incident_io_alert where deduplication_key = ? and status = 'firing'", (key,)
        )
        return found[0]["id"] if found else None

    def pages(self) -> list[dict[str, Any]]:
        """Every page, oldest first, as `/_inspect/pages` shows it."""
        return [self._show_page(row) for row in self._store.execute(PAGES)]

    def events(self) -> list[dict[str, Any]]:
        """Every alert event in the order received."""
        rows = self._store.execute("select * from incident_io_event order by id")
        fields = ("received_at", "deduplication_key", "status", "title", "description", "source_url")
        return [{field: row[field] for field in fields} | {"metadata": json.loads(row["metadata"])} for row in rows]

    def _apply(self, source: Setting, event: Event) -> tuple[int | None, str]:
        """The event's alert, if it has one, and when it was applied."""
        now = self._clock.now()
        self._send_due(now)
        alert = self.firing(event.deduplication_key)
        if event.firing and alert is None:
            alert = self._open(source, event, now)
        elif event.firing:
            self._store.execute(
                "update incident_io_alert set title = ?, description = ?, source_url = ?, metadata = ?, attributes = ?,"
                " updated_at = ? where id = ?",
                (event.title, event.description, event.source_url, json.dumps(event.metadata),
                 json.dumps(routing.attributes(source, event.payload())), stamp(now), alert),
            )  # fmt: skip
        elif alert is not None:
            self._resolve(alert, stamp(now))
        return alert, stamp(now)

    def _open(self, source: Setting, event: Event, now: datetime) -> int:
        at, attributes = stamp(now), routing.attributes(source, event.payload())
        [alert] = self._store.execute(
            "insert into incident_io_alert (deduplication_key, status, title, description, source_url, metadata, created_at,"
            " updated_at, source, attributes) values (?, 'firing', ?, ?, ?, ?, ?, ?, ?, ?) returning id",
            (event.deduplication_key, event.title, event.description, event.source_url, json.dumps(event.metadata), at, at,
             source.id, json.dumps(attributes)),
        )  # fmt: skip
        for routed in routing.routes(self._settings.all(ROUTE), source.id, attributes):
            incident = self._incident(alert["id"], event, routed, attributes, at) if routed.incident else None
            for name in routed.paths:
                escalation = self._escalation(
                    None, alert["id"], incident, self._settings.get(PATH, name), event.title, event.description or "", now,
                    auto_cancel=routed.auto_cancel,
                )  # fmt: skip
                self._settle(escalation, now)
        return alert["id"]

    def _incident(
        self, alert: int, event: Event, routed: routing.Routed, attributes: routing.Attributes, at: str
    ) -> int:
        names = {one.id: one.name for one in self._settings.all(ATTRIBUTE)}
        facing = any(names.get(key) == "customer_facing" and value == "true" for key, value in attributes.items())
        [incident] = self._store.execute(
            "insert into incident_io_incident (alert, name, summary, customer_facing, status, created_at, updated_at, route,"
            " severity, fields) values (?, ?, ?, ?, 'live', ?, ?, ?, ?, ?) returning id",
            (alert, event.title, event.description, facing, at, at, routed.route, routed.severity,
             json.dumps(dict(routed.fields))),
        )  # fmt: skip
        return incident["id"]

    def _resolve(self, alert: int, at: str) -> None:
        self._store.execute(
            "update incident_io_alert set status = 'resolved', resolved_at = ?1, updated_at = ?1 where id = ?2",
            (at, alert),
        )
        self._store.execute(
            "update incident_io_incident set status = 'closed', closed_at = ?1, updated_at = ?1 where alert = ?2",
            (at, alert),
        )
        for escalation in self._store.execute(
            "select id from incident_io_escalation where alert = ? and auto_cancel", (alert,)
        ):
            self._cancel_pending(escalation["id"], at)
        self._store.execute(
            "update incident_io_escalation set updated_at = ?,"
            " status = case status when 'pending' then 'cancelled' else 'resolved' end where alert = ? and auto_cancel",
            (at, alert),
        )

    def _cancel_pending(self, escalation: int, at: str) -> None:
        self._store.execute(
            "update incident_io_page set state = 'cancelled', cancelled_at = ? where state = 'pending' and escalation = ?",
            (at, escalation),
        )

    def _escalation(
        self, key: str | None, alert: int | None, incident: int | None, path: Setting | None, title: str, description: str,
        now: datetime, *, auto_cancel: bool = True,
    ) -> int:  # fmt: skip
        [row] = self._store.execute(
            "insert into incident_io_escalation (idempotency_key, alert, incident, path, title, description, status, created_at,"
            " updated_at, auto_cancel) values (?, ?, ?, ?, ?, ?, 'pending', ?, ?, ?) returning id",
            (key, alert, incident, path.id if path else None, title, description, stamp(now), stamp(now), auto_cancel),
        )
        if path:
            target = routing.target(path.body, now)
            self._page(
                row["id"],
                "pending",
                None,
                self._settings.get(SCHEDULE, target.schedule),
                target.urgency,
                target.due,
                None,
            )
        return row["id"]

    def _page(
        self, escalation: int, state: str, person: Person | None, schedule: Setting | None, urgency: str, due: datetime,
        sent: datetime | None,
    ) -> None:  # fmt: skip
        self._store.execute(
            "insert into incident_io_page (escalation, state, person, schedule, target, urgency, due_at, sent_at)"
            " values (?, ?, ?, ?, ?, ?, ?, ?)",
            (escalation, state, person.id if person else None, schedule.name if schedule else None,
             schedule.id if schedule else None, urgency, stamp(due), stamp(sent) if sent else None),
        )  # fmt: skip

    def _settle(self, escalation: int, now: datetime) -> None:
        self._send_due(now)
        self._store.execute(
            "update incident_io_escalation set status = 'triggered' where id = ?1 and not exists"
            " (select 1 from incident_io_page where escalation = ?1 and state = 'pending')",
            (escalation,),
        )

    def _due(self, now: datetime) -> list[sqlite3.Row]:
        return self._store.execute(
            "select id, escalation, due_at, target from incident_io_page where state = 'pending' and due_at <= ? order by id",
            (stamp(now),),
        )

    def _send_due(self, now: datetime) -> None:
        """A page that came due while nobody looked was sent at its own hour, to who was on call then; `nobody` where nobody was."""
        for row in self._due(now):
            schedule = self._settings.find(SCHEDULE, row["target"] or "", deleted=True)
            shift = shift_at(routing.schedule(schedule), datetime.fromisoformat(row["due_at"])) if schedule else None
            self._store.execute(
                "update incident_io_page set state = ?, sent_at = iif(?, due_at, null), person = ? where id = ?",
                ("sent" if shift else "nobody", bool(shift), shift.person.id if shift else None, row["id"]),
            )
            self._store.execute(
                "update incident_io_escalation set status = 'triggered', updated_at = ? where id = ?",
                (row["due_at"], row["escalation"]),
            )

    def _show_page(self, row: sqlite3.Row) -> dict[str, Any]:
        path = self._settings.find(PATH, row["path"], deleted=True) if row["path"] else None
        return {
            "id": identifier("PAGE", row["id"]),
            "state": row["state"],
            "user": PEOPLE[row["person"]].name if row["person"] else None,
            "schedule": row["schedule"],
            "path": path.name if path else None,
            "channel": CHANNEL[row["urgency"]],
            "incident": reference(row["incident"]) if row["incident"] else None,
            "title": row["title"],
            "due_at": row["due_at"],
            "sent_at": row["sent_at"],
            "deduplication_key": row["deduplication_key"],
            "alert_id": identifier("ALERT", row["alert"]) if row["alert"] else None,
            "metadata": json.loads(row["metadata"]) if row["metadata"] else {},
        }


def _add(store: Store, table: str, column: str) -> None:
    known = {row["name"] for row in store.execute(f"pragma table_info({table})")}
    if column.split(maxsplit=1)[0] not in known:
        store.execute(f"alter table {table} add column {column}")
