"""What a responder wants to know beside the error: the last success, what changed since, and how old the data is that people see.

Read from Dagster's storage and from the repository's history. None of it is worth an alert that does not go out: what cannot be found
out, or not in time, is said as such.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from orchestration.core.redaction import redact_line
from orchestration.incidents.model import Background, Staleness
from orchestration.lineage.graph import Consumer, Graph
from orchestration.settings import REPOSITORY

SCHEMA_CHECK, CHANGES = "schema", "changes"
"""The check of a source's columns, and what it says of them in its metadata."""
NEWEST = "dagster/last_updated_timestamp"
"""In the metadata of an observation: the time of the newest row, of a table that somebody else fills."""

MOST_COMMITS, MOST_CHANGES = 5, 5
MOST_KEYS = 2_000
"""Assets that are looked at."""
MOST_PATHS = 50
LOOKED_BACK = 20
"""Materializations of an asset, or evaluations of a check, that are looked at for the one that counts."""
FAILED = AssetCheckExecutionRecordStatus.FAILED
ENDED = {AssetCheckExecutionRecordStatus.SUCCEEDED, FAILED}


def gather(
    instance: dg.DagsterInstance,
    keys: Sequence[str],
    consumers: Sequence[Consumer],
    graph: Graph,
    seconds: float,
    *,
    since: datetime | None = None,
    run_id: str | None = None,
    repository: Path = REPOSITORY,
) -> Background:
    """The background of a failure of the assets `keys`, which hurts `consumers`.

    `since` is when it failed and `run_id` the run that did: an asset that was made and then failed its check is no success. What is not
    known after `seconds` is left out. Never raises.
    """
    found = Search(instance, graph, time.monotonic() + seconds)
    keys = list(keys)[:MOST_KEYS]
    # In the order of what helps most: a slow storage or repository costs the rest.
    success = found.attempt("the last success", lambda: found.last_success(keys, since, run_id), None)
    stale = found.attempt("how old the data of its readers is", lambda: found.stale(keys, consumers), ())
    drift = found.attempt("schema changes", lambda: found.schema_changes(keys, success), ())
    commits = found.attempt("commits", lambda: found.commits(keys, success, repository), ())
    return Background(last_success=success, changes=(*drift, *commits), stale=stale, problems=tuple(found.problems))


@dataclass
class Search:
    instance: dg.DagsterInstance
    graph: Graph
    deadline: float
    problems: list[str] = field(default_factory=list[str])

    def attempt[T](self, what: str, look: Callable[[], T], otherwise: T) -> T:
        if self.left <= 0:
            self.problems.append(f"{what}: there was no time left to look")
            return otherwise
        try:
            return look()
        except Exception as error:
            self.problems.append(f"{what}: {_words(error)}")
            return otherwise

    @property
    def left(self) -> float:
        return self.deadline - time.monotonic()

    def last_success(self, keys: Sequence[str], since: datetime | None, run_id: str | None) -> datetime | None:
        """When all of them had been made last: the oldest of their newest times. Assets that were never made do not count."""
        times: list[datetime] = []
        for key, newest in self._latest(keys).items():
            if self.left <= 0:
                raise TimeoutError("there was no time left to look")
            counts = newest is None or _counts(newest, since, run_id)
            entry = newest if counts else self._earlier(key, since, run_id)
            if entry is not None:
                times.append(_moment(entry.timestamp))
        return min(times, default=None)

    def stale(self, keys: Sequence[str], consumers: Sequence[Consumer]) -> tuple[Staleness, ...]:
        """How old what each consumer shows is: as old as the oldest of what it is made of and the failure holds up."""
        below = self.graph.downstream(keys)
        chains = {consumer: self.graph.upstream([consumer.key]) & below for consumer in consumers}
        made = self._data_times(sorted({key for chain in chains.values() for key in chain})[:MOST_KEYS])
        now = datetime.now(UTC)
        return tuple(_staleness(consumer, chain, made, self.graph, now) for consumer, chain in chains.items())

    def schema_changes(self, keys: Sequence[str], since: datetime | None) -> tuple[str, ...]:
        """What the checks of columns warn of, of all that the assets are made of, where it came up after the last success."""
        checks = [_check(key) for key in sorted(self.graph.upstream(keys))[:MOST_KEYS]]
        latest = self.instance.event_log_storage.get_latest_asset_check_execution_by_key(checks)
        failed = [key for key, record in latest.items() if record.status == FAILED]
        said = (words for key in sorted(failed) for words in self._drift(key, since))
        return tuple(words for words, _number in zip(said, range(MOST_CHANGES), strict=False))

    def commits(self, keys: Sequence[str], since: datetime | None, repository: Path) -> tuple[str, ...]:
        """Commits to the files that make the assets, newest first."""
        assets = self.graph.assets
        paths = sorted({code for key in keys if key in assets and (code := assets[key].code)})[:MOST_PATHS]
        if not paths:
            return ()
        after = [f"--since={since.isoformat()}"] if since else []
        told = "--format=%h %s, %an, %cd"
        command = ["git", "-C", str(repository), "log", f"-{MOST_COMMITS}", *after, "--date=format:%d %b %H:%M", told]
        # Nothing may ask for a password, page, or take a lock in a checkout that people work in.
        quiet = os.environ | {"GIT_TERMINAL_PROMPT": "0", "GIT_PAGER": "cat", "GIT_OPTIONAL_LOCKS": "0"}
        result = subprocess.run(
            [*command, "--", *paths],
            capture_output=True, text=True, errors="replace", check=False, env=quiet, timeout=max(self.left, 0.1),
        )  # fmt: skip
        if result.returncode:
            raise OSError(result.stderr.strip() or f"git ended with {result.returncode}")
        return tuple(f"commit {line}" for line in result.stdout.splitlines())

    def _latest(self, keys: Iterable[str]) -> Mapping[str, dg.EventLogEntry | None]:
        found = self.instance.get_latest_materialization_events([dg.AssetKey.from_user_string(key) for key in keys])
        return {key.to_user_string(): entry for key, entry in found.items()}

    def _earlier(self, key: str, since: datetime | None, run_id: str | None) -> dg.EventLogEntry | None:
        before = dg.AssetRecordsFilter(
            asset_key=dg.AssetKey.from_user_string(key), before_timestamp=since.timestamp() if since else None
        )
        records = self.instance.fetch_materializations(before, limit=LOOKED_BACK).records
        entries = (record.event_log_entry for record in records)
        return next((entry for entry in entries if _counts(entry, since, run_id)), None)

    def _data_times(self, keys: Sequence[str]) -> dict[str, datetime]:
        """How new the data of each asset is: when it was made or, where somebody else makes it, the time of its newest row."""
        made: dict[str, datetime] = {}
        latest = self._latest(keys)
        for key in keys:
            if (entry := latest.get(key)) is not None:
                made[key] = _moment(entry.timestamp)
            elif self._is_source(key) and self.left > 0 and (newest := self._observed(key)):
                made[key] = newest
        return made

    def _is_source(self, key: str) -> bool:
        return key in self.graph.assets and not self.graph.assets[key].parents

    def _observed(self, key: str) -> datetime | None:
        for record in self.instance.fetch_observations(dg.AssetKey.from_user_string(key), limit=LOOKED_BACK).records:
            observation = record.asset_observation
            newest = observation.metadata.get(NEWEST) if observation else None
            if newest is not None:
                return _moment(float(str(newest.value)))
        return None

    def _drift(self, check: dg.AssetCheckKey, since: datetime | None) -> Iterator[str]:
        """What a failing check says, if it did not say so before the last success."""
        history = self.instance.event_log_storage.get_asset_check_execution_history(check, LOOKED_BACK, status=ENDED)
        now = _changes(history[0])
        first = history[0]
        for record in history[1:]:
            if record.status != FAILED or _changes(record) != now:
                break
            first = record
        at = _moment(first.event.timestamp if first.event else first.create_timestamp)
        if since is None or at > since:
            table = check.asset_key.to_user_string()
            yield from (f"{table}: {change}, noticed {at:%d %b %H:%M} UTC" for change in now)


def _check(key: str) -> dg.AssetCheckKey:
    return dg.AssetCheckKey(dg.AssetKey.from_user_string(key), SCHEMA_CHECK)


def _counts(entry: dg.EventLogEntry, since: datetime | None, run_id: str | None) -> bool:
    return entry.run_id != run_id and (since is None or entry.timestamp < since.timestamp())


def _changes(record: Any) -> list[str]:
    evaluation = record.evaluation
    changes = evaluation.metadata.get(CHANGES) if evaluation else None
    return [str(change) for change in changes.value] if changes else []


def _staleness(
    consumer: Consumer, chain: set[str], made: Mapping[str, datetime], graph: Graph, now: datetime
) -> Staleness:
    times = [made[key] for key in chain if key in made]
    within = {key: graph.assets[key].fresh_within for key in chain if key in graph.assets}
    late = [late for key in within if (late := _late(made.get(key), within[key], now))]
    since = min(times, default=None)
    # The consumer's own policy is about what it shows, which nobody makes here.
    if own := _late(since, within.get(consumer.key), now):
        late.append(own)
    return Staleness(consumer, since, max(late, default=None))


def _late(made: datetime | None, within: timedelta | None, now: datetime) -> timedelta | None:
    """By how much something is older than it may be; None where it is in time, or nobody has said how old it may be."""
    if made is None or within is None or now - made <= within:
        return None
    return now - made - within


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _words(error: Exception) -> str:
    if isinstance(error, subprocess.TimeoutExpired):
        return "git took too long"
    if isinstance(error, FileNotFoundError):
        return "there is no git here"
    text = redact_line(str(error)) or type(error).__name__
    return text[:200]
