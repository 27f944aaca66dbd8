"""What Omni remembers: users, documents with their queries, the fields of its schema model, and refreshes of that."""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime

from sandbox.vendors.omni.catalogue import DOCUMENTS, USERS, Document, Query, User
from sandbox.vendors.store import Store

SCHEMA = """
create table if not exists omni_user (id text primary key, email text not null unique, name text not null);
create table if not exists omni_document (
    identifier text primary key, name text not null, owner text not null, folder text, labels text not null,
    description text, has_dashboard integer not null, updated_at text, deleted integer not null
);
create table if not exists omni_query (
    document text not null, position integer not null, id text not null, definition text not null,
    primary key (document, position)
);
create table if not exists omni_field (view text not null, field text not null, primary key (view, field));
create table if not exists omni_job (
    id text primary key, model text not null, status text not null, started_at text not null, ended_at text, error text
);
"""
COUNT = "count"
"""The measure that Omni gives every view."""


def moment() -> str:
    """Now, as Omni writes times: ISO 8601 in UTC with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def prepare(store: Store) -> None:
    """Create the tables with the company's own users and documents."""
    store.script(SCHEMA)
    add(store, USERS, DOCUMENTS)


def end_left_behind(store: Store) -> None:
    """End the refreshes that a killed process has left behind."""
    store.execute(
        "update omni_job set status = 'FAILED', ended_at = ?, error = 'Omni was restarted' where ended_at is null",
        (moment(),),
    )


def add(store: Store, users: Iterable[User], documents: Iterable[Document]) -> None:
    """Add users and documents that are not there yet, all at once. The schema model has the fields that they refer to."""
    with store.transaction():
        for user in users:
            store.execute("insert or ignore into omni_user values (?, ?, ?)", (user.id, user.email, user.name))
        for document in documents:
            added = store.execute(
                "insert or ignore into omni_document values (?, ?, ?, ?, ?, ?, ?, ?, ?) returning identifier",
                (
                    document.identifier, document.name, document.owner, document.folder, json.dumps(document.labels),
                    document.description, document.has_dashboard, document.updated_at, document.deleted,
                ),
            )  # fmt: skip
            if added:
                _put_queries(store, document.identifier, document.queries)
                for field in fields(document.queries):
                    store.execute("insert or ignore into omni_field values (?, ?)", field)


def change_queries(store: Store, identifier: str, queries: Iterable[Query]) -> None:
    """Give a document other queries, as somebody who edits it does."""
    with store.transaction():
        store.execute("delete from omni_query where document = ?", (identifier,))
        _put_queries(store, identifier, queries)
        store.execute("update omni_document set updated_at = ? where identifier = ?", (moment(), identifier))


def _put_queries(store: Store, identifier: str, queries: Iterable[Query]) -> None:
    for position, query in enumerate(queries):
        values = (
            identifier,
            position,
            str(uuid.uuid5(uuid.NAMESPACE_OID, f"{identifier} {position}")),
            json.dumps(asdict(query)),
        )
        store.execute("insert into omni_query values (?, ?, ?, ?)", values)


def queries(store: Store, identifier: str) -> list[tuple[str, Query]]:
    """The queries of a document, in their order, each with its id."""
    rows = store.execute("select * from omni_query where document = ? order by position", (identifier,))
    return [(row["id"], _query(row)) for row in rows]


def all_queries(store: Store) -> list[Query]:
    return [_query(row) for row in store.execute("select * from omni_query order by document, position")]


def _query(row: sqlite3.Row) -> Query:
    given = json.loads(row["definition"])
    return Query(**given | {"fields": tuple(given["fields"])})


def fields(queries: Iterable[Query]) -> Iterator[tuple[str, str]]:
    """What queries refer to in the model: views with their fields, without the granularity of a time (`created_at[date]`)."""
    for query in queries:
        if query.table and not query.sql:
            yield query.table, COUNT
        for name in query.fields:
            view, dot, field = name.partition(".")
            if dot and not query.sql:
                yield view, field.partition("[")[0]


def model_fields(store: Store) -> set[tuple[str, str]]:
    """The views and fields that the schema model has."""
    return {(row["view"], row["field"]) for row in store.execute("select view, field from omni_field")}


def replace_model(store: Store, found: Iterable[tuple[str, str]]) -> None:
    with store.transaction():
        store.execute("delete from omni_field")
        for field in found:
            store.execute("insert or ignore into omni_field values (?, ?)", field)


def start_job(store: Store, model: str) -> str:
    job = str(uuid.uuid4())
    store.execute(
        "insert into omni_job (id, model, status, started_at) values (?, ?, 'IN_PROGRESS', ?)", (job, model, moment())
    )
    return job


def end_job(store: Store, job: str, status: str, error: str | None = None) -> None:
    store.execute(
        "update omni_job set status = ?, ended_at = ?, error = ? where id = ?", (status, moment(), error, job)
    )
