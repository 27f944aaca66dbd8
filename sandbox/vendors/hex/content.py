"""Any number of made-up projects, with what real workspaces are full of, and the truth about what each reads."""

from __future__ import annotations

import random
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sandbox.config import PROJECT
from sandbox.vendors.hex import state
from sandbox.vendors.hex.catalogue import Project, Table
from sandbox.vendors.store import Store

SUBJECTS = ("Onboarding", "Churn", "Q3 forecast", "Alert noise", "Cohorts", "NPS", "Pricing test", "Retention", "Usage")
TITLES = (
    "{subject} deep dive", "[WIP] {subject} — do not share!", "{subject}", "Copy of Copy of {subject}", "{subject} (v2) / final FINAL",
    "🚨 {subject} 🚨", "Überblick: {subject}", "  {subject}  ", "離反分析", "???", "{subject}. {subject}: \"quoted\" & <b>bold</b>",
)  # fmt: skip
"""Some come more than once, some have nothing of which a key could be made."""
OWNERS = ("ada@example.com", "grace.h@example.com", "edsger+hex@example.com", "")
SPELLINGS = (
    "`{project}.{schema}.{table}`", "{project}.{schema}.{table}", "{schema}.{table}", "`{schema}.{table}`", "`{schema}`.`{table}`",
    "`{project}`.{schema}.`{table}`", '"{project}"."{schema}"."{table}"', "{project}:{schema}.{table}",
)  # fmt: skip
ELSEWHERE = ("budget_upload", "`df_customers`", "INFORMATION_SCHEMA.TABLES", "")
"""What Hex may name that is no table of a dataset: what it reads cannot be known from it."""
NAMESPACE = uuid.UUID("0195f0c1-5d1e-7a3b-8c11-0242ac12eeee")
FIRST_DAY = datetime(2026, 1, 1, tzinfo=UTC)


def prepare(store: Store) -> None:
    """Create what Hex remembers, where no Hex has run yet."""
    state.prepare(store)


def add_projects(store: Store, count: int, tables: Sequence[str], seed: int) -> dict[str, list[str]]:
    """Add `count` projects that query some of `tables` (`schema.table`); the same ones for the same seed.

    Returns which of the tables each queries, in alphabetical order, by project id, without those that are archived or in the trash.
    """
    prepare(store)
    chance = random.Random(f"hex {seed}")
    projects = [_project(chance, seed, number, tables) for number in range(count)]
    state.add(store, projects)
    return {
        project.id: sorted({table.reads for table in project.tables if table.reads})
        for project in projects
        if not project.archived_at and not project.trashed_at
    }


def _project(chance: random.Random, seed: int, number: int, tables: Sequence[str]) -> Project:
    made = FIRST_DAY + timedelta(hours=chance.randrange(5000))
    edited = made + timedelta(hours=chance.randrange(1, 2000))
    gone = _moment(edited + timedelta(days=3))
    fate = chance.random()
    return Project(
        str(uuid.uuid5(NAMESPACE, f"{seed} {number}")),
        chance.choice(TITLES).format(subject=chance.choice(SUBJECTS)),
        tuple(_tables(chance, tables)),
        description=chance.choice((None, "", "What the board asked for.")),
        owner=chance.choice(OWNERS),
        categories=tuple(chance.sample(("Finance", "Product", "Exploration"), chance.randrange(3))),
        created_at=_moment(made),
        edited_at=_moment(edited),
        published_at=_moment(edited) if chance.random() < 0.7 else None,
        archived_at=gone if fate < 0.1 else None,
        trashed_at=gone if 0.1 <= fate < 0.15 else None,
    )


def _tables(chance: random.Random, tables: Sequence[str]) -> list[Table]:
    """What a project queries: up to six of the tables, some of them twice in two spellings, and now and then what is none."""
    found: list[Table] = []
    for name in chance.sample(tables, min(len(tables), chance.randrange(7))):
        schema, table = name.split(".")
        spellings = chance.sample(SPELLINGS, chance.choice((1, 1, 1, 2)))
        found += [Table(one.format(project=PROJECT, schema=schema, table=table), name) for one in spellings]
    if chance.random() < 0.15:
        found.append(Table(chance.choice(ELSEWHERE), None))
    chance.shuffle(found)
    return found


def _moment(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
