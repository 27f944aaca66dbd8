"""Any number of syncs whose upstream tables are known, so that what is discovered can be compared with the truth."""

from __future__ import annotations

import random
from collections.abc import Sequence

from sandbox.config import PROJECT
from sandbox.vendors.hightouch import catalogue
from sandbox.vendors.hightouch.catalogue import Model, Sync
from sandbox.vendors.store import Store

KEY = "organisation_id"
"""The key of every model that is made here: a sync of it updates accounts that Salesforce has."""
QUERIES = (
    "select distinct organisation_id from `{project}.{first}` where organisation_id is not null",
    "with latest as (select * from {first})"
    " select distinct latest.organisation_id from latest join `{project}`.{second} using (organisation_id)",
    "select distinct a.organisation_id from {first} as a where a.organisation_id in (select organisation_id from `{second}`)",
    "-- the sales.old_table is gone\nselect organisation_id from {first} where organisation_id is not null"
    " union distinct select organisation_id from `{project}.{second}` where organisation_id is not null",
)
ONE_ROW_EACH = ("core.organisations", "product.activation_funnel", "sales.account_health")
"""What a model that is a whole table can be: Hightouch needs a key that is in one row."""


def add_syncs(store: Store, count: int, tables: Sequence[str], seed: int) -> dict[str, list[str]]:
    """Add syncs, in every way in which a model can say what it reads; return the tables that each reads, by its slug.

    `tables` are `dataset.table` and have the column of the key; one at least is of `ONE_ROW_EACH`. The last few are disabled, and are left out of what is returned.
    """
    chance, truth = random.Random(seed), dict[str, list[str]]()
    first_id = max(catalogue.syncs(store), default=0) + 1
    pairs: list[tuple[Model, Sync]] = []
    for number in range(first_id, first_id + count + count // 9):
        first, second = chance.sample(list(tables), 2)
        kind = chance.choice(("raw_sql", "table", "dbt", "dbt_cloud"))
        query = chance.choice(QUERIES)
        if kind != "raw_sql":
            first = chance.choice([table for table in tables if table in ONE_ROW_EACH])
        reads = query.format(project=PROJECT, first=first, second=second) if kind == "raw_sql" else first
        model = Model(number, f"Model {number}", f"model_{number}", kind, reads, KEY)
        disabled = number >= first_id + count
        sync = Sync(
            number, f"sync_{number}", number, "salesforce", "Account", "Organisation_Id__c",
            {KEY: "Organisation_Id__c"}, disabled=disabled,
        )  # fmt: skip
        pairs.append((model, sync))
        if not disabled:
            truth[sync.slug] = sorted({first, second} if kind == "raw_sql" and "{second}" in query else {first})
    catalogue.add(store, pairs)
    return truth
