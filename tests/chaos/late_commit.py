"""A transaction of PostgreSQL that takes its time: the event has an early id, and others read it after many later ones."""

from __future__ import annotations

import logging
import time
from typing import Any

import dagster as dg
from dagster import DagsterEventType
from dagster._core.events import AssetObservationData
from dagster._core.instance import RUNLESS_JOB_NAME, RUNLESS_RUN_ID
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from sqlalchemy import text

FILLER = dg.AssetKey(["chaos", "filler"])
COPY = text(
    "insert into event_logs (run_id, event, dagster_event_type, timestamp, step_key, asset_key, partition)"
    " select run_id, event, dagster_event_type, timestamp, step_key, asset_key, partition"
    " from event_logs, generate_series(1, :times) where id = :id"
)


def report(instance: dg.DagsterInstance, observation: dg.AssetObservation, seconds: float, fillers: int = 0) -> float:
    """Store an observation that no run made, and commit it only after `seconds`, under `fillers` other events.

    As `PostgresEventLogStorage.store_event` (dagster-postgres 0.29) does, which commits at once.

    Returns:
        The time of the event, in seconds since the epoch.
    """
    storage: Any = instance.event_log_storage
    entry = _entry(observation)
    with (
        storage._engine.connect().execution_options(isolation_level="READ COMMITTED") as connection,
        connection.begin(),
    ):
        insert = storage.prepare_insert_event(entry).returning(SqlEventLogStorageTable.c.id)
        event_id = int(connection.execute(insert).scalar_one())
        began = time.monotonic()
        if fillers:
            _write_others(instance, fillers)
        time.sleep(max(0.0, began + seconds - time.monotonic()))
    storage.store_asset_event(entry, event_id)
    return entry.timestamp


def _entry(observation: dg.AssetObservation) -> dg.EventLogEntry:
    event = dg.DagsterEvent(
        event_type_value=DagsterEventType.ASSET_OBSERVATION.value,
        event_specific_data=AssetObservationData(observation),
        job_name=RUNLESS_JOB_NAME,
    )
    return dg.EventLogEntry(
        error_info=None,
        level=logging.INFO,
        user_message="",
        run_id=RUNLESS_RUN_ID,
        timestamp=time.time(),
        dagster_event=event,
        job_name=RUNLESS_JOB_NAME,
    )


def _write_others(instance: dg.DagsterInstance, number: int) -> None:
    instance.report_runless_asset_event(dg.AssetObservation(FILLER))
    [record] = instance.fetch_observations(FILLER, limit=1).records
    storage: Any = instance.event_log_storage
    with storage._engine.connect() as connection:
        connection.execute(COPY, {"times": number, "id": record.storage_id})
