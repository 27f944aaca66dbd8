"""Any number of syncs whose upstream tables are known, so that what is discovered can be compared with the truth."""

from __future__ import annotations

import random
from collections.abc import Sequence

from sandbox.config import PROJECT
from sandbox.vendors.hightouch import catalogue
from sandbox.vendors.hightouch.catalogue import Model, Sync
from sandbox.vendors.store import Store

QUERIES = (
    "select * from `{project}.{first}`",
    "with latest as (select * from {first}) select latest.* from latest join `{project}`.{second} using (organisation_id)",
    "select a.* from {first} as a where a.organisation_id in (select organisation_id from `{second}`)",
    "-- the sales.old_table is gone\nselect * from {first} union all select * from `{project}.{second}`",
)


def add_syncs(store: Store, count: int, tables: Sequence[str], seed: int) -> dict[str, list[str]]:
    """Add syncs, in every way in which a model can say what it reads; return the tables that each reads, by its slug.

    `tables` are `dataset.table`. The last few are disabled, and are left out of what is returned.
    """
    chance, truth = random.Random(seed), dict[str, list[str]]()
    first_id = max(catalogue.syncs(store), default=0) + 1
    pairs: list[tuple[Model, Sync]] = []
    for number in range(first_id, first_id + count + count // 9):
        first, second = chance.sample(list(tables), 2)
        kind = chance.choice(("raw_sql", "table", "dbt_model"))
        query = chance.choice(QUERIES)
        reads = query.format(project=PROJECT, first=first, second=second) if kind == "raw_sql" else first
        model = Model(number, f"Model {number}", f"model_{number}", kind, reads, "organisation_id")
        disabled = number >= first_id + count
        sync = Sync(
            number, f"sync_{number}", number, "salesforce", "Account", "Organisation_Id__c",
            {"organisation_id": "Organisation_Id__c"}, disabled=disabled,
        )  # fmt: skip
        pairs.append((model, sync))
        if not disabled:
            truth[sync.slug] = sorted({first, second} if kind == "raw_sql" and "{second}" in query else {first})
    catalogue.add(store, pairs)
    return truth
