"""Events that appear below ones that were read, and runs of machines whose clocks are wrong: on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
import sqlalchemy as db
from dagster import DagsterEvent, DagsterEventType
from dagster._core.events import AssetObservationData, JobFailureData, RunFailureReason, StepMaterializationData
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.event_log import SqlEventLogStorage, SqlEventLogStorageTable

from orchestration.incidents import event_gaps, event_log, event_signals, signals
from orchestration.incidents.model import Failure
from orchestration.incidents.state import STATE, Alert, State
from orchestration.incidents.triage import triage
from orchestration.lineage.failures import METADATA_KEY, FailedUnit, to_metadata
from orchestration.lineage.graph import Graph
from sandbox.config import SandboxConfig
from sandbox.services import postgres

OTHERS = 6_000


@dg.asset(key=["insights", "time"])
def model() -> None: ...


DEFS = dg.Definitions([model])
KEY = dg.AssetKey(["insights", "time"])
MODEL = FailedUnit("dbt/insights/time", ("insights/time",), "no")


@pytest.fixture
def on_postgres(postgres_alone: SandboxConfig, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    name = f"late{time.monotonic_ns()}"
    with psycopg.connect(postgres.dsn(postgres_alone, "postgres"), autocommit=True) as connection:
        connection.execute(f"create database {name}".encode())
    url = postgres.dsn(postgres_alone, name).replace("postgresql://", "postgresql+psycopg2://")
    overrides = {"storage": {"postgres": {"postgres_url": url}}}
    with dg.instance_for_test(overrides, temp_dir=str(tmp_path)) as instance:
        yield instance


@pytest.fixture(params=["sqlite", "postgres"])
def instance(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    if request.param == "postgres":
        yield request.getfixturevalue("on_postgres")
    else:
        with dg.instance_for_test(temp_dir=str(tmp_path)) as made:
            yield made


class Reader:
    """What the sensor does with Dagster's storage at each tick, at times that the test chooses."""

    def __init__(self, instance: dg.DagsterInstance, now: float) -> None:
        self.instance, self.state, self.now = instance, State(), now
        self.notified: list[tuple[str, str]] = []
        self.tick()
        self.tick()

    def tick(self, seconds: float = 5.0) -> list[tuple[str, str]]:
        """Tick after so many seconds. Returns what has to be notified: `firing` or `resolved`, and the unit."""
        self.now += seconds
        reading = signals.read(self.instance, self.state, self.now, 30)
        self.state, items = triage(
            reading.state, reading.signals, Graph(), self.now, lambda _keys: None, reading.retries
        )
        new = [("firing" if isinstance(item, Failure) else "resolved", item.name) for item in items]
        self.notified += new
        return new

    def restart(self) -> None:
        self.state = STATE.validate_json(STATE.dump_json(self.state))

    def alerts(self) -> dict[str, Alert]:
        return dict(self.state.alerts)


def storage_of(instance: dg.DagsterInstance) -> SqlEventLogStorage:
    assert isinstance(instance.event_log_storage, SqlEventLogStorage)
    return instance.event_log_storage


def report(name: str, at: float, run_id: str = "") -> EventLogEntry:
    """A failure that was noticed outside of any run."""
    return report_failure(FailedUnit(f"vendor/{name}", (f"vendor/{name}",), "no"), at, run_id)


def report_failure(unit: FailedUnit, at: float, run_id: str = "") -> EventLogEntry:
    data = AssetObservationData(
        dg.AssetObservation(dg.AssetKey.from_user_string(unit.asset_keys[0]), metadata=to_metadata([unit]))
    )
    event = DagsterEvent("ASSET_OBSERVATION", "x", event_specific_data=data)
    return EventLogEntry(None, "debug", "", run_id, at, None, "x", event)


def insert(instance: dg.DagsterInstance, entry: EventLogEntry, id_: int, **values: Any) -> None:
    statement = storage_of(instance).prepare_insert_event(entry).values(id=id_, **values)
    with storage_of(instance).index_connection() as connection:
        connection.execute(statement)
        move_sequence(connection)


def move_sequence(connection: db.Connection) -> None:
    """Have PostgreSQL assign ids after those that were inserted with theirs."""
    if connection.dialect.name == "postgresql":
        connection.execute(
            db.text("select setval(pg_get_serial_sequence('event_logs', 'id'), (select max(id) from event_logs))")
        )


def insert_others(instance: dg.DagsterInstance, count: int, first: int | None = None, kind: str = "STEP_START") -> None:
    """Events of other runs, such as are stored by the thousand."""
    other = {"run_id": "other", "event": "{}", "dagster_event_type": kind}
    rows = [other if first is None else {**other, "id": first + number} for number in range(count)]
    with storage_of(instance).index_connection() as connection:
        connection.execute(SqlEventLogStorageTable.insert(), rows)
        move_sequence(connection)


def last_id(instance: dg.DagsterInstance) -> int:
    return instance.event_log_storage.get_maximum_record_id() or 0


def open_transaction(instance: dg.DagsterInstance, entry: EventLogEntry) -> tuple[db.Connection, db.Transaction]:
    """A process that has stored an event and has not committed."""
    url = instance.event_log_storage.postgres_url  # type: ignore[attr-defined]
    connection = db.create_engine(url).connect()
    transaction = connection.begin()
    connection.execute(storage_of(instance).prepare_insert_event(entry))
    return connection, transaction


@pytest.mark.parametrize("seconds", [150, 1_800, 3_500])
def test_an_event_that_is_committed_late_under_thousands_of_others_is_read_once(
    on_postgres: dg.DagsterInstance, seconds: float
) -> None:
    now = time.time()
    reader = Reader(on_postgres, now)
    connection, transaction = open_transaction(on_postgres, report("a", now))
    insert_others(on_postgres, OTHERS)
    assert reader.tick() == []
    reader.restart()
    assert reader.tick(seconds) == []
    transaction.commit()
    connection.close()
    reader.restart()
    assert reader.tick() == [("firing", "vendor/a")]
    reader.restart()
    assert [reader.tick() for _ in range(3)] == [[], [], []]
    assert reader.state.position
    assert reader.state.position.gaps == ()


def test_two_transactions_at_once_and_one_that_is_rolled_back(on_postgres: dg.DagsterInstance) -> None:
    now = time.time()
    reader = Reader(on_postgres, now)
    first, lost, second = (open_transaction(on_postgres, report(name, now)) for name in ("a", "lost", "b"))
    insert_others(on_postgres, OTHERS)
    reader.tick()
    lost[1].rollback()
    second[1].commit()
    assert reader.tick(200) == [("firing", "vendor/b")]
    reader.restart()
    first[1].commit()
    assert reader.tick(200) == [("firing", "vendor/a")]
    assert reader.state.position
    assert len(reader.state.position.gaps) == 1
    reader.tick(event_gaps.GAP_SECONDS)
    assert reader.state.position.gaps == ()
    for connection, _transaction in (first, lost, second):
        connection.close()


def test_what_appears_after_more_than_an_hour_is_found_by_the_sweep(on_postgres: dg.DagsterInstance) -> None:
    now = time.time()
    reader = Reader(on_postgres, now)
    connection, transaction = open_transaction(on_postgres, report("a", now))
    insert_others(on_postgres, OTHERS)
    for _ in range(3):
        reader.tick(event_gaps.GAP_SECONDS)
    transaction.commit()
    connection.close()
    reader.restart()
    reader.tick(event_gaps.SWEEP_SECONDS)
    assert reader.notified == [("firing", "vendor/a")]
    reader.tick(event_gaps.SWEEP_SECONDS)
    assert len(reader.notified) == 1


def test_late_events_are_read_although_one_of_them_cannot_be(instance: dg.DagsterInstance) -> None:
    now, end = time.time(), last_id(instance)
    reader = Reader(instance, now)
    insert_others(instance, OTHERS, first=end + 4)
    assert reader.tick() == []
    insert(instance, report("a", now), end + 1)
    insert(instance, report("b", now), end + 2, event='{"__class__": "Gone"')
    insert(instance, report("c", now), end + 3)
    found = reader.tick(600)
    assert {("firing", "vendor/a"), ("firing", "vendor/c")} <= set(found)
    [unreadable] = [unit for _status, unit in found if unit.startswith("unreadable/")]
    assert f"event {end + 2} (ASSET_OBSERVATION)" in reader.alerts()[unreadable].units[0].error
    assert reader.tick() == []


def test_an_unreadable_event_hides_no_event_after_it(instance: dg.DagsterInstance) -> None:
    now, end = time.time(), last_id(instance)
    reader = Reader(instance, now)
    insert(instance, report("b", now), end + 1, event="no JSON")
    insert(instance, report("c", now), end + 2)
    assert ("firing", "vendor/c") in reader.tick()


def test_a_sweep_judges_nothing_twice_however_long_ago_it_was_judged(instance: dg.DagsterInstance) -> None:
    """A block in which something has appeared is read again as a whole: what was judged in it must be remembered for longer."""
    now = time.time()
    reader = Reader(instance, now)
    insert(instance, report("a", now - 7_200), last_id(instance) + 1)
    reader.tick()
    # A quiet platform: few ids in a day, so that blocks end by their age.
    for _ in range(60):
        end = last_id(instance)
        insert_others(instance, 1, first=end + 2)
        reader.tick(1_800)
        insert(
            instance,
            EventLogEntry(None, "debug", "", "x", now, None, "x", None),
            end + 1,
            dagster_event_type="ASSET_OBSERVATION",
        )
        reader.state = replace(reader.state, alerts={})
        for _ in range(2):
            reader.tick(1)
    assert reader.notified == [("firing", "vendor/a")]
    assert reader.state.position
    assert len(reader.state.position.blocks) <= 26


def test_a_failure_that_appears_after_its_recovery_was_read_is_an_incident_that_is_over(
    instance: dg.DagsterInstance,
) -> None:
    now, end = time.time(), last_id(instance)
    reader = recovered_while_an_id_is_missing(instance, now)
    insert(instance, report_failure(MODEL, now), end + 1)
    assert reader.tick(60) == [("firing", MODEL.unit), ("resolved", MODEL.unit)]
    assert reader.alerts() == {}


def test_a_failure_that_appears_late_does_not_end_the_alert_of_a_newer_one(instance: dg.DagsterInstance) -> None:
    now, end = time.time(), last_id(instance)
    reader = recovered_while_an_id_is_missing(instance, now)
    insert(instance, report_failure(MODEL, now + 100), last_id(instance) + 1)
    assert reader.tick(60) == [("firing", MODEL.unit)]
    insert(instance, report_failure(MODEL, now), end + 1)
    reader.tick(60)
    assert len(reader.alerts()) == 1


def recovered_while_an_id_is_missing(instance: dg.DagsterInstance, now: float) -> Reader:
    """Skip one id, materialize the asset of `MODEL` at `now + 60`, and read everything but the missing event."""
    reader = Reader(instance, now)
    insert_others(instance, 10, first=last_id(instance) + 2)
    reader.tick()
    run = instance.create_run_for_job(DEFS.resolve_implicit_global_asset_job_def())
    store(instance, run, "ASSET_MATERIALIZATION", now + 60, StepMaterializationData(dg.AssetMaterialization(KEY)))
    finish(instance, run, now + 61, failed=False)
    reader.tick(60)
    return reader


def store(instance: dg.DagsterInstance, run: dg.DagsterRun, kind: str, at: float, data: Any = None) -> None:
    """An event of a run, with the time of its machine."""
    event = DagsterEvent(kind, run.job_name, step_key="insights__time", event_specific_data=data)
    instance.handle_new_event(EventLogEntry(None, "debug", "", run.run_id, at, "insights__time", run.job_name, event))


def finish(instance: dg.DagsterInstance, run: dg.DagsterRun, at: float, *, failed: bool) -> None:
    kind = DagsterEventType.RUN_FAILURE if failed else DagsterEventType.RUN_SUCCESS
    data = JobFailureData(None, RunFailureReason.UNKNOWN) if failed else None
    event = DagsterEvent(kind.value, run.job_name, message="The process was killed.", event_specific_data=data)
    instance.handle_new_event(EventLogEntry(None, "debug", "", run.run_id, at, None, run.job_name, event))


def run_of(instance: dg.DagsterInstance, at: float, *, failed: bool) -> str:
    """A run that starts and ends, with the times of its machine."""
    run = instance.create_run_for_job(DEFS.resolve_implicit_global_asset_job_def())
    store(instance, run, DagsterEventType.RUN_START.value, at - 0.3)
    if not failed:
        store(instance, run, "ASSET_MATERIALIZATION", at - 0.1, StepMaterializationData(dg.AssetMaterialization(KEY)))
    finish(instance, run, at, failed=failed)
    return run.run_id


SKEWS = [-130, -600, -7_200, 130, 600, 7_200]


@pytest.mark.parametrize("skew", SKEWS)
def test_a_run_of_a_machine_with_a_wrong_clock_is_read_and_has_failed_after_what_was_made_before(
    instance: dg.DagsterInstance, skew: float
) -> None:
    reader = Reader(instance, time.time() - 310)
    run_of(instance, reader.now + 1, failed=False)
    reader.tick()
    reader.restart()
    reader.tick(300)
    reader.now = time.time() - 5
    reader.tick(0)
    run_of(instance, time.time() + skew, failed=True)
    [(status, _unit)] = reader.tick()
    assert status == "firing"
    for _ in range(3):
        reader.restart()
        assert reader.tick(400) == []
    # A machine with a right clock makes it again.
    run_of(instance, reader.now + 1, failed=False)
    [(status, _unit)] = reader.tick()
    assert (status, reader.alerts()) == ("resolved", {})


@pytest.mark.parametrize("skew", SKEWS)
def test_a_success_of_a_machine_with_a_wrong_clock_resolves_and_does_not_resolve_what_fails_later(
    instance: dg.DagsterInstance, skew: float
) -> None:
    reader = Reader(instance, time.time() - 5)
    run_of(instance, reader.now + 1, failed=True)
    [(status, _unit)] = reader.tick()
    assert status == "firing"
    run_of(instance, time.time() + skew, failed=False)
    reader.tick()
    assert reader.notified[-1][0] == "resolved"
    run_of(instance, reader.now + 1, failed=True)
    reader.tick()
    for _ in range(30):
        reader.restart()
        reader.tick(400)
    assert [status for status, _unit in reader.notified] == ["firing", "resolved", "firing"]


@pytest.mark.parametrize("skew", [-600, -7_200])
def test_a_failure_of_a_clock_behind_is_later_than_a_success_that_is_read_in_the_same_tick(
    instance: dg.DagsterInstance, skew: float
) -> None:
    reader = Reader(instance, time.time() - 10_000)
    run_of(instance, time.time() - 1, failed=False)
    run_of(instance, time.time() + skew, failed=True)
    reader.restart()
    reader.now = time.time()
    [(status, _unit)] = reader.tick(1)
    assert (status, len(reader.alerts())) == ("firing", 1)


def test_a_run_whose_event_was_never_read_is_found_by_the_sweep(instance: dg.DagsterInstance) -> None:
    reader = Reader(instance, time.time())
    run_id = run_of(instance, time.time(), failed=True)
    with storage_of(instance).index_connection() as connection:
        kinds = SqlEventLogStorageTable.c.dagster_event_type.in_(event_signals.RUN_ENDS)
        connection.execute(SqlEventLogStorageTable.delete().where(SqlEventLogStorageTable.c.run_id == run_id, kinds))
    reader.tick(event_gaps.SWEEP_SECONDS)
    reader.tick()
    assert [status for status, _unit in reader.notified] == ["firing"]


def test_a_run_that_is_marked_as_ended_long_after_its_event_is_read_then(instance: dg.DagsterInstance) -> None:
    reader = Reader(instance, time.time())
    run = instance.create_run_for_job(DEFS.resolve_implicit_global_asset_job_def())
    data = JobFailureData(None, RunFailureReason.UNKNOWN)
    event = DagsterEvent("PIPELINE_FAILURE", run.job_name, message="It was killed.", event_specific_data=data)
    entry = EventLogEntry(None, "debug", "", run.run_id, reader.now, None, run.job_name, event)
    instance.event_log_storage.store_event(entry)
    assert reader.tick() == []
    reader.restart()
    assert reader.tick(1_000) == []
    instance.run_storage.handle_run_event(run.run_id, event)
    [(status, _unit)] = reader.tick()
    assert status == "firing"


def test_a_state_of_the_version_before_is_read_on_from_its_oldest_mark(instance: dg.DagsterInstance) -> None:
    now, end = time.time(), last_id(instance)
    insert_others(instance, 5, first=end + 1)
    old = f'{{"position": {{"runs_until": {now}, "event": {end + 5}, "marks": [[{now - 60}, {end + 1}]]}}}}'
    reader = Reader(instance, now)
    reader.state = STATE.validate_json(old)
    insert(instance, report("a", now), end + 6)
    assert reader.tick() == [("firing", "vendor/a")]


class PublicStorage:
    """An event log that is no SQL table for who reads it: it has the public calls only."""

    def __init__(self, storage: SqlEventLogStorage) -> None:
        self.get_logs_for_all_runs_by_log_id = storage.get_logs_for_all_runs_by_log_id


def test_another_storage_is_read_by_the_public_call(instance: dg.DagsterInstance) -> None:
    end = last_id(instance)
    for id_ in (2, 5, 9):
        insert(instance, report(f"v{id_}", 1.0), end + id_)
    public: Any = PublicStorage(storage_of(instance))
    for storage in (instance.event_log_storage, public):
        rows = event_log.read_rows_after(storage, end, 2)
        assert [row.id - end for row in rows] == [2, 5]
        assert [
            row.id - end for row in event_log.read_rows_in(storage, [(end + 1, end + 4), (end + 9, end + 9)], 9)
        ] == [2, 9]
        assert event_log.count_rows(storage, event_signals.KINDS, [(end + 1, end + 5), (end + 6, end + 8)]) == [2, 0]
        [entry] = event_log.read_entries(storage, [end + 5]).values()
        assert isinstance(entry, EventLogEntry)
        assert entry.dagster_event
        assert METADATA_KEY in entry.dagster_event.asset_observation_data.asset_observation.metadata
