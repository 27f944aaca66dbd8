"""Publishing and fetching, by the commands, against Cloud Storage's stand-in."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run
from google.cloud.storage import Bucket, Client

from orchestration.components.dbt_files import TARGET
from orchestration.components.dbt_manifest import ProductionManifest
from orchestration.dbt_loop.production import fetch, fetched
from orchestration.dbt_loop.workspace import Refused, Workspace
from orchestration.settings import DbtSettings, settings
from orchestration.vendors.dbt_manifests import DbtManifests, ManifestInvalid
from sandbox.config import PROJECT, SandboxConfig
from sandbox.env_file import environment
from sandbox.services.storage import BUCKET
from tests.orchestration.processes import only, python
from tests.orchestration.wire import cut, refused_port
from tests.stand_ins import wait_for

COMMIT = "0123456789abcdef0123456789abcdef01234567"
DBT = version("dbt-core")
T = datetime(2026, 11, 24, 12, tzinfo=UTC)


@dataclass
class Machine:
    """Somebody's, or a CI job's: a folder, and variables."""

    folder: Path
    variables: dict[str, str]

    def dbt(self, *arguments: str, **changed: str) -> subprocess.CompletedProcess[str]:
        variables = {**self.variables, **changed}
        return python(self.folder, variables, "-m", "orchestration.cli", "dbt", *arguments)

    def manifest(self, name: str = "manifest.json", *, dbt: str = DBT, rows: int = 0, **more: Any) -> Path:
        """A file such as dbt writes; `rows` make it large."""
        path = self.folder / name
        metadata = {"dbt_version": dbt, "adapter_type": "bigquery", "env": {TARGET: "prod"}, **more}
        path.write_text(
            json.dumps({"metadata": metadata, "nodes": {}, "sources": {}, "exposures": {}, "rows": ["x" * 1000] * rows})
        )
        return path


@pytest.fixture
def bucket(storage: SandboxConfig, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    for name in ("STORAGE_EMULATOR_HOST", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.setenv(name, environment(storage)[name])
    found = Client(project=PROJECT).bucket(BUCKET)
    for blob in found.list_blobs():
        blob.delete()
    return found


@pytest.fixture
def manifests(bucket: Bucket) -> DbtManifests:
    return DbtManifests(bucket)


@pytest.fixture
def machine(storage: SandboxConfig, manifests: DbtManifests, tmp_path: Path) -> Machine:
    own = {"DATAPLATFORM_STATE_DIR": str(tmp_path / "state"), "DATAPLATFORM_COMMIT": COMMIT}
    return Machine(tmp_path, environment(storage) | own)


def test_a_deploy_is_published_with_what_it_was_made_of(
    machine: Machine, manifests: DbtManifests, bucket: Bucket
) -> None:
    path = machine.manifest()
    said = machine.dbt("publish", "--manifest", str(path))
    assert (said.returncode, f"commit {COMMIT[:12]}" in said.stderr) == (0, True), said.stderr
    latest = manifests.latest()
    assert latest
    assert (latest.commit, latest.dbt_version, latest.adapter, latest.target) == (COMMIT, DBT, "bigquery", "prod")
    assert datetime.now(UTC) - latest.deployed_at < timedelta(minutes=1)
    fetched_path = machine.folder / "fetched.json"
    assert (manifests.fetch(fetched_path), fetched_path.read_bytes()) == (latest, path.read_bytes())
    again = machine.dbt("publish", "--manifest", str(path))
    assert (again.returncode, manifests.latest(), len(history(bucket))) == (0, latest, 1)


def test_every_deploy_is_kept_and_a_rollback_is_a_deploy(
    machine: Machine, manifests: DbtManifests, bucket: Bucket
) -> None:
    one, two = machine.manifest("one.json", deploy=1), machine.manifest("two.json", deploy=2)
    for hours, (path, commit) in enumerate([(one, "a" * 40), (two, "b" * 40), (one, "a" * 40)]):
        manifests.publish(path, commit, "prod", T + timedelta(hours=hours))
    latest = manifests.latest()
    assert latest
    assert (latest.commit, latest.deployed_at) == ("a" * 40, T + timedelta(hours=2))
    assert [name.rsplit("-")[-1][:2] for name in history(bucket)] == ["aa", "bb", "aa"]


def test_a_deploy_that_was_slower_than_a_later_one_does_not_replace_it(
    machine: Machine, manifests: DbtManifests
) -> None:
    path = machine.manifest()
    later = manifests.publish(path, "b" * 40, "prod", T + timedelta(hours=1))
    assert manifests.publish(path, "a" * 40, "prod", T) == later == manifests.latest()


def test_a_run_that_waited_or_is_tried_again_is_of_the_deploy_that_asked_for_it(
    machine: Machine, manifests: DbtManifests, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in machine.variables.items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    parsed = machine.folder / "state" / "dbt"
    parsed.mkdir(parents=True)
    machine.manifest().rename(parsed / "manifest.json")
    defs = ProductionManifest().build_defs(dg.ComponentTree.for_test().load_context)
    job = dg.Definitions.merge(
        defs, dg.Definitions(jobs=[dg.define_asset_job("job", executor_def=dg.in_process_executor)])
    ).resolve_job_def("job")
    instance = dg.DagsterInstance.ephemeral()

    def queued(retry_of: str | None = None) -> dg.DagsterRun:
        return instance.create_run_for_job(job, parent_run_id=retry_of, root_run_id=retry_of)

    def published(run: dg.DagsterRun) -> str:
        execute_run(InMemoryJob(job), run, instance)
        latest = manifests.latest()
        assert latest is not None
        return latest.commit

    waited = queued()
    later = "b" * 40
    manifests.publish(machine.manifest("later.json", deploy=2), later, "prod", datetime.now(UTC))
    assert published(waited) == later
    assert published(queued(retry_of=waited.run_id)) == later
    assert published(queued()) == COMMIT, "a rollback is a deploy"
    settings.cache_clear()


def history(bucket: Bucket) -> list[str]:
    return [blob.name for blob in bucket.list_blobs(prefix="dbt/prod/history/")]


def test_an_upload_that_is_killed_leaves_the_manifest_before_it(
    machine: Machine, manifests: DbtManifests, storage: SandboxConfig
) -> None:
    before = manifests.publish(machine.manifest("before.json"), "a" * 40, "prod", T)
    large = machine.manifest("large.json", rows=6_000)
    with cut(storage.port("storage"), after=9_000_000) as way:  # the one to keep is whole, and the newest is half-way
        variables = machine.variables | {"STORAGE_EMULATOR_HOST": way.url}
        command = [sys.executable, "-m", "orchestration.cli", "dbt", "publish", "--manifest", str(large)]
        process = subprocess.Popen(command, cwd=machine.folder, env=only(variables))
        wait_for(lambda: way.sent >= way.after, 30, "half of it is on its way")
        process.kill()
        process.wait(timeout=10)
    path = machine.folder / "fetched.json"
    assert manifests.fetch(path) == before
    assert path.read_bytes() == (machine.folder / "before.json").read_bytes()


def test_mfest_says_what_it_has_and_keeps_it_when_nothing_answers(machine: Machine, manifests: DbtManifests) -> None:
    none = machine.dbt("mfest")
    assert (none.returncode, "no deploy has published a manifest yet" in none.stderr) == (2, True), none.stderr
    manifests.publish(machine.manifest(), COMMIT, "prod", datetime.now(UTC) - timedelta(hours=3))
    first = machine.dbt("mfest")
    assert (first.returncode, f"production: commit {COMMIT[:12]}, deployed " in first.stderr) == (0, True), first.stderr
    assert "(3 h " in first.stderr
    assert f"ago), dbt {DBT}\n" in first.stderr
    known = fetched(machine.folder / "state" / "production" / BUCKET)
    refused = machine.dbt("mfest", STORAGE_EMULATOR_HOST=f"http://127.0.0.1:{refused_port()}")
    assert (refused.returncode, "Traceback" in refused.stderr) == (2, False), refused.stderr
    assert fetched(machine.folder / "state" / "production" / BUCKET) == known


def test_the_newest_is_fetched_and_older_ones_are_not_kept_for_ever(machine: Machine, manifests: DbtManifests) -> None:
    folder, values = machine.folder / "production", DbtSettings.model_validate(lower(machine.variables))
    for number in range(4):
        manifests.publish(machine.manifest(deploy=number), f"{number}" * 40, "prod", T + timedelta(hours=number))
        assert fetch(values, folder).commit == f"{number}" * 40
        assert fetch(values, folder).manifest["metadata"]["deploy"] == number
    assert len([path for path in folder.iterdir() if path.is_dir()]) == 2


def test_what_is_old_says_so(machine: Machine, manifests: DbtManifests) -> None:
    manifests.publish(machine.manifest(), COMMIT, "prod", T)
    known = fetch(DbtSettings.model_validate(lower(machine.variables)), machine.folder)
    assert "fetched" not in known.text(known.fetched_at + timedelta(hours=2))
    assert known.text(known.fetched_at + timedelta(days=3)).endswith("fetched 3 d ago: run `mfest` for a newer one")


def test_a_folder_that_was_broken_is_told(machine: Machine, manifests: DbtManifests) -> None:
    manifests.publish(machine.manifest(), COMMIT, "prod", T)
    known = fetch(DbtSettings.model_validate(lower(machine.variables)), machine.folder)
    (known.folder / "manifest.json").write_text("{")
    with pytest.raises(Refused, match="delete it and run `mfest` again"):
        fetched(machine.folder)


def test_a_build_without_a_manifest_or_with_another_minors_is_refused_before_dbt_starts(
    machine: Machine, manifests: DbtManifests
) -> None:
    none = machine.dbt("dbm")
    assert (none.returncode, "run `mfest`" in none.stderr) == (2, True), none.stderr
    manifests.publish(machine.manifest(dbt="1.10.4"), COMMIT, "prod", T)
    fetch(DbtSettings.model_validate(lower(machine.variables)), machine.folder / "state" / "production" / BUCKET)
    other = machine.dbt("dbs", "tickets")
    assert (other.returncode, "made by dbt 1.10.4" in other.stderr, "make install" in other.stderr) == (2, True, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["dbm", "tickets"], "`tickets` is no option: name models with `dbs` or `drs`."),
        (["dbs"], "Name what to build first"),
        (["drs", "--full-refresh"], "Name what to build first"),
        (["dbm", "--target", "prod"], "--target cannot be given here"),
        (["dbm", "-xtprod"], "-t cannot be given here"),
        (["ci", ""], "Name the pull request by its number"),
        (["dbs", "tickets", "--state=elsewhere", "--no-defer"], "--no-defer, --state cannot be given here"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(
    machine: Machine, manifests: DbtManifests, arguments: list[str], said: str
) -> None:
    manifests.publish(machine.manifest(), COMMIT, "prod", T)
    fetch(DbtSettings.model_validate(lower(machine.variables)), machine.folder / "state" / "production" / BUCKET)
    answer = machine.dbt(*arguments)
    assert (answer.returncode, said in answer.stderr) == (2, True), answer.stderr


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"DBT_TARGET": "dev"}, "DBT_TARGET is dev: only production's manifest is published."),
        ({"DATAPLATFORM_STATE_BUCKET": "none-such"}, "NotFound: 404"),
    ],
)
def test_what_cannot_be_published_says_why(machine: Machine, changed: dict[str, str], said: str) -> None:
    answer = machine.dbt("publish", "--manifest", str(machine.manifest()), **changed)
    assert (answer.returncode, said in answer.stderr) == (2, True), answer.stderr


@pytest.mark.parametrize(
    ("environment", "refusal"),
    [
        ({TARGET: "prod"}, None),
        ({TARGET: "dev"}, "was parsed for the target dev: only production's is published."),
        ({}, "does not say for which target it was parsed: only production's is published."),
    ],
)
def test_a_manifest_that_was_parsed_for_a_developer_is_not_published(
    machine: Machine, manifests: DbtManifests, environment: dict[str, str], refusal: str | None
) -> None:
    answer = machine.dbt("publish", "--manifest", str(machine.manifest(env=environment)))
    assert answer.returncode == (2 if refusal else 0), answer.stderr
    assert (refusal or "") in answer.stderr
    assert (manifests.latest() is None) == bool(refusal)


def test_what_another_tool_has_put_there_is_told_and_replaced(
    machine: Machine, manifests: DbtManifests, bucket: Bucket
) -> None:
    bucket.blob("dbt/prod/manifest.json").upload_from_string("{}")
    said = machine.dbt("mfest")
    assert (said.returncode, "another tool has put it there" in said.stderr) == (2, True), said.stderr
    assert machine.dbt("publish", "--manifest", str(machine.manifest())).returncode == 0
    latest = manifests.latest()
    assert latest is not None
    assert latest.commit == COMMIT


def test_each_bucket_has_a_production_of_its_own(machine: Machine, storage: SandboxConfig, bucket: Bucket) -> None:
    other = Client(project=PROJECT).create_bucket("another-production")
    values = DbtSettings.model_validate(lower(machine.variables))
    DbtManifests(bucket).publish(machine.manifest(deploy=1), COMMIT, "prod", T)
    DbtManifests(other).publish(machine.manifest(deploy=2), "b" * 40, "prod", T)
    for name, commit in (("another-production", "b" * 40), (BUCKET, COMMIT)):
        there = values.model_copy(update={"dataplatform_state_bucket": name})
        workspace = Workspace.of(there, machine.folder)
        assert fetch(there, workspace.production).commit == commit


def test_a_file_that_is_no_manifest_is_not_published(machine: Machine, manifests: DbtManifests) -> None:
    path = machine.folder / "other.json"
    path.write_text('{"nodes": []}')
    with pytest.raises(ManifestInvalid):
        manifests.publish(path, COMMIT, "prod", T)
    assert manifests.latest() is None


def lower(variables: dict[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in variables.items()}
