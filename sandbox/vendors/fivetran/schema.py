"""A connection's schema config, as the API shows it: schemas of the source, their tables, their columns."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

ALLOWED = {"allowed": True}


def config(row: sqlite3.Row) -> dict[str, Any]:
    """Of a row of `fivetran_connection` whose tables are known."""
    in_postgres = row["service"] == "postgres"
    dataset = f"{row['schema']}_public" if in_postgres else row["schema"]
    tables = {table["name"]: _table(table) for table in json.loads(row["tables"])}
    schema = {"name_in_destination": dataset, "enabled": True, "tables": tables}
    return {
        "enable_new_by_default": True,
        "schema_change_handling": "ALLOW_ALL",
        "schemas": {"public" if in_postgres else row["schema"]: schema},
    }


def _table(table: dict[str, Any]) -> dict[str, Any]:
    columns = {
        column: {
            "name_in_destination": column,
            "enabled": True,
            "hashed": False,
            "is_primary_key": column in table["key"],
            "enabled_patch_settings": ALLOWED,
        }
        for column in table["columns"]
    }
    return {
        "name_in_destination": table["name"],
        "enabled": True,
        "sync_mode": "SOFT_DELETE",
        "enabled_patch_settings": ALLOWED,
        "columns": columns,
    }
