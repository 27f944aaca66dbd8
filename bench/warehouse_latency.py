"""Latency of the laptop warehouse at 10, 100 and 500 tables: `uv run python bench/warehouse_latency.py`.

Starts a warehouse of its own in a temporary directory and prints, for each number of tables, the median of seven SELECT 1 and of
seven CREATE TABLE AS in milliseconds, and the ratio to the first line.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

REPEATS = 7


def milliseconds(call: Callable[[], object]) -> float:
    took = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        call()
        took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took)


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        os.environ |= {"SANDBOX_DIR": directory, "SANDBOX_PORTS": "free"}
        from sandbox.config import SandboxConfig
        from sandbox.stack import stack

        config = SandboxConfig.load()
        supervisor = stack(config, only=("warehouse",))
        supervisor.up(lambda _done: None)
        try:
            measure(config.url("bigquery"), Path(directory) / "google-credentials.json")
        finally:
            supervisor.down(lambda _name: None)


def measure(url: str, credentials: Path) -> None:
    os.environ |= {"BIGQUERY_EMULATOR_HOST": url, "GOOGLE_APPLICATION_CREDENTIALS": str(credentials)}
    from google.cloud import bigquery

    client = bigquery.Client(project="local-dev")
    client.create_dataset("many")
    made = 0
    first: tuple[float, float] | None = None
    print(f"{'tables':>6} {'SELECT 1':>10} {'CTAS':>10}   ratio to the first line")
    for tables in (10, 100, 500):
        while made < tables:
            client.query_and_wait(f"create table many.t{made} as select {made} as id")
            made += 1
        select = milliseconds(lambda: client.query_and_wait("select 1"))
        create = milliseconds(lambda: client.query_and_wait("create or replace table many.t0 as select 1 as id"))
        first = first or (select, create)
        print(
            f"{tables:>6} {select:>7.0f} ms {create:>7.0f} ms   {select / first[0]:.2f} {create / first[1]:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
