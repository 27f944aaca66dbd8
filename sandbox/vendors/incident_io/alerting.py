"""From alert events to alerts, incidents, escalations and pages, as an alert route that creates an incident for each alert.

An event for a key whose alert is firing changes that alert only. What is decided when the alert opens stays: its incident, its
escalation path, and the page. `metadata.customer_facing` chooses the path.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sandbox.vendors.context import VendorContext
from sandbox.vendors.incident_io.rota import CUSTOMER_FACING, DATA_RESPONDER, PATHS, PEOPLE, Path, Person, next_shift

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
    description: str | None
    source_url: str | None
    metadata: Mapping[str, Any]


def stamp(moment: datetime) -> str:
    """A time as incident.io writes it, in UTC; as texts they sort as times do."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def identifier(kind: str, number: int) -> str:
    """The 26 characters that a row's number is known by, such as 01LOCALALERT00000000000001."""
    name = f"01LOCAL{kind}"
    return name + str(number).zfill(26 - len(name))


def reference(incident: int) -> str:
    return f"INC-{incident}"


def customer_facing(metadata: Mapping[str, Any]) -> bool:
    # An attribute's value is a text in incident.io, so a Bool may come either way.
    value = metadata.get("customer_facing")
    return value is True or value == "true"


class Alerting:
    """Everything that changes state. Times are the on-call clock's."""

    def __init__(self, context: VendorContext) -> None:
        self._store, self._clock = context.store, context.clock
        self._store.script(SCHEMA)

    def receive(self, event: Event) -> None:
        """Apply an event, wholly or not at all. One that resolves nothing is only recorded."""
        with self._store.transaction():
            now = self._clock.now()
            self._send_due(now)
            found = self._store.execute(
                "select * from incident_io_alert where deduplication_key = ? and status = 'firing'",
                (event.deduplication_key,),
            )
            alert = found[0]["id"] if found else None
            if event.firing and alert is None:
                alert = self._open(event, now)
            elif event.firing:
                self._store.execute(
                    "update incident_io_alert set title = ?, description = ?, source_url = ?, metadata = ?, updated_at = ?"
                    " where id = ?",
                    (event.title, event.description, event.source_url, json.dumps(event.metadata), stamp(now), alert),
                )
            elif alert is not None:
                self._resolve(alert, stamp(now))
            self._store.execute(
                "insert into incident_io_event (alert, received_at, deduplication_key, status, title, description, source_url,"
                " metadata) values (?, ?, ?, ?, ?, ?, ?, ?)",
                (alert, stamp(now), event.deduplication_key, "firing" if event.firing else "resolved", event.title,
                 event.description, event.source_url, json.dumps(event.metadata)),
            )  # fmt: skip

    def escalate(
        self, key: str, title: str, description: str, *, path: Path | None, people: list[Person], incident: int | None
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

    def pages(self) -> list[dict[str, Any]]:
        """Every page, oldest first, as `/_inspect/pages` shows it."""
        return [_show_page(row) for row in self._store.execute(PAGES)]

    def events(self) -> list[dict[str, Any]]:
        """Every alert event in the order received."""
        rows = self._store.execute("select * from incident_io_event order by id")
        fields = ("received_at", "deduplication_key", "status", "title", "description", "source_url")
        return [{field: row[field] for field in fields} | {"metadata": json.loads(row["metadata"])} for row in rows]

    def _open(self, event: Event, now: datetime) -> int:
        at = stamp(now)
        [alert] = self._store.execute(
            "insert into incident_io_alert (deduplication_key, status, title, description, source_url, metadata, created_at,"
            " updated_at) values (?, 'firing', ?, ?, ?, ?, ?, ?) returning id",
            (
                event.deduplication_key,
                event.title,
                event.description,
                event.source_url,
                json.dumps(event.metadata),
                at,
                at,
            ),
        )
        facing = customer_facing(event.metadata)
        [incident] = self._store.execute(
            "insert into incident_io_incident (alert, name, summary, customer_facing, status, created_at, updated_at)"
            " values (?, ?, ?, ?, 'live', ?, ?) returning id",
            (alert["id"], event.title, event.description, facing, at, at),
        )
        path = CUSTOMER_FACING if facing else DATA_RESPONDER
        escalation = self._escalation(
            None, alert["id"], incident["id"], path, event.title, event.description or "", now
        )
        self._settle(escalation, now)
        return alert["id"]

    def _resolve(self, alert: int, at: str) -> None:
        self._store.execute(
            "update incident_io_alert set status = 'resolved', resolved_at = ?1, updated_at = ?1 where id = ?2",
            (at, alert),
        )
        self._store.execute(
            "update incident_io_incident set status = 'closed', closed_at = ?1, updated_at = ?1 where alert = ?2",
            (at, alert),
        )
        for escalation in self._store.execute("select id from incident_io_escalation where alert = ?", (alert,)):
            self._cancel_pending(escalation["id"], at)
        self._store.execute(
            "update incident_io_escalation set updated_at = ?,"
            " status = case status when 'pending' then 'cancelled' else 'resolved' end where alert = ?",
            (at, alert),
        )

    def _cancel_pending(self, escalation: int, at: str) -> None:
        self._store.execute(
            "update incident_io_page set state = 'cancelled', cancelled_at = ? where state = 'pending' and escalation = ?",
            (at, escalation),
        )

    def _escalation(
        self, key: str | None, alert: int | None, incident: int | None, path: Path | None, title: str, description: str,
        now: datetime,
    ) -> int:  # fmt: skip
        [row] = self._store.execute(
            "insert into incident_io_escalation (idempotency_key, alert, incident, path, title, description, status, created_at,"
            " updated_at) values (?, ?, ?, ?, ?, ?, 'pending', ?, ?) returning id",
            (key, alert, incident, path.id if path else None, title, description, stamp(now), stamp(now)),
        )
        if path:
            due = max(now, next_shift(path.schedule, now).start)
            self._page(row["id"], "pending", None, path.schedule.name, path.urgency, due, None)
        return row["id"]

    def _page(
        self, escalation: int, state: str, person: Person | None, schedule: str | None, urgency: str, due: datetime,
        sent: datetime | None,
    ) -> None:  # fmt: skip
        self._store.execute(
            "insert into incident_io_page (escalation, state, person, schedule, urgency, due_at, sent_at)"
            " values (?, ?, ?, ?, ?, ?, ?)",
            (
                escalation,
                state,
                person.id if person else None,
                schedule,
                urgency,
                stamp(due),
                stamp(sent) if sent else None,
            ),
        )

    def _settle(self, escalation: int, now: datetime) -> None:
        self._send_due(now)
        self._store.execute(
            "update incident_io_escalation set status = 'triggered' where id = ?1 and not exists"
            " (select 1 from incident_io_page where escalation = ?1 and state = 'pending')",
            (escalation,),
        )

    def _due(self, now: datetime) -> list[sqlite3.Row]:
        return self._store.execute(
            "select page.id, page.escalation, page.due_at, escalation.path from incident_io_page as page"
            " join incident_io_escalation as escalation on escalation.id = page.escalation"
            " where page.state = 'pending' and page.due_at <= ? order by page.id",
            (stamp(now),),
        )

    def _send_due(self, now: datetime) -> None:
        """A page that came due while nobody looked was sent at its own hour, to who was on call then."""
        for row in self._due(now):
            person = next_shift(PATHS[row["path"]].schedule, datetime.fromisoformat(row["due_at"])).person
            self._store.execute(
                "update incident_io_page set state = 'sent', sent_at = due_at, person = ? where id = ?",
                (person.id, row["id"]),
            )
            self._store.execute(
                "update incident_io_escalation set status = 'triggered', updated_at = ? where id = ?",
                (row["due_at"], row["escalation"]),
            )


def _show_page(row: sqlite3.Row) -> dict[str, Any]:
    return {
        "id": identifier("PAGE", row["id"]),
        "state": row["state"],
        "user": PEOPLE[row["person"]].name if row["person"] else None,
        "schedule": row["schedule"],
        "path": PATHS[row["path"]].name if row["path"] else None,
        "channel": CHANNEL[row["urgency"]],
        "incident": reference(row["incident"]) if row["incident"] else None,
        "title": row["title"],
        "due_at": row["due_at"],
        "sent_at": row["sent_at"],
        "deduplication_key": row["deduplication_key"],
        "alert_id": identifier("ALERT", row["alert"]) if row["alert"] else None,
        "metadata": json.loads(row["metadata"]) if row["metadata"] else {},
    }
