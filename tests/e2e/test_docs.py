"""What the documentation says to do, done: every block of every page, in the order of the page, with the platform of the story.

A page has a checkout of its own, in which it may write files. `tests/docs/pages.py` says what a page can tell these tests.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sandbox import dagster_api
from sandbox.config import REPOSITORY
from sandbox.env_file import environment
from tests.docs.pages import PAGES, SHELL, Step, steps
from tests.e2e.conftest import Platform, wait_for
from tests.e2e.worktrees import worktree
from tests.orchestration.processes import only

pytestmark = [pytest.mark.timeout(1800), pytest.mark.long]

RUN = [page for page in PAGES if any(step.kind == SHELL for step in steps(page))]
FAILS = ", which fails"
TELL_OF_IT = {"README.md", "tutorial.md"}


@pytest.fixture(autouse=True)
def quiet(platform: Platform, page: Path) -> Iterator[None]:
    """Nothing is under way from the page before."""
    # Production follows each sync for minutes, which only the pages that tell of it wait for.
    if page.name in TELL_OF_IT:
        wait_for(lambda: not dagster_api.under_way(platform.config), 900, "the runs before end")
        yield
    else:
        with platform.still():
            yield


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Path]:
    with worktree(tmp_path / "data-platform") as folder:
        yield folder


@pytest.mark.parametrize("page", RUN, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_a_page_does_what_it_says(platform: Platform, checkout: Path, page: Path) -> None:
    environment = reader(platform, checkout)
    said = ""
    for step in steps(page):
        match step.kind:
            case "sh":
                said = shell(step, checkout, environment)
            case "write" | "append":
                put(step, checkout)
            case "in the UI":
                act(platform, step.text)
                said = ""
            case "then":
                expect(platform, step, said)
            case _:
                pass


def reader(platform: Platform, checkout: Path) -> dict[str, str]:
    """The environment of somebody who has activated the environment of a checkout, with the sandbox's settings."""
    programs = Path(sys.executable).parent
    own = {name: value for name, value in platform.environment.items() if name.startswith("SANDBOX_")}
    given = (
        only(environment(platform.config))
        | own
        | {
            # Ahead of the package that is installed, which is the other checkout's.
            "PYTHONPATH": str(checkout),
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            # What a refresh of a page finds is its own: the code location's state stays as it is.
            "DATAPLATFORM_STATE_DIR": str(checkout / ".state"),
            "COLUMNS": "160",
        }
    )
    shutil.copytree(platform.config.root / "state", checkout / ".state")
    return given


def shell(step: Step, checkout: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", step.text],
        cwd=checkout, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{step.where}: exit status {done.returncode}\n{step.text}\n{done.stdout}"
    return done.stdout


def put(step: Step, checkout: Path) -> None:
    path = checkout / step.note
    if step.kind == "append":
        assert path.exists(), f"{step.where}: there is no {step.note}"
        path.write_text(path.read_text().rstrip("\n") + "\n" + step.text)
    else:
        assert not path.exists(), f"{step.where}: there is a {step.note} already"
        path.write_text(step.text)


def act(platform: Platform, what: str) -> None:
    """What a reader does in the UI."""
    verb, _, rest = what.partition(" ")
    if verb == "backfill":
        asset, days = rest.split()
        today = datetime.now(UTC).date()
        wanted = [(today - timedelta(days=n)).isoformat() for n in range(7 + int(days), 7, -1)]
        assert len(dagster_api.backfill(platform.config, [asset], wanted)) == 1
        return
    assert verb == "launch", what
    status = ""
    run = dagster_api.launch(platform.config, job=rest.removesuffix(FAILS))
    for status, _events in dagster_api.follow(platform.config, run, timeout=400):  # noqa: B007
        pass
    assert status == ("FAILURE" if rest.endswith(FAILS) else "SUCCESS")


def expect(platform: Platform, step: Step, said: str) -> None:
    if step.text == "no incident":
        wait_for(lambda: not platform.open_incidents(), 300, f"{step.where}: every incident is closed")
    elif step.text.startswith("incident "):
        title = step.text.removeprefix("incident ")
        wait_for(lambda: any(title in one["name"] for one in platform.open_incidents()), 120, f"{step.where}: {title}")
    else:
        assert re.sub(r"\s+", " ", step.text) in re.sub(r"\s+", " ", said), f"{step.where}: {said}"
