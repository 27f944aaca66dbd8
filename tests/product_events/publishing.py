"""A process that publishes until it is killed, and prints the id of each event once it is accepted."""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path

from product_events.publisher import Limits, Publisher

BATCH = 7


def main(project: str, dataset: str, spool: str, organisation: str) -> None:
    limits = Limits(batch_events=BATCH, batch_seconds=0.1, first_backoff_seconds=0.05, backoff_seconds=0.2)
    publisher = Publisher(project, dataset, spool_dir=Path(spool), limits=limits)
    for number in count():
        properties = {"insight": "on_call_load", "load_ms": number}
        done = publisher.publish("insight_viewed", 1, properties, organisation_id=organisation)
        print(done.event_id, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
