"""A connection's schema config, as the API shows it: schemas of the source, their tables, their columns."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

ALLOWED = {"allowed": True}


def config(row: sqlite3.Row) -> dict[str, Any]:
    """Of a row of `fivetran_connection` whose tables are known.

    Columns are left out: "Unedited columns (those following table defaults) are omitted from the response" (GET
    /v1/connections/{id}/schemas in Fivetran's OpenAPI file), and no one edits them here.
    """
    tables = {table["name"]: _table(table) for table in json.loads(row["tables"])}
    shown = {"name_in_destination": dataset(row), "enabled": True, "tables": tables}
    return {
        "enable_new_by_default": True,
        "schema_change_handling": "ALLOW_ALL",
        "schemas": {source_schema(row): shown},
    }


def columns(row: sqlite3.Row, table: str) -> dict[str, Any] | None:
    """All columns of a table, with its key; None where the connection has no such table."""
    found = next((one for one in json.loads(row["tables"]) if one["name"] == table), None)
    if found is None:
        return None
    return {
        column: {
            "name_in_destination": column,
            "enabled": True,
            "hashed": False,
            "is_primary_key": column in found["key"],
            "enabled_patch_settings": ALLOWED,
        }
        for column in found["columns"]
    }


def source_schema(row: sqlite3.Row) -> str:
    return "public" if row["service"] == "postgres" else row["schema"]


def dataset(row: sqlite3.Row) -> str:
    return f"{row['schema']}_public" if row["service"] == "postgres" else row["schema"]


def _table(table: dict[str, Any]) -> dict[str, Any]:
    return {
        "name_in_destination": table["name"],
        "enabled": True,
        "sync_mode": "SOFT_DELETE",
        "enabled_patch_settings": ALLOWED,
        "columns": {},
        "supports_columns_config": True,
        "supports_history_mode": False,
    }
