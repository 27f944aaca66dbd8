"""Any number of made-up dashboards, written as people write them, and the truth about what each reads."""

from __future__ import annotations

import random
import re
import string
from collections.abc import Sequence

from sandbox.config import PROJECT
from sandbox.vendors.explo import state
from sandbox.vendors.explo.catalogue import Dashboard, Dataset
from sandbox.vendors.store import Store

SUBJECTS = ("Incidents", "On-call", "Workload", "SLA", "Postmortems", "Adoption", "Response times", "Weekly review")
TITLES = (
    "{subject}", "{subject} (beta)", "DO NOT EDIT - {subject}", "Copy of {subject}", "{subject} — Ünïcode 📈", "  {subject} ", "概要",
    "{subject}: \"this\" & <that>", "customers",
)  # fmt: skip
TENANTS = (
    "{{customer_id}}",
    "{{ customer_id }}",
    "{{customer.provided_id}}",
    "'{{customer_id.raw()}}'",
    "{{user_group_id}}",
)
QUERIES = (
    "select count(*) as number from {first} where organisation_id = {tenant}",
    "-- was sales.old_table\nselect * from {first} where {tenant} = organisation_id [[and {{{{element1}}}} is not null]];",
    "with own as (select * from {first} where organisation_id = {tenant}), other as (select organisation_id, count(*) as number from"
    " {second} [[where organisation_id = {tenant}]] group by 1) select own.*, other.number from own left join other using (organisation_id)",
    "select a.organisation_id, (select count(*) from {second} as b where b.organisation_id = a.organisation_id) as others from {first} as a"
    " where a.organisation_id = {tenant}",
    "select 'one' as place, count(*) as number from {first} as x where x.organisation_id = {tenant} union all"
    " select 'two', count(*) from {second} where 1 = 1 [[and organisation_id = {tenant}]]",
)
SPELLINGS = ("`{project}.{table}`", "`{project}`.{table}", "{table}", "`{table}`")


def prepare(store: Store) -> None:
    """Create what Explo remembers, where no Explo has run yet."""
    state.prepare(store)


def add_dashboards(store: Store, count: int, tables: Sequence[str], seed: int) -> dict[str, list[str]]:
    """Add `count` dashboards that read some of `tables` (`schema.table`): those of `insights`, if there are two; the same ones for a seed.

    Every one shows a customer its own rows alone, where the tables have an `organisation_id`. Returns the tables that each reads, in
    alphabetical order, by embed id.
    """
    # What customers see is made of those, and of tables that nobody can filter there is nothing to show them.
    insights = [table for table in tables if table.startswith("insights.")]
    own = insights if len(insights) > 1 else list(tables)
    chance, truth = random.Random(f"explo {seed}"), dict[str, list[str]]()
    taken = set(state.slugs(store))
    made: list[Dashboard] = []
    for _ in range(count):
        embed_id = "".join(chance.choices(string.ascii_letters + string.digits, k=10))
        name = chance.choice(TITLES).format(subject=chance.choice(SUBJECTS))
        slug = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "unnamed"
        slug = slug if slug not in taken else f"{slug}_{embed_id.lower()}"
        taken.add(slug)
        reads: set[str] = set()
        datasets: list[Dataset] = []
        for number in range(chance.randrange(1, 4)):
            query = chance.choice(QUERIES)
            first, second = chance.sample(own, 2)
            reads |= {first, second} if "{second}" in query else {first}
            written = [chance.choice(SPELLINGS).format(project=PROJECT, table=table) for table in (first, second)]
            sql = query.format(first=written[0], second=written[1], tenant=chance.choice(TENANTS))
            datasets.append(Dataset(f"Dataset {number + 1}", sql))
        made.append(Dashboard(embed_id, name, slug, tuple(datasets)))
        truth[embed_id] = sorted(reads)
    state.add(store, made)
    return truth
