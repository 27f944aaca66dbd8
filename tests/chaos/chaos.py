"""Carries a plan out on a real platform, keeps the books of what was broken when, and compares them with what incident.io holds.

The books know three things: what was ordered, what the steps themselves wrote into the journal before they did it, and how Dagster says
that a run or a tick has ended.
"""

from __future__ import annotations

import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import httpx
import psutil
import psycopg
from dagster import DagsterRunStatus, RunsFilter
from dagster._core.scheduler.instigation import TickStatus
from dagster._core.storage.tags import PARENT_RUN_ID_TAG, WILL_RETRY_TAG

from orchestration.incidents.render import MOST_ITEMS
from orchestration.lineage.failures import FailedUnit, to_metadata
from sandbox.clock import Clock
from sandbox.services import postgres
from sandbox.services.platform import LOCATION
from sandbox.vendors import rate_limits
from sandbox.vendors.incident_io import ALERT_EVENTS
from tests.chaos import hostile, late_commit, names
from tests.chaos.orders import Do, words
from tests.chaos.plan import SLOW, STRIKES, Episode, Plan, Strike
from tests.chaos.platform import (
    BEAT,
    CODE_SERVER,
    DAEMON,
    POSTGRES,
    SECOND_SERVER,
    Alert,
    Platform,
    wait_for,
)
from tests.chaos.truth import HICCUP_SECONDS, Dropped, Page, Period, Told, Verdict, compare

AT_ONCE, SLOW_AT_ONCE = 5, 3
RUN_SECONDS = 420.0
"""The longest that Dagster takes to say how a run has ended is three minutes: for one that does not react to being cancelled, and for one
whose death nobody noticed. They begin when the run has started, which took 73 s on a busy machine. The rest is the machine's."""
MENDINGS = 8
"""Runs in which what was broken has to be made. Each may meet another strike."""
OPENED_SECONDS, RESOLVED_SECONDS = 90.0, 90.0
SETTLE_SECONDS, SETTLE_DROPPED_SECONDS, STEADY_SECONDS = 360.0, 1500.0, 12.0
"""How long the end is waited for (what is removed has to be missing for three minutes), also where incident.io has lost notifications, and for how long it has to stay as it is: two of
the daemon's rounds."""
DAY_SECONDS = 86400.0
NEAR_SECONDS = 60.0
"""Before and after an outage, in which its beginning and its end may be noticed."""
READ_ELSEWHERE = frozenset((*names.CROSSING, *names.SHARED))
"""Assets that are read by a customer in the other code location only."""
FILLERS = (0, 0, 6_000)
"""Events that are written while a transaction takes its time."""
OF_SECOND = ("elsewhere", "crossing", "removed")
"""Kinds of episodes in the second code location; an asset of `names.SHARED` is in the first."""
NO_ASSETS = ("hook", "notice")
"""Kinds of episodes that break something that makes no asset."""
ALERT_EVENTS_PATH = "/v2/alert_events"
"""The requests that the alert source's token is for."""
REMOVED_WORDS = "no longer part of"
"""What the alert of something that was removed says at its end."""
PROGRESS_SECONDS = 15.0
IMPLICIT = "__ASSET_JOB"
WHOLE_RUN = ("run/", "cause/")
"""A run that ended with no step to blame, alone or together with others that the same thing has ended."""
SAME_STREAK = 20.0
"""Ticks that fail so soon after one another are one story: it may be told as one, or as several."""

Say = Callable[[str], None]


@dataclass
class Books:
    """What was injected. Episodes are carried out side by side."""

    periods: list[Period] = field(default_factory=list)
    silent: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, *periods: Period) -> None:
        with self.lock:
            self.periods += periods

    def hush(self) -> None:
        """Something happened of which nobody is to hear."""
        with self.lock:
            self.silent += 1


def unleash(platform: Platform, plan: Plan, duration: float, say: Say) -> Verdict:
    """Carry the plan out, mend everything, and compare."""
    driver = Driver(platform, say)
    until = driver.began + duration
    with (
        ThreadPoolExecutor(AT_ONCE) as pool,
        ThreadPoolExecutor(SLOW_AT_ONCE) as slow,
        ThreadPoolExecutor(len(plan.strikes) or 1) as strikers,
    ):
        work: dict[Future[None], Episode | Strike] = {strikers.submit(driver.strike, one): one for one in plan.strikes}
        work |= {(slow if one.kind in SLOW else pool).submit(driver.live, one, until): one for one in plan.episodes}
        while wait(work, PROGRESS_SECONDS).not_done:
            driver.progress()
    unfinished = tuple(_unfinished(work))
    say("what is broken is mended: waiting for the end")
    return replace(driver.settled(), unfinished=unfinished)


def _unfinished(work: Mapping[Future[None], Episode | Strike]) -> Iterator[str]:
    for done, what in work.items():
        if (error := done.exception()) is not None:
            traceback.print_exception(error)
            yield f"{what}: {error!r}"


class Driver:
    def __init__(self, platform: Platform, say: Say) -> None:
        self._platform, self._tell, self.began = platform, say, time.monotonic()
        self._began_at = time.time()
        self._books = Books()
        self._parts = {what: threading.Lock() for what in STRIKES}
        self._unloaded: list[tuple[float, float]] = []
        """When the second code location did not load."""
        self._removed_sensors: dict[str, tuple[float, float]] = {}
        """Sensor to when it began to fail and when it was removed."""

    def say(self, text: str) -> None:
        self._tell(f"[{time.monotonic() - self.began:5.0f} s] {text}")

    def progress(self) -> None:
        try:
            alerts = self._platform.alerts()
            held = f"incident.io holds {len(alerts)} alerts, {sum(alert.open for alert in alerts)} of them open"
        except httpx.HTTPError:
            held = "incident.io does not answer"
        self.say(f"{len(self._books.periods) + self._books.silent} failures so far; {held}")

    # What strikes the platform

    def strike(self, strike: Strike) -> None:
        time.sleep(max(0.0, self.began + strike.at - time.monotonic()))
        with self._parts[strike.what]:
            self.say(f"{strike.what} {strike.how or 'is struck'} for {strike.lasts:.0f} s")
            match strike.what:
                case "daemon":
                    self._platform.kill(DAEMON)
                    time.sleep(strike.lasts)
                    self._platform.start(DAEMON)
                case "code-server":
                    began = time.time()
                    self._kill_code_server()
                    time.sleep(strike.lasts)
                    self._platform.start(CODE_SERVER)
                    self._books.add(_unreached(began, time.time()))
                case "second-server":
                    began = time.time()
                    self._platform.orders.give(names.BROKEN_LOCATION)
                    self._platform.restart(SECOND_SERVER)
                    time.sleep(strike.lasts)
                    self._platform.orders.withdraw(names.BROKEN_LOCATION)
                    self._platform.restart(SECOND_SERVER)
                    self._unloaded.append((began, time.time()))
                case "incident-io":
                    self._strike_incident_io(strike)
                    time.sleep(strike.lasts)
                    self._platform.faults.remove("incident_io")
                    rate_limits.reset(self._platform.vendors.store, "incident_io")
                case "lock":
                    self._lock_tables(strike.lasts)
                case _:
                    self._stop_postgres(strike.lasts)

    def _strike_incident_io(self, strike: Strike) -> None:
        faults = self._platform.faults
        match strike.how:
            case "revoked":
                faults.add("incident_io", ALERT_EVENTS_PATH, "http_401")
            case "storm":
                faults.add("incident_io", kind="http_429", params={"retry_after": round(strike.lasts / 2)})
            case "limit":
                rate_limits.override(self._platform.vendors.store, "incident_io", ALERT_EVENTS, 6, 60, 2)
            case how:
                faults.add("incident_io", kind=how)

    def _kill_code_server(self) -> None:
        """The process that is known by its port, and the one behind it that has the code. The runs that they started live on."""
        pid = self._platform.supervisor.pid(CODE_SERVER)
        behind = [one for one in psutil.Process(pid).children() if "grpc" in one.cmdline()] if pid else []
        self._platform.kill(CODE_SERVER)
        for one in behind:
            one.kill()

    def _lock_tables(self, seconds: float) -> None:
        with psycopg.connect(postgres.dsn(self._platform.config, postgres.DAGSTER), connect_timeout=60) as connection:
            connection.execute("lock table event_logs, runs in access exclusive mode")
            time.sleep(seconds)
            connection.rollback()

    def _stop_postgres(self, seconds: float) -> None:
        pid = self._platform.supervisor.pid(POSTGRES)
        assert pid is not None
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        _signal(family, signal.SIGSTOP)
        time.sleep(seconds)
        _signal(family, signal.SIGCONT)

    # What goes wrong

    def live(self, episode: Episode, until: float) -> None:
        """One episode, from the failure to the mending. After `until` none begins."""
        time.sleep(max(0.0, self.began + episode.at - time.monotonic()))
        if time.monotonic() > until:
            return
        self._once(episode)
        if episode.returns and time.monotonic() < until:
            self._resolved(episode)
            self._once(episode)

    def _once(self, episode: Episode) -> None:
        match episode.kind:
            case "vendor":
                self._at_the_vendor(episode)
            case "late":
                self._committed_late(episode)
            case "unreadable":
                self._unreadable(episode)
            case "removed":
                self._removed(episode)
            case "sensor":
                self._platform.orders.give(names.SECOND_SENSOR)
                time.sleep(episode.lasts)
                self._platform.orders.withdraw(names.SECOND_SENSOR)
            case "cancelled":
                self._cancelled(episode)
            case _:
                self._in_runs(episode)

    def _in_runs(self, episode: Episode) -> None:
        room = Round(self._platform, episode, self._books)
        room.order()
        room.run("retried" if episode.kind in {"transient", "retried"} else IMPLICIT)
        if episode.again and episode.kind not in {"transient", "retried"}:
            room.run(IMPLICIT)
        if episode.kind in NO_ASSETS:
            room.run_unrelated()
        time.sleep(episode.lasts)
        room.mend()

    def _cancelled(self, episode: Episode) -> None:
        room = Round(self._platform, episode, self._books)
        room.order()
        run_id = self._platform.launch(room.planned)
        hangs = lambda: any(entry.run_id == run_id for entry in self._platform.orders.journal())  # noqa: E731
        wait_for(lambda: hangs() or self._platform.status(run_id).is_finished, RUN_SECONDS, f"{run_id} hangs")
        deadline = time.monotonic() + RUN_SECONDS
        while not self._platform.status(run_id).is_finished:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{run_id} could not be cancelled")
            self._platform.try_to(lambda: self._platform.cancel(run_id))
            time.sleep(2)
        room.judge([run_id])
        room.mend()

    def _at_the_vendor(self, episode: Episode) -> None:
        [key] = episode.keys
        unit, asset, began = f"fivetran/{key}", dg.AssetKey(key.split("/")), time.time()
        failed = to_metadata([FailedUnit(unit, (key,), words(unit))])
        instance = self._platform.instance
        for _time in range(1 + episode.again):
            instance.report_runless_asset_event(dg.AssetObservation(asset, metadata=failed))
            time.sleep(episode.lasts)
        instance.report_runless_asset_event(dg.AssetMaterialization(asset))
        self._books.add(Period((unit,), frozenset({key}), began, time.time(), _page([key])))

    def _committed_late(self, episode: Episode) -> None:
        """A failure is reported outside of Dagster, by a transaction that takes minutes while others write later events."""
        [key] = episode.keys
        unit, asset = f"fivetran/{key}", dg.AssetKey(key.split("/"))
        instance = self._platform.instance
        report = dg.AssetObservation(asset, metadata=to_metadata([FailedUnit(unit, (key,), words(unit))]))
        # A lock of the whole table would wait for this transaction, and everything else for the lock.
        with self._parts["lock"]:
            self.say(f"{key} is reported by a commit {episode.waits:.0f} s late")
            at = late_commit.report(instance, report, episode.waits, FILLERS[episode.form % len(FILLERS)])
        time.sleep(episode.lasts)
        instance.report_runless_asset_event(dg.AssetMaterialization(asset))
        self._books.add(Period((unit,), frozenset({key}), at, time.time(), _page([key])))

    def _unreadable(self, episode: Episode) -> None:
        """A record that cannot be read: written by a run that goes on, or from outside."""
        [key] = episode.keys
        asset, instance = dg.AssetKey(key.split("/")), self._platform.instance
        if episode.form % 2:
            room = Round(self._platform, episode, self._books)
            room.order()
            for _time in range(1 + episode.again):
                room.run(IMPLICIT)
            room.mend()
        else:
            instance.report_runless_asset_event(dg.AssetObservation(asset, metadata=hostile.metadata(episode.form)))
        # A run that was cut off may not have come to it, or may have done it twice.
        for record in instance.fetch_observations(asset, limit=100).records:
            at = record.timestamp
            self._books.add(
                Period(("unreadable/",), frozenset({key}), at, at + DAY_SECONDS, _page([key]), stays_open=True)
            )

    def _removed(self, episode: Episode) -> None:
        """An asset or sensor of the second code location fails, and the next deployment does not have it any more."""
        [name] = episode.keys
        began = time.time()
        if name in names.REMOVABLE_SENSORS:
            self._platform.orders.give(name)
            unit = f"tick/{names.SECOND_LOCATION}/{name}"
            self._opened(lambda alert: unit == alert.unit, HICCUP_SECONDS + OPENED_SECONDS)
            self._removed_sensors[name] = (began, self._remove(name))
            return
        room = Round(self._platform, episode, self._books)
        room.order()
        room.run(IMPLICIT)
        self._opened(lambda alert: name in alert.assets, OPENED_SECONDS)
        room.end_by_removal(self._remove(name))

    def _remove(self, name: str) -> float:
        """Deploy the second code location without an asset or sensor; return when that began, in seconds since the epoch."""
        with self._parts["second-server"]:
            self.say(f"{name} is removed")
            at = time.time()
            self._platform.orders.give(names.removal(name))
            self._platform.restart(SECOND_SERVER)
        return at

    def _opened(self, is_right: Callable[[Alert], bool], seconds: float) -> None:
        """Wait until an alert is open. One that does not open is found at the end."""

        def look() -> bool:
            try:
                return any(alert.open and is_right(alert) for alert in self._platform.alerts())
            except httpx.HTTPError:
                return False

        self._platform.try_to(lambda: wait_for(look, seconds, "it is open"))

    def _resolved(self, episode: Episode) -> None:
        """Wait until nothing of the episode is open: what fails again sooner belongs to the first alert."""
        keys = set(Round(self._platform, episode, self._books).planned)

        def look() -> bool:
            try:
                return not any(alert.open and alert.assets & keys for alert in self._platform.alerts())
            except httpx.HTTPError:
                return False

        # An alert that stays open is found at the end.
        self._platform.try_to(lambda: wait_for(look, RESOLVED_SECONDS, "it is resolved"))

    # The comparison

    def settled(self) -> Verdict:
        """The verdict, as soon as it is good and stays so; else the last one."""
        seconds = SETTLE_DROPPED_SECONDS if self._platform.dropped() else SETTLE_SECONDS
        deadline, good_since = time.monotonic() + seconds, None
        while True:
            verdict = self.verdict()
            now = time.monotonic()
            good_since = (good_since or now) if verdict.good else None
            if now > deadline or (good_since and now - good_since > STEADY_SECONDS):
                return verdict
            time.sleep(2)

    def verdict(self) -> Verdict:
        injected = (with_unknown_readers(period, self._unloaded) for period in self._books.periods)
        periods, alerts = [*injected, *self._ticks()], self._platform.alerts()
        found = [*told(alerts), *raised_from_outside(self._platform.pages())]
        return compare(periods, self._books.silent, found, self._dropped())

    def _dropped(self) -> list[Dropped]:
        if not (events := self._platform.dropped()):
            return []
        # incident.io's clock was set to another time when the platform was started.
        ahead = Clock(self._platform.config.root).now() - datetime.now(UTC)
        return [
            Dropped(event["deduplication_key"], (datetime.fromisoformat(event["received_at"]) - ahead).timestamp())
            for event in events
            if event["status"] == "firing"
        ]

    def _ticks(self) -> list[Period]:
        """From Dagster's own records: sensors and schedules that could not be asked, or that failed."""
        found: list[Period] = []
        for state in self._platform.instance.all_instigator_state():
            name = state.instigator_name
            ticks = self._platform.ticks_of(state, self._began_at)
            location = state.origin.repository_origin.code_location_origin.location_name
            full_name = name if location == LOCATION else f"{location}/{name}"
            periods = streaks(full_name, [(tick.timestamp, tick.status == TickStatus.FAILURE) for tick in ticks])
            if (removed := self._removed_sensors.get(name)) is not None:
                periods = [until_removal(one, *removed) for one in periods]
            found += periods
        return found


class Round:
    """One failure of an episode, and its mending: which runs it took, how they ended, and what was broken from when to when."""

    def __init__(self, platform: Platform, episode: Episode, books: Books) -> None:
        self._platform, self._episode, self._books = platform, episode, books
        self._open: dict[tuple[str, ...], Period] = {}
        self._cut_off = set[str]()
        """The jobs whose runs ended with no step to blame: each is a unit of its own."""
        in_second = episode.kind in OF_SECOND and episode.keys[0] not in names.SHARED
        self._location = names.SECOND_LOCATION if in_second else LOCATION
        match episode.kind:
            case "pair":
                self.planned: tuple[str, ...] = names.halves(episode.keys[0])
            case "chain":
                self.planned = names.links(episode.keys[0])
            case _:
                self.planned = episode.keys
        self._ordered = {
            "chain": self.planned[:1],
            "check": tuple(names.order_of_check(key, names.CHECK) for key in self.planned),
            "warning": tuple(names.order_of_check(key, names.WARNING) for key in self.planned),
        }.get(episode.kind, self.planned)

    def order(self) -> None:
        others: dict[str, Do] = {
            "killed": "kill",
            "cancelled": "hang",
            "unreadable": "observe",
            "misreported": "misreport",
        }
        do = others.get(self._episode.kind, "fail")
        for key in self._ordered:
            # The halves of a pair fail with one error.
            about = key.rpartition("/")[0] if self._episode.kind == "pair" else key
            once = self._episode.kind == "transient"
            self._platform.orders.give(key, do, words(about), once=once, number=self._episode.form)
        if self._episode.kind == "behind":
            self._platform.orders.give(names.CLOCK_BEHIND)

    def _launch(self, job: str, **tags: str) -> str:
        if self._episode.kind == "hook":
            return self._platform.launch(job=names.HOOK_JOB, ops=self.planned, **tags)
        return self._platform.launch(self.planned, job, location=self._location, **tags)

    def _tags(self) -> dict[str, str]:
        """Return the tags with which it fails."""
        match self._episode.kind:
            case "behind":
                return {names.BEHIND_TAG: f"{self._episode.waits:.1f}"}
            case "misreported" | "unreadable":
                return hostile.TAGS if self._episode.form // len(hostile.REPORTS) % 2 else {}
            case _:
                return {}

    def run_unrelated(self) -> None:
        """Let other things succeed. That proves nothing about what is broken, whose alert stays open."""
        selections: list[dict[str, Any]] = [{"keys": [names.UNRELATED]}]
        if self._episode.kind == "hook":
            selections.append({"job": names.HOOK_JOB, "ops": [names.UNRELATED_HOOK]})
        for selection in selections:
            for _try in range(MENDINGS):
                run_id = self._platform.launch(**selection)
                if self._platform.ended(run_id, RUN_SECONDS).status == DagsterRunStatus.SUCCESS:
                    break
                self._judge_unrelated(run_id, selection)
            else:
                raise RuntimeError(f"{selection} cannot be made")
        self._hold_open(time.time())

    def _judge_unrelated(self, run_id: str, selection: Mapping[str, Any]) -> None:
        """A run of something else that a strike has cut off is a failure, too; the next run of the same is its recovery."""
        if self._platform.failed(run_id):
            at, keys = self._end(run_id), frozenset(selection.get("keys", ()))
            self._books.add(Period(WHOLE_RUN, keys, at, time.time() + RUN_SECONDS, "later", optional=True))

    def _hold_open(self, at: float) -> None:
        """Note that nothing has recovered until a time. A run with no step to blame has recovered when any run of its job succeeds."""
        self._open = {
            unit: period if unit == WHOLE_RUN else replace(period, not_before=at) for unit, period in self._open.items()
        }

    def end_by_removal(self, at: float) -> None:
        """Note that what failed is not part of its code location any more, from a time on."""
        for key in self._ordered:
            self._platform.orders.withdraw(key)
        periods = [replace(one, end=time.time(), not_before=at, removed=True) for one in self._open.values()]
        self._books.add(*periods)

    def run(self, job: str) -> None:
        """One run with, where the job has them, its retries."""
        runs = [self._launch(job, **self._tags())]
        while True:
            run = self._platform.ended(runs[-1], RUN_SECONDS)
            if not self._platform.failed(run.run_id) or job == IMPLICIT or len(runs) > 1:
                break
            if (retry := self._retry_of(run.run_id)) is None:
                break
            runs.append(retry)
        self.judge(runs)

    def _retry_of(self, run_id: str) -> str | None:
        """The run that tries again; None where Dagster has given that up, as it does when it cannot launch the retry at once."""

        def look() -> list[str | None]:
            found = self._platform.instance.get_runs(RunsFilter(tags={PARENT_RUN_ID_TAG: run_id}))
            run = self._platform.status(run_id)
            given_up = run.tags.get(WILL_RETRY_TAG) == "false" or run.status == DagsterRunStatus.CANCELED
            return [run.run_id for run in found] or ([None] if given_up else [])

        return wait_for(look, RUN_SECONDS, f"Dagster tries {run_id} again")[0]

    def mend(self) -> None:
        for key in self._ordered:
            self._platform.orders.withdraw(key)
        ended, tries = time.time(), 0
        while self._open or self._episode.kind in {"warning", "cancelled"}:
            if (tries := tries + 1) > MENDINGS:
                raise RuntimeError(f"{self.planned} cannot be mended")
            # A machine whose clock is behind may make again what failed on such a machine, but not what Dagster's daemon called a failure.
            behind = self._episode.kind == "behind" and self._episode.form % 2 and WHOLE_RUN not in self._open
            run_id = self._launch(IMPLICIT, **(self._tags() if behind else {}))
            if self._platform.ended(run_id, RUN_SECONDS).status == DagsterRunStatus.SUCCESS:
                ended = time.time() if self._episode.kind == "behind" else self._end(run_id)
                break
            self.judge([run_id])
        self._books.add(*(replace(period, end=ended) for period in self._open.values()))

    def judge(self, runs: Sequence[str]) -> None:
        """What the end of a run, or of a run and its retry, means by what was ordered."""
        last = self._platform.status(runs[-1])
        tried_again = len(runs) > 1
        for run_id in runs:
            for unit, (at, keys) in self._broken(run_id).items():
                whole = unit == WHOLE_RUN
                if whole:
                    self._cut_off.add(self._platform.status(run_id).job_name)
                no_assets = self._episode.kind == "hook" or (self._episode.kind == "notice" and not whole)
                known_keys = frozenset[str]() if no_assets else frozenset(keys)
                period = Period(unit, known_keys, at, self._end(run_id), _page(keys), optional=whole and tried_again)
                if tried_again and last.status == DagsterRunStatus.SUCCESS:
                    self._books.add(replace(period, end=self._end(last.run_id), page="never", optional=False))
                else:
                    known = self._open.get(unit, period)
                    self._open[unit] = replace(known, most=len(self._cut_off) if whole else 1)
        silent = {"cancelled": DagsterRunStatus.CANCELED, "warning": DagsterRunStatus.SUCCESS}
        if silent.get(self._episode.kind) == last.status and not self._platform.failed(last.run_id):
            self._books.hush()

    def _broken(self, run_id: str) -> dict[tuple[str, ...], tuple[float, tuple[str, ...]]]:
        """The units that a run has broken, each with when and which of its assets."""
        run = self._platform.status(run_id)
        entries = [entry for entry in self._platform.orders.journal() if entry.run_id == run_id]
        if run.status == DagsterRunStatus.SUCCESS and self._episode.kind == "check":
            return {
                (names.check(key),): (self._end(run_id), (key,)) for key in self.planned if self._ordered_to_fail(key)
            }
        if not self._platform.failed(run_id):
            return {}
        found: dict[tuple[str, ...], tuple[float, tuple[str, ...]]] = {}
        for entry in entries:
            if entry.did in {"fail", "misreport"}:
                at, keys = found.get(_unit(entry.key), (entry.at, ()))
                found[_unit(entry.key)] = (at, (*keys, entry.key))
        return found or {WHOLE_RUN: (self._end(run_id), self.planned)}

    def _ordered_to_fail(self, key: str) -> bool:
        return self._platform.orders.has(names.order_of_check(key, names.CHECK))

    def _end(self, run_id: str) -> float:
        record = self._platform.instance.get_run_record_by_id(run_id)
        return (record.end_time if record else None) or time.time()


def told(alerts: Iterable[Alert]) -> list[Told]:
    """What incident.io holds, in the words of the comparison. A key that is used again after it was resolved counts as two."""
    found: list[Told] = []
    for alert in alerts:
        # A resolution alone opens nothing: the notification before it was lost, and what had failed recovered before it was sent again.
        lives = [life for life in alert.lives() if any(event["status"] == "firing" for event in life)]
        for number, life in enumerate(lives):
            page: Page = "at once" if alert.paged_at_once else "later" if alert.pages else "never"
            ended = life[-1]["metadata"].get("recovered_at") if life[-1]["status"] == "resolved" else None
            firing = [event["metadata"] for event in life if event["status"] == "firing"]
            found.append(
                Told(
                    key=f"{alert.key} (again)" if number else alert.key,
                    unit=alert.unit,
                    assets=frozenset(key for metadata in firing for key in metadata.get("assets", ())),
                    start=datetime.fromisoformat(firing[0]["failed_at"]).timestamp(),
                    end=datetime.fromisoformat(ended).timestamp() if ended else None,
                    page=page,
                    pages=len(alert.pages),
                    flapping=bool(firing[-1].get("flapping")),
                    removed=life[-1]["status"] == "resolved" and REMOVED_WORDS in str(life[-1]),
                    last_seen=tuple(_last_seen(metadata) for metadata in firing),
                    named_at=_named_at(firing),
                    is_cut=any(len(metadata.get("assets", ())) >= MOST_ITEMS for metadata in firing),
                )
            )
    return found


def _last_seen(metadata: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(metadata.get("last_seen", metadata["failed_at"])).timestamp()


def _named_at(firing: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for metadata in firing:
        found = dict.fromkeys(metadata.get("assets", ()), _last_seen(metadata)) | found
    return found


def raised_from_outside(pages: Iterable[Mapping[str, Any]]) -> list[Told]:
    """The alerts that incident.io has raised because no sign of life came. Nothing is dead for so long: nobody has earned their pages."""
    found: list[Told] = []
    for page in pages:
        if (key := page["deduplication_key"] or "").startswith(BEAT):
            at = datetime.fromisoformat(page["due_at"]).timestamp()
            found.append(Told(key, key, frozenset(), at, at, "at once", 1, flapping=False))
    return found


def _unreached(start: float, end: float) -> Period:
    """A schedule whose code cannot be reached is evaluated again as the same tick: of its failure Dagster keeps no record."""
    schedule = f"tick/{names.SCHEDULE}"
    return Period((schedule,), frozenset(), start, end, "never", frozenset({"later"}), optional=True)


def streaks(name: str, ticks: Iterable[tuple[float, bool]]) -> list[Period]:
    """The times in which the ticks of one sensor or schedule failed. `ticks` are their times with whether they failed."""
    found: list[Period] = []
    failing = False
    for at, failed in sorted(ticks):
        if failed and not failing and found and at - found[-1].end < SAME_STREAK:
            found[-1] = replace(found[-1], most=found[-1].most + 1)
        elif failed and not failing:
            found.append(Period((f"tick/{name}", "cause/"), frozenset(), at, at, "later", frozenset({"never"})))
        if failing or failed:
            found[-1] = replace(found[-1], end=at)
        failing = failed
    # Of several outages that are one period, each by itself may have been short.
    return [
        replace(one, may_page=frozenset()) if one.most == 1 and one.end - one.start > HICCUP_SECONDS else one
        for one in found
    ]


def with_unknown_readers(period: Period, unloaded: Iterable[tuple[float, float]]) -> Period:
    """Return a period that may page otherwise, too, where it is not known whom it affects, as the second code location did not load then.

    An asset of that location may count as urgent, and a customer's consumer there is not known. `unloaded` are the times in which
    it did not load, in seconds since the epoch.
    """
    otherwise: dict[Page, tuple[Page, tuple[str, ...]]] = {
        "later": ("at once", (*names.SECOND, *names.REMOVABLE)),
        "at once": ("later", names.SHARED),
        "never": ("never", ()),
    }
    page, keys = otherwise[period.page]
    near = any(began - NEAR_SECONDS < period.end and period.start < ended + NEAR_SECONDS for began, ended in unloaded)
    return replace(period, may_page=period.may_page | {page}) if near and period.keys & frozenset(keys) else period


def until_removal(period: Period, began: float, removed: float) -> Period:
    """Return the time in which a sensor failed as one that ends by its removal, where it fails on purpose. Times are in seconds since the epoch."""
    if period.end < began:
        return period
    return replace(period, end=removed, not_before=removed, removed=True)


def _unit(key: str) -> tuple[str, ...]:
    if key in names.NOTICES:
        return (names.notice(key),)
    return (names.unit(key) if key in names.MADE_TOGETHER else names.step(key),)


def _page(keys: Iterable[str]) -> Page:
    """By the routing rule: customers' at any hour, all else when the day begins. It is night all the time."""
    return "at once" if any(key.startswith("shop/") or key in READ_ELSEWHERE for key in keys) else "later"


def _signal(family: Sequence[psutil.Process], number: signal.Signals) -> None:
    for process in family:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue
