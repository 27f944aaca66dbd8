"""Any number of documents whose upstream tables are known, so that what is discovered can be compared with the truth."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from sandbox.config import PROJECT
from sandbox.vendors.omni import state
from sandbox.vendors.omni.catalogue import NAMESPACE, USERS, Document, Query, user, view_of
from sandbox.vendors.store import Store

NAMES = (
    "Weekly numbers", "Weekly numbers", "📈 Growth", "growth", "Q3/Q4 — plan vs. actual (draft)", "  Who's on call?  ", "Ünïcödé für alle",
    "東京オフィス", "a/b: \"test\" #3", "Copy of Copy of Weekly numbers", "%", "Board deck 2026 & beyond", "schema model",
)  # fmt: skip
FOLDERS = (None, "Company", "In Progress Reports", "Ops / on-call", "💰")
LABELS = ("Verified", "needs review!", "Q3 2026", "émigré", "a:b", "")
PEOPLE = (*USERS, user("ada+omni@example.com", "Ada O'Neil"))
LEFT = "left@example.com"
"""Owns documents, and is no user any more."""
SQL = (
    "select count(*) from `{project}.{table}`",
    "with latest as (select * from {table}) select * from latest where 1 = 1 -- not from nowhere.else",
)
FIRST_DAY = datetime(2026, 1, 1, tzinfo=UTC)


def prepare(store: Store) -> None:
    """Create what Omni remembers, where no Omni has run yet."""
    state.prepare(store)


def add_documents(store: Store, count: int, tables: Sequence[str], seed: int) -> dict[str, list[str]]:
    """Add `count` documents that query some of `tables` (`schema.table`); the same ones for the same seed.

    Returns which of the tables each queries, in alphabetical order, by identifier. Some more are deleted or have no queries, and are left
    out of what is returned. Every query is one that the schema model can answer, as long as its tables are in the warehouse.
    """
    chance, truth = random.Random(f"omni {seed}"), dict[str, list[str]]()
    documents: list[Document] = []
    for number in range(count + count // 5):
        extra = number >= count
        reads = chance.sample(list(tables), min(len(tables), chance.randint(1, 4)))
        gone = extra and chance.random() < 0.5
        queries = () if extra and not gone else tuple(_queries(chance, reads))
        document = _document(chance, seed, number, queries, gone)
        documents.append(document)
        if not extra:
            truth[document.identifier] = sorted(reads)
    state.add(store, PEOPLE, documents)
    return truth


def _document(chance: random.Random, seed: int, number: int, queries: tuple[Query, ...], gone: bool) -> Document:
    edited = FIRST_DAY + timedelta(minutes=chance.randrange(300_000))
    return Document(
        uuid.uuid5(NAMESPACE, f"{seed} {number}").hex[:12],
        chance.choice(NAMES),
        chance.choice((*(one.email for one in PEOPLE), LEFT)),
        queries,
        folder=chance.choice(FOLDERS),
        labels=tuple(chance.sample(LABELS, chance.randrange(3))),
        description=chance.choice((None, "", "What the board asked for.")),
        has_dashboard=chance.random() < 0.8,
        updated_at=edited.isoformat(timespec="milliseconds").replace("+00:00", "Z") if chance.random() < 0.9 else None,
        deleted=gone,
    )


def _queries(chance: random.Random, reads: Sequence[str]) -> Iterator[Query]:
    """Queries that read these tables and no other: by a view, by fields of a view that is joined, or in SQL of their own."""
    first, *others = reads
    joined = chance.random() < 0.3
    fields = [f"{view_of(table)}.count" for table in (reads if joined else [first])]
    yield Query("Query 1", view_of(first), (*fields, "calc_1"))
    for number, table in enumerate(() if joined else others, start=2):
        if chance.random() < 0.2:
            yield Query(
                f"Query {number}", None, ("count",), sql=chance.choice(SQL).format(project=PROJECT, table=table)
            )
        else:
            yield Query.of(f"Query {number}", table, "count")
