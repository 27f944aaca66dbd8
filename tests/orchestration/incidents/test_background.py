"""Background from a real instance's event log and a real repository."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from orchestration.components import landed_step, source_checks
from orchestration.incidents import background
from orchestration.incidents.background import gather
from orchestration.incidents.model import Background, Staleness
from orchestration.lineage.graph import Asset, Consumer, Graph

SOURCE, MODEL, MART = "product_public/incidents", "staging/incidents", "insights/time"
EXPLO, OMNI = Consumer("explo/time", "customer"), Consumer("omni/staging", "internal")
HOUR = timedelta(hours=1)
GRAPH = Graph({
    asset.key: asset
    for asset in (
        Asset(SOURCE, fresh_within=3 * HOUR),
        Asset("product_public/users"),
        Asset(MODEL, frozenset({SOURCE, "product_public/users"}), code="models/staging/incidents.sql"),
        Asset(MART, frozenset({MODEL}), fresh_within=timedelta(minutes=30), code="models/insights/time.sql"),
        Asset(EXPLO.key, frozenset({MART}), audience="customer"),
        Asset(OMNI.key, frozenset({MODEL}), audience="internal"),
    )
})  # fmt: skip


class Log:
    """An event log whose events happened when the test says."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.now = time.time()

    def made(self, key: str, hours_ago: float) -> datetime:
        return self._at(hours_ago, lambda: self._report(dg.AssetMaterialization(dg.AssetKey.from_user_string(key))))

    def check(self, key: str, hours_ago: float, *changes: str) -> None:
        evaluation = dg.AssetCheckEvaluation(
            asset_key=dg.AssetKey.from_user_string(key),
            check_name="schema",
            passed=not changes,
            severity=dg.AssetCheckSeverity.WARN,
            metadata={"changes": list(changes)} if changes else {},
        )
        self._at(hours_ago, lambda: self._report(evaluation))

    def observed(self, key: str, newest: datetime) -> None:
        metadata = {"dagster/last_updated_timestamp": dg.MetadataValue.timestamp(newest)}
        self._report(dg.AssetObservation(dg.AssetKey.from_user_string(key), metadata=metadata))

    def _at(self, hours_ago: float, report: Callable[[], None]) -> datetime:
        moment = self.now - hours_ago * 3600
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(time, "time", lambda: moment)
            report()
        return datetime.fromtimestamp(moment, UTC)

    def _report(self, event: Any) -> None:
        self.instance.report_runless_asset_event(event)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    (tmp_path / "instance").mkdir()
    with dg.instance_for_test(temp_dir=str(tmp_path / "instance")) as instance:
        yield Log(instance)


class Checkout:
    """A git repository with commits of given times."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.git("init", "-q")

    def commit(self, path: str, subject: str, at: datetime) -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{subject}\n")
        self.git("add", path)
        self.git("commit", "-q", "-m", subject, at=at)

    def git(self, *arguments: str, at: datetime | None = None) -> None:
        when = {"GIT_AUTHOR_DATE": at.isoformat(), "GIT_COMMITTER_DATE": at.isoformat()} if at else {}
        who = {f"GIT_{role}_{part}": value for role in ("AUTHOR", "COMMITTER")
               for part, value in (("NAME", "Ada"), ("EMAIL", "ada@example.com"))}  # fmt: skip
        subprocess.run(["git", "-C", str(self.folder), *arguments], check=True, env=os.environ | who | when)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "checkout")


def look(log: Log, *keys: str, repository: Path = Path("/"), **options: Any) -> Background:
    consumers = GRAPH.blast_radius(keys)
    return gather(log.instance, keys, consumers, GRAPH, 20, repository=repository, **options)


def near(first: datetime | None, second: datetime) -> bool:
    return first is not None and abs(first - second) < timedelta(seconds=2)


def test_the_last_success_is_when_all_of_it_had_been_made(log: Log) -> None:
    assert look(log, SOURCE).last_success is None
    log.made(SOURCE, 5)
    log.made(SOURCE, 2)
    whole = log.made("product_public/users", 4)
    assert near(look(log, SOURCE, "product_public/users", "never/made").last_success, whole)


def test_what_was_made_after_the_failure_or_by_the_run_that_failed_is_no_success(log: Log) -> None:
    first = log.made(MODEL, 6)
    log.made(MODEL, 1)
    since = datetime.fromtimestamp(log.now, UTC) - 2 * HOUR
    assert near(look(log, MODEL, since=since).last_success, first)

    @dg.asset(key=["staging", "incidents"])
    def made() -> None: ...

    failed = dg.materialize([made], instance=log.instance)
    after = datetime.now(UTC) + HOUR
    assert look(log, MODEL, since=after, run_id=failed.run_id).last_success < datetime.now(UTC) - HOUR / 2  # pyright: ignore


def test_commits_to_the_file_since_the_last_success(log: Log, checkout: Checkout) -> None:
    success = log.made(MODEL, 10)
    model = "models/staging/incidents.sql"
    checkout.commit(model, "Before the success", success - HOUR)
    checkout.commit(model, "Count once", success + HOUR)
    checkout.commit("models/insights/time.sql", "Another model", success + 2 * HOUR)
    checkout.commit(model, "Count twice", success + 3 * HOUR)
    told = look(log, MODEL, repository=checkout.folder)
    assert [" ".join(change.split()[2:4]) for change in told.changes] == ["Count twice,", "Count once,"]
    assert all(change.startswith("commit ") and "Ada" in change for change in told.changes)
    assert told.problems == ()


def test_without_a_success_the_newest_commits_are_told(log: Log, checkout: Checkout) -> None:
    for number in range(8):
        checkout.commit("models/staging/incidents.sql", f"Change {number}", datetime.now(UTC) - number * HOUR)
    assert len(look(log, MODEL, repository=checkout.folder).changes) == 5


def test_a_folder_that_is_no_checkout_and_a_machine_without_git_are_said(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [problem] = look(log, MODEL, repository=tmp_path / "nowhere").problems
    assert problem.startswith("commits: fatal: cannot change to")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    [problem] = look(log, MODEL, repository=tmp_path).problems
    assert problem.startswith("commits: fatal: not a git repository")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert look(log, MODEL, repository=tmp_path).problems == ("commits: there is no git here",)
    # What has no file has no commits either.
    assert look(log, SOURCE, repository=tmp_path).problems == ()


def test_schema_changes_at_the_source_since_the_last_success(log: Log, checkout: Checkout) -> None:
    checkout.commit("models/insights/time.sql", "First", datetime.now(UTC) - 99 * HOUR)
    gone = "column acknowledged_at (TIMESTAMP) is gone"
    log.check(SOURCE, 30)
    log.check(SOURCE, 8, gone)
    log.check(SOURCE, 7, gone)
    log.check("product_public/users", 40, "column age (INT64) is new")
    log.made(MART, 20)
    log.check("product_public/users", 5, "column age (INT64) is new")
    [change] = look(log, MART, repository=checkout.folder).changes
    assert change.startswith(f"{SOURCE}: {gone}, noticed ")

    log.made(MART, 6)
    assert look(log, MART, repository=checkout.folder).changes == ()
    log.check(SOURCE, 4, gone, "column id was INT64 and is STRING")
    assert len(look(log, MART, repository=checkout.folder).changes) == 2
    log.check(SOURCE, 1)
    assert look(log, MART, repository=checkout.folder).changes == ()


def test_a_reader_shows_data_as_old_as_the_oldest_that_is_held_up_and_is_late_by_the_policies(log: Log) -> None:
    source = log.made(SOURCE, 5)
    log.made("product_public/users", 99)
    log.made(MODEL, 4)
    log.made(MART, 1)
    explo, omni = look(log, SOURCE).stale
    # The source may be three hours old and is five; the mart, half an hour and one.
    assert (explo.consumer, omni.consumer) == (EXPLO, OMNI)
    assert near(explo.since, source)
    assert near(omni.since, source)
    assert explo.late is not None
    assert abs(explo.late - 2 * HOUR) < timedelta(minutes=1)

    [explo] = look(log, MART).stale
    assert near(explo.since, datetime.fromtimestamp(log.now, UTC) - HOUR)
    assert explo.late is not None
    assert abs(explo.late - HOUR / 2) < timedelta(minutes=1)

    log.made(MART, 0)
    [explo] = look(log, MART).stale
    assert explo.late is None


def test_a_table_that_is_only_observed_is_as_old_as_its_newest_row(log: Log) -> None:
    newest = datetime.now(UTC) - 50 * HOUR
    log.observed(SOURCE, newest)
    log.made(MART, 1)
    explo, _omni = look(log, SOURCE).stale
    assert near(explo.since, newest)
    assert explo.late is not None
    assert explo.late > 46 * HOUR


def test_of_what_was_never_made_nothing_is_known(log: Log) -> None:
    assert look(log, SOURCE).stale == (Staleness(EXPLO, None, None), Staleness(OMNI, None, None))
    foreign = gather(log.instance, ["x/y"], [Consumer("x/z", "internal")], Graph(), 20)
    assert foreign == Background(stale=(Staleness(Consumer("x/z", "internal"), None, None),))
    assert gather(log.instance, [], [], GRAPH, 20) == Background()


def test_without_time_it_says_so_and_with_a_broken_storage_too(log: Log, tmp_path: Path) -> None:
    late = gather(log.instance, [MODEL], [EXPLO], GRAPH, 0)
    assert late.last_success is None
    assert [problem.partition(":")[2] for problem in late.problems] == [" there was no time left to look"] * 4

    for file in (tmp_path / "instance").rglob("*.db"):
        file.write_bytes(b"not a database")
    broken = gather(log.instance, [MODEL], [EXPLO], GRAPH, 20)
    assert "the last success" in broken.problems[0]
    assert all(len(problem) < 300 for problem in broken.problems)


def test_a_repository_that_does_not_answer_costs_no_more_than_its_time(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = tmp_path / "bin" / "git"
    slow.parent.mkdir()
    slow.write_text("#!/bin/sh\nexec sleep 30\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}:{os.environ['PATH']}")
    began = time.monotonic()
    told = gather(log.instance, [MODEL], [EXPLO], GRAPH, 1.5, repository=tmp_path)
    assert time.monotonic() - began < 4
    assert told.problems == ("commits: git took too long",)


def test_the_names_of_the_components_that_it_reads_are_theirs() -> None:
    assert (background.SCHEMA_CHECK, background.CHANGES) == (source_checks.SCHEMA, source_checks.CHANGES)
    assert background.NEWEST == landed_step.NEWEST
