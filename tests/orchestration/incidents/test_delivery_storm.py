"""Many alerts at once against the rate limit of incident.io: the real sensor and outbox, and the emulator in a process of its own."""

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from orchestration.incidents import store
from orchestration.incidents.sensor import incident_alerts
from orchestration.incidents.state import State
from orchestration.lineage.failures import FailedUnit, to_metadata
from orchestration.lineage.graph import AUDIENCE_TAG
from orchestration.settings import settings
from sandbox.env_file import environment
from sandbox.vendors import rate_limits
from sandbox.vendors.context import VendorContext
from tests.on_call import OnCall, running

STORM, CUSTOMERS = 400, 40
TICK_SECONDS = 5.0
"""The daemon looks that often."""


def letters(number: int) -> str:
    """A number as letters: failures whose words differ in digits only would be one cause."""
    return "".join(chr(ord("a") + int(digit)) for digit in f"{number:03}")


# Customers read the last of them, so that being first is no accident.
TABLES = [f"table_{letters(number)}" for number in range(STORM)]
READ_BY_CUSTOMERS = set(TABLES[-CUSTOMERS:])


@dg.multi_asset(name="tables", can_subset=True, specs=[dg.AssetSpec(["raw", table]) for table in TABLES])
def tables(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any]]:
    failed = [key.path[-1] for key in sorted(context.selected_asset_keys)]
    units = [FailedUnit(f"unit/{table}", (f"raw/{table}",), f"{table} lacks {table[::-1]}") for table in failed]
    yield from ()
    raise dg.Failure(f"{len(units)} failed", to_metadata(units), allow_retries=False)


BOARD = dg.AssetSpec(
    ["explo", "board"], deps=[["raw", table] for table in sorted(READ_BY_CUSTOMERS)], tags={AUDIENCE_TAG: "customer"}
)
DEFS = dg.Definitions([tables, BOARD], sensors=[incident_alerts], executor=dg.in_process_executor)


class Storm:
    def __init__(self, instance: dg.DagsterInstance, on_call: OnCall) -> None:
        self.instance, self.on_call, self.cursor = instance, on_call, None
        self.tick()

    def fail(self, names: list[str]) -> None:
        job = DEFS.resolve_implicit_global_asset_job_def()
        selection = [dg.AssetKey(["raw", name]) for name in names]
        assert not job.execute_in_process(
            instance=self.instance, raise_on_error=False, asset_selection=selection
        ).success

    def tick(self) -> float:
        """Tick once as the daemon does; returns how long it took. A tick that fails raises here."""
        began = time.monotonic()
        context = dg.build_sensor_context(self.instance, cursor=self.cursor, definitions=DEFS)
        self.cursor = incident_alerts.evaluate_tick(context).cursor
        return time.monotonic() - began

    @property
    def state(self) -> State:
        return store.load(self.instance, self.cursor).state

    def deliver(self, seconds: float, every: float) -> float:
        """Tick until nothing waits; returns how long that took."""
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            took = self.tick()
            assert took < 60, "a tick of the daemon may take a minute"
            assert [item.carried for item in self.state.waiting if item.carried] == []
            if not self.state.waiting:
                return time.monotonic() - began
            time.sleep(max(0.0, every - took))
        raise TimeoutError(f"{len(self.state.waiting)} alert events wait after {seconds:.0f} s")

    def delivered(self) -> list[str]:
        """The tables of the alerts, in the order in which incident.io has accepted their events."""
        events = self.on_call.inspect("incident_io", "events")
        return [event["metadata"]["unit"].removeprefix("unit/") for event in events]

    def refused(self) -> int:
        """How many events incident.io has refused."""
        asked = [one for one in self.on_call.inspect("incident_io", "requests") if "alert_events" in str(one)]
        return len(asked) - len(self.delivered())


@pytest.fixture
def storm(tmp_path: Path) -> Iterator[Storm]:
    with (
        running(tmp_path / "on-call", "incident_io", "slack") as process,
        pytest.MonkeyPatch.context() as patch,
        dg.instance_for_test(temp_dir=str(tmp_path)) as instance,
    ):
        for name, value in environment(process.config).items():
            patch.setenv(name, value)
        settings.cache_clear()
        yield Storm(instance, process)
    settings.cache_clear()


def check_delivery(storm: Storm, failed: list[str]) -> None:
    delivered = storm.delivered()
    assert Counter(delivered) == Counter(failed)
    alerts = storm.on_call.inspect("incident_io", "pages")
    assert len({page["alert_id"] for page in alerts}) == len(failed)
    customers = [table for table in failed if table in READ_BY_CUSTOMERS]
    assert set(delivered[: len(customers)]) == set(customers)
    assert storm.on_call.inspect("slack", "messages") == []


@pytest.mark.long
@pytest.mark.timeout(600)
def test_400_alerts_at_once_are_each_delivered_once_within_five_minutes(storm: Storm) -> None:
    storm.fail(TABLES)
    took = storm.deliver(300, TICK_SECONDS)
    check_delivery(storm, TABLES)
    print(f"{STORM} alerts in {took:.0f} s, {storm.refused()} events refused with 429")
    assert storm.refused() == 0


def test_a_source_that_answers_429_delays_alerts_and_nothing_else(
    storm: Storm, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Shorter than the delivery takes: a 429 that counted as an outage would be carried to Slack.
    monkeypatch.setenv("INCIDENT_IO_FALLBACK_MINUTES", "0.15")
    settings.cache_clear()
    store = VendorContext.of(storm.on_call.config).store
    rate_limits.override(store, "incident_io", "alert_events", requests=120, burst=12)
    failed = [*TABLES[:42], *TABLES[-8:]]
    storm.fail(failed)
    took = storm.deliver(60, 0.5)
    check_delivery(storm, failed)
    assert storm.refused() > 3
    assert took > 60 * settings().incident_io_fallback_minutes
