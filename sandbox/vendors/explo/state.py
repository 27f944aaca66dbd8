"""What Explo remembers: customers, dashboards and their datasets."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable
from typing import Any

from sandbox.vendors.explo.catalogue import DASHBOARDS, Dashboard, Dataset
from sandbox.vendors.store import Store

SCHEMA = """
create table if not exists explo_customer (
    number integer primary key, provided_id text not null unique, name text not null, token text not null, fields text not null
);
create table if not exists explo_dashboard (
    number integer primary key, embed_id text not null unique, name text not null, slug text not null unique
);
create table if not exists explo_dataset (
    number integer primary key, embed_id text not null, name text not null, query text not null, unique (embed_id, name)
);
"""
FIELDS = ("mapping", "properties", "emails", "group_tags", "is_demo_group")


def prepare(store: Store) -> None:
    """Create the tables, with the company's own dashboards."""
    store.script(SCHEMA)
    add(store, DASHBOARDS)


def add(store: Store, dashboards: Iterable[Dashboard]) -> None:
    """Add dashboards; those that are there stay as they are."""
    with store.transaction():
        for one in dashboards:
            added = store.execute(
                "insert into explo_dashboard (embed_id, name, slug) values (?, ?, ?) on conflict do nothing returning number",
                (one.embed_id, one.name, one.slug),
            )
            for dataset in one.datasets if added else ():
                store.execute(
                    "insert into explo_dataset (embed_id, name, query) values (?, ?, ?)",
                    (one.embed_id, dataset.name, dataset.query),
                )


def dashboards(store: Store) -> list[sqlite3.Row]:
    return store.execute("select * from explo_dashboard order by number")


def slugs(store: Store) -> list[str]:
    return [row["slug"] for row in dashboards(store)]


def datasets(store: Store, embed_id: str) -> list[tuple[int, Dataset]]:
    """Of a dashboard, each with its id, in their order."""
    rows = store.execute("select * from explo_dataset where embed_id = ? order by number", (embed_id,))
    return [(row["number"], Dataset(row["name"], row["query"])) for row in rows]


def edit(store: Store, embed_id: str, dataset: str, query: str) -> None:
    """Change a dataset's query, or add it, as somebody does in Explo's editor."""
    store.execute(
        "insert into explo_dataset (embed_id, name, query) values (?, ?, ?)"
        " on conflict (embed_id, name) do update set query = excluded.query",
        (embed_id, dataset, query),
    )


def customer(store: Store, provided_id: str) -> dict[str, Any] | None:
    rows = store.execute("select * from explo_customer where provided_id = ?", (provided_id,))
    return _shown(rows[0]) if rows else None


def customers(store: Store, size: int, page: int) -> tuple[int, list[dict[str, Any]]]:
    """How many there are, and those of a page."""
    [row] = store.execute("select count(*) as total from explo_customer")
    rows = store.execute("select * from explo_customer order by number limit ? offset ?", (size, size * (page - 1)))
    return row["total"], [_shown(row) for row in rows]


def create(store: Store, body: dict[str, Any]) -> bool:
    """Create a customer; return whether it was not there before. One that was stays as it is."""
    provided_id, name = body["provided_id"], body["name"]
    token = hashlib.sha256(provided_id.encode()).hexdigest()
    fields = json.dumps({field: body[field] for field in FIELDS if field in body})
    added = store.execute(
        "insert into explo_customer (provided_id, name, token, fields) values (?, ?, ?, ?)"
        " on conflict do nothing returning number",
        (provided_id, name, token, fields),
    )
    return bool(added)


def update(store: Store, body: dict[str, Any]) -> bool:
    """Change what the body has of a customer; return whether there is one."""
    with store.transaction():
        found = store.execute("select * from explo_customer where provided_id = ?", (body["provided_id"],))
        if not found:
            return False
        fields = json.loads(found[0]["fields"]) | {field: body[field] for field in FIELDS if field in body}
        store.execute(
            "update explo_customer set name = ?, fields = ? where number = ?",
            (body.get("name", found[0]["name"]), json.dumps(fields), found[0]["number"]),
        )
    return True


def _shown(row: sqlite3.Row) -> dict[str, Any]:
    fields = json.loads(row["fields"])
    properties, mapping = fields.get("properties", {}), fields.get("mapping", {})
    return {
        "token": row["token"],
        "name": row["name"],
        "provided_id": row["provided_id"],
        "is_demo_group": fields.get("is_demo_group", False),
        "emails": fields.get("emails", []),
        "group_tags": fields.get("group_tags", []),
        "properties": properties,
        "computed_properties": properties,
        "access_group": "Production",
        "parent_schema_datasource_mapping": mapping,
        "computed_parent_schema_datasource_mapping": mapping,
        "hierarchy_level": "Customer",
    }
