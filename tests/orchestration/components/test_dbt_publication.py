"""Edits of the dbt project that Dagster may not take: after a refresh the code location loads, with the new manifest or the last one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestration.components.dbt_files import find_fault
from orchestration.settings import REPOSITORY
from sandbox.env_file import environment
from tests.orchestration.processes import only
from tests.stand_ins import Vendors

LOAD = "import dagster as dg; from orchestration.definitions import defs; dg.Definitions.validate_loadable(defs())"
SHIPPED = ("orchestration", "product_events", "dbt_project", "pyproject.toml")


@dataclass
class Checkout:
    """A copy of the platform with a state directory of its own, in which a dbt project can be edited."""

    folder: Path
    variables: Mapping[str, str]

    @property
    def state(self) -> Path:
        return self.folder / ".state"

    @property
    def manifest(self) -> Path:
        return self.state / "dbt" / "manifest.json"

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=only(self.variables),
            capture_output=True,
            text=True,
            check=False,
        )

    def refresh(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.python("-m", "orchestration.cli", "refresh", *arguments)

    def write(self, files: Mapping[str, str]) -> None:
        for name, text in files.items():
            path = self.folder / "dbt_project" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")

    def remove(self, files: Mapping[str, str]) -> None:
        for name in files:
            (self.folder / "dbt_project" / name).unlink()

    def loads(self) -> subprocess.CompletedProcess[str]:
        """Load the code location in a fresh process."""
        return self.python("-c", LOAD)


@pytest.fixture(scope="module")
def checkout(vendors: Vendors, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    folder = tmp_path_factory.mktemp("checkout")
    for name in SHIPPED:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("target", "logs", "__pycache__"))
        else:
            shutil.copy(source, folder / name)
    with (folder / "dbt_project" / "dbt_project.yml").open("a") as file:
        file.write("\nseeds:\n  dataplatform:\n    +schema: seeds\n")
    (folder / "deploy").mkdir()
    shutil.copy(REPOSITORY / "deploy" / "on_call.yaml", folder / "deploy")
    # Ahead of the package that is installed, which is the other checkout's.
    variables = environment(vendors.config) | {
        "DATAPLATFORM_STATE_DIR": str(folder / ".state"),
        "PYTHONPATH": str(folder),
    }
    del variables["DATAPLATFORM_STATE_BUCKET"]  # Cloud Storage's emulator does not run here
    made = Checkout(folder, variables)
    first = made.refresh()
    assert first.returncode == 0, first.stderr
    return made


MODEL = "models/staging/zendesk/odd_model.sql"
PROPERTIES = "models/staging/zendesk/_odd_model.yml"


def with_config(config: str) -> dict[str, str]:
    return {MODEL: "select 1 as id", PROPERTIES: f"models:\n  - name: odd_model\n    config: {config}\n"}


def with_owner(owner: str) -> dict[str, str]:
    group = f'groups:\n  - name: odd_group\n    owner: {{name: Odd, email: "{owner}"}}\n'
    return {**with_config("{group: odd_group}"), "models/_odd_groups.yml": group}


EDITS = {
    "an owner with an apostrophe": with_owner("o'brien@example.com"),
    "a channel as the owner": with_owner("#channel"),
    "a name and an address as the owner": with_owner("Name <a@b>"),
    "an owner below a long top-level domain": with_owner("ada@example.engineering"),
    "one alias in two databases": {
        MODEL: "{{ config(alias='odd', database='one') }} select 1 as id",
        "models/staging/zendesk/odd_other.sql": "{{ config(alias='odd', database='two') }} select 1 as id",
    },
    "freshness without warn_hours": with_config("{meta: {freshness: {fail_hours: 3}}}"),
    "freshness that is no number": with_config("{meta: {freshness: {warn_hours: soon, fail_hours: later}}}"),
    "partitions by the hour": with_config("{meta: {partitions: hourly}}"),
    "two names that differ in punctuation": {
        "models/staging/zendesk/odd-notes.sql": "select 1 as id",
        "models/staging/zendesk/odd_notes.sql": "select 1 as id",
    },
    "an alias with an umlaut": with_config("{alias: größen_tabelle}"),
    "a test with punctuation in its name": {
        MODEL: "select 1 as id",
        PROPERTIES: "models:\n  - name: odd_model\n    columns:\n      - name: id\n"
        "        data_tests:\n          - unique: {name: 'odd.id-is:unique!'}\n",
    },
    "a seed on the relation of a source": {
        "seeds/odd_seed.csv": "id\n1\n",
        "seeds/_odd_seed.yml": "seeds:\n  - name: odd_seed\n    config: {schema: zendesk, alias: ticket}\n",
    },
}


@pytest.fixture
def edited(checkout: Checkout, request: pytest.FixtureRequest) -> Iterator[Checkout]:
    """The checkout with the files of the parameter added, which are removed at the end."""
    checkout.write(request.param)
    yield checkout
    checkout.remove(request.param)


@pytest.mark.long
@pytest.mark.parametrize("edited", EDITS.values(), ids=EDITS, indirect=True)
def test_an_edit_loads_or_is_refused_by_the_name_of_its_file(edited: Checkout) -> None:
    before = edited.manifest.read_bytes()
    refreshed = edited.refresh("--if-stale")
    if refreshed.returncode:
        assert edited.manifest.read_bytes() == before
        assert "dbt: not refreshed, its last state, " in refreshed.stderr
        assert "odd" in refreshed.stderr
        assert ".sql" in refreshed.stderr or ".yml" in refreshed.stderr or ".csv" in refreshed.stderr
    loaded = edited.loads()
    assert loaded.returncode == 0, f"{refreshed.stderr}\n{loaded.stderr}"


# The key of an asset that the platform materializes itself: nothing can be left out or shown as something else.
TAKEN = with_config("{schema: lineage, alias: state}")


@pytest.mark.long
@pytest.mark.parametrize("edited", [TAKEN], ids=["a key that is taken"], indirect=True)
def test_a_manifest_that_does_not_load_is_refused_with_the_file_to_change(edited: Checkout) -> None:
    before = edited.manifest.read_bytes()
    refreshed = edited.refresh("--if-stale")
    assert refreshed.returncode == 1
    assert "building the code location from dbt" in refreshed.stderr
    assert f"At fault: the model `odd_model` in dbt_project/{MODEL} or dbt_project/{PROPERTIES}." in refreshed.stderr
    assert edited.manifest.read_bytes() == before
    assert "odd_model" in (edited.state / "rejected" / "dbt" / "manifest.json").read_text()
    assert "Traceback" in (edited.state / "rejected" / "dbt.error.txt").read_text()
    assert edited.loads().returncode == 0


@pytest.mark.long
@pytest.mark.parametrize("edited", [TAKEN], ids=["a key that is taken"], indirect=True)
def test_a_manifest_that_is_refused_is_tried_again_until_it_loads(edited: Checkout) -> None:
    for _ in range(2):
        assert edited.refresh("--if-stale").returncode == 1, "the project is still newer than its manifest"
    edited.write(with_config("{meta: {}}"))
    assert edited.refresh("--if-stale").returncode == 0
    assert "odd_model" in edited.manifest.read_text()
    assert not (edited.state / "rejected").exists()


PACKAGE = {
    "packages.yml": "packages:\n  - local: odd_package\n",
    "odd_package/dbt_project.yml": "name: odd_package\nversion: 1.0.0\nconfig-version: 2\nmodels: {odd_package: {+schema: odd}}\n",
    "odd_package/models/odd_packaged.sql": "select 1 as id",
}


@pytest.mark.long
@pytest.mark.parametrize("edited", [PACKAGE], ids=["a package"], indirect=True)
def test_a_package_that_the_project_declares_is_installed_once_and_its_models_are_assets(edited: Checkout) -> None:
    installed, times = edited.folder / "dbt_project" / "dbt_packages", list[float]()
    for _ in range(2):
        refreshed = edited.refresh()
        assert refreshed.returncode == 0, refreshed.stderr
        assert (installed / "odd_package").exists()
        times.append(installed.stat().st_mtime)
    assert times[0] == times[1]
    assert "model.odd_package.odd_packaged" in json.loads(edited.manifest.read_text())["nodes"]
    assert edited.loads().returncode == 0
    edited.write({"packages.yml": "packages:\n  - local: no_such_package\n"})
    refused = edited.refresh("--if-stale")
    assert refused.returncode == 1
    assert "dbt cannot install the packages of dbt_project:" in refused.stderr
    assert "no_such_package" in refused.stderr
    (edited.folder / "dbt_project" / "package-lock.yml").unlink()
    shutil.rmtree(installed)


SEED = {"seeds/odd_seed.csv": "id\n1\n"}


@pytest.mark.long
@pytest.mark.parametrize("edited", [SEED], ids=["seed"], indirect=True)
def test_the_first_seed_is_an_asset_and_each_refresh_after_it_works(edited: Checkout) -> None:
    for _ in range(2):
        refreshed = edited.refresh("--if-stale")
        assert refreshed.returncode == 0, refreshed.stderr
    assert "seed.dataplatform.odd_seed" in json.loads(edited.manifest.read_text())["nodes"]
    assert edited.loads().returncode == 0


MANIFESTS = {
    "empty": "",
    "cut off": '{"metadata": {}, "nodes": {"model.a": {',
    "a list": "[]",
    "no nodes": '{"metadata": {}, "sources": {}, "exposures": {}}',
    "nodes that are a list": '{"metadata": {}, "nodes": [], "sources": {}, "exposures": {}}',
}


@pytest.mark.parametrize("content", MANIFESTS.values(), ids=MANIFESTS)
def test_the_fault_of_a_manifest_is_found(tmp_path: Path, content: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(content)
    assert find_fault(path)


@pytest.mark.long
@pytest.mark.parametrize("content", [*MANIFESTS.values(), None], ids=[*MANIFESTS, "a folder"])
def test_a_manifest_that_cannot_be_read_counts_as_none(checkout: Checkout, content: str | None) -> None:
    checkout.manifest.unlink()
    if content is None:
        checkout.manifest.mkdir()
    else:
        checkout.manifest.write_text(content)
    loaded = checkout.loads()
    assert loaded.returncode == 1
    assert "The saved state of dbt at " in loaded.stderr
    assert "Run `dataplatform refresh`." in loaded.stderr
    refreshed = checkout.refresh("--if-stale")
    assert refreshed.returncode == 0, refreshed.stderr
    assert "The state before counts as none: " in refreshed.stderr
    assert checkout.loads().returncode == 0
