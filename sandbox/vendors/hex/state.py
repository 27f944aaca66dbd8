"""What Hex remembers: its projects, the tables that each queries, and their runs."""

from __future__ import annotations

import json
import re
import sqlite3
import unicodedata
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime

from sandbox.vendors.hex.catalogue import PROJECTS, Project
from sandbox.vendors.store import Store

SCHEMA = """
create table if not exists hex_project (
    id text primary key, slug text not null, title text not null, description text, owner text not null,
    categories text not null, created_at text not null, edited_at text not null, published_at text,
    archived_at text, trashed_at text, version integer not null default 1, results_at text
);
create table if not exists hex_table (
    project text not null, position integer not null, spelling text not null, reads text, primary key (project, position)
);
create table if not exists hex_run (
    number integer primary key, id text not null unique, project text not null, version integer not null, status text not null,
    run_trigger text not null, updates_results integer not null, started_at text, ended_at text, error text
);
create index if not exists hex_run_of_project on hex_run (project, number);
"""
UNDER_WAY = "('PENDING', 'RUNNING')"


def moment() -> str:
    """Now, as Hex writes times: ISO 8601 in UTC with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def slug(title: str) -> str:
    """A project's name for `sandbox break`: Hex has none. By the same rule as the platform makes asset keys of titles."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "_", plain).strip("_") or "unnamed"


def prepare(store: Store) -> None:
    """Create the tables with the company's own projects."""
    store.script(SCHEMA)
    add(store, PROJECTS)


def end_left_behind(store: Store) -> None:
    """End the runs that a killed process has left behind."""
    store.execute(
        f"update hex_run set status = 'KILLED', ended_at = ?, error = 'Hex was restarted' where status in {UNDER_WAY}",
        (moment(),),
    )


def add(store: Store, projects: Iterable[Project]) -> None:
    """Add projects that are not there yet, all at once."""
    with store.transaction():
        for project in projects:
            values = (
                project.id, slug(project.title), project.title, project.description, project.owner, json.dumps(project.categories),
                project.created_at, project.edited_at, project.published_at, project.archived_at, project.trashed_at,
            )  # fmt: skip
            store.execute(
                "insert or ignore into hex_project (id, slug, title, description, owner, categories, created_at, edited_at,"
                " published_at, archived_at, trashed_at) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                values,
            )
            for position, table in enumerate(project.tables):
                store.execute(
                    "insert or ignore into hex_table values (?, ?, ?, ?)",
                    (project.id, position, table.spelling, table.reads),
                )


def project(store: Store, id_: str) -> sqlite3.Row | None:
    found = store.execute("select * from hex_project where id = ?", (id_,))
    return found[0] if found else None


def start(store: Store, project: sqlite3.Row, trigger: str, updates_results: bool) -> str:
    """Note a run that has been asked for, and return its id."""
    run = str(uuid.uuid4())
    store.execute(
        "insert into hex_run (id, project, version, status, run_trigger, updates_results) values (?, ?, ?, 'PENDING', ?, ?)",
        (run, project["id"], project["version"], trigger, updates_results),
    )
    return run


def begin(store: Store, run: str) -> bool:
    """Let a run begin, unless it was killed before."""
    return bool(
        store.execute(
            "update hex_run set status = 'RUNNING', started_at = ? where id = ? and status = 'PENDING' returning id",
            (moment(), run),
        )
    )


def end(store: Store, run: str, status: str, error: str | None = None) -> bool:
    """End a run that is under way; return whether it was."""
    return bool(
        store.execute(
            f"update hex_run set status = ?, ended_at = ?, error = ? where id = ? and status in {UNDER_WAY} returning id",
            (status, moment(), error, run),
        )
    )


def run(store: Store, project_id: str, run_id: str) -> sqlite3.Row | None:
    found = store.execute("select * from hex_run where project = ? and id = ?", (project_id, run_id))
    return found[0] if found else None
