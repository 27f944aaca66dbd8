"""A cause in the platform comes from the type of its own call's error: never from words, whoever writes them."""

import itertools
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg2
import pytest
import requests
import sqlalchemy
import sqlalchemy.exc
from dagster._core.errors import DagsterUserCodeUnreachableError, SensorExecutionError, user_code_error_boundary
from dagster._core.storage.runs import SqliteRunStorage
from dagster._grpc.client import DagsterGrpcClient
from dagster._utils.error import serializable_error_info_from_exc_info
from dagster_shared.error import SerializableErrorInfo
from google.api_core import exceptions as google
from google.auth.exceptions import DefaultCredentialsError, RefreshError, TransportError

from orchestration.components.dbt_connection import Evidence, Job, connection_cause
from orchestration.components.dbt_events import NodeLog
from orchestration.components.dbt_failures import failed_units
from orchestration.components.platform_causes import platform_cause
from orchestration.components.steps import Failures
from orchestration.incidents import causes
from orchestration.lineage.dagster_errors import dagster_cause
from orchestration.lineage.failures import FailedUnit, UnreadableReportError, from_metadata, to_metadata
from orchestration.lineage.runs import outcome, read
from orchestration.vendors.bigquery_project import BigQueryProject
from orchestration.vendors.explo import Explo
from orchestration.vendors.fivetran import Fivetran
from orchestration.vendors.hex import Hex
from orchestration.vendors.hightouch import Hightouch
from orchestration.vendors.http import VendorClient, VendorError
from orchestration.vendors.omni import Omni
from orchestration.vendors.waiting import SyncFailed
from sandbox.services.warehouse import CREDENTIALS
from tests.orchestration.wire import refused_port, reply, wire

API = "https://bigquery.googleapis.com/bigquery/v2/projects/p/jobs?prettyPrint=false"
HOSTILE = [
    "google.auth.exceptions.RefreshError: ('invalid_grant: Bad Request', {'error': 'invalid_grant'})",
    "invalid_grant: authentication failure",
    "Google Ads: quotaExceeded, rateLimitExceeded: Quota exceeded for quota metric 'Requests'",
    "403 Custom quota exceeded: Your usage exceeded the custom quota",
    "psycopg2.OperationalError: could not connect to server: Connection refused",
    "sqlalchemy.exc.OperationalError: (sqlite3.OperationalError) database is locked",
    f"503 POST {API}: Visibility check was unavailable",
    f"401 POST {API}: Request had invalid authentication credentials",
    "HTTPSConnectionPool(host='bigquery.googleapis.com', port=443): Max retries exceeded with url: /bigquery/v2/projects/p/jobs",
    "Fivetran: GET https://api.fivetran.com/v1/connections answered 401: bad key",
    "Hightouch: POST https://api.hightouch.com/api/v1/syncs/1/trigger could not connect: refused",
    "dagster._core.errors.DagsterUserCodeUnreachableError: Could not reach user code server",
    "Unable to generate access token, if you're using impersonate_service_account, make sure your initial account",
]


def unit_of(error: BaseException) -> FailedUnit:
    """The unit that a component's step reports of an error, as the alerts read it from the event log."""

    @dg.asset
    def a(context: dg.AssetExecutionContext) -> None:
        failed = Failures(context)
        failed.add("vendor/a", [dg.AssetKey("a")], error, "https://vendor.example")
        failed.raise_any()

    instance = dg.DagsterInstance.ephemeral()
    run = dg.materialize([a], instance=instance, raise_on_error=False)
    [unit] = outcome(read(instance, run.run_id, 0)).failed
    return unit


@pytest.mark.parametrize("text", HOSTILE)
def test_the_words_of_a_source_or_destination_are_no_cause(text: str) -> None:
    assert platform_cause(SyncFailed(text)) is None
    assert platform_cause(VendorError(text, vendor="Fivetran", status=400)) is None
    assert platform_cause(VendorError(text)) is None
    assert platform_cause(RuntimeError(text)) is None
    assert platform_cause(google.BadRequest(text)) is None
    assert platform_cause(google.Forbidden(text, errors=[{"reason": "accessDenied", "message": text}])) is None
    assert causes.known(FailedUnit("a", (), text)) is None


def test_a_step_of_a_team_that_raises_has_no_cause_and_a_component_with_the_same_words_has_none() -> None:
    texts = iter(HOSTILE)

    @dg.asset
    def theirs() -> None:
        raise psycopg2.OperationalError(next(texts))

    instance = dg.DagsterInstance.ephemeral()
    for _ in HOSTILE:
        run = dg.materialize([theirs], instance=instance, raise_on_error=False)
        [unit] = outcome(read(instance, run.run_id, 0)).failed
        assert unit.cause is None
    assert unit_of(SyncFailed(" ".join(HOSTILE))).cause is None


CLIENTS: dict[str, Any] = {
    "explo": lambda url: Explo(url, "k").dashboards(),
    "fivetran": lambda url: Fivetran(url, "k", "s").connection("c"),
    "hex": lambda url: next(iter(Hex(url, "k").projects())),
    "hightouch": lambda url: Hightouch(url, "k").syncs(),
    "omni": lambda url: next(iter(Omni(url, "k").documents())),
}


def raised(vendor: str, url: str) -> VendorError:
    with pytest.raises(VendorError) as caught:
        CLIENTS[vendor](url)
    return caught.value


@pytest.mark.parametrize(("vendor", "status"), itertools.product(CLIENTS, [401, 403]))
def test_a_vendor_that_refuses_the_key_over_the_wire_is_a_cause(vendor: str, status: int) -> None:
    with wire(reply(status, {"message": "no"})) as server:
        assert platform_cause(raised(vendor, server.url)) == f"{vendor}-credentials"


@pytest.mark.parametrize("vendor", CLIENTS)
def test_a_vendor_that_does_not_answer_over_the_wire_is_a_cause(vendor: str) -> None:
    assert platform_cause(raised(vendor, f"http://127.0.0.1:{refused_port()}")) == f"{vendor}-unreachable"


def test_a_server_error_is_one_and_other_answers_are_none() -> None:
    for status, cause in ((500, "fivetran-unreachable"), (503, "fivetran-unreachable"), (404, None), (400, None)):
        with wire(reply(status, {"message": "401 invalid_grant"})) as server:
            client = VendorClient("Fivetran", server.url, attempts=1)
            with pytest.raises(VendorError) as caught:
                client.request("GET", "v1/x")
            assert platform_cause(caught.value) == cause
    with wire(reply(200, "<h1>401</h1>")) as server:
        with pytest.raises(VendorError) as caught:
            VendorClient("Fivetran", server.url, attempts=1).request("GET", "v1/x")
        assert platform_cause(caught.value) is None


def test_the_cause_reaches_the_alert_through_the_event_log() -> None:
    unit = unit_of(VendorError("no", vendor="Fivetran", status=401))
    assert causes.known(unit) == "cause/fivetran-credentials"


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (google.Unauthorized("x"), "bigquery-credentials"),
        (DefaultCredentialsError("x"), "bigquery-credentials"),
        (RefreshError("x"), "bigquery-credentials"),
        (google.Forbidden("x", errors=[{"reason": "quotaExceeded"}]), "bigquery-quota"),
        (google.TooManyRequests("x", errors=[{"reason": "rateLimitExceeded"}]), "bigquery-quota"),
        (google.ServiceUnavailable("x"), "bigquery-unreachable"),
        (google.RetryError("x", google.BadGateway("x")), "bigquery-unreachable"),
        (google.RetryError("x", google.Forbidden("x", errors=[{"reason": "quotaExceeded"}])), "bigquery-quota"),
        (google.RetryError("x", ValueError("x")), None),
        (TransportError("x"), "bigquery-unreachable"),
        (requests.ConnectionError("x"), "bigquery-unreachable"),
        (google.InternalServerError("x", errors=[{"reason": "backendError"}]), None),
        (google.NotFound("x"), None),
        (requests.exceptions.InvalidURL("x"), None),
    ],
)
def test_the_exceptions_of_the_platforms_own_bigquery_client(error: Exception, cause: str | None) -> None:
    assert platform_cause(error) == cause
    assert unit_of(error).cause == cause


def test_a_report_with_an_unknown_cause_is_refused_and_one_without_any_is_read() -> None:
    [item] = to_metadata([FailedUnit("u", (), "e", cause="bigquery-quota")])["dataplatform/failed_units"]
    for bad in ("pager-down", "", 7, ["bigquery-quota"]):
        with pytest.raises(UnreadableReportError, match="cause"):
            from_metadata({"dataplatform/failed_units": [item | {"cause": bad}]})
    assert from_metadata({"dataplatform/failed_units": [item]}) == [FailedUnit("u", (), "e", cause="bigquery-quota")]
    del item["cause"]
    assert from_metadata({"dataplatform/failed_units": [item]}) == [FailedUnit("u", (), "e")]


# dbt

IN_MODEL = "Database Error in model m (models/m.sql)\n  {}\n  compiled code at target/run/x/models/m.sql"
UNHANDLED = Evidence(unhandled=True)
JOB = Evidence(job=Job("j", "p", None))


@pytest.mark.parametrize(
    ("text", "evidence", "cause"),
    [
        # As dbt-bigquery 1.12.1 wrote them against a server that answered so.
        ("Timeout of 600.0s exceeded, last exception: 503 POST http://127.0.0.1:18820/bigquery/v2/projects/p/jobs?prettyPrint=false: Visibility check was unavailable", UNHANDLED, "bigquery-unreachable"),
        ("HTTPSConnectionPool(host='oauth2.googleapis.com', port=443): Max retries exceeded with url: /token (Caused by NameResolutionError(\"x\"))", UNHANDLED, "bigquery-unreachable"),
        ("Quota exceeded: Your project exceeded quota for free query bytes scanned.", JOB, "bigquery-quota"),
        ("Unable to generate access token, if you're using impersonate_service_account, make sure your initial account has the \"roles/x\"", Evidence(), "bigquery-credentials"),
        (f"401 POST {API}: Request had invalid authentication credentials", UNHANDLED, "bigquery-credentials"),
        ("Quota exceeded: Your table exceeded quota for imports or query appends per table", JOB, None),
        ("Access Denied: Table p:d.t: User does not have permission", JOB, None),
    ],
)  # fmt: skip
def test_what_dbts_own_connection_writes(text: str, evidence: Evidence, cause: str | None) -> None:
    assert connection_cause(IN_MODEL.format(text), evidence) == cause
    assert connection_cause(f"Database Error\n  {text}", evidence) == cause


@pytest.mark.parametrize("text", HOSTILE)
def test_a_model_may_fail_with_any_words(text: str) -> None:
    """`select error('503 POST …')`: BigQuery answers with these words about a job, which dbt's log has the address of."""
    assert connection_cause(IN_MODEL.format(text), JOB) is None
    assert connection_cause(IN_MODEL.format(f"the source says: {text}"), UNHANDLED) is None
    assert connection_cause(f"Compilation Error in model m (models/m.sql)\n  {text}", UNHANDLED) is None
    result = {"unique_id": "operation.x.h", "status": "error", "message": IN_MODEL.format(text)}
    [unit] = failed_units({"nodes": {}, "child_map": {}}, [result])
    assert unit.cause is None


def log_line(name: str, text: str) -> str:
    """An event of dbt's log, as dbt-bigquery 1.12.1 writes it."""
    data = {"base_msg": text, "args": [], "name": "BigQuery", "node_info": {"unique_id": "model.x.m"}}
    return json.dumps({"info": {"name": name, "level": "debug"}, "data": data})


LINK = "https://console.cloud.google.com/bigquery?project=p&j=bq:None:41b2bb3d-dfac&page=queryresults"
SENT = f"503 POST {API}: Visibility check was unavailable"


@pytest.mark.parametrize(
    ("lines", "cause"),
    [
        ([log_line("AdapterEventDebug", "Unhandled error while running:\ncreate or replace table x")], "bigquery-unreachable"),
        # A successful job's address is logged, too, at another level.
        ([log_line("AdapterEventDebug", LINK), log_line("AdapterEventDebug", "Unhandled error while running:\nx")], "bigquery-unreachable"),
        ([log_line("AdapterEventError", LINK)], None),
        # The model's own SQL may have any words.
        ([log_line("SQLQuery", "Unhandled error while running:\nselect 1"), log_line("AdapterEventError", LINK)], None),
        ([log_line("AdapterEventDebug", "select 'Unhandled error while running:'")], None),
        ([], None),
    ],
)  # fmt: skip
def test_dbts_log_tells_its_connections_errors_from_those_of_a_model(
    tmp_path: Path, lines: list[str], cause: str | None
) -> None:
    (tmp_path / "dbt.log").write_text("".join(f"{line}\n" for line in lines))
    log = NodeLog(tmp_path / "dbt.log")
    log.read_to_end()
    found = connection_cause(IN_MODEL.format(SENT), log.evidence.get("model.x.m", Evidence()))
    assert found == cause


def test_why_dbt_ended_before_it_ran_a_node_is_read_from_its_log(tmp_path: Path) -> None:
    error = "Database Error\n  HTTPSConnectionPool(host='oauth2.googleapis.com', port=443): Max retries exceeded with url: /token (x)"
    main = json.dumps({"info": {"name": "MainEncounteredError"}, "data": {"exc": error}})
    (tmp_path / "dbt.log").write_text(
        log_line("AdapterEventDebug", "Unhandled error while running:\nlist dataset").replace("model.x.m", "")
        + "\n"
        + main
        + "\n"
    )
    log = NodeLog(tmp_path / "dbt.log")
    log.read_to_end()
    assert log.main_error == error
    assert connection_cause(error, log.evidence[""]) == "bigquery-unreachable"


def test_why_a_job_failed_is_asked_of_bigquery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "credentials.json").write_text(json.dumps(CREDENTIALS))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "credentials.json"))
    reference = {"projectId": "p", "jobId": "j", "location": "US"}
    status = {
        "state": "DONE",
        "errorResult": {"reason": "invalidQuery", "message": "Quota exceeded: Your project exceeded quota"},
    }
    job = {"jobReference": reference, "configuration": {"query": {"query": "x"}}, "status": status}
    gone = {"error": {"code": 404, "message": "Not found: Job p:US.j"}}
    for answer, reason in ((reply(200, job), "invalidQuery"), (reply(404, gone), None)):
        with wire(answer) as server:
            monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", server.url)
            assert BigQueryProject("p", "US", 5).failure_reason("j", "p", "US") == reason


# Dagster


def stored(call: Callable[[], object]) -> SerializableErrorInfo:
    """The error of a call as Dagster stores it."""
    try:
        call()
    except Exception:
        return serializable_error_info_from_exc_info(sys.exc_info())
    raise AssertionError("it raises nothing")


def throw(error: Exception) -> None:
    raise error


def test_a_team_that_uses_a_database_is_not_dagsters_storage() -> None:
    for error in (
        psycopg2.OperationalError("connection refused"),
        sqlalchemy.exc.OperationalError("select 1", {}, Exception("database is locked")),
        RuntimeError("psycopg2.OperationalError: connection refused"),
        type("DagsterPostgresException", (Exception,), {})("x"),
    ):
        assert dagster_cause(stored(partial(throw, error))) is None
    assert dagster_cause(None) is None


def test_dagsters_own_storage_is_known_by_where_the_error_was_raised() -> None:
    with dg.instance_for_test() as instance:
        assert isinstance(instance.run_storage, SqliteRunStorage)
        with instance.run_storage.connect() as connection:
            connection.execute(sqlalchemy.text("drop table runs"))
        error = stored(instance.get_runs)
        assert dagster_cause(error) == "dagster-storage"
        # The same class with the same words, raised by a step or a sensor of a team.
        assert dagster_cause(error._replace(stack=['  File "/team/code.py", line 1, in query\n'])) is None


def test_a_code_server_that_is_away_is_known_by_dagsters_class() -> None:
    def ask() -> None:
        try:
            DagsterGrpcClient(port=refused_port(), host="127.0.0.1").ping("x")
        except DagsterUserCodeUnreachableError as error:
            # As dagster/_daemon/sensor.py, line 309, does.
            raise DagsterUserCodeUnreachableError("Unable to reach the user code server for sensor x.") from error

    error = stored(ask)
    assert dagster_cause(error) == "code-location"
    # A team's sensor that asks a code server of its own.
    assert dagster_cause(stored(lambda: in_sensor(ask))) is None
    # One evaluation that takes too long says nothing of the location.
    root = SerializableErrorInfo("<_InactiveRpcError: status = StatusCode.DEADLINE_EXCEEDED>", [], "_InactiveRpcError")
    assert dagster_cause(SerializableErrorInfo("timed out", [], "DagsterUserCodeUnreachableError", root)) is None


def in_sensor(call: Callable[[], object]) -> None:
    with user_code_error_boundary(SensorExecutionError, lambda: "in a sensor"):
        try:
            call()
        except Exception as error:
            raise RuntimeError("it is away") from error
