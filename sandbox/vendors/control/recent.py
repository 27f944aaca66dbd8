"""What the vendors did lately, read from their tables. A vendor that has not made its table yet has done nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass

from sandbox.vendors.hightouch.catalogue import SYNCS
from sandbox.vendors.store import Store

MOST = 5


@dataclass(frozen=True)
class Recent:
    """One thing that a vendor did: when, and how it ended. `started_at` and `ended_at` are ISO 8601 texts."""

    what: str
    status: str
    started_at: str | None
    ended_at: str | None
    note: str


def recent(store: Store, vendor: str) -> list[Recent]:
    """The last syncs, runs or writes of a vendor, newest first; none for a vendor that has none."""
    reader = {"fivetran": _fivetran, "hightouch": _hightouch, "salesforce": _salesforce}.get(vendor)
    return reader(store) if reader else []


def targets(store: Store, vendor: str) -> list[str]:
    """The names of a vendor's syncs, which a fault can have as its target."""
    match vendor:
        case "fivetran" if _exists(store, "fivetran_connection"):
            return [row["schema"] for row in store.execute("select schema from fivetran_connection order by id")]
        case "hightouch":
            return [sync.slug for sync in SYNCS.values()]
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
    rows = store.execute("select * from hightouch_run order by id desc limit ?", (MOST,))
    return [
        Recent(
            SYNCS[row["sync"]].slug,
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


def _rows(count: int | None) -> str:
    return "" if count is None else f"{count:,} rows"


def _exists(store: Store, table: str) -> bool:
    return bool(store.execute("select 1 from sqlite_master where type = 'table' and name = ?", (table,)))
