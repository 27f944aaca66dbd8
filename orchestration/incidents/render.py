"""The words of an alert. What a person reads at 3 a.m.: what failed, why, who is hurt, and where to look."""

from __future__ import annotations

from collections.abc import Sequence

from orchestration.incidents.state import OpenAlert
from orchestration.incidents.triage import Failure, Renderer
from orchestration.lineage.graph import Consumer
from orchestration.lineage.runs import Outcome
from orchestration.vendors.incident_io import AlertEvent

MOST_NAMES = 20
MOST_ITEMS = 50
"""Of each list in the metadata: an alert that is too large is refused, and then nobody is told."""
ERROR_LENGTH = 1500
NOUNS = {
    "fivetran": "Fivetran sync of",
    "dbt": "dbt model",
    "hightouch": "Hightouch sync",
    "landed": "Look at what landed in",
    "check": "Check of",
    "export": "Export of",
    "step": "Step",
    "run": "Run of",
}


def renderer(dagster_url: str) -> Renderer:
    """`dagster_url` is where people open the UI, with no slash at the end."""
    return Renderer(
        firing=lambda failure: firing(failure, dagster_url),
        resolved=lambda alert, run: resolved(alert, run, dagster_url),
    )


def firing(failure: Failure, dagster_url: str) -> AlertEvent:
    unit, run_url = failure.unit, f"{dagster_url}/runs/{failure.run_id}"
    customers = [consumer.key for consumer in failure.consumers if consumer.audience == "customer"]
    title = f"{_what(failure)} failed"
    if customers:
        title += f": {len(customers)} customer dashboard{'s' if len(customers) > 1 else ''} hurt"
    owner = ", ".join(failure.owners) or "nobody"
    error = unit.error[:ERROR_LENGTH] + ("…" if len(unit.error) > ERROR_LENGTH else "")
    links = [f"[the run]({run_url})"] + ([f"[the vendor]({unit.vendor_url})"] if unit.vendor_url else [])
    lines = [
        f"**Error**: {error}",
        f"**Since**: {failure.since:%Y-%m-%d %H:%M} UTC",
        f"**Customers see old data in**: {_names(customers)}" if customers else "**Customers**: not affected",
        f"**Internal readers**: {_names([c.key for c in failure.consumers if c.audience != 'customer'])}",
        f"**Not made**: {_names([*unit.asset_keys, *unit.held_up])}",
        f"**Owner**: {owner}",
        f"**Look at**: {' · '.join(links)}",
    ]
    return AlertEvent(
        deduplication_key=failure.deduplication_key,
        status="firing",
        title=title,
        description="\n\n".join(lines),
        source_url=run_url,
        metadata={
            "customer_facing": failure.customer_facing,
            "owner": owner,
            "unit": unit.unit,
            "assets": [*unit.asset_keys[:MOST_ITEMS]],
            "held_up": [*unit.held_up[:MOST_ITEMS]],
            "consumers": [_consumer(consumer) for consumer in failure.consumers[:MOST_ITEMS]],
            "failed_at": failure.since.isoformat(),
            "run_id": failure.run_id,
            "run_url": run_url,
            "vendor_url": unit.vendor_url,
            "error": error,
        },
    )


def resolved(alert: OpenAlert, run: Outcome, dagster_url: str) -> AlertEvent:
    run_url = f"{dagster_url}/runs/{run.run_id}"
    minutes = max(0, round((run.ended_at - alert.since).total_seconds() / 60))
    return AlertEvent(
        deduplication_key=alert.deduplication_key,
        status="resolved",
        title=alert.title,
        description=f"Every asset was made again after {minutes} min, the last of them in [this run]({run_url}).",
        source_url=run_url,
        metadata={
            "unit": alert.unit,
            "recovered_at": run.ended_at.isoformat(),
            "run_id": run.run_id,
            "run_url": run_url,
        },
    )


def _what(failure: Failure) -> str:
    kind, _, name = failure.unit.unit.partition("/")
    if kind == "run":
        keys = failure.unit.asset_keys
        name = keys[0] if len(keys) == 1 else f"{len(keys)} assets"
    return f"{NOUNS.get(kind, kind)} `{name}`" if kind != "run" else f"{NOUNS[kind]} {name}"


def _names(keys: Sequence[str]) -> str:
    if not keys:
        return "none"
    more = f" and {len(keys) - MOST_NAMES} more" if len(keys) > MOST_NAMES else ""
    return ", ".join(f"`{key}`" for key in keys[:MOST_NAMES]) + more


def _consumer(consumer: Consumer) -> dict[str, str]:
    return {"key": consumer.key, "audience": consumer.audience}
