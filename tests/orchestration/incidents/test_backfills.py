"""Backfills that broke, in a real instance: the first by the daemon's own iteration, the others as it leaves them in storage."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster._daemon.backfill import execute_backfill_iteration
from dagster._utils.error import SerializableErrorInfo

from orchestration.incidents import signals
from orchestration.incidents.content import title_of
from orchestration.incidents.model import Failure, Recovery
from orchestration.incidents.state import State
from orchestration.incidents.triage import triage
from orchestration.lineage.graph import Graph

DAYS = dg.DailyPartitionsDefinition(start_date=datetime(2026, 11, 1, tzinfo=UTC))
ERROR = SerializableErrorInfo("Asset was renamed", [], "DagsterAssetBackfillDataLoadError")


@dg.asset(partitions_def=DAYS)
def events() -> None: ...


@dg.asset(deps=[events])
def total() -> None: ...


@dg.asset(partitions_def=DAYS)
def renamed() -> None: ...


LOCATION = dg.Definitions([events, total])
"""What a deploy has left."""
BEFORE = dg.Definitions([events, total, renamed])


class Alerts:
    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance, self.state = instance, State()
        self.told()

    def told(self) -> list[Failure | Recovery]:
        now = time.time()
        reading = signals.read(self.instance, self.state, now, queue_minutes=30)
        self.state, told = triage(reading.state, reading.signals, Graph(), now, lambda _failure: None, reading.retries)
        return told

    def asked(self, name: str, *keys: str, days: Sequence[str] = ("2026-11-02", "2026-11-03")) -> PartitionBackfill:
        backfill = PartitionBackfill.from_asset_partitions(
            backfill_id=name,
            asset_graph=BEFORE.resolve_asset_graph(),
            partition_names=days,
            asset_selection=[dg.AssetKey(key) for key in keys],
            backfill_timestamp=time.time(),
            tags={},
            dynamic_partitions_store=self.instance,
            all_partitions=False,
            title=None,
            description=None,
            run_config=None,
        )
        self.instance.add_backfill(backfill)
        return backfill

    def ends(self, backfill: PartitionBackfill, status: BulkActionStatus) -> None:
        ended = backfill.with_status(status).with_error(ERROR).with_end_timestamp(time.time())
        self.instance.update_backfill(ended)

    def make(self, asset: dg.AssetsDefinition, *days: str) -> None:
        for day in days:
            dg.materialize([asset], instance=self.instance, partition_key=day, selection=[asset])


@pytest.fixture
def alerts(tmp_path: Path) -> Iterator[Alerts]:
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        yield Alerts(instance)


def iterate(instance: dg.DagsterInstance) -> None:
    target = LoadableTargetOrigin(python_file=__file__, attribute="LOCATION")
    load = InProcessWorkspaceLoadTarget(InProcessCodeLocationOrigin(target, location_name="here"))
    with create_test_daemon_workspace_context(load, instance) as context:
        list(execute_backfill_iteration(context, logging.getLogger(__name__)))


def test_a_backfill_that_a_deploy_breaks_is_one_alert_until_what_it_was_to_make_is_made(alerts: Alerts) -> None:
    alerts.asked("first", "renamed")
    assert alerts.told() == []
    iterate(alerts.instance)
    [failure] = alerts.told()
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.asset_keys, failure.partitions) == ("run", ("renamed",), ("2026-11-02", "2026-11-03"))
    assert failure.deduplication_key == f"{failure.name}:backfill:first"
    assert title_of(failure) == "Backfill of `renamed` failed"
    assert "existed at storage-time, but no longer does" in failure.units[0].error
    iterate(alerts.instance)
    assert alerts.told() == []
    alerts.make(renamed, "2026-11-02", "2026-11-03")
    [*_updates, recovery] = alerts.told()
    assert isinstance(recovery, Recovery)
    assert recovery.deduplication_key == failure.deduplication_key


def test_the_next_backfill_of_the_same_assets_is_the_same_alert(alerts: Alerts) -> None:
    alerts.ends(alerts.asked("first", "events", "total"), BulkActionStatus.FAILED)
    [first] = alerts.told()
    alerts.ends(alerts.asked("second", "events", "total", days=["2026-11-04"]), BulkActionStatus.FAILED)
    alerts.told()
    [alert] = alerts.state.alerts.values()
    assert (alert.name, alert.count) == (first.name, 2)
    assert set(alert.missing) == {"total", *(f"events@2026-11-0{day}" for day in (2, 3, 4))}


def test_what_was_made_since_it_was_asked_for_is_not_missing(alerts: Alerts) -> None:
    broken, well = alerts.asked("first", "events"), alerts.asked("second", "events", days=["2026-11-03"])
    alerts.make(events, "2026-11-03")
    for backfill in (broken, well):
        alerts.ends(backfill, BulkActionStatus.FAILED)
    [failure] = alerts.told()
    assert isinstance(failure, Failure)
    assert failure.partitions == ("2026-11-02",)


@pytest.mark.parametrize(
    "status",
    [
        BulkActionStatus.CANCELING,
        BulkActionStatus.CANCELED,
        BulkActionStatus.COMPLETED_FAILED,
        BulkActionStatus.COMPLETED_SUCCESS,
        BulkActionStatus.REQUESTED,
    ],
)
def test_one_that_somebody_cancelled_or_that_went_through_is_none(alerts: Alerts, status: BulkActionStatus) -> None:
    alerts.ends(alerts.asked("first", "events"), status)
    assert alerts.told() == []


def test_one_that_broke_before_what_is_read_is_history(alerts: Alerts) -> None:
    backfill = alerts.asked("first", "events").with_status(BulkActionStatus.FAILED)
    alerts.instance.update_backfill(backfill.with_end_timestamp(time.time() - 3600))
    assert alerts.told() == []
