"""What the company's people do as time goes on, sent by the official clients: Segment's, and the product's own publisher."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx
from segment.analytics import Client

from product_events.publisher import Publisher
from sandbox.company import behaviour, product, product_events
from sandbox.company.tracking_plan import TRACKING_PLAN
from sandbox.config import SandboxConfig
from sandbox.services import postgres
from sandbox.vendors.segment.sources import write_key

RETRIES = 4
ENVELOPE = ("event_id", "event_version", "occurred_at", "organisation_id", "user_id")


class NotSent(RuntimeError):
    """Segment did not take all messages; the text says why."""


@dataclass(frozen=True)
class Activity:
    messages: dict[str, int]
    """Messages sent to Segment, by source."""
    events: dict[str, int]
    """Product events published, by name."""


def live(config: SandboxConfig, organisations: set[str]) -> Activity:
    """Send what these organisations' people did in the last hour of this machine's time, land it, and return how much it was.

    The environment has to point the Google client at the warehouse. Raises NotSent, and product_events.publisher.Undelivered.
    """
    now = datetime.now(UTC)
    company = product.read(postgres.dsn(config))
    messages = behaviour.hour(company.seed, company.rows, organisations, now)
    events = product_events.hour(company.seed, company.rows, organisations, now)
    for source in TRACKING_PLAN:
        _send(config, source, [message.body for message in messages if message.source == source])
    _load(config)
    _publish(config, events)
    return Activity(
        dict(Counter(message.source for message in messages)), dict(Counter(name for name, _event in events))
    )


def _send(config: SandboxConfig, source: str, bodies: list[behaviour.Body]) -> None:
    problems: list[str] = []
    client = Client(
        write_key(source), host=config.url("segment"), max_retries=RETRIES, upload_interval=0.2,
        on_error=lambda error, batch: problems.append(f"{len(batch)} messages to {source}: {error}"),
    )  # fmt: skip
    for body in bodies:
        call = getattr(client, body["type"])
        what = (
            {"traits": body["traits"]}
            if body["type"] == "identify"
            else {"properties": body["properties"]}
            | ({"event": body["event"]} if body["type"] == "track" else {"name": body["name"]})
        )
        call(
            user_id=body.get("userId"), anonymous_id=body["anonymousId"], context=dict(body["context"]),
            timestamp=datetime.fromisoformat(body["timestamp"]), message_id=body["messageId"], **what,
        )  # fmt: skip
    client.shutdown()
    if problems:
        raise NotSent("; ".join(problems))


def _load(config: SandboxConfig) -> None:
    """Have Segment land what it has, as it does by the hour."""
    try:
        httpx.post(f"{config.url('segment')}/_inspect/load", timeout=60).raise_for_status()
    except httpx.HTTPError as error:
        raise NotSent(f"Segment took the messages and has not landed them yet: {error}") from error


def _publish(config: SandboxConfig, events: list[tuple[str, product_events.Event]]) -> None:
    with Publisher(config.raw_project, product_events.DATASET, spool_dir=config.root / "product-events") as publisher:
        for name, event in events:
            properties = {column: value for column, value in event.items() if column not in ENVELOPE}
            publisher.publish(
                name, event["event_version"], properties, organisation_id=event["organisation_id"],
                user_id=event["user_id"], occurred_at=event["occurred_at"], event_id=event["event_id"],
            )  # fmt: skip
