"""Measure how fast `incident_alerts` notifies people when hundreds or thousands of assets fail at once.

Run `python -m bench.alert_storm` (20 minutes); `--quick` does not wait until incident.io has accepted the last notification. incident.io accepts
120 events a minute, which its emulator enforces: 1,000 alerts take more than eight minutes, however fast the sensor is. So there are
two numbers for the last notification: when the sensor had queued it, which is our own work, and when incident.io had accepted it.

The program starts a platform of its own (PostgreSQL, Dagster's daemon and code server, the emulator) in a temporary directory. A
stock `run_failure_sensor` in the same code location sees the same runs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.storm_names import ONE_CAUSE, OWN_CAUSES, TABLES, THOUSAND_CAUSES
from orchestration.incidents import store
from orchestration.incidents.state import Alert as OpenAlert
from tests.chaos.platform import Alert, Platform, running, wait_for

IDLE_SECONDS, LOOK_SECONDS, LONGEST_SECONDS = 40.0, 1.0, 1_200.0
OURS, STOCK = "incident_alerts", "plain_failure_sensor"


@dataclass
class Storm:
    """The times of one storm, in seconds after the end of its run. None where the program did not wait for the event."""

    longest_tick: float = 0.0
    first_customer: float | None = None
    last_customer: float | None = None
    last_queued: float | None = None
    last_accepted: float | None = None
    stock_tick: float | None = None
    stock_seen: float | None = None


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="do not wait for the last notification of 1,000")
    quick = arguments.parse_args().quick
    warnings.simplefilter("ignore")
    directory = tempfile.TemporaryDirectory(prefix="storm-")
    with directory as root, running(Path(root), "bench.storm_location") as platform:
        began = time.time()
        time.sleep(IDLE_SECONDS)
        print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        print(f"a tick with nothing to do (median): {statistics.median(ticks_of(platform, OURS, began)):.2f} s")
        for what, order, keys, alerts in (
            ("500 units of one cause", ONE_CAUSE, TABLES[:500], 1),
            ("50 units of 50 causes", OWN_CAUSES, TABLES[:50], 50),
            ("2,000 units of 1,000 causes", THOUSAND_CAUSES, TABLES, 1_000),
        ):
            last = order == THOUSAND_CAUSES
            show(
                what, measure(platform, order, keys, alerts, quick=quick and last, recover=not last), alerts, len(keys)
            )


def measure(platform: Platform, order: str, keys: Sequence[str], alerts: int, *, quick: bool, recover: bool) -> Storm:
    """Let assets fail, and watch until each of the `alerts` is notified. With `recover`, wait then until all are resolved."""
    before, began = {alert.key for alert in platform.alerts()}, time.time()
    platform.orders.give(order)
    run = platform.run(keys, seconds=600)
    ended, storm = time.time(), Storm()
    while time.time() - ended < LONGEST_SECONDS:
        look(platform, storm, before, ended, alerts)
        if storm.last_accepted is not None or (quick and storm.last_queued is not None and storm.last_customer):
            break
        time.sleep(LOOK_SECONDS)
    # The tick that delivered the last of them has ended, too.
    time.sleep(10)
    storm.longest_tick = max(ticks_of(platform, OURS, began))
    for tick in platform.ticks(STOCK, began):
        if run.run_id in (tick.tick_data.origin_run_ids or ()) and tick.end_timestamp:
            storm.stock_seen, storm.stock_tick = tick.end_timestamp - ended, tick.end_timestamp - tick.timestamp
    platform.orders.withdraw(order)
    if recover:
        platform.run(keys, seconds=600)
        wait_for(lambda: not any(alert.open for alert in platform.alerts()), LONGEST_SECONDS, "all are resolved")
    return storm


def look(platform: Platform, storm: Storm, before: set[str], ended: float, alerts: int) -> None:
    now = time.time() - ended
    found = [alert for alert in platform.alerts() if alert.key not in before]
    facing = [alert for alert in found if is_customer_facing(alert)]
    open_alerts: dict[str, OpenAlert] = store.read_part(platform.instance, "alerts") or {}
    notified = [alert for alert in open_alerts.values() if alert.told]
    if storm.first_customer is None and any(alert.pages for alert in facing):
        storm.first_customer = now
    if storm.last_queued is None and len(notified) >= alerts:
        storm.last_queued = now
    expected = sum(alert.customer_facing for alert in notified)
    if storm.last_customer is None and storm.last_queued is not None and len(facing) >= expected:
        storm.last_customer = now
    if storm.last_accepted is None and len(found) >= alerts:
        storm.last_accepted = now


def is_customer_facing(alert: Alert) -> bool:
    return bool(alert.first.get("customer_facing"))


def ticks_of(platform: Platform, sensor: str, after: float) -> list[float]:
    """Return how long the ticks of a sensor took, in seconds."""
    return [tick.end_timestamp - tick.timestamp for tick in platform.ticks(sensor, after) if tick.end_timestamp]


def show(what: str, storm: Storm, alerts: int, units: int) -> None:
    stock = storm.stock_seen
    print(f"\n{what} (load average {os.getloadavg()[0]:.1f})")
    print(f"  longest tick                                   {in_seconds(storm.longest_tick)}")
    print(
        f"  first page of a customer-facing alert          {in_seconds(storm.first_customer)}{ratio(storm.first_customer, stock)}"
    )
    print(
        f"  last customer-facing alert at incident.io      {in_seconds(storm.last_customer)}{ratio(storm.last_customer, stock)}"
    )
    print(
        f"  last alert queued (our own work)               {in_seconds(storm.last_queued)}{ratio(storm.last_queued, stock)}"
    )
    print(
        f"  last alert accepted by incident.io             {in_seconds(storm.last_accepted)}{ratio(storm.last_accepted, stock)}"
    )
    print(
        f"  stock run_failure_sensor: its one message      {in_seconds(stock)}   1.00, its tick {in_seconds(storm.stock_tick).strip()}"
    )
    print(
        f"    it says that a run failed: of {alerts} alerts about {units} units it sends none, and it resolves nothing",
        flush=True,
    )


def in_seconds(value: float | None) -> str:
    return "not waited for" if value is None else f"{value:8.1f} s"


def ratio(value: float | None, stock: float | None) -> str:
    return f"   {value / stock:.2f} of stock" if value is not None and stock else ""


if __name__ == "__main__":
    main()
