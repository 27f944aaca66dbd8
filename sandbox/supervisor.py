"""Starts, watches and stops the sandbox's processes; it keeps no daemon of its own, only a record a process in `run/`."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from sandbox.config import HOST, SandboxConfig

STOP_SECONDS = 10.0
PORT_SECONDS = 3.0


class ServiceError(RuntimeError):
    """A service did not start, or another program holds its port; the message says what to do."""


@dataclass(frozen=True)
class Service:
    """One process of the sandbox.

    `healthy` raises while the service cannot do its work yet; `furnish` gives it what it needs once it runs. `after` names the
    services which have to be healthy first.
    """

    name: str
    command: Callable[[], list[str]]
    environment: Callable[[], dict[str, str]]
    healthy: Callable[[], None]
    ports: tuple[str, ...]
    prepare: Callable[[], None] = field(default=lambda: None)
    after: tuple[str, ...] = ()
    start_seconds: float = 90.0
    furnish: Callable[[], None] = field(default=lambda: None)


@dataclass(frozen=True)
class Started:
    name: str
    state: str
    """`started`, or `already running`."""
    seconds: float


class Supervisor:
    """Runs the services of one sandbox. A second caller waits for the first: `up` and `down` hold a lock."""

    def __init__(self, config: SandboxConfig, services: list[Service]) -> None:
        self._config = config
        self._services = {service.name: service for service in services}
        self._run = config.root / "run"
        self._logs = config.root / "logs"
        for directory in (self._run, self._logs):
            directory.mkdir(parents=True, exist_ok=True)

    def up(self, progress: Callable[[Started], None]) -> None:
        """Start what does not run, side by side where nothing has to wait; return when all of it is healthy.

        Raises ServiceError, naming the service, its log and the end of it. What already started stays up.
        """
        with self._lock(), ThreadPoolExecutor(len(self._services)) as pool:
            futures = {}
            for service in self._in_order():
                needed = [futures[name] for name in service.after if name in futures]
                futures[service.name] = pool.submit(self._up_after, needed, service, progress)
            errors = [error for future in futures.values() if (error := future.exception())]
        if errors:
            raise next((e for e in errors if isinstance(e, ServiceError)), errors[0])

    def down(self, progress: Callable[[str], None]) -> None:
        """Stop every service, the last started first, and whatever it has started itself."""
        with self._lock():
            for service in reversed(self._in_order()):
                if self._process(service.name):
                    self.stop(service.name)
                    progress(service.name)

    def start(self, name: str) -> Started:
        """Start one service and wait until it is healthy."""
        service = self._services[name]
        began = time.monotonic()
        if self._process(name):
            self._wait(service)
            return Started(name, "already running", time.monotonic() - began)
        self._refuse_foreign_port(service)
        try:
            service.prepare()
        except Exception as error:
            raise ServiceError(f"{name} could not be prepared: {error}") from error
        log = self._logs / f"{name}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                service.command(),
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                # Not the repository: Dagster lets a `.env` in its working directory win over what it is given here, and
                # that file may be another sandbox's, or have real accounts in it.
                cwd=self._config.root,
                env=os.environ | service.environment(),
                start_new_session=True,
            )
        record = {"pid": process.pid, "created": psutil.Process(process.pid).create_time()}
        self._record(name).write_text(json.dumps(record))
        self._wait(service, process)
        try:
            service.furnish()
        except Exception as error:
            raise ServiceError(f"{name} runs, but could not be furnished: {error}") from error
        return Started(name, "started", time.monotonic() - began)

    def stop(self, name: str, *, kill: bool = False) -> None:
        """Stop one service by SIGTERM, and by SIGKILL what is left after a while (at once with `kill`)."""
        process = self._process(name)
        if process is None:
            return
        family = [process, *process.children(recursive=True)]
        _signal_group(process.pid, signal.SIGKILL if kill else signal.SIGTERM)
        for survivor in _wait_for_end(family):
            with contextlib.suppress(psutil.NoSuchProcess):
                survivor.kill()
        _wait_for_end(family)
        with contextlib.suppress(psutil.TimeoutExpired, psutil.NoSuchProcess):
            # Reaps this process's own child. The kernel may show it as ended a moment before it can be reaped.
            process.wait(timeout=STOP_SECONDS if process.ppid() == os.getpid() else 0)
        self._record(name).unlink(missing_ok=True)

    def status(self) -> dict[str, str]:
        """The state of every service: `healthy`, `stopped`, or `unhealthy: <why>`."""
        states = {}
        for service in self._in_order():
            if self._process(service.name) is None:
                states[service.name] = "stopped"
                continue
            try:
                service.healthy()
                states[service.name] = "healthy"
            except Exception as error:
                states[service.name] = f"unhealthy: {error}"
        return states

    def pid(self, name: str) -> int | None:
        process = self._process(name)
        return process.pid if process else None

    def _up_after(self, needed: list, service: Service, progress: Callable[[Started], None]) -> None:
        for future in needed:
            future.result()
        progress(self.start(service.name))

    def _in_order(self) -> list[Service]:
        done: list[Service] = []
        waiting = list(self._services.values())
        while waiting:
            ready = [s for s in waiting if all(n not in {w.name for w in waiting} for n in s.after)]
            done += ready
            waiting = [s for s in waiting if s not in ready]
        return done

    def _wait(self, service: Service, process: subprocess.Popen | None = None) -> None:
        deadline = time.monotonic() + service.start_seconds
        log = self._logs / f"{service.name}.log"
        while True:
            if process is not None and process.poll() is not None:
                raise ServiceError(f"{service.name} ended with status {process.returncode}\n{_tail(log)}")
            try:
                service.healthy()
                return
            except Exception as error:
                if time.monotonic() > deadline:
                    raise ServiceError(
                        f"{service.name} is not healthy after {service.start_seconds:.0f} s: {error}\n{_tail(log)}"
                    ) from error
                time.sleep(0.2)

    def _refuse_foreign_port(self, service: Service) -> None:
        for name in service.ports:
            port = self._config.port(name)
            # A process that was killed a moment ago may hold its port while its last threads end.
            deadline = time.monotonic() + PORT_SECONDS
            while not _can_listen(port) and time.monotonic() < deadline:
                time.sleep(0.05)
            if not _can_listen(port):
                raise ServiceError(
                    f"port {port}, which {service.name} needs, is held by another program; stop that program, or "
                    f"choose another port: delete {self._config.root / 'ports.json'} and set "
                    f"SANDBOX_PORT_{name.upper()}=free"
                )

    def _process(self, name: str) -> psutil.Process | None:
        try:
            record = json.loads(self._record(name).read_text())
            process = psutil.Process(record["pid"])
        except (FileNotFoundError, json.JSONDecodeError, psutil.NoSuchProcess):
            return None
        # A pid is used again in time: only the start time tells that it is still the same process.
        same = abs(process.create_time() - record["created"]) < 1
        return process if same and _runs(process) else None

    def _record(self, name: str) -> Path:
        return self._run / f"{name}.json"

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        with (self._run / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _can_listen(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do, to follow at once on one that has just ended.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _wait_for_end(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still run after a while. What has ended but was not reaped yet by its parent counts as ended."""
    deadline = time.monotonic() + STOP_SECONDS
    while (alive := [process for process in processes if _runs(process)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return alive


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)


def _tail(log: Path, lines: int = 15) -> str:
    text = log.read_text(errors="replace").splitlines()[-lines:] if log.exists() else []
    return "\n".join([f"the end of {log}:", *text])
