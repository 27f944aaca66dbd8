"""The control room: one HTML page of what is broken, what the vendors did, who is paged, and what time it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sandbox.config import VENDORS
from sandbox.vendors.context import VendorContext
from sandbox.vendors.control.recent import Recent, recent
from sandbox.vendors.faults import KINDS, Fault
from sandbox.vendors.incident_io.names import reference
from sandbox.vendors.incident_io.rota import ZONE
from sandbox.vendors.store import Store

MOST_INCIDENTS, MOST_MESSAGES = 10, 5
NAMES = {
    "fivetran": "Fivetran",
    "hightouch": "Hightouch",
    "salesforce": "Salesforce",
    "stripe": "Stripe",
    "zendesk": "Zendesk",
    "segment": "Segment",
    "omni": "Omni",
    "explo": "Explo",
    "hex": "Hex",
    "incident_io": "incident.io",
    "slack": "Slack",
}

Row = dict[str, Any]


@dataclass(frozen=True)
class Vendor:
    name: str
    key: str
    broken: list[Fault]
    recent: list[Recent]


def render(context: VendorContext, pages: list[Row], messages: list[Row]) -> str:
    """The page as HTML. `pages` and `messages` are in the order that they came."""
    now = context.clock.now()
    moved = now - datetime.now(UTC)
    return _environment().get_template("room.html").render(
        now=now,
        moved=_ago(moved) if abs(moved) > timedelta(seconds=1) else None,
        vendors=[
            Vendor(NAMES[key], key, context.faults.active(key), recent(context, key)) for key in VENDORS
        ],
        kinds=KINDS,
        incidents=list(_incidents(context.store)),
        pages=list(reversed(pages))[:MOST_INCIDENTS],
        messages=list(reversed(messages))[:MOST_MESSAGES],
    )  # fmt: skip


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["when"] = _when
    return environment


def _incidents(store: Store) -> Iterator[Row]:
    rows = store.execute("select * from incident_io_incident order by id desc limit ?", (MOST_INCIDENTS,))
    for row in rows:
        yield {
            "reference": reference(row["id"]),
            "title": row["name"],
            "customer_facing": bool(row["customer_facing"]),
            "open": row["closed_at"] is None,
            "since": row["closed_at"] or row["created_at"],
        }


def _when(moment: str | datetime | None) -> str:
    """A time as the people on call read it, in their zone."""
    if moment is None:
        return ""
    at = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    return f"{at.astimezone(ZONE):%a %d %b %H:%M:%S}"


def _ago(moved: timedelta) -> str:
    minutes = round(abs(moved).total_seconds() / 60)
    days, rest = divmod(minutes, 24 * 60)
    hours, minutes = divmod(rest, 60)
    parts = [(days, "d"), (hours, "h"), (minutes, "min")]
    text = " ".join(f"{count} {unit}" for count, unit in parts if count) or "less than a minute"
    return f"{text} {'ahead of' if moved > timedelta() else 'behind'} this machine's"
