"""What Segment landed before the sandbox was there: the company's behaviour so far, in the warehouse at its first start."""

from __future__ import annotations

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from sandbox.company import behaviour, product
from sandbox.company.tracking_plan import TRACKING_PLAN
from sandbox.config import SandboxConfig
from sandbox.services import bigquery, postgres
from sandbox.vendors.context import VendorContext
from sandbox.vendors.segment.destination import Destination, latest
from sandbox.vendors.segment.inbox import Inbox
from sandbox.vendors.segment.messages import USERS, Row, rows

TABLES_AT_ONCE = 3


def seed_history(config: SandboxConfig) -> dict[str, int]:
    """Land the history, and return its rows by `<dataset>.<table>`; nothing, where it was landed before.

    It replaces whole tables, so it has to run before the stand-in serves. Killed half-way, the next call does all of it again.
    """
    inbox = Inbox(VendorContext.of(config).store)
    if inbox.seeded():
        return {}
    company = product.read(postgres.dsn(config))
    tables = _tables(behaviour.history(company.seed, company.rows, company.now), company.now)

    def land(dataset: str, table: str) -> tuple[str, int]:
        found = tables[dataset][table]
        found = latest(found) if table == USERS else found
        destinations[dataset].replace(table, found, TRACKING_PLAN[dataset][table])
        return f"{dataset}.{table}", len(found)

    client = bigquery.raw_client(config)
    destinations = {source: Destination(client, source) for source in TRACKING_PLAN}
    with ThreadPoolExecutor(TABLES_AT_ONCE) as pool:
        jobs = [pool.submit(land, source, table) for source, plan in TRACKING_PLAN.items() for table in plan]
        landed = dict(job.result() for job in jobs)
    inbox.note_seeded()
    return landed


def _tables(messages: list[behaviour.Delivered], until: datetime) -> dict[str, dict[str, list[Row]]]:
    tables: dict[str, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for message in messages:
        loaded_at = min(_next_sync(message.received_at), max(until, message.received_at))
        for table, row in rows(message.body, message.received_at, loaded_at):
            tables[message.source][table].append(row)
    return tables


def _next_sync(received_at: datetime) -> datetime:
    """Segment's warehouses sync by the hour, and take a few minutes."""
    hour = received_at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    return hour + timedelta(hours=1, minutes=4)
