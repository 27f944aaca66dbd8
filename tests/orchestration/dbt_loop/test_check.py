"""`dataplatform dbt check` on a copy of the project, with dbt and Google's analyzer as they are."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from orchestration.settings import DBT_PROJECT

SECONDS = 240
"""On a machine that does other things; alone, the command takes less than 30."""

CLOSED = """
import sys
def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        import os
        os.write(2, f"the network was used: {event} {arguments}\\n".encode())
        os._exit(97)
sys.addaudithook(refuse)
from orchestration.cli import app
app()
"""

HIGHTOUCH = {
    "syncs": [{"id": 1, "slug": "to-salesforce", "modelId": 7, "destinationId": 3}],
    "models": [
        {
            "id": 7,
            "slug": "users",
            "name": "Users",
            "raw": {"sql": "select user_id,\n  favourite_colour\nfrom core.users"},
        }
    ],
    "destinations": [],
}
QUERY = "select count(*) as n from core.users where organisation_id = '{{customer_id}}' [[ and email = {{email}} ]]"
EXPLO = {
    "dashboards": [
        {
            "slug": "load",
            "dashboard": {"embed_id": "e1", "name": "Load"},
            "datasets": [
                {"id": "1", "name": "Users", "query": QUERY},
                {"id": "2", "name": "Gone", "query": "select * from core.no_such_mart"},
            ],
        }
    ]
}
OMNI = {
    "documents": [
        {
            "identifier": "d1",
            "name": "Weekly",
            "slug": "weekly",
            "queries": [
                {
                    "name": "By plan",
                    "sql": "select plan, count(*) from `other-project.core.organisations` group by plan",
                },
                {"name": "Elsewhere", "sql": "select * from finance_sheets.budget"},
            ],
        }
    ]
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the dbt project, to be changed by the tests in their order."""
    copy = tmp_path_factory.mktemp("checked") / DBT_PROJECT.name
    shutil.copytree(DBT_PROJECT, copy, ignore=shutil.ignore_patterns("target", "logs"))
    return copy


def check(project: Path, *options: str, state: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command as in CI: with no settings, no credentials and no network."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    env = kept | {"PYTHON_DOTENV_DISABLED": "true", "DATAPLATFORM_STATE_DIR": str(state or project.parent / "no-state")}
    command = [sys.executable, "-c", CLOSED, "dbt", "check", *options]
    return subprocess.run(command, cwd=project.parent, env=env, capture_output=True, text=True, timeout=SECONDS)


def write_state(folder: Path, states: Mapping[str, Any]) -> Path:
    folder.mkdir()
    for name, state in states.items():
        stamped = {"read_at": "2026-11-30T12:00:00Z", "source": "https://api.example.com", "state": state}
        (folder / f"{name}.json").write_text(json.dumps(stamped))
    return folder


def change(file: Path, before: str, after: str) -> int:
    """Replace a text that is there once, and return its line."""
    text = file.read_text()
    assert text.count(before) == 1, f"{before!r} is {text.count(before)} times in {file}"
    file.write_text(text.replace(before, after))
    return text[: text.index(before)].count("\n") + 1


@pytest.mark.timeout(SECONDS)
def test_the_project_passes_offline_and_every_statement_is_judged(project: Path) -> None:
    began = time.monotonic()
    result = check(project, "--json")
    seconds = time.monotonic() - began
    assert result.returncode == 0, result.stdout + result.stderr
    report = json.loads(result.stdout)
    print(f"{report['statements']} statements in {seconds:.1f} s")
    assert report["rejected"] == []
    assert report["not_judged"] == []
    assert report["statements"] > 300


@pytest.mark.timeout(SECONDS)
def test_each_fault_is_named_with_file_and_line(project: Path) -> None:
    models = project / "models"
    schedules = models / "staging" / "product" / "stg_product__schedules.sql"
    shifts = models / "staging" / "product" / "stg_product__shifts.sql"
    users = models / "marts" / "core" / "users.sql"
    unit_tests = models / "marts" / "core" / "_core__unit_tests.yml"
    function = change(schedules, "name as schedule_name", "strftime(created_at, '%Y') as schedule_name")
    alias = change(shifts, "from {{ source('product', 'shifts') }}", "from {{ source('product', 'shifts') }} as rows")
    column = change(users, "users.user_role,", "users.user_rolle,")
    change(unit_tests, "{user_id: usr_1, organisation_id: renewed}", "{user_id: usr_1, organisation: renewed}")
    state = write_state(project.parent / "state", {"hightouch": HIGHTOUCH, "explo": EXPLO, "omni": OMNI})

    result = check(project, state=state)
    assert result.returncode == 1, result.stdout + result.stderr
    lines = result.stdout.splitlines()

    def follows(start: str) -> str:
        """The line after the finding that begins so: what it is about."""
        return lines[next(place for place, line in enumerate(lines) if line.startswith(start)) + 1]

    place = schedules.relative_to(project.parent)
    assert "model stg_product__schedules" in follows(f"{place}:{function}:5: Function not found: strftime")
    place = shifts.relative_to(project.parent)
    assert "model stg_product__shifts" in follows(f"{place}:{alias}:")
    assert "Unexpected keyword ROWS" in next(line for line in lines if line.startswith(f"{place}:{alias}:"))
    place = users.relative_to(project.parent)
    assert "model users" in follows(f"{place}:{column}:11: Name user_rolle not found inside users")
    unit_test = next(line for line in lines if line.startswith(str(unit_tests.relative_to(project.parent))))
    assert "Invalid column name: 'organisation'" in unit_test

    # Who reads what the project builds.
    hightouch = next(line for line in lines if "favourite_colour" in line)
    assert "Unrecognized name: favourite_colour" in hightouch
    assert "Hightouch model `Users` of the sync `to-salesforce`" in follows(hightouch)
    explo = next(line for line in lines if "no_such_mart" in line)
    assert "Explo dashboard `Load`, dataset `Gone`" in follows(explo)
    assert not any("dataset `Users`" in line or "By plan" in line for line in lines)
    assert any("finance_sheets.budget" in line for line in lines[lines.index("Not judged:") :])


@pytest.mark.timeout(SECONDS)
def test_a_selection_is_reported_alone(project: Path) -> None:
    result = check(project, "--select", "stg_product__shifts", "--json")
    assert result.returncode == 1, result.stdout + result.stderr
    rejected = json.loads(result.stdout)["rejected"]
    assert {finding["node"] for finding in rejected} == {"model stg_product__shifts"}


def test_without_the_analyzer_the_remedy_is_named(project: Path) -> None:
    """As in the production image."""
    absent = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name == "googlesql":
            raise ModuleNotFoundError("No module named 'googlesql'", name=name)
sys.meta_path.insert(0, Absent())
from orchestration.cli import app
app()
"""
    command = [sys.executable, "-c", absent, "dbt", "check"]
    result = subprocess.run(command, cwd=project.parent, capture_output=True, text=True, timeout=120)
    assert result.returncode == 2
    assert "make install" in result.stderr
