import json
from collections.abc import Iterator
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import httpx
import pytest
import stamina
import yaml
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run
from google.cloud import bigquery

from orchestration.components import dagster_history
from orchestration.components.dagster_history import launched_by
from orchestration.components.platform_history import TABLES, PlatformHistory
from orchestration.lineage.failures import FailedUnit, from_metadata, to_metadata
from orchestration.settings import DBT_PROJECT, Settings, settings
from orchestration.vendors.bigquery_tables import TYPES
from orchestration.vendors.incident_io import AlertEvent, AlertSource
from sandbox.config import PROJECT, SandboxConfig
from sandbox.vendors.context import VendorContext
from tests.on_call import OnCall, running
from tests.stand_ins import wait_for

BROKEN: set[str] = set()
"""What fails in the next run: `sync`, `model`, or `check`."""
ERROR = "Cannot read row 'ada@example.com' of postgres://fivetran:hunter2@db/product"


@dg.multi_asset(
    name="fivetran", specs=[dg.AssetSpec(["product_public", "users"]), dg.AssetSpec(["salesforce", "account"])]
)
def land(context: dg.AssetExecutionContext) -> Iterator[Any]:
    context.log_event(dg.AssetMaterialization(["product_events", "pages"], partition="2026-03-01"))
    yield dg.MaterializeResult(
        asset_key=["salesforce", "account"],
        metadata={"rows_moved": 3, "dagster/row_count": 30, "duration_seconds": 1.5},
    )
    if "sync" in BROKEN:
        raise dg.Failure("failed", to_metadata([FailedUnit("fivetran/product", ("product_public/users",), ERROR)]))
    yield dg.MaterializeResult(asset_key=["product_public", "users"])


@dg.asset(key=["insights", "time"], deps=[["product_public", "users"]])
def model(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
    if "model" in BROKEN:
        try:
            int("?")
        except ValueError as error:
            raise RuntimeError("could not build") from error
    context.log_event(dg.AssetObservation(["product_public", "users"], metadata={"dagster/row_count": 7}))
    return dg.MaterializeResult(
        metadata={"bytes_billed": 10_485_760, "slot_ms": 321, "Execution Duration": 2.5, "dagster/row_count": 12}
    )


@dg.asset_check(asset=["insights", "time"], name="not_null_time")
def check() -> dg.AssetCheckResult:
    failed = "check" in BROKEN
    return dg.AssetCheckResult(
        passed=not failed, severity=dg.AssetCheckSeverity.WARN, metadata={"dagster_dbt/failed_row_count": int(failed)}
    )


COMPANY = dg.Definitions([land, model], asset_checks=[check], executor=dg.in_process_executor)


class Platform:
    """An instance with runs, and what is exported of it."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.exports: list[str] = []

    def run(self, *broken: str, retry_of: str | None = None, **tags: str) -> str:
        BROKEN.clear()
        BROKEN.update(broken)
        job = COMPANY.resolve_implicit_global_asset_job_def()
        run = self.instance.create_run_for_job(job, tags=tags, parent_run_id=retry_of, root_run_id=retry_of)
        execute_run(InMemoryJob(job), run, self.instance)
        return run.run_id

    def export(self, *keys: str, **attributes: Any) -> tuple[dict[str, dict[str, Any]], list[FailedUnit]]:
        """The metadata of what was exported, and the units that failed."""
        assets = list(PlatformHistory(**attributes).definitions().assets or [])
        selection = [dg.AssetKey.from_user_string(key) for key in keys] or None
        result = dg.materialize(assets, instance=self.instance, selection=selection, raise_on_error=False)
        self.exports.append(result.run_id)
        made: dict[str, dict[str, Any]] = {}
        failed: list[FailedUnit] = []
        for event in result.all_events:
            if event.is_step_materialization:
                metadata = {name: value.value for name, value in event.materialization.metadata.items()}
                made[event.materialization.asset_key.to_user_string()] = metadata
            elif event.is_step_failure and event.step_failure_data.user_failure_data:
                report = event.step_failure_data.user_failure_data.metadata
                failed = from_metadata({name: value.value for name, value in report.items()}) or []
        return made, failed

    def rows(self, table: str) -> list[dict[str, Any]]:
        """The rows that are not about the exports themselves."""
        found = bigquery.Client(project=PROJECT).query(f"select * from {table}").result()
        rows = [dict(row.items()) for row in found if row.get("run_id") not in self.exports]
        return sorted(rows, key=lambda row: json.dumps(row, default=str))


@pytest.fixture(scope="module")
def on_call(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnCall]:
    with running(tmp_path_factory.mktemp("on-call"), "incident_io") as process:
        yield process


@pytest.fixture
def platform(
    company: SandboxConfig, configured: None, on_call: OnCall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Platform]:
    monkeypatch.setenv("INCIDENT_IO_API_URL", on_call.config.url("incident_io"))
    settings.cache_clear()
    client = bigquery.Client(project=PROJECT)
    for dataset in ("dataplatform", "incident_io"):
        client.delete_dataset(dataset, delete_contents=True, not_found_ok=True)
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        yield Platform(instance)
    VendorContext.of(on_call.config).faults.remove()


def alert(on_call: OnCall, key: str, status: str = "firing", **metadata: Any) -> None:
    source = AlertSource(on_call.config.url("incident_io"), "01LOCALALERTSOURCE00000000", "local-alert-source-token")
    source.send(AlertEvent(key, "firing" if status == "firing" else "resolved", key, "text", "https://x", metadata))


def acknowledge(on_call: OnCall, incident: str) -> None:
    headers = {"Authorization": "Bearer local-incident_io-key"}
    with httpx.Client(base_url=on_call.config.url("incident_io"), headers=headers, timeout=20) as api:
        found = api.get("/v2/escalations", params={"incident[one_of]": incident}).raise_for_status().json()
        for escalation in found["escalations"]:
            path = f"/v2/escalations/{escalation['id']}/actions/respond"
            api.post(path, json={"response": "ack"}).raise_for_status()


def only(rows: list[dict[str, Any]], **values: Any) -> list[dict[str, Any]]:
    return [row for row in rows if all(row[name] == value for name, value in values.items())]


def test_runs_events_and_checks_are_exported_and_again_without_a_change(platform: Platform) -> None:
    good = platform.run(**{"dagster/schedule_name": "hourly"})
    failed = platform.run("sync", "check")
    retried = platform.run(retry_of=failed, **{"dagster/retry_number": "1"})
    platform.run("model", "check")
    made, problems = platform.export()
    assert not problems
    assert set(made) == {table.path.replace(".", "/") for table in TABLES}

    runs = {row["run_id"]: row for row in platform.rows("dataplatform.runs")}
    assert (runs[good]["status"], runs[good]["launched_by"], runs[good]["attempt"]) == ("SUCCESS", "schedule", 1)
    assert (runs[failed]["status"], runs[failed]["root_run_id"]) == ("FAILURE", failed)
    second = runs[retried]
    assert (second["attempt"], second["root_run_id"], second["parent_run_id"]) == (2, failed, failed)
    assert second["created_at"] <= second["started_at"] <= second["ended_at"] <= second["updated_at"]

    events = platform.rows("dataplatform.asset_events")
    [time] = only(events, kind="materialized", asset_key="insights/time", run_id=good)
    assert (time["bytes_billed"], time["slot_ms"], time["duration_seconds"], time["row_count"]) == (
        10485760,
        321,
        2.5,
        12,
    )
    [account] = only(events, kind="materialized", asset_key="salesforce/account", run_id=retried)
    assert (account["rows_moved"], account["row_count"], account["partition_key"]) == (3, 30, None)
    assert only(events, run_id=good, asset_key="product_events/pages")[0]["partition_key"] == "2026-03-01"
    [seen] = only(events, kind="observed", run_id=good)
    assert (seen["asset_key"], seen["row_count"]) == ("product_public/users", 7)
    units = {row["unit"]: (row["asset_key"], row["error"]) for row in only(events, kind="failed")}
    assert units["fivetran/product"] == (
        "product_public/users",
        "Cannot read row '«value»' of postgres://«secret»@db/product",
    )
    assert units["step/insights__time"][0] == "insights/time"
    assert "ValueError" in units["step/insights__time"][1]

    checks = platform.rows("dataplatform.check_results")
    assert {(row["asset_key"], row["check_name"], row["severity"]) for row in checks} == {
        ("insights/time", "not_null_time", "WARN")
    }
    assert sorted((row["passed"], row["failed_rows"]) for row in checks) == [(True, 0), (True, 0)]

    before = {
        name: platform.rows(name) for name in ("dataplatform.runs", "dataplatform.asset_events", "incident_io.alerts")
    }
    again, problems = platform.export()
    assert not problems
    assert {name: platform.rows(name) for name in before} == before
    # Only the exports themselves are new: the first has ended, and the second runs.
    assert (again["dataplatform/runs"]["rows_moved"], again["dataplatform/runs"]["dagster/row_count"]) == (2, 6)
    assert again["dataplatform/check_results"]["rows_moved"] == 0


@pytest.mark.long
def test_a_long_history_is_exported_over_several_runs(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    for broken in ("sync", "", "model"):
        platform.run(broken)
    keys, tables = (
        ("dataplatform/runs", "dataplatform/asset_events"),
        ("dataplatform.runs", "dataplatform.asset_events"),
    )
    platform.export(*keys)
    whole = {name: platform.rows(name) for name in tables}
    bigquery.Client(project=PROJECT).delete_dataset("dataplatform", delete_contents=True)

    monkeypatch.setattr(dagster_history, "BATCH", 4)
    monkeypatch.setattr(dagster_history, "FAILED_RUNS", 1)
    monkeypatch.setattr(dagster_history, "OVERLAP", timedelta())
    monkeypatch.setattr(dagster_history, "OVERLAP_IDS", 0)
    sizes: list[int] = []
    for _ in range(4):
        platform.export(*keys, rows_a_run=5)
        sizes.append(len(platform.rows("dataplatform.asset_events")))
    assert sizes[0] < sizes[1] <= sizes[-1] == len(whole["dataplatform.asset_events"])
    assert {name: platform.rows(name) for name in tables} == whole


def test_a_run_that_was_killed_and_one_that_was_cancelled(platform: Platform) -> None:
    job = COMPANY.resolve_implicit_global_asset_job_def()
    killed, cancelled = (platform.instance.create_run_for_job(job) for _ in range(2))
    platform.instance.report_run_failed(killed, "Run timed out due to taking longer than 3600 seconds to finish.")
    platform.instance.report_run_canceled(cancelled)
    platform.export("dataplatform/runs", "dataplatform/asset_events")
    statuses = {row["run_id"]: row["status"] for row in platform.rows("dataplatform.runs")}
    assert statuses == {killed.run_id: "FAILURE", cancelled.run_id: "CANCELED"}
    failed = platform.rows("dataplatform.asset_events")
    assert {row["asset_key"] for row in failed} == {"product_public/users", "salesforce/account", "insights/time"}
    assert {(row["run_id"], row["kind"], row["step_key"]) for row in failed} == {(killed.run_id, "failed", None)}
    assert "longer than 3600 seconds" in failed[0]["error"]


def test_a_run_that_ends_after_it_was_exported_is_corrected(platform: Platform) -> None:
    job = COMPANY.resolve_implicit_global_asset_job_def()
    run = platform.instance.create_run_for_job(job)
    platform.export("dataplatform/runs")
    assert [row["status"] for row in platform.rows("dataplatform.runs")] == ["NOT_STARTED"]
    platform.instance.report_run_canceled(run)
    platform.export("dataplatform/runs")
    assert [row["status"] for row in platform.rows("dataplatform.runs")] == ["CANCELED"]


def test_alerts_and_their_incidents_are_exported_as_they_change(platform: Platform, on_call: OnCall) -> None:
    on_call.clock("2026-11-24T03:00:00+00:00")
    alert(on_call, "fivetran/product:run_1", customer_facing=True, unit="fivetran/product", kind="asset", team="data")
    alert(on_call, "dbt/insights/time:run_2", customer_facing=False, transient=True, kind="check")
    platform.export("incident_io/alerts", "incident_io/incidents")
    alerts = {row["unit"]: row for row in platform.rows("incident_io.alerts")}
    assert {unit: row["customer_facing"] for unit, row in alerts.items()} == {
        "fivetran/product": True,
        "dbt/insights/time": False,
    }
    shown = {unit: (row["kind"], row["team"], row["transient"], row["flapping"]) for unit, row in alerts.items()}
    assert shown == {
        "fivetran/product": ("asset", "data", False, False),
        "dbt/insights/time": ("check", None, True, False),
    }
    before = {row["id"]: row for row in platform.rows("incident_io.incidents")}
    assert set(before) == {row["incident_id"] for row in alerts.values()}
    incident = before[alerts["fivetran/product"]["incident_id"]]
    assert (incident["cause"], incident["severity"], incident["status_category"]) == (
        "fivetran/product",
        "Major",
        "live",
    )
    assert (incident["reported_at"], incident["acknowledged_at"]) == (incident["created_at"], None)
    transient = before[alerts["dbt/insights/time"]["incident_id"]]
    assert incident["paged_at"] - incident["created_at"] < timedelta(minutes=1)
    assert transient["paged_at"] is None

    on_call.clock("2026-11-24T03:10:00+00:00")
    acknowledge(on_call, incident["id"])
    platform.export("incident_io/alerts", "incident_io/incidents")
    acked = {row["id"]: row for row in platform.rows("incident_io.incidents")}[incident["id"]]
    assert timedelta(minutes=9) < acked["acknowledged_at"] - acked["created_at"] < timedelta(minutes=11)

    on_call.clock("2026-11-24T04:00:00+00:00")
    alert(on_call, "fivetran/product:run_1", "resolved")
    platform.export("incident_io/alerts", "incident_io/incidents")
    after = {row["id"]: row for row in platform.rows("incident_io.incidents")}
    closed = after[incident["id"]]
    assert (closed["status_category"], closed["acknowledged_at"]) == ("closed", acked["acknowledged_at"])
    assert timedelta(minutes=59) < closed["resolved_at"] - closed["created_at"] < timedelta(minutes=61)
    assert len(after) == len(before) == len(platform.rows("incident_io.alerts"))


def test_an_export_that_fails_is_named_leaves_its_tables_as_they_were_and_stops_no_other(
    platform: Platform, on_call: OnCall
) -> None:
    keys = ("incident_io/alerts", "incident_io/incidents")
    faults = VendorContext.of(on_call.config).faults
    alert(on_call, "dbt/faults:run_1")
    platform.export(*keys)
    before = platform.rows("incident_io.alerts"), platform.rows("incident_io.incidents")
    alert(on_call, "dbt/faults:run_2")
    for kind in ("http_500", "http_429", "html", "truncated", "refused"):
        faults.add("incident_io", kind=kind, params={"retry_after": 300} if kind == "http_429" else None)
        if kind == "refused":
            wait_for(lambda: not on_call.listens("incident_io"), 10, "incident.io refuses")
        with stamina.set_testing(True, attempts=2):
            made, [failed] = platform.export(*keys, *(["dataplatform/runs"] if kind == "refused" else []))
        assert (failed.unit, set(failed.asset_keys)) == ("export/incident_io", set(keys)), kind
        assert failed.error.startswith("incident.io: GET"), kind
        faults.remove()
    assert set(made) == {"dataplatform/runs"}
    assert (platform.rows("incident_io.alerts"), platform.rows("incident_io.incidents")) == before
    wait_for(lambda: on_call.listens("incident_io"), 10, "incident.io listens")
    _made, problems = platform.export(*keys)
    assert not problems
    assert len(platform.rows("incident_io.incidents")) == len(before[1]) + 1


@pytest.mark.parametrize(
    ("tags", "who"),
    [
        ({}, "person"),
        ({"dagster/sensor_name": "ingest_when_told"}, "sensor"),
        ({"dagster/sensor_name": "downstream", "dagster/from_automation_condition": "true"}, "automation"),
        ({"dagster/schedule_name": "hourly"}, "schedule"),
        ({"dagster/schedule_name": "hourly", "dagster/backfill": "abc"}, "backfill"),
    ],
)
def test_who_started_a_run_is_read_from_its_tags(tags: dict[str, str], who: str) -> None:
    assert launched_by(tags) == who


@pytest.mark.usefixtures("configured")
def test_without_incident_io_only_dagsters_own_history_is_exported(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        if name.startswith("incident_io_") or name == "rota_sync":
            monkeypatch.delenv(name.upper(), raising=False)
    settings.cache_clear()
    [exports] = PlatformHistory().definitions().assets or ()
    assert isinstance(exports, dg.AssetsDefinition)
    names = ("asset_events", "check_results", "runs")
    assert sorted(key.to_user_string() for key in exports.keys) == [f"dataplatform/{name}" for name in names]


def test_dbt_declares_the_columns_that_are_exported() -> None:
    declared: dict[str, dict[str, str]] = {}
    for name in ("dataplatform", "incident_io"):
        file = DBT_PROJECT / "models" / "staging" / name / f"_{name}__sources.yml"
        [source] = yaml.safe_load(file.read_text())["sources"]
        for table in source["tables"]:
            columns = {column["name"]: column["data_type"].upper() for column in table["columns"]}
            declared[f"{source['schema']}.{table['name']}"] = columns
    exported = {table.path: {column.name: column.field_type for column in table.schema()} for table in TABLES}
    assert declared == exported
    assert all(
        fields(table.row) and column.field_type in TYPES.values() for table in TABLES for column in table.schema()
    )
