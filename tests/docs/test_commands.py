"""That every command of the documentation is one, and that something runs it. What they do is run by `tests/e2e/test_docs.py`."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest
import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

from orchestration.cli import app as dataplatform
from product_events.__main__ import app as product_events
from sandbox.cli import app as sandbox
from sandbox.config import REPOSITORY
from tests.docs.pages import PAGES, Step, commands, inline, steps

APPS = {"dataplatform": dataplatform, "sandbox": sandbox, "product_events": product_events}
ALIASES = ("mfest", "dbm", "drm", "dbs", "drs")
ELSEWHERE = {
    "dataplatform ci failed": "tests/e2e/test_story_changes.py",
    "dataplatform ci passed": "tests/e2e/test_story_changes.py",
    "dataplatform dbt ci": "tests/e2e/test_story_changes.py",
    "dataplatform dbt deployed": "tests/e2e/test_story_changes.py",
    "sandbox demo": "tests/e2e/conftest.py",
    "sandbox up": "tests/e2e/test_story_delivery.py",
    "sandbox down": "tests/e2e/conftest.py",
    "sandbox reset": "tests/sandbox/test_supervisor.py",
    "make help": "tests/docs/test_commands.py",
    "make install": ".ci/run",
    "make up": "tests/e2e/test_story_delivery.py",
    "make test-long": ".circleci/config.yml",
    "make lint": ".ci/run",
    "make lint-deploy": "Makefile",
    "make dbt-check": ".circleci/config.yml",
    "make definitions": "tests/e2e/test_story_changes.py",
    "make pull-request": "tests/e2e/test_story_changes.py",
    "make pull-request-drop": "tests/e2e/test_story_changes.py",
    "make deployed": "tests/e2e/test_story_changes.py",
    "make on-call-plan": "tests/e2e/test_story_changes.py",
    "make reference": "tests/docs/test_reference.py",
}
"""What no page's block runs, and the file that runs it."""
NOT_RUN = {
    "make image": "a Docker engine",
    "make roll-out": "a machine or a cluster; tests/deploy/test_files.py reads its script",
    "make docs": "serves until it is stopped; `dataplatform docs --no-serve` is run",
    "make format": "rewrites the checkout",
    "make clean": "deletes the environment that runs the tests",
}
"""What nothing runs, and what that would take."""


@pytest.fixture(autouse=True)
def project(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a reader has set: some options are read from it."""
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "acme-data")


def leaves(command: TyperCommand | TyperGroup, path: Sequence[str]) -> Iterator[str]:
    """Every command of a program, as it is typed."""
    if isinstance(command, TyperGroup):
        for name, below in command.commands.items():
            yield from leaves(below, [*path, name])
    else:
        yield " ".join(path)


def typed(words: Sequence[str]) -> list[str]:
    """A command's words with `python -m` and the short names of `dataplatform dbt` taken away."""
    if words[:2] == ["python", "-m"]:
        return list(words[2:])
    return ["dataplatform", "dbt", *words] if words[0] in ALIASES else list(words)


def known(words: Sequence[str]) -> str:
    """The command that is meant, as it is typed without its arguments. Raises ValueError where there is none like it."""
    program, *arguments = typed(words)
    if program == "make":
        if arguments and arguments[0] not in targets():
            raise ValueError(f"make has no target {arguments[0]}")
        return " ".join([program, *arguments[:1]])
    path, command = [program], typer.main.get_command(APPS[program])
    context = command.make_context(program, list(arguments), resilient_parsing=True)
    try:
        while isinstance(command, TyperGroup) and arguments and not arguments[0].startswith("-"):
            name, command, arguments = command.resolve_command(context, list(arguments))
            path.append(str(name))
            # Its arguments are read as they would be; but a command that is only named may lack them.
            only_named = isinstance(command, TyperGroup) or not arguments or "--help" in arguments
            context = command.make_context(name, list(arguments), parent=context, resilient_parsing=only_named)
    except TyperException as error:
        raise ValueError(error.format_message()) from error
    return " ".join(path)


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):.*##", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))


def ours(words: Sequence[str]) -> bool:
    return typed(words)[0] in {*APPS, "make"}


@cache
def run_by_pages() -> set[str]:
    """The commands of the blocks that are run, with their page or elsewhere."""
    blocks = [step.text for page in PAGES for step in steps(page) if step.kind in {"sh", "tested by"}]
    return {known(words) for text in blocks for words in commands(text) if ours(words)}


def named(page: Path) -> Iterator[tuple[int, list[str]]]:
    """Commands of ours that a page names, in its text and in blocks, with their lines."""
    for line, text in inline(page):
        for words in commands(text):
            yield line, words
    for step in steps(page):
        if step.kind in {"sh", "tested by", "not run"}:
            for words in commands(step.text):
                yield step.line, words
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if line.startswith("$ ") and page.name != "cli.md":
            yield number, shlex.split(line.removeprefix("$ "))


def id_of(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


@pytest.mark.parametrize("page", PAGES, ids=id_of)
def test_every_command_that_a_page_names_is_one_and_is_run(page: Path) -> None:
    run = run_by_pages() | ELSEWHERE.keys() | NOT_RUN.keys()
    for line, words in named(page):
        if not ours(words):
            continue
        try:
            command = known(words)
        except ValueError as error:
            pytest.fail(f"{id_of(page)}:{line}: `{shlex.join(words)}`: {error}")
        accounted = any(command == path or path.startswith(f"{command} ") for path in run)
        assert accounted, f"{id_of(page)}:{line}: nothing runs `{command}`: put it into a block, or into ELSEWHERE"


def test_every_command_there_is_is_run() -> None:
    programs = [leaves(typer.main.get_command(app), [name]) for name, app in APPS.items()]
    there = {path for program in programs for path in program} | {f"make {target}" for target in targets()}
    assert sorted(there - run_by_pages() - ELSEWHERE.keys() - NOT_RUN.keys()) == []


def test_what_is_said_of_commands_that_no_page_runs_is_so() -> None:
    assert [name for name, path in ELSEWHERE.items() if name.split()[-1] not in (REPOSITORY / path).read_text()] == []
    assert sorted((ELSEWHERE.keys() | NOT_RUN.keys()) & run_by_pages()) == []
    help_ = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout
    assert {line.split()[0] for line in help_.splitlines()} == targets()


@pytest.mark.parametrize("page", PAGES, ids=id_of)
def test_a_block_of_commands_says_so_and_one_that_is_not_run_says_what_runs_it(page: Path) -> None:
    found = steps(page)
    assert [step.where for step in found if step.kind == "tested by" and not (REPOSITORY / step.note).is_file()] == []
    assert not re.search(r"^\s*```(bash|shell|zsh)", page.read_text(), re.MULTILINE), "such a block is `sh` here"


@pytest.mark.parametrize("page", PAGES, ids=id_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]*)(?:#[^)\s]*)?\)", page.read_text()):
        if target and not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=id_of)
def test_links_into_a_page_name_a_heading_of_it(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#([^)\s]*)\)", page.read_text()):
        if not re.match(r"[a-z]+:", target):
            assert anchor in anchors((page.parent / target) if target else page), f"{target}#{anchor}"


def anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub links to them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("step", [s for p in PAGES for s in steps(p) if s.kind == "sh"], ids=lambda step: step.where)
def test_a_block_is_shell(step: Step) -> None:
    read = subprocess.run(["bash", "-n"], input=step.text, capture_output=True, text=True)
    assert read.returncode == 0, read.stderr
