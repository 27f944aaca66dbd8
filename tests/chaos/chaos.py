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
from datetime import datetime
from typing import Any

import dagster as dg
import httpx
import psutil
import psycopg
from dagster import DagsterRunStatus, RunsFilter
from dagster._core.scheduler.instigation import TickStatus
from dagster._core.storage.tags import PARENT_RUN_ID_TAG, WILL_RETRY_TAG

from orchestration.lineage.failures import FailedUnit, to_metadata
from sandbox.services import postgres
from tests.chaos import names
from tests.chaos.orders import Do, words
from tests.chaos.plan import Episode, Plan, Strike
from tests.chaos.platform import BEAT, CODE_SERVER, DAEMON, POSTGRES, Alert, Platform, wait_for
from tests.chaos.truth import Page, Period, Told, Verdict, compare

AT_ONCE = 5
RUN_SECONDS = 240.0
"""The longest that Dagster takes to say how a run has ended is three minutes: for one that does not react to being cancelled, and for one
whose death nobody noticed. The rest is the machine's."""
MENDINGS = 8
"""Runs in which what was broken has to be made. Each may meet another strike."""
RESOLVED_SECONDS = 90.0
SETTLE_SECONDS, STEADY_SECONDS = 240.0, 12.0
"""How long the end is waited for, and for how long it has to stay as it is: two of the daemon's rounds."""
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
    began = driver.began
    with ThreadPoolExecutor(AT_ONCE) as pool, ThreadPoolExecutor(len(plan.strikes) or 1) as strikers:
        work: dict[Future[None], Episode | Strike] = {strikers.submit(driver.strike, one): one for one in plan.strikes}
        work |= {pool.submit(driver.live, one, began + duration): one for one in plan.episodes}
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
        self._parts = {what: threading.Lock() for what in ("daemon", "code-server", "incident-io", "lock", "postgres")}

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
                case "incident-io":
                    self._platform.faults.add("incident_io", kind=strike.how)
                    time.sleep(strike.lasts)
                    self._platform.faults.remove("incident_io")
                case "lock":
                    self._lock_tables(strike.lasts)
                case _:
                    self._stop_postgres(strike.lasts)

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
        deadline, good_since = time.monotonic() + SETTLE_SECONDS, None
        while True:
            verdict = self.verdict()
            now = time.monotonic()
            good_since = (good_since or now) if verdict.good else None
            if now > deadline or (good_since and now - good_since > STEADY_SECONDS):
                return verdict
            time.sleep(2)

    def verdict(self) -> Verdict:
        periods, alerts = [*self._books.periods, *self._ticks()], self._platform.alerts()
        return compare(periods, self._books.silent, [*told(alerts), *raised_from_outside(self._platform.pages())])

    def _ticks(self) -> list[Period]:
        """From Dagster's own records: sensors and schedules that could not be asked, or that failed."""
        found: list[Period] = []
        for state in self._platform.instance.all_instigator_state():
            name = state.instigator_name
            ticks = self._platform.ticks(name, self._began_at)
            found += streaks(name, [(tick.timestamp, tick.status == TickStatus.FAILURE) for tick in ticks])
        return found


class Round:
    """One failure of an episode, and its mending: which runs it took, how they ended, and what was broken from when to when."""

    def __init__(self, platform: Platform, episode: Episode, books: Books) -> None:
        self._platform, self._episode, self._books = platform, episode, books
        self._open: dict[tuple[str, ...], Period] = {}
        self._cut_off = set[str]()
        """The jobs whose runs ended with no step to blame: each is a unit of its own."""
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
        others: dict[str, Do] = {"killed": "kill", "cancelled": "hang"}
        do = others.get(self._episode.kind, "fail")
        for key in self._ordered:
            # The halves of a pair fail with one error.
            about = key.rpartition("/")[0] if self._episode.kind == "pair" else key
            self._platform.orders.give(key, do, words(about), once=self._episode.kind == "transient")

    def run(self, job: str) -> None:
        """One run with, where the job has them, its retries."""
        runs = [self._platform.launch(self.planned, job)]
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
            run_id = self._platform.launch(self.planned)
            if self._platform.ended(run_id, RUN_SECONDS).status == DagsterRunStatus.SUCCESS:
                ended = self._end(run_id)
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
                period = Period(
                    unit, frozenset(keys), at, self._end(run_id), _page(keys), optional=whole and tried_again
                )
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
            if entry.did == "fail":
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
        for number, life in enumerate(alert.lives()):
            page: Page = "at once" if alert.paged_at_once else "later" if alert.pages else "never"
            ended = life[-1]["metadata"].get("recovered_at") if life[-1]["status"] == "resolved" else None
            firing = [event["metadata"] for event in life if event["status"] == "firing"] or [life[0]["metadata"]]
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
                )
            )
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
    return found


def _unit(key: str) -> tuple[str, ...]:
    return (names.unit(key) if key in names.MADE_TOGETHER else names.step(key),)


def _page(keys: Iterable[str]) -> Page:
    """By the routing rule: customers' at any hour, all else when the day begins. It is night all the time."""
    return "at once" if any(key.startswith("shop/") for key in keys) else "later"


def _signal(family: Sequence[psutil.Process], number: signal.Signals) -> None:
    for process in family:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue
