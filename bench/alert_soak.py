"""Measure how much the ticks of `incident_alerts` add to Dagster's storage with 500 open alerts: `python -m bench.alert_soak [ticks]`.

Each tick is evaluated by the real sensor over a real instance, and its row is written as the daemon does (`dagster/_daemon/sensor.py`):
a row when it starts, which then gets the status, the skip reason and the cursor. The logs of ticks are not counted: they are no rows, and
production keeps them in Cloud Storage (`deploy/dagster.yaml`). The clock is a false one that goes on by five seconds a tick, so that a simulated day does not take a day.

A day is 17,280 ticks. Fewer are run, with one wave in which all 500 fail again, and extrapolated to 24 such waves: the ticks in which
something is delivered and the others are counted apart.
"""

from __future__ import annotations

import os
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import InstigatorTick, TickData, TickStatus

from orchestration.incidents import store
from orchestration.incidents.sensor import incident_alerts
from orchestration.incidents.state import Alert
from orchestration.lineage.failures import FailedUnit, to_metadata
from orchestration.settings import settings
from sandbox.env_file import environment
from tests.chaos.orders import words
from tests.on_call import OnCall, running

ALERTS, STEP_SECONDS, TICKS_A_DAY, WAVES_A_DAY = 500, 5.0, 17_280, 24
SELECTOR = "incident_alerts-selector"
DEFS = dg.Definitions([dg.AssetSpec(["raw", f"t{number}"]) for number in range(ALERTS)], sensors=[incident_alerts])


@dataclass(frozen=True)
class Tick:
    row: int
    """Bytes of its row's body in `job_ticks`."""
    delivered: bool
    took: float


class Soak:
    def __init__(self, instance: dg.DagsterInstance, on_call: OnCall, root: Path) -> None:
        self.instance, self.on_call, self.root = instance, on_call, root
        self.ahead, self.cursor = 0.0, None
        self._real = time.time

    def now(self) -> float:
        return self._real() + self.ahead

    def fail(self) -> None:
        """Every asset fails, reported outside of a run."""
        for number in range(ALERTS):
            unit = FailedUnit(f"unit/t{number}", (f"raw/t{number}",), words(f"t{number}"))
            observation = dg.AssetObservation(["raw", f"t{number}"], metadata=to_metadata([unit]))
            self.instance.report_runless_asset_event(observation)

    def tick(self) -> Tick:
        """Tick once, as the daemon does, and five seconds pass."""
        began, at = time.monotonic(), self.now()
        data = TickData(
            "origin", "incident_alerts", InstigatorType.SENSOR, TickStatus.STARTED, at, selector_id=SELECTOR
        )
        started = self.instance.create_tick(data)
        context = dg.build_sensor_context(self.instance, cursor=self.cursor, definitions=DEFS)
        with context:
            result = incident_alerts.evaluate_tick(context)
        self.cursor = result.cursor
        ended = started.with_status(TickStatus.SKIPPED, end_timestamp=self.now())
        ended = ended.with_reason(result.skip_message or "").with_cursor(self.cursor)
        self.instance.update_tick(ended)
        self.ahead += STEP_SECONDS
        delivered = not (result.skip_message or "").startswith("0 alert events delivered")
        return Tick(self._bytes_of_row(started), delivered, time.monotonic() - began)

    def _bytes_of_row(self, tick: InstigatorTick) -> int:
        [found] = self._query("select length(tick_body) from job_ticks where id = ?", (tick.tick_id,))
        return int(str(found[0]))

    def _query(self, statement: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
        with sqlite3.connect(self.root / "schedules" / "schedules.db") as database:
            return database.execute(statement, tuple(parameters)).fetchall()

    def size_of_state(self) -> dict[str, int]:
        keys = {store.VERSION, *(f"{store.PREFIX}/{name}" for name in store.PARTS)}
        stored = self.instance.daemon_cursor_storage.get_cursor_values(keys)
        return {key.removeprefix(f"{store.PREFIX}/"): len(text) for key, text in stored.items()}


def main() -> None:
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 360
    with (
        tempfile.TemporaryDirectory(prefix="soak-") as root,
        running(Path(root) / "on-call", "incident_io", "slack") as on_call,
        pytest.MonkeyPatch.context() as patch,
        dg.instance_for_test(temp_dir=root) as instance,
    ):
        for name, value in environment(on_call.config).items():
            patch.setenv(name, value)
        settings.cache_clear()
        on_call.lift_limits("incident_io")
        soak = Soak(instance, on_call, Path(root))
        patch.setattr(time, "time", soak.now)
        soak.tick()
        soak.fail()
        while len([one for one in open_alerts(soak) if one.told]) < ALERTS or store.read_part(instance, "waiting"):
            soak.tick()
        print(f"{ALERTS} alerts are open; load average {os.getloadavg()[0]:.1f}", flush=True)
        soak.fail()
        show(soak, [soak.tick() for _ in range(number)])


def open_alerts(soak: Soak) -> list[Alert]:
    found: dict[str, Alert] = store.read_part(soak.instance, "alerts") or {}
    return list(found.values())


def show(soak: Soak, ticks: list[Tick]) -> None:
    active, idle = [tick for tick in ticks if tick.delivered], [tick for tick in ticks if not tick.delivered]
    waves = WAVES_A_DAY * len(active)
    print(f"{len(ticks)} ticks at {STEP_SECONDS:.0f} s, of which {len(active)} delivered the notifications of one wave")
    total = 0.0
    for what, some, a_day in (("delivered", active, waves), ("nothing to deliver", idle, TICKS_A_DAY - waves)):
        if some:
            row = statistics.mean(tick.row for tick in some)
            total += row * a_day
            print(f"  {what:<20} {row:7.0f} bytes a row, {a_day} ticks a day: {row * a_day / 1e6:.1f} MB")
    sizes = soak.size_of_state()
    print(f"job_ticks grows by {total / 1e6:.1f} MB a day (bodies of its rows), extrapolated from {len(ticks)} ticks")
    print(f"state: {sum(sizes.values()) / 1e6:.2f} MB, overwritten in place: {sizes}")
    print(
        f"longest tick {max(tick.took for tick in ticks):.2f} s, median {statistics.median(tick.took for tick in ticks):.2f} s"
    )


if __name__ == "__main__":
    main()
