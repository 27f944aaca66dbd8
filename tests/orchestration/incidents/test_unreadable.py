"""Records in Dagster's storage that cannot be read: each is an alert of its own, once, and the others are read."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestration.incidents import signals
from orchestration.incidents.model import Failure, Recovery
from orchestration.incidents.store import load, save
from orchestration.incidents.triage import triage
from orchestration.incidents.unreadable import NOTICE_SECONDS
from orchestration.lineage.failures import METADATA_KEY, FailedUnit, to_metadata
from orchestration.lineage.graph import Graph
from tests.orchestration.lineage.test_failures import json_values

GOOD = to_metadata([FailedUnit("fivetran/product", ("product_public/incidents",), "Reconnect it.", permanent=True)])


class Alerts:
    """The alerts over an instance, whose state is stored in it between ticks."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance, self._cursor = instance, ""
        self.tick(time.time())

    def tick(self, now: float) -> list[Failure | Recovery]:
        stored = load(self.instance, self._cursor)
        assert stored.problems == ()
        reading = signals.read(self.instance, stored.state, now, queue_minutes=30)
        after, told = triage(reading.state, reading.signals, Graph(), now, lambda _keys: None, reading.retries)
        self._cursor, lost = save(self.instance, stored, after)
        assert lost == ()
        return told

    def observe(self, report: object, asset: str = "salesforce/account") -> None:
        # Values that are no JSON object or list are stored as they are.
        metadata = {METADATA_KEY: dg.MetadataValue.json(report) if isinstance(report, list | dict) else report}
        key = dg.AssetKey.from_user_string(asset)
        self.instance.report_runless_asset_event(dg.AssetObservation(key, metadata=metadata))


@pytest.fixture
def alerts(tmp_path: Path) -> Iterator[Alerts]:
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        yield Alerts(instance)


@pytest.mark.parametrize("report", [["a", "b"], 7, [{"unit": 7, "asset_keys": [], "error": "e"}], [{"unit": "u"}]])
def test_an_unreadable_report_is_one_alert_and_the_others_are_read(alerts: Alerts, report: object) -> None:
    alerts.observe(report)
    alerts.observe(GOOD[METADATA_KEY])
    failures = {failure.name: failure for failure in alerts.tick(time.time()) if isinstance(failure, Failure)}
    good = failures.pop("fivetran/product")
    assert good.asset_keys == ("product_public/incidents",)
    [unreadable] = failures.values()
    assert unreadable.asset_keys == ("salesforce/account",)
    assert "of `salesforce/account`" in unreadable.units[0].error
    assert "failure report cannot be read" in unreadable.units[0].error
    assert alerts.tick(time.time()) == []
    [recovery] = alerts.tick(time.time() + NOTICE_SECONDS + 60)
    assert recovery.deduplication_key == unreadable.deduplication_key


@pytest.mark.parametrize(
    "report", [["a", "b"], {"a": "b"}, [{"unit": "u", "asset_keys": [], "error": "e", "vendor_url": 7}]]
)
def test_a_step_with_an_unreadable_report_has_failed_by_itself(alerts: Alerts, report: object) -> None:
    @dg.asset
    def broken() -> None:
        raise dg.Failure("no", metadata={METADATA_KEY: dg.MetadataValue.json(report)})

    @dg.asset
    def other() -> None:
        raise ValueError("also")

    for asset in (broken, other):
        dg.materialize([asset], instance=alerts.instance, raise_on_error=False)
    failures = {failure.name: failure for failure in alerts.tick(time.time()) if isinstance(failure, Failure)}
    assert {name: failure.asset_keys for name, failure in failures.items()} == {
        "step/broken": ("broken",),
        "step/other": ("other",),
    }
    assert "its failure report cannot be read" in failures["step/broken"].units[0].error
    assert alerts.tick(time.time()) == []


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(json_values, min_size=1, max_size=3), st.dictionaries(st.text(max_size=5), json_values, max_size=2))
def test_whatever_json_is_written_the_next_failure_is_alerted_on(
    alerts: Alerts, reports: list[object], more: dict[str, Any]
) -> None:
    for report in (*reports, [more], {**more, "unit": "u", "asset_keys": more, "error": ""}):
        alerts.observe(report)
    # Its words are its own: failures with the same words are one alert.
    words = str(time.time_ns()).translate(str.maketrans("0123456789", "abcdefghij"))
    name = f"fivetran/{words[::-1]}"
    alerts.observe(to_metadata([FailedUnit(name, ("a/b",), f"{words} is the reason", permanent=True)])[METADATA_KEY])
    assert name in {failure.name for failure in alerts.tick(time.time())}
