"""What the vendors did lately, read from their tables. A vendor whose tables are not there, or do not answer, has done nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg

from sandbox.company import office
from sandbox.company.history import Row
from sandbox.services import postgres
from sandbox.vendors.context import VendorContext
from sandbox.vendors.hightouch import catalogue
from sandbox.vendors.incident_io.rota import PEOPLE
from sandbox.vendors.store import Store

MOST = 5
EVENTS = "select type, object_id, created_at from company_state.billing_events order by number desc limit %s"
TICKETS = """
select t.subject, t.status, t.updated_at, o.name from company_state.support_tickets t
join company_state.support_organizations o on o.id = t.organization_id order by t.change desc limit %s
"""


@dataclass(frozen=True)
class Recent:
    """One thing that a vendor did: when, and how it ended. `started_at` and `ended_at` are ISO 8601 texts."""

    what: str
    status: str
    started_at: str | None
    ended_at: str | None
    note: str


def recent(context: VendorContext, vendor: str) -> list[Recent]:
    """The last syncs, runs, writes or changes of a vendor, newest first; none for a vendor that has none."""
    if vendor in COMPANY:
        statement, show = COMPANY[vendor]
        return [show(row) for row in _company(context, statement)]
    reader = {
        "fivetran": _fivetran,
        "hightouch": _hightouch,
        "salesforce": _salesforce,
        "segment": _segment,
        "slack": _slack,
    }.get(vendor)
    return reader(context.store) if reader else []


def targets(store: Store, vendor: str) -> list[str]:
    """The names of a vendor's syncs, which a fault can have as its target."""
    match vendor:
        case "fivetran" if _exists(store, "fivetran_connection"):
            return [row["schema"] for row in store.execute("select schema from fivetran_connection order by id")]
        case "hightouch":
            catalogue.prepare(store)  # which it has not done itself yet, where it has not been started
            return [sync.slug for sync in catalogue.syncs(store).values()]
        case "hex" if _exists(store, "hex_project"):
            return [row["slug"] for row in store.execute("select slug from hex_project order by created_at, id")]
        case "explo" if _exists(store, "explo_dashboard"):
            return [row["slug"] for row in store.execute("select slug from explo_dashboard order by number")]
        case _:
            return []


def _fivetran(store: Store) -> list[Recent]:
    if not _exists(store, "fivetran_sync"):
        return []
    rows = store.execute(
        "select s.*, c.schema from fivetran_sync s join fivetran_connection c on c.id = s.connection order by s.id desc limit ?",
        (MOST,),
    )
    return [
        Recent(
            row["schema"],
            row["status"],
            row["started_at"],
            row["ended_at"],
            row["reason"] or _rows(sum(json.loads(row["rows"]).values())),
        )
        for row in rows
    ]


def _hightouch(store: Store) -> list[Recent]:
    if not _exists(store, "hightouch_run"):
        return []
    rows = store.execute(
        "select r.*, s.slug from hightouch_run r join hightouch_sync s on s.id = r.sync order by r.id desc limit ?",
        (MOST,),
    )
    return [
        Recent(
            row["slug"],
            row["status"],
            row["started_at"] or row["created_at"],
            row["finished_at"],
            row["error"] or _rows(row["query_size"]),
        )
        for row in rows
    ]


def _salesforce(store: Store) -> list[Recent]:
    """The accounts that carry a health score, by when they were last written."""
    if not _exists(store, "salesforce_account"):
        return []
    rows = store.execute(
        'select "Name", "SystemModstamp", "Health_Score__c" as score, "Health_Band__c" as band from salesforce_account'
        ' where "Health_Score__c" is not null order by "SystemModstamp" desc limit ?',
        (MOST,),
    )
    return [
        Recent(
            row["Name"],
            "written",
            row["SystemModstamp"],
            row["SystemModstamp"],
            f"health {row['score']:g} {row['band'] or ''}",
        )
        for row in rows
    ]


def _segment(store: Store) -> list[Recent]:
    if not _exists(store, "segment_batch"):
        return []
    rows = store.execute("select * from segment_batch order by number desc limit ?", (MOST,))
    return [
        Recent(
            row["source"], "succeeded" if row["ended_at"] else "running", row["loaded_at"], row["ended_at"], "into BigQuery"
        )
        for row in rows
    ]  # fmt: skip


def _slack(store: Store) -> list[Recent]:
    """Who is in each user group that has people, by when that changed."""
    if not _exists(store, "slack_usergroup"):
        return []
    names = {person.slack_user_id: person.name for person in PEOPLE.values()}
    rows = store.execute(
        "select * from slack_usergroup where deleted_at = 0 and users <> '[]' order by updated_at desc limit ?", (MOST,)
    )
    found: list[Recent] = []
    for row in rows:
        at = datetime.fromtimestamp(row["updated_at"], UTC).isoformat()
        people = [names[user] for user in json.loads(row["users"])]
        found.append(Recent(f"@{row['handle']}", "", at, at, ", ".join(people)))
    return found


def _company(context: VendorContext, statement: str) -> list[Row]:
    """Rows of what the company keeps beside its product; its times are the company's."""
    try:
        with office.opened(postgres.dsn(context.config)) as connection:
            return connection.execute(statement.encode(), [MOST]).fetchall()
    except (psycopg.OperationalError, psycopg.errors.UndefinedTable):
        return []


def _stripe(row: Row) -> Recent:
    at = row["created_at"].isoformat()
    return Recent(row["type"], "", at, at, row["object_id"])


def _zendesk(row: Row) -> Recent:
    at = row["updated_at"].isoformat()
    return Recent(row["subject"], row["status"], at, at, row["name"])


def _rows(count: int | None) -> str:
    return "" if count is None else f"{count:,} rows"


def _exists(store: Store, table: str) -> bool:
    return bool(store.execute("select 1 from sqlite_master where type = 'table' and name = ?", (table,)))


COMPANY = {"stripe": (EVENTS, _stripe), "zendesk": (TICKETS, _zendesk)}
