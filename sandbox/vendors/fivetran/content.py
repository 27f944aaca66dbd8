"""Any number of Fivetran connections, for accounts of any size. Their syncs end at once and land nothing."""

from __future__ import annotations

import json

from sandbox.vendors.fivetran import state
from sandbox.vendors.store import Store

SERVICE = "google_sheets"


def add_connections(store: Store, count: int, tables: int = 1, prefix: str = "sheet") -> dict[str, list[str]]:
    """Add connections that have synced once; return the tables that each lands (`dataset.table`), by its name.

    A connection has the name `<prefix>_<number>`, which is also its dataset, and the id `<prefix>_<number>_conn`.
    """
    names = [f"{prefix}_{number:05}" for number in range(count)]
    found = [{"name": f"table_{number}", "key": ["id"], "columns": ["id", "name"]} for number in range(tables)]
    now = state.moment()
    with store.transaction():
        for name in names:
            store.execute(
                "insert or ignore into fivetran_connection"
                " (id, service, schema, created_at, succeeded_at, historical, tables) values (?, ?, ?, ?, ?, 0, ?)",
                (f"{name}_conn", SERVICE, name, now, now, json.dumps(found)),
            )
    return {name: [f"{name}.{table['name']}" for table in found] for name in names}
