"""A platform of some vendors alone: a copy of the code with a smaller `defs/`, as processes with only its variables in their environment.

Fivetran, BigQuery and Slack are the emulators. Runs, the daemon with its sensors, and the commands are those of production.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from google.cloud import bigquery

from orchestration.settings import REPOSITORY
from sandbox.config import PROJECT
from sandbox.env_file import environment
from tests.on_call import OnCall, running
from tests.orchestration.processes import only
from tests.stand_ins import Vendors, wait_for

# Each test starts a dozen processes, which take minutes while the machine does something else.
pytestmark = pytest.mark.timeout(900)

FIVETRAN = """
type: orchestration.components.fivetran.FivetranConnections
attributes:
  owners: [data-engineering@example.com]
  exclude: [fivetran_log, product, stripe, zendesk]
"""
LANDED = """
type: orchestration.components.landed.LandedTables
attributes:
  sources:
    - name: crm
      datasets: [salesforce]
      owners: [data-engineering@example.com]
      fresh_tables: []
      freshness: {warn_hours: 26, fail_hours: 50}
"""
EXPOSURES = """
type: orchestration.components.exposures.DbtExposures
attributes: {}
"""
BOARD = """
exposures:
  - name: account_board
    label: Account board
    type: dashboard
    owner: {name: Sales, email: sales@example.com}
    depends_on: [ref('stg_salesforce__accounts')]
    config:
      meta: {vendor: explo, slug: account_board, audience: customer}
"""
LOCATION = ("-m", "orchestration.definitions")
MODEL = "staging/stg_salesforce__accounts"
CORE = ("GOOGLE_", "BIGQUERY_", "DBT_", "DATAPLATFORM_URL")
INSTANCE = """
telemetry: {enabled: false}
nux: {enabled: false}
run_monitoring: {enabled: false}
run_retries: {enabled: true, max_retries: 0}
concurrency: {pools: {granularity: run, default_limit: 1}}
"""


@dataclass(frozen=True)
class Platform:
    """A copy of the code with a `defs/` of its own, and the variables that its processes have."""

    folder: Path
    variables: Mapping[str, str]

    @property
    def environment(self) -> dict[str, str]:
        own = {"DAGSTER_HOME": str(self.folder / "home"), "PYTHONPATH": str(self.folder), "PYTHONWARNINGS": "ignore"}
        return only(self.variables) | own | {"DBT_SEND_ANONYMOUS_USAGE_STATS": "false"}

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=200, check=False
        )

    def dataplatform(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.python("-m", "orchestration.cli", *arguments)

    def run(self, job: str) -> bool:
        """Run a job to its end in a process of its own. Returns whether it succeeded."""
        return self.python("-m", "dagster", "job", "execute", *LOCATION, "-j", job).returncode == 0

    def materialize(self, key: str) -> bool:
        """Materialize one asset in a process of its own. Returns whether that succeeded."""
        asked = self.python("-m", "dagster", "asset", "materialize", *LOCATION, "--select", f'key:"{key}"')
        return asked.returncode == 0

    def definitions(self) -> dict[str, list[str]]:
        """What the code location defines, by kind."""
        loaded = self.python("-c", NAMES)
        assert loaded.returncode == 0, loaded.stderr
        return json.loads(loaded.stdout)

    @contextmanager
    def daemon(self) -> Iterator[None]:
        """Run Dagster's daemon with its code server until the end of the block."""
        command = [str(Path(sys.executable).with_name("dagster-daemon")), "run", *LOCATION]
        with dg.DagsterInstance.from_config(str(self.folder / "home")) as instance:
            # The tables of Dagster's storage are created here: SQLite refuses two processes that create them at once.
            assert instance.run_storage.get_run_records(limit=1) == []
            assert instance.fetch_materializations(dg.AssetKey("none"), 1).records == []
            assert instance.schedule_storage.all_instigator_state() == []
        with (self.folder / "daemon.log").open("wb") as log:
            process = subprocess.Popen(command, cwd=self.folder, env=self.environment, stdout=log, stderr=log)
            try:
                yield
            finally:
                process.terminate()
                process.wait(60)


NAMES = """
import json
import dagster as dg
from orchestration.definitions import defs
loaded = defs()
dg.Definitions.validate_loadable(loaded)
repository = loaded.get_repository_def()
assets = loaded.resolve_asset_graph().get_all_asset_keys()
print(json.dumps({
    "assets": sorted(key.to_user_string() for key in assets),
    "jobs": sorted(name for name in repository.job_names if not name.startswith("__")),
    "sensors": sorted(one.name for one in repository.sensor_defs),
    "schedules": sorted(one.name for one in repository.schedule_defs),
}))
"""


def copied(folder: Path, defs: Mapping[str, str], variables: Mapping[str, str]) -> Platform:
    """Copy the code, and a project of one model below Salesforce's accounts; `defs` has the YAML files by folder."""
    hidden = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(REPOSITORY / "orchestration", folder / "orchestration", ignore=hidden)
    for path in (folder / "orchestration" / "defs").rglob("*.yaml"):
        path.unlink()
    for name, text in defs.items():
        path = folder / "orchestration" / "defs" / name / "defs.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    shutil.copy(REPOSITORY / "pyproject.toml", folder)
    project, models = REPOSITORY / "dbt_project", Path("models", "staging", "salesforce")
    (folder / "dbt_project" / models).mkdir(parents=True)
    shutil.copytree(project / "macros", folder / "dbt_project" / "macros")
    for name in ("dbt_project.yml", "profiles.yml", "models/_groups.yml"):
        shutil.copy(project / name, folder / "dbt_project" / name)
    for name in ("_salesforce__sources.yml", "stg_salesforce__accounts.sql"):
        shutil.copy(project / models / name, folder / "dbt_project" / models / name)
    (folder / "dbt_project" / models / "_exposures.yml").write_text(BOARD)
    (folder / "home").mkdir()
    (folder / "home" / "dagster.yaml").write_text(INSTANCE)
    return Platform(folder, {**variables, "DATAPLATFORM_STATE_DIR": str(folder / "state")})


@pytest.fixture(scope="module")
def slack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnCall]:
    with running(tmp_path_factory.mktemp("slack"), "slack") as process:
        yield process


@pytest.fixture
def known(vendors: Vendors, slack: OnCall) -> dict[str, str]:
    """Every variable, of which a platform gets its own."""
    return environment(vendors.config) | {
        name: value for name, value in environment(slack.config).items() if name.startswith("SLACK_")
    }


def chosen(known: Mapping[str, str], *prefixes: str) -> dict[str, str]:
    return {name: value for name, value in known.items() if name.startswith((*CORE, *prefixes))}


TRANSFORMATION = (REPOSITORY / "orchestration/defs/transformation/defs.yaml").read_text()
SLACK_ALERTS = ("SLACK_API_URL", "SLACK_BOT_TOKEN", "SLACK_ALERTS_CHANNEL")


@pytest.fixture
def with_fivetran(tmp_path: Path, known: dict[str, str]) -> Platform:
    defs = {"ingestion": FIVETRAN, "transformation": TRANSFORMATION, "analytics": EXPOSURES}
    return copied(tmp_path / "platform", defs, chosen(known, "FIVETRAN_", *SLACK_ALERTS))


@pytest.fixture
def without_fivetran(tmp_path: Path, known: dict[str, str]) -> Platform:
    defs = {"ingestion": LANDED, "transformation": TRANSFORMATION, "analytics": EXPOSURES}
    return copied(tmp_path / "platform", defs, chosen(known, *SLACK_ALERTS))


def messages(slack: OnCall) -> list[dict[str, Any]]:
    return slack.inspect("slack", "messages")


@pytest.mark.long
def test_a_platform_of_fivetran_dbt_and_slack_loads_runs_alerts_once_and_resolves(
    with_fivetran: Platform, vendors: Vendors, slack: OnCall
) -> None:
    platform, before = with_fivetran, len(messages(slack))
    refreshed = platform.dataplatform("refresh")
    assert refreshed.returncode == 0, refreshed.stderr
    assert sorted(line.partition(":")[0] for line in refreshed.stderr.splitlines() if ": refreshed" in line) == [
        "dbt",
        "fivetran.json",
    ]
    found = platform.definitions()
    assert {"salesforce/account", MODEL, "explo/account_board"} <= set(found["assets"])
    assert found["jobs"] == ["ingest", "warnings_digest"]
    assert found["schedules"] == ["daily_warnings_digest", "hourly_ingest"]
    assert not {"heartbeat", "alert_reconciliation", "data_responder_rota"} & set(found["sensors"])
    assert "incident_alerts" in found["sensors"]
    with platform.daemon():
        vendors.faults.add("fivetran", "salesforce", "broken_credentials")
        assert not platform.run("ingest")
        [firing] = wait_for(lambda: messages(slack)[before:], 90, "the failure is in Slack")
        vendors.faults.remove()
        assert platform.run("ingest")
        wait_for(lambda: len(messages(slack)) > before + 1, 90, "its end is in Slack")
        [_, resolved] = messages(slack)[before:]
        with dg.DagsterInstance.from_config(str(platform.folder / "home")) as instance:
            key = dg.AssetKey(MODEL.split("/"))
            wait_for(lambda: instance.get_latest_materialization_event(key), 90, "the automation builds the model")
    assert firing["text"].startswith("<!subteam^S00000001> *")
    assert "salesforce" in firing["text"]
    assert (resolved["thread_ts"], resolved["text"].startswith("*Resolved*")) == (firing["ts"], True)
    assert len(messages(slack)) == before + 2


@pytest.mark.long
def test_a_platform_without_fivetran_loads_runs_alerts_once_and_resolves(
    without_fivetran: Platform, vendors: Vendors, slack: OnCall
) -> None:
    platform, before, warehouse = without_fivetran, len(messages(slack)), bigquery.Client(project=PROJECT)
    vendors.sync("salesforce_conn")
    refreshed = platform.dataplatform("refresh")
    assert refreshed.returncode == 0, refreshed.stderr
    found = platform.definitions()
    assert {"salesforce/account", MODEL} <= set(found["assets"])
    assert found["jobs"] == ["ingest", "warnings_digest"]
    with platform.daemon():
        warehouse.query("create table salesforce.kept as select * from salesforce.account").result()
        warehouse.delete_table(f"{PROJECT}.salesforce.account")
        assert not platform.materialize(MODEL)
        [firing] = wait_for(lambda: messages(slack)[before:], 90, "the failure is in Slack")
        warehouse.query("create table salesforce.account as select * from salesforce.kept").result()
        assert platform.materialize(MODEL)
        wait_for(lambda: len(messages(slack)) > before + 1, 90, "its end is in Slack")
        [_, resolved] = messages(slack)[before:]
        warehouse.delete_table(f"{PROJECT}.salesforce.kept")
    assert "stg_salesforce__accounts" in firing["text"]
    assert (resolved["thread_ts"], resolved["text"].startswith("*Resolved*")) == (firing["ts"], True)


@pytest.mark.long
def test_a_platform_of_dbt_alone_has_no_job_without_assets(tmp_path: Path, known: dict[str, str]) -> None:
    platform = copied(tmp_path / "platform", {"transformation": TRANSFORMATION}, chosen(known, *SLACK_ALERTS))
    refreshed = platform.dataplatform("refresh")
    assert refreshed.returncode == 0, refreshed.stderr
    found = platform.definitions()
    assert (found["jobs"], found["schedules"]) == (["warnings_digest"], ["daily_warnings_digest"])
    assert "downstream" in found["sensors"]


def test_what_is_missing_is_named_at_once_by_the_load_and_by_a_refresh(with_fivetran: Platform) -> None:
    lacking = {
        name: value
        for name, value in with_fivetran.variables.items()
        if not name.startswith(("FIVETRAN_API_", "SLACK_"))
    }
    del lacking["DATAPLATFORM_URL"]
    platform = Platform(with_fivetran.folder, lacking)
    for ended in (platform.dataplatform("refresh"), platform.python("-c", NAMES)):
        assert ended.returncode == 1
        said = " ".join(ended.stderr.split())
        for words in (
            "DATAPLATFORM_URL is not set",
            "FIVETRAN_API_KEY is not set. Fivetran: Account settings, API config, a system key. "
            "orchestration.components.fivetran.FivetranConnections in orchestration/defs/ingestion/defs.yaml needs it: set it, or "
            "remove the component from orchestration/defs/ingestion/defs.yaml.",
            "FIVETRAN_API_SECRET is not set",
            "Alerts reach no one: neither incident.io nor Slack nor mail is configured",
        ):
            assert words in said
        assert "HIGHTOUCH" not in said


@pytest.mark.long
def test_the_doctor_leaves_out_vendors_without_a_component(with_fivetran: Platform, vendors: Vendors) -> None:
    assert with_fivetran.dataplatform("refresh").returncode == 0
    ended = with_fivetran.dataplatform("doctor", "--json")
    lines = {line["name"]: line for line in json.loads(ended.stdout)}
    not_used = {name for name, line in lines.items() if line["found"] == "not used: no component in defs/"}
    assert {f"{vendor}: credentials" for vendor in ("hightouch", "omni", "explo", "hex")} <= not_used
    assert {f"state: {name}.json" for name in ("hightouch", "omni", "explo", "hex", "landed")} <= not_used
    assert {"setting: HIGHTOUCH_API_KEY", "setting: OMNI_API_URL"} <= not_used
    assert all(lines[name]["status"] == "skipped" for name in not_used)
    assert lines["fivetran: credentials"]["status"] == "ok", lines["fivetran: credentials"]
    assert lines["state: fivetran.json"]["status"] == "ok"
    assert lines["incident.io: API key"]["found"] == "INCIDENT_IO_API_KEY is not set"
    assert lines["alerts: second channel"]["status"] == "warning"
    assert "when Slack accepts none" in lines["alerts: second channel"]["found"]
    wrong = {name for name, line in lines.items() if line["status"] == "failed"}
    assert not {name for name in wrong if name.startswith(("setting:", "state:", "incident.io", "on-call", "slack"))}


def test_a_yaml_that_cannot_be_read_is_a_line_of_the_doctor(with_fivetran: Platform) -> None:
    path = with_fivetran.folder / "orchestration/defs/ingestion/defs.yaml"
    path.write_text("type: orchestration.components.nothing.Nothing\n")
    ended = with_fivetran.dataplatform("doctor", "--json")
    lines = {line["name"]: line for line in json.loads(ended.stdout)}
    assert lines["defs: components"]["status"] == "failed"
    assert "orchestration.components.nothing" in lines["defs: components"]["found"]
