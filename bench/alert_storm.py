"""How long a tick of `incident_alerts` takes when 500 assets fail at once: `uv run python -m bench.alert_storm`.

Starts a platform of its own in a temporary directory. Prints the ticks in seconds, and their ratio to a tick that finds nothing to do
and to a plain `run_failure_sensor` that only hears of the same run.
"""

from __future__ import annotations

import statistics
import tempfile
import time
import warnings
from pathlib import Path

from tests.chaos.names import APART, TABLES, TOGETHER
from tests.chaos.platform import Platform, running, wait_for

IDLE_SECONDS = 40.0
CAUSES = 50


def main() -> None:
    warnings.simplefilter("ignore")
    directory = tempfile.TemporaryDirectory(prefix="storm-")
    with directory as root, running(Path(root), "tests.chaos.storm_location") as platform:
        measure(platform)


def measure(platform: Platform) -> None:
    began = time.time()
    time.sleep(IDLE_SECONDS)
    idle = statistics.median(seconds(platform, "incident_alerts", began))
    print(f"{'':<34} {'seconds':>8}   ratio to a tick with nothing to do")
    print(f"{'nothing to do (median)':<34} {idle:>8.2f}   1.00", flush=True)
    for what, order, keys, incidents in (
        (f"{len(TABLES)} assets, one cause", TOGETHER, TABLES, 1),
        (f"{CAUSES} assets, {CAUSES} causes", APART, TABLES[:CAUSES], CAUSES),
    ):
        before, began = len(platform.incidents()), time.time()
        platform.orders.give(order)
        platform.run(keys)
        ended = time.monotonic()
        wait_for(lambda: len(platform.incidents()) >= before + incidents, 300, "the incidents are there")  # noqa: B023
        took = time.monotonic() - ended
        # The tick that delivered them has ended, too.
        time.sleep(10)
        show(f"{what}: longest tick", max(seconds(platform, "incident_alerts", began)), idle)
        show("  plain run_failure_sensor", max(seconds(platform, "plain_failure_sensor", began)), idle)
        print(f"  {len(platform.incidents()) - before} incidents within {took:.1f} s of the run's end", flush=True)
        platform.orders.withdraw(order)
        platform.run(keys)
        wait_for(lambda: not any(alert.open for alert in platform.alerts()), 300, "all is well again")


def show(what: str, took: float, idle: float) -> None:
    print(f"{what:<34} {took:>8.2f}   {took / idle:.2f}", flush=True)


def seconds(platform: Platform, sensor: str, after: float) -> list[float]:
    return [tick.end_timestamp - tick.timestamp for tick in platform.ticks(sensor, after) if tick.end_timestamp]


if __name__ == "__main__":
    main()
