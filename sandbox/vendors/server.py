"""Vendor stand-ins in one process, each behind a port of its own: `python -m sandbox.vendors.server [NAME ...]` (default: all)."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import importlib
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import uvicorn
from starlette.types import ASGIApp

from sandbox.config import HOST, VENDORS, SandboxConfig
from sandbox.vendors.context import VendorContext
from sandbox.vendors.journal import JournalMiddleware
from sandbox.vendors.middleware import FaultMiddleware

LOOK_SECONDS = 0.2
CONTROL = "control"
"""The sandbox's own app: no fault strikes it."""


class _Server(uvicorn.Server):
    """Leaves signals to the process: one listener must not take them from the others."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@dataclass
class Listener:
    """An app's port, which can be closed and opened while the process runs."""

    name: str
    app: ASGIApp
    port: int
    server: uvicorn.Server | None = None
    task: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Listen, unless it does. A port that somebody else has is said, and asked for at the next call."""
        if self.task is not None:
            if self.task.done():
                self.task.result()
                self.task = None
            else:
                return
        try:
            listening = socket.create_server((HOST, self.port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            print(f"{self.name}: port {self.port} is in use; trying again", file=sys.stderr, flush=True)
            return
        config = uvicorn.Config(self.app, log_level="warning", lifespan="off", timeout_graceful_shutdown=1)
        self.server = _Server(config)
        self.task = asyncio.create_task(self.server.serve([listening]))

    async def close(self) -> None:
        if self.server and self.task:
            self.server.should_exit = True
            await self.task
            self.server, self.task = None, None


async def serve(config: SandboxConfig, names: Sequence[str] = (CONTROL, *VENDORS)) -> None:
    """Serve these apps until SIGTERM or SIGINT."""
    context = VendorContext.of(config)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)

    listeners = {name: Listener(name, _app(name, context), config.port(name)) for name in names}
    while not stopped.is_set():
        refused = {fault.vendor for fault in context.faults.active(kind="refused")}
        for name, listener in listeners.items():
            if name in refused:
                await listener.close()
            else:
                listener.open()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopped.wait(), LOOK_SECONDS)
    await asyncio.gather(*(listener.close() for listener in listeners.values()))


def _app(name: str, context: VendorContext) -> ASGIApp:
    app = importlib.import_module(f"sandbox.vendors.{name}").build(context)
    return app if name == CONTROL else FaultMiddleware(JournalMiddleware(app), name, context.faults)


def main() -> None:
    asyncio.run(serve(SandboxConfig.load(), sys.argv[1:] or (CONTROL, *VENDORS)))


if __name__ == "__main__":
    main()
