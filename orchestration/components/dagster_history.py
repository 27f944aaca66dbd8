"""What Dagster's own storage knows, as rows of BigQuery tables: runs, what happened to assets, and results of checks.

Everything is read oldest first and from where the warehouse ends, some of it again: an export that is killed goes on where it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
from dagster import DagsterEventType, DagsterRunStatus, RunRecord, RunsFilter
from dagster._core.storage import tags as dagster_tags
from dagster._core.storage.runs import SqlRunStorage

from orchestration.core.redaction import redact_line
from orchestration.lineage.runs import failures as failures_of
from orchestration.lineage.runs import read

BATCH = 1_000
LONGEST_ERROR = 300
"""Characters of an error that are exported. The page of the run has more."""
FAILED_RUNS = 100
"""A batch of these is smaller: the events of each run are read too."""
OVERLAP = timedelta(hours=2)
"""Runs that were updated this long before the newest one in the warehouse are read again: a transaction may have committed late."""
OVERLAP_IDS = 5_000
"""The same for events: on PostgreSQL, ids are given before the commit."""

ROW_COUNT, ROWS_MOVED = ("dagster/row_count",), ("rows_moved", "rows_synced")
DURATION = ("duration_seconds", "Execution Duration")
FAILED_ROWS = ("failed_rows", "dagster_dbt/failed_row_count")


@dataclass(frozen=True)
class Run:
    run_id: str
    root_run_id: str
    parent_run_id: str | None
    attempt: int
    job: str
    status: str
    launched_by: str
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    updated_at: datetime


@dataclass(frozen=True)
class AssetEvent:
    event_id: str
    run_id: str
    step_key: str | None
    kind: str
    unit: str | None
    asset_key: str | None
    partition_key: str | None
    occurred_at: datetime
    row_count: int | None = None
    rows_moved: int | None = None
    duration_seconds: float | None = None
    bytes_billed: int | None = None
    slot_ms: int | None = None
    error: str | None = None


@dataclass(frozen=True)
class CheckResult:
    event_id: str
    run_id: str
    asset_key: str
    check_name: str
    severity: str
    passed: bool
    failed_rows: int | None
    occurred_at: datetime


def runs(instance: dg.DagsterInstance, since: datetime | None) -> Iterator[list[Run]]:
    """Runs in the order of their last change, from a while before `since`; all of them for None."""
    for records in _changed(instance, list(DagsterRunStatus), since, BATCH):
        yield [_run(record) for record in records]


def failures(instance: dg.DagsterInstance, since: datetime | None) -> Iterator[list[AssetEvent]]:
    """A row for each unit and asset that a failed run did not make, from a while before `since`.

    Runs that somebody cancelled are left out.
    """
    for records in _changed(instance, [DagsterRunStatus.FAILURE], since, FAILED_RUNS):
        yield [row for record in records for row in _failures(instance, record)]


def asset_events(
    instance: dg.DagsterInstance, kind: DagsterEventType, storage: str, after: int | None
) -> Iterator[list[AssetEvent]]:
    """Materializations or observations by their id in the event log, from a while before `after`."""
    for entries in _logged(instance, kind, after):
        yield [_asset_event(storage, number, entry) for number, entry in entries.items()]


def check_results(instance: dg.DagsterInstance, storage: str, after: int | None) -> Iterator[list[CheckResult]]:
    """Results of asset checks by their id in the event log, from a while before `after`."""
    for entries in _logged(instance, DagsterEventType.ASSET_CHECK_EVALUATION, after):
        yield [_check_result(storage, number, entry) for number, entry in entries.items()]


def storage_name(instance: dg.DagsterInstance) -> str:
    """What tells the ids of this event log from those of another, such as the one before a move to PostgreSQL."""
    storage = instance.run_storage
    if not isinstance(storage, SqlRunStorage):
        raise TypeError(f"{type(storage).__name__} has no id: only SQLite and PostgreSQL storage can be exported")
    return storage.get_run_storage_id()[:8]


def _changed(
    instance: dg.DagsterInstance, statuses: Sequence[DagsterRunStatus], since: datetime | None, size: int
) -> Iterator[list[RunRecord]]:
    after = since - OVERLAP if since else None
    at_the_edge: set[str] = set()
    while True:
        limit = size + len(at_the_edge)
        # All statuses are named, too: Dagster's index on the time of the change begins with the status.
        filters = RunsFilter(statuses=statuses, updated_after=after)
        records = instance.get_run_records(filters, limit=limit, order_by="update_timestamp", ascending=True)
        if new := [record for record in records if record.dagster_run.run_id not in at_the_edge]:
            yield new
        if len(records) < limit:
            return
        # Several runs may have changed at the same moment, and a batch may end between them.
        edge = records[-1].update_timestamp
        after = edge - timedelta(microseconds=1)
        at_the_edge = {record.dagster_run.run_id for record in records if record.update_timestamp == edge}


def _logged(
    instance: dg.DagsterInstance, kind: DagsterEventType, after: int | None
) -> Iterator[Mapping[int, dg.EventLogEntry]]:
    cursor = -1 if after is None else max(-1, after - OVERLAP_IDS)
    while entries := instance.event_log_storage.get_logs_for_all_runs_by_log_id(
        after_cursor=cursor, dagster_event_type=kind, limit=BATCH
    ):
        yield entries
        cursor = max(entries)


def _run(record: RunRecord) -> Run:
    run = record.dagster_run
    return Run(
        run_id=run.run_id,
        root_run_id=run.root_run_id or run.run_id,
        parent_run_id=run.parent_run_id,
        attempt=int(run.tags.get(dagster_tags.RETRY_NUMBER_TAG, 0)) + 1,
        job=run.job_name,
        status=run.status.value,
        launched_by=launched_by(run.tags),
        created_at=record.create_timestamp,
        started_at=_moment(record.start_time) if record.start_time else None,
        ended_at=_moment(record.end_time) if record.end_time else None,
        updated_at=record.update_timestamp,
    )


def launched_by(tags: Mapping[str, str]) -> str:
    """Who started a run, by its tags: backfill, schedule, automation (of an asset's condition), sensor, or person."""
    if dagster_tags.BACKFILL_ID_TAG in tags:
        return "backfill"
    if dagster_tags.SCHEDULE_NAME_TAG in tags:
        return "schedule"
    if tags.keys() & {dagster_tags.AUTOMATION_CONDITION_TAG, dagster_tags.AUTO_MATERIALIZE_TAG}:
        return "automation"
    return "sensor" if dagster_tags.SENSOR_NAME_TAG in tags else "person"


def _asset_event(storage: str, number: int, entry: dg.EventLogEntry) -> AssetEvent:
    event = entry.get_dagster_event()
    if event.is_step_materialization:
        kind, made = "materialized", event.step_materialization_data.materialization
    else:
        kind, made = "observed", event.asset_observation_data.asset_observation
    metadata = made.metadata
    return AssetEvent(
        event_id=f"{storage}-{number}",
        run_id=entry.run_id,
        step_key=entry.step_key,
        kind=kind,
        unit=None,
        asset_key=made.asset_key.to_user_string(),
        partition_key=made.partition,
        occurred_at=_moment(entry.timestamp),
        row_count=_whole(metadata, ROW_COUNT),
        rows_moved=_whole(metadata, ROWS_MOVED),
        duration_seconds=_number(metadata, DURATION),
        bytes_billed=_whole(metadata, ("bytes_billed",)),
        slot_ms=_whole(metadata, ("slot_ms",)),
    )


def _check_result(storage: str, number: int, entry: dg.EventLogEntry) -> CheckResult:
    result = entry.get_dagster_event().asset_check_evaluation_data
    return CheckResult(
        event_id=f"{storage}-{number}",
        run_id=entry.run_id,
        asset_key=result.asset_key.to_user_string(),
        check_name=result.check_name,
        severity=result.severity.value,
        passed=result.passed,
        failed_rows=_whole(result.metadata, FAILED_ROWS),
        occurred_at=_moment(entry.timestamp),
    )


def _failures(instance: dg.DagsterInstance, record: RunRecord) -> Iterator[AssetEvent]:
    run = record.dagster_run
    events = read(instance, run.run_id, record.end_time or record.update_timestamp.timestamp())
    for failed in failures_of(events):
        unit = failed.unit
        for key in unit.asset_keys or (None,):
            yield AssetEvent(
                event_id=f"{run.run_id}/{unit.unit}/{key or ''}",
                run_id=run.run_id,
                step_key=failed.step,
                kind="failed",
                unit=unit.unit,
                asset_key=key,
                partition_key=run.tags.get(dagster_tags.PARTITION_NAME_TAG),
                occurred_at=_moment(failed.at),
                error=_shortened(redact_line(unit.error, unit.names)),
            )


def _shortened(error: str) -> str:
    return error if len(error) <= LONGEST_ERROR else f"{error[:LONGEST_ERROR]}…"


def _number(metadata: Mapping[str, dg.MetadataValue[Any]], names: Sequence[str]) -> float | None:
    values = (metadata[name].value for name in names if name in metadata)
    return next((float(value) for value in values if isinstance(value, int | float)), None)


def _whole(metadata: Mapping[str, dg.MetadataValue[Any]], names: Sequence[str]) -> int | None:
    number = _number(metadata, names)
    return None if number is None else int(number)


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
