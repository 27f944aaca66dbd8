"""What the doctor makes of what it sees: tables, with nothing on the wire."""

from __future__ import annotations

import json
import os
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster_fivetran.translator import FivetranSchema, FivetranTable
from google.api_core.exceptions import Forbidden, ServiceUnavailable, Unauthorized
from google.auth.exceptions import DefaultCredentialsError
from pydantic import SecretStr

from orchestration.doctor import (
    bigquery_checks,
    clock_checks,
    dagster_checks,
    datasets,
    google_errors,
    incident_io_checks,
    message_checks,
    settings_checks,
    state_checks,
    storage_checks,
    vendor_checks,
)
from orchestration.doctor.catalogue import all_checks
from orchestration.doctor.cli import show, summary
from orchestration.doctor.landing_checks import of_sources
from orchestration.doctor.model import Check, Once, Outcome, Result, failed, ok, skipped, warning, without
from orchestration.doctor.runner import run
from orchestration.doctor.usage import NOT_USED, Usage
from orchestration.on_call.plan import Change
from orchestration.settings import HexSettings, Need, Settings, examine
from orchestration.vendors.fivetran import Connection, Status
from orchestration.vendors.http import VendorError
from orchestration.vendors.slack import Channel, Identity
from sandbox.config import SandboxConfig
from sandbox.env_file import environment
from tests.orchestration.wire import refused_port

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch):
    """Makes the given variables the platform's only ones."""

    def set_only(**values: str) -> None:
        for name in Settings.model_fields:
            monkeypatch.delenv(name.upper(), raising=False)
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return set_only


@pytest.fixture
def known(only, tmp_path: Path) -> Settings:
    """The settings of a sandbox that does not run."""
    ports = dict.fromkeys(SandboxConfig.load().ports, refused_port())
    only(**environment(SandboxConfig(tmp_path, ports)))
    values, problems = examine()
    assert problems == ()
    return values


def statuses(results: list[Result]) -> dict[str, str]:
    return {one.name: one.outcome.status for one in results}


def test_a_check_waits_for_those_that_it_needs_and_is_left_out_where_one_is_not_well(known: Settings) -> None:
    seen: list[str] = []

    def look(name: str, outcome: Outcome) -> Outcome:
        time.sleep(0.05 if name == "first" else 0)
        seen.append(name)
        return outcome

    def check(name: str, outcome: Outcome, **more: Any) -> Check:
        return Check(name, lambda: look(name, outcome), **more)

    results = run(
        [
            check("third", ok("x"), after=("second",)),
            check("second", warning("x", "y"), after=("first",)),
            check("first", ok("x")),
            check("refused", failed("x", "y")),
            check("on refused", ok("x"), after=("refused",)),
            check("on that", ok("x"), after=("on refused", "first")),
            check("without a setting", ok("x"), needs=("hex_api_token",)),
            check("of no use", ok("x"), wants=("smtp_host",)),
        ],
        known,
        {"HEX_API_TOKEN"},
        5,
    )
    assert statuses(results) == {
        "third": "ok", "second": "warning", "first": "ok", "refused": "failed", "on refused": "skipped",
        "on that": "skipped", "without a setting": "skipped", "of no use": "skipped",
    }  # fmt: skip
    assert [name for name in seen if name in {"first", "second", "third"}] == ["first", "second", "third"]
    found = {one.name: one.outcome.found for one in results}
    assert found["on that"] == "needs `on refused`"
    assert found["without a setting"] == "needs HEX_API_TOKEN"
    assert found["of no use"] == "SMTP_HOST is not set"
    assert summary(results) == "2 ok, 1 warning, 1 failed, 4 skipped"


def test_one_that_hangs_or_breaks_ends_neither_the_others_nor_the_doctor(known: Settings) -> None:
    never = threading.Event()

    def hangs() -> Outcome:
        never.wait(60)
        return ok("x")

    def breaks() -> Outcome:
        raise KeyError("records")

    began = time.monotonic()
    checks = [Check("hangs", hangs), Check("breaks", breaks), Check("well", lambda: ok("x"))]
    results = run([*checks, Check("on it", lambda: ok("x"), after=("hangs",))], known, (), 0.3)
    assert time.monotonic() - began < 5
    never.set()
    assert statuses(results) == {"hangs": "failed", "breaks": "failed", "well": "ok", "on it": "skipped"}
    assert [one.outcome.found for one in results[:2]] == ["no answer within 0.3 s", "KeyError: 'records'"]


@pytest.mark.parametrize("after", [("another",), ("itself",)])
def test_a_check_that_waits_for_what_does_not_come_is_a_mistake(known: Settings, after: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="itself wait for what does not come"):
        run([Check("well", lambda: ok("x")), Check("itself", lambda: ok("x"), after=after)], known, (), 5)


def test_checks_run_side_by_side(known: Settings) -> None:
    together = threading.Barrier(30, timeout=10)

    def look() -> Outcome:
        together.wait()
        return ok("x")

    results = run([Check(str(number), look) for number in range(30)], known, (), 20)
    assert {one.outcome.status for one in results} == {"ok"}


def test_no_secret_is_told(known: Settings) -> None:
    key = known.hightouch_api_key.get_secret_value()
    [result] = run([Check("leaks", lambda: failed(f"no\n {key}", f"set {known.fivetran_api_key}"))], known, (), 5)
    assert result.outcome == failed("no ***", "set ***")
    assert without(ok("abcd ab"), ("ab", "abcd")).found == "*** ***"


def test_what_is_found_once_is_found_once_and_an_error_is_not_kept() -> None:
    answers: list[Any] = [VendorError("no"), 1, 2]

    def find() -> int:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    once = Once(find)
    with pytest.raises(VendorError):
        once()
    assert [once(), once()] == [1, 1]


def test_with_nothing_set_only_what_is_not_set_is_named(only, tmp_path: Path) -> None:
    nowhere = f"http://127.0.0.1:{refused_port()}"
    urls = ("INCIDENT_IO", "FIVETRAN", "HEX", "HIGHTOUCH", "EXPLO")
    only(**dict.fromkeys((f"{name}_API_URL" for name in urls), nowhere), DATAPLATFORM_STATE_DIR=str(tmp_path))
    values, problems = examine()
    results = run(all_checks(values, problems), values, {name for one in problems for name in one.names}, 20)
    wrong = {name for name, status in statuses(results).items() if status in {"failed", "warning"}}
    required = {name.upper() for name, field in Settings.model_fields.items() if field.is_required()}
    # Credentials of Google's may be on the machine all the same. incident.io's address is set here, and the rest of it is not.
    assert wrong - {"google: credentials"} == {f"setting: {name}" for name in required} | {
        "state: saved",
        "setting: INCIDENT_IO_API_KEY",
    }


def test_a_vendor_without_a_component_is_looked_at_only_where_it_is_configured(
    only, known: Settings, tmp_path: Path
) -> None:
    usage = Usage((Need(HexSettings, "company.Hex", "orchestration/defs/a/defs.yaml"),), {"hex.json"})
    (tmp_path / "fivetran.json").write_text("{}")
    variables = {name: value for name, value in os.environ.items() if name.lower() in Settings.model_fields}
    without = {
        name: value
        for name, value in variables.items()
        if not name.startswith(("FIVETRAN_", "HEX_", "INCIDENT_", "ROTA"))
    }
    only(**without | {"DATAPLATFORM_STATE_DIR": str(tmp_path), "OMNI_REQUESTS_PER_MINUTE": "many"})
    values, problems = examine(usage.needs)
    assert [problem.names for problem in problems] == [("HEX_API_TOKEN",)]
    assert problems[0].remedy.endswith("or remove the component from orchestration/defs/a/defs.yaml")
    results = run(all_checks(values, problems, usage), values, {"HEX_API_TOKEN"}, 20)
    found = {one.name: one.outcome.found for one in results}
    for name in (
        "setting: FIVETRAN_API_KEY",
        "setting: OMNI_API_KEY",
        "fivetran: credentials",
        "omni: credentials",
        "state: fivetran.json",
        "dbt: manifest",
    ):
        assert found[name] in {NOT_USED, "needs `state: saved`"}, (name, found[name])
    assert found["setting: FIVETRAN_API_KEY"] == found["fivetran: credentials"] == NOT_USED
    assert found["hex: credentials"] == "needs HEX_API_TOKEN"
    # Its variables are all set, so that it is asked, and does not answer.
    assert "could not connect" in found["hightouch: credentials"]
    assert found["incident.io: API key"] == "INCIDENT_IO_API_KEY is not set"
    assert found["incident.io: history"] == found["on-call: deploy/on_call.yaml"] == "needs `incident.io: API key`"


def test_where_defs_cannot_be_read_the_doctor_says_so(known: Settings) -> None:
    usage = Usage((), (), "ModuleNotFoundError: No module named 'company'")
    lines = {check.name: check.look() for check in settings_checks.checks(known, (), usage)}
    assert lines["defs: components"].status == "failed"
    assert "No module named 'company'" in lines["defs: components"].found


def test_a_group_of_variables_is_one_line_and_so_is_each_other_one(only, known: Settings, monkeypatch) -> None:
    monkeypatch.setenv("SMTP_HOST", "mail.example.com")
    monkeypatch.setenv("DBT_TARGET", "staging")
    monkeypatch.delenv("SLACK_BOT_TOKEN")
    values, problems = examine()
    lines = {check.name: check.look() for check in settings_checks.checks(values, problems)}
    wrong = {name: outcome.found for name, outcome in lines.items() if outcome.status == "failed"}
    assert wrong.keys() == {"setting: ALERT_MAIL_FROM", "setting: SLACK_BOT_TOKEN", "setting: DBT_TARGET"}
    assert wrong["setting: ALERT_MAIL_FROM"] == "alerts by mail need ALERT_MAIL_FROM, ALERT_MAIL_TO too"
    assert (lines["setting: HEX_API_TOKEN"], lines["setting: SMTP_PORT"]) == (ok("is set"), ok("has its default"))
    assert lines["setting: DATAPLATFORM_CODE_URL"] == skipped("is not set, and need not be")
    assert values.dbt_target is None
    assert values.fivetran_account_id == "local-account"


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (401, "set FIVETRAN_API_KEY and FIVETRAN_API_SECRET. Fivetran: Account settings"),
        (403, "has to be allowed to read connections and their schemas"),
        (429, "try again later"),
        (502, "its status page"),
        (404, "See FIVETRAN_API_URL"),
        (None, "See FIVETRAN_API_URL, and whether this machine may connect there"),
    ],
)
def test_a_vendors_refusal_and_its_silence_have_different_remedies(status: int | None, remedy: str) -> None:
    outcome = vendor_checks.FIVETRAN.explained(VendorError("no", status=status))
    assert outcome.status == "failed"
    assert remedy in outcome.remedy


@pytest.mark.parametrize(
    ("error", "found", "remedy"),
    [
        (Unauthorized("bad token"), "the credentials are refused: 401 bad token", "GOOGLE_APPLICATION_CREDENTIALS"),
        (Forbidden("no"), "not permitted: 403 no", "Give this account the role X"),
        (DefaultCredentialsError("none"), "there are no credentials: none", "Set GOOGLE_APPLICATION_CREDENTIALS"),
        (ConnectionError("refused"), "could not connect: refused", "HOST"),
        (ServiceUnavailable("later"), "503 later", "status.cloud.google.com"),
    ],
)
def test_googles_errors_are_told_apart(error: Exception, found: str, remedy: str) -> None:
    outcome = google_errors.explained(error, "the role X", "HOST")
    assert (outcome.status, outcome.found) == ("failed", found)
    assert remedy in outcome.remedy


def test_connections_that_cannot_sync_are_warned_of() -> None:
    def connection(name: str, state: str = "connected", *, paused: bool = False) -> Connection:
        status = Status(setup_state=state, sync_state="scheduled")
        return Connection(id=name, service="s", name=name, group_id="g", paused=paused, status=status)

    well = connection("a")
    assert vendor_checks.connected([well]).status == "ok"
    outcome = vendor_checks.connected([well, connection("b", "broken"), connection("c", paused=True)])
    assert (outcome.status, outcome.found) == ("warning", "c is paused; b is broken")
    assert outcome.remedy.endswith("/connections/b/status")
    many = [connection(str(number), paused=True) for number in range(8)]
    assert vendor_checks.connected(many).found.endswith("4 is paused and 3 more")


SOURCES = [
    {"id": "A", "name": "Data platform", "source_type": "http", "secret_token": "right"},
    {"id": "B", "name": "Beat", "source_type": "heartbeat"},
]


@pytest.mark.parametrize(
    ("wanted", "status", "words"),
    [("A", "ok", "is 'Data platform'"), ("B", "failed", "is of the kind heartbeat, not http"), ("C", "failed", "none of incident.io's")],
)  # fmt: skip
def test_an_alert_source_is_known_by_its_id_and_kind(wanted: str, status: str, words: str) -> None:
    outcome = incident_io_checks.listed(SOURCES, "http", wanted, "THE_ID")
    assert outcome.status == status
    assert words in outcome.found


@pytest.mark.parametrize(
    ("wanted", "given", "status"), [("A", "right", "ok"), ("A", "wrong", "failed"), ("B", "right", "warning")]
)
def test_a_token_is_compared_where_incident_io_shows_it(wanted: str, given: str, status: str) -> None:
    assert incident_io_checks.opened(SOURCES, wanted, SecretStr(given), "THE_TOKEN").status == status


def test_what_is_missing_in_incident_io_fails_and_what_differs_is_warned_of() -> None:
    new, other = (Change(action, "alert_route", "a", "A") for action in ("create", "update"))  # pyright: ignore[reportArgumentType]
    assert incident_io_checks.as_the_file_says([]).status == "ok"
    assert incident_io_checks.as_the_file_says([other]).status == "warning"
    outcome = incident_io_checks.as_the_file_says([other, new])
    assert (outcome.status, outcome.found) == ("failed", "to update: alert route 'A'; to create: alert route 'A'")
    assert "`dataplatform on-call plan`" in outcome.remedy


ALL = frozenset({*message_checks.WRITING, *message_checks.ROTA, *message_checks.LOOKING})


@pytest.mark.parametrize(
    ("scopes", "rota", "status"),
    [
        (ALL, True, "ok"),
        (None, True, "warning"),
        (ALL - {"channels:read"}, True, "warning"),
        (ALL - {"usergroups:write"}, True, "failed"),
        (ALL - {"usergroups:write"}, False, "ok"),
        (ALL - {"chat:write"}, False, "failed"),
        (ALL - {"usergroups:read"}, False, "ok"),
    ],
)
def test_slacks_scopes_are_those_that_are_used(scopes: frozenset[str] | None, rota: bool, status: str) -> None:
    assert message_checks.allowed(Identity("t", "u", scopes), rota=rota).status == status


@pytest.mark.parametrize("lacking", ["usergroups:read", "chat:write"])
def test_without_incident_io_slack_mentions_a_group(lacking: str) -> None:
    assert message_checks.allowed(Identity("t", "u", ALL), rota=False, mentions=True).status == "ok"
    outcome = message_checks.allowed(Identity("t", "u", ALL - {lacking}), rota=False, mentions=True)
    assert (outcome.status, outcome.found) == ("failed", f"{lacking} missing")


@pytest.mark.parametrize(
    ("member", "archived", "words"),
    [(True, False, "and the app is in it"), (False, False, "is not in #x"), (True, True, "is archived")],
)
def test_the_app_is_in_the_channel(member: bool, archived: bool, words: str) -> None:
    assert words in message_checks.inside(Channel("x", member, archived), "SLACK_ALERTS_CHANNEL").found


def test_datasets_are_in_the_location_of_the_queries() -> None:
    assert bigquery_checks.located({"a": "us"}, "US").status == "ok"
    outcome = bigquery_checks.located({"a": "US", "b": "EU", "c": "EU"}, "US")
    assert (outcome.status, outcome.found) == ("failed", "BIGQUERY_LOCATION is US, but b in EU, c in EU")


def test_a_dataset_of_dbts_own_may_be_missing_before_the_first_build() -> None:
    assert bigquery_checks.missing("core", built=True).status == "warning"
    assert bigquery_checks.missing("salesforce", built=False).status == "failed"


def test_a_permission_that_is_lacking_is_named() -> None:
    bucket = storage_checks.Bucket("DATAPLATFORM_STATE_BUCKET", "a-bucket")
    assert bucket.permitted(storage_checks.OBJECTS).status == "ok"
    outcome = bucket.permitted(["storage.objects.get", "storage.objects.list", "storage.objects.create"])
    assert outcome.found == "storage.objects.delete not permitted"
    assert outcome.remedy == "Give this account the role Storage Object User in the bucket of DATAPLATFORM_STATE_BUCKET"


@pytest.mark.parametrize(("hours", "status"), [(1, "ok"), (23, "ok"), (25, "warning")])
def test_a_state_is_old_after_a_day(hours: int, status: str) -> None:
    assert state_checks.aged(NOW - timedelta(hours=hours), NOW).status == status


@pytest.mark.parametrize(
    ("made_by", "changed", "status"),
    [("1.11.3", None, "ok"), ("1.10.9", None, "failed"), ("1.11.3", Path("a.sql"), "warning"), ("unknown", None, "failed")],
)  # fmt: skip
def test_a_manifest_is_of_this_dbt_and_of_these_files(made_by: str, changed: Path | None, status: str) -> None:
    assert state_checks.parsed(made_by, "1.11.16", changed).status == status


def test_packages_are_those_that_are_required() -> None:
    required = ["dbt-core>=1.11.16,<1.12", "dagster==1.13.27", 'other>=1; python_version < "3"', "rich>=14"]
    there = {"dbt-core": "1.11.17", "dagster": "1.13.27", "rich": "14.1"}
    assert state_checks.versions(required, there.get).status == "ok"
    outcome = state_checks.versions(required, ({"dbt-core": "1.12.0", "dagster": "1.13.27"}).get)
    assert outcome.found == "dbt-core 1.12.0 (<1.12,>=1.11.16 is required); rich is missing (>=14 is required)"


def daemon(seconds: float | None, *errors: str, required: bool = True) -> dict[str, Any]:
    last = NOW.timestamp() - seconds if seconds is not None else None
    told = [{"message": error} for error in errors]
    return {"daemonType": "SENSOR", "required": required, "lastHeartbeatTime": last, "lastHeartbeatErrors": told}


@pytest.mark.parametrize(
    ("statuses", "status", "words"),
    [
        ([daemon(20)], "ok", "1 beat"),
        ([daemon(20), daemon(900)], "failed", "SENSOR last beat 15 min ago"),
        ([daemon(None)], "failed", "has never beaten"),
        ([daemon(None, required=False)], "ok", "0 beat"),
        ([daemon(20, "boom")], "warning", "SENSOR: boom"),
    ],
)
def test_a_daemon_that_is_silent_for_minutes_is_dead(statuses: list[dict[str, Any]], status: str, words: str) -> None:
    outcome = dagster_checks.beating(statuses, NOW)
    assert outcome.status == status
    assert words in outcome.found


def location(load: str, error: str | None = None) -> dict[str, Any]:
    found = {"__typename": "PythonError", "message": error} if error else {"__typename": "RepositoryLocation"}
    return {"name": "orchestration", "loadStatus": load, "locationOrLoadError": found}


@pytest.mark.parametrize(
    ("workspace", "status", "words"),
    [
        ({"__typename": "Workspace", "locationEntries": [location("LOADED")]}, "ok", "is loaded"),
        ({"__typename": "Workspace", "locationEntries": [location("LOADING")]}, "warning", "still loading"),
        ({"__typename": "Workspace", "locationEntries": [location("LOADED", "no module")]}, "failed", "no module"),
        ({"__typename": "Workspace", "locationEntries": []}, "failed", "there is none"),
        ({"__typename": "PythonError", "message": "broken"}, "failed", "broken"),
    ],
)
def test_a_code_location_that_does_not_load_says_why(workspace: dict[str, Any], status: str, words: str) -> None:
    outcome = dagster_checks.loaded(workspace)
    assert outcome.status == status
    assert words in outcome.found


@pytest.mark.parametrize(
    ("seconds", "status", "words"),
    [
        (0, "ok", "agrees with vendor"),
        (-1, "ok", "agrees with vendor"),
        (25, "ok", "agrees with vendor"),
        (40, "warning", "39 s behind vendor"),
        (-40, "warning", "39 s ahead of vendor"),
        (3600, "failed", "3599 s behind vendor"),
        (-3600, "failed", "3599 s ahead of vendor"),
    ],
)
def test_the_clock_is_off_by_no_less_than_is_told(seconds: int, status: str, words: str) -> None:
    outcome = clock_checks.off(NOW, NOW + timedelta(seconds=1), NOW + timedelta(seconds=seconds), "vendor")
    assert (outcome.status, outcome.found) == (status, words)


def table(name: str, *, enabled: bool) -> FivetranTable:
    return FivetranTable(enabled=enabled, name_in_destination=name, columns=None)


def test_datasets_are_read_from_the_states_as_they_are_written() -> None:
    schemas = [
        FivetranSchema(enabled=True, name_in_destination="salesforce", tables={"a": table("a", enabled=True)}),
        FivetranSchema(enabled=False, name_in_destination="off", tables={"a": table("a", enabled=True)}),
        FivetranSchema(enabled=True, name_in_destination="empty", tables={"a": table("a", enabled=False)}),
    ]
    written = [json.loads(dg.serialize_value(schema)) for schema in schemas]
    assert list(datasets.of_fivetran({"schemas": {"x": written}})) == ["salesforce"]
    assert list(datasets.of_landed({"web_app": {"tracks": {}}, "mobile": {}})) == ["web_app"]
    model = {"resource_type": "model", "schema": "core", "config": {"materialized": "table"}}
    nodes = {
        "a": model,
        "b": model | {"schema": "none", "config": {"materialized": "ephemeral"}},
        "c": model | {"resource_type": "test", "schema": "tests"},
    }
    sources = {
        "s": {"schema": "stripe", "identifier": "t", "database": "raw"},
        "t": {"schema": "core", "identifier": "t"},
    }
    found = datasets.of_manifest({"nodes": nodes, "sources": sources})
    assert found == datasets.Datasets({"stripe": "t"}, frozenset({"core"}), {"stripe": "raw"})
    assert [found.path(name, "else") for name in ("stripe", "core")] == ["raw.stripe", "else.core"]


def test_people_read_a_line_each_with_its_remedy_below(capsys: pytest.CaptureFixture[str]) -> None:
    results = [
        Result("clock", ok("agrees"), 0.1),
        Result("a: key", failed("refused [401]", "set A"), 0.1),
        Result("b", skipped("needs `a: key`"), 0),
    ]
    show(results, quiet=False)
    assert capsys.readouterr().out.splitlines() == [
        "ok       clock   agrees",
        "failed   a: key  refused [401]",
        "                 -> set A",
        "skipped  b       needs `a: key`",
        "1 ok, 1 failed, 1 skipped",
    ]
    show(results, quiet=True)
    assert capsys.readouterr().out.startswith("failed   a: key  refused [401]\n")


MAIL = {"SMTP_HOST": "mail.example.com", "ALERT_MAIL_FROM": "a@example.com", "ALERT_MAIL_TO": "b@example.com"}
SLACK_SETTINGS = {"SLACK_BOT_TOKEN": "local-token", "SLACK_ALERTS_CHANNEL": "C1"}


INCIDENT_IO_SETTINGS = {
    "INCIDENT_IO_API_KEY": "local-key", "INCIDENT_IO_ALERT_SOURCE_ID": "a", "INCIDENT_IO_ALERT_SOURCE_TOKEN": "local-token",
}  # fmt: skip


@pytest.mark.parametrize(
    ("given", "status", "said", "remedies"),
    [
        (INCIDENT_IO_SETTINGS, "warning", "no second channel: when incident.io", ("SMTP_HOST", "SLACK_ALERTS_CHANNEL")),
        (
            INCIDENT_IO_SETTINGS | {"SLACK_BOT_TOKEN": "local-token"},
            "warning",
            "no second channel",
            ("SMTP_HOST", "SLACK_ALERTS_CHANNEL"),
        ),
        (INCIDENT_IO_SETTINGS | SLACK_SETTINGS, "ok", "slack", ()),
        (INCIDENT_IO_SETTINGS | MAIL, "ok", "mail", ()),
        (INCIDENT_IO_SETTINGS | SLACK_SETTINGS | MAIL, "ok", "slack and mail", ()),
        (SLACK_SETTINGS, "warning", "no second channel: when Slack", ("SMTP_HOST",)),
        (MAIL, "warning", "no second channel: when the mail server", ("SLACK_ALERTS_CHANNEL",)),
        (SLACK_SETTINGS | MAIL, "ok", "mail", ()),
        ({"ALERTS_WITHOUT_CHANNEL": "true"}, "warning", "Alerts reach no one", ("incident.io",)),
    ],
)
def test_the_doctor_warns_where_alerts_have_no_second_channel(only, given, status, said, remedies) -> None:
    only(**given)
    values, _ = examine()
    found = message_checks.find_second_channel(values)
    assert (found.status, said in found.found) == (status, True)
    assert all(word in found.remedy for word in remedies)


@pytest.mark.parametrize(
    ("places", "status"), [(["a"], "ok"), (["a", "b"], "warning"), ([], "failed")]
)  # fmt: skip
def test_one_code_location_has_the_alert_sensor_switched_on(places: list[str], status: str) -> None:
    def entry(name: str, state: str) -> dict[str, Any]:
        sensors = [{"name": "incident_alerts", "sensorState": {"status": state}}]
        return {"name": name, "loadStatus": "LOADED", "locationOrLoadError": {"repositories": [{"sensors": sensors}]}}

    entries = [*(entry(name, "RUNNING") for name in places), entry("off", "STOPPED")]
    broken = {"name": "broken", "loadStatus": "LOADED", "locationOrLoadError": {"__typename": "PythonError"}}
    outcome = dagster_checks.alerting({"__typename": "Workspace", "locationEntries": [*entries, broken]})
    assert outcome.status == status


def source(name: str, schema: str = "sheet") -> dict[str, Any]:
    return {"schema": schema, "identifier": name, "original_file_path": "models/s.yml"}


def test_a_source_that_nothing_lands_is_a_warning_with_its_reader() -> None:
    late = {"depends_on": {"macros": ["macro.p.landed_table"]}}
    manifest: dict[str, Any] = {
        "sources": {
            "source.p.sheet.targets": source("targets"), "source.p.sheet.unread": source("unread"),
            "source.p.ecom.raw": source("raw", "ecom"), "source.p.app.opened": source("opened", "app"),
            "source.p.app.closed": source("closed", "app"),
        },
        "nodes": {"model.p.closed": late},
        "child_map": {
            "source.p.sheet.targets": ["test.p.x", "model.p.report"], "source.p.sheet.unread": ["test.p.y"],
            "source.p.ecom.raw": ["model.p.stg"], "source.p.app.opened": ["model.p.opened"], "source.p.app.closed": ["model.p.closed"],
        },
    }  # fmt: skip
    outcome = of_sources(manifest, {("app", "opened")}, {"source.p.ecom.raw": "seed.p.raw"})
    assert outcome.status == "warning"
    assert outcome.found == "nothing lands what these read: `report` reads sheet.targets in models/s.yml"
    landed = of_sources(manifest, {("app", "opened"), ("sheet", "targets")}, {"source.p.ecom.raw": "seed.p.raw"})
    assert (landed.status, landed.found) == ("ok", "each of 4 sources is landed, looked at, or built by dbt")


def test_the_tables_of_saved_states() -> None:
    table = {"__class__": "FivetranTable", "enabled": True, "name_in_destination": "account"}
    off = table | {"enabled": False, "name_in_destination": "off"}
    schema = {
        "__class__": "FivetranSchema",
        "enabled": True,
        "name_in_destination": "salesforce",
        "tables": [table, off],
    }
    assert [*datasets.landed_by_fivetran([schema, schema | {"enabled": False}])] == [("salesforce", "account")]
    assert [*datasets.landed_by_others({"web": {"pages": {}, "clicks": {}}})] == [("web", "pages"), ("web", "clicks")]
