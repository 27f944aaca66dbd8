"""All vendor stand-ins in one process, each behind a port of its own: `python -m sandbox.vendors.server`."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import signal
from dataclasses import dataclass, field

import uvicorn
from starlette.types import ASGIApp

from sandbox.config import HOST, VENDORS, SandboxConfig
from sandbox.vendors.context import VendorContext
from sandbox.vendors.middleware import FaultMiddleware

LOOK_SECONDS = 0.2


@dataclass
class Listener:
    """A vendor's port, which can be closed and opened while the process runs."""

    app: ASGIApp
    port: int
    server: uvicorn.Server | None = None
    task: asyncio.Task[None] | None = field(default=None)

    def open(self) -> None:
        if self.task is None or self.task.done():
            config = uvicorn.Config(
                self.app, host=HOST, port=self.port, log_level="warning", lifespan="off", timeout_graceful_shutdown=1
            )
            self.server = uvicorn.Server(config)
            # Signals are this process's: one listener must not take them from the others.
            self.server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign]
            self.task = asyncio.create_task(self.server.serve())

    async def close(self) -> None:
        if self.server and self.task:
            self.server.should_exit = True
            await asyncio.wait([self.task], timeout=3)
            self.server, self.task = None, None


async def serve(config: SandboxConfig) -> None:
    """Serve until SIGTERM or SIGINT."""
    context = VendorContext.of(config)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)

    listeners = {
        vendor: Listener(FaultMiddleware(_app(vendor, context), vendor, context.faults), config.port(vendor))
        for vendor in VENDORS
    }
    control = Listener(_app("control", context), config.port("control"))
    for listener in listeners.values():
        listener.open()
    control.open()
    while not stopped.is_set():
        refused = {fault.vendor for fault in context.faults.active(kind="refused")}
        for vendor, listener in listeners.items():
            if vendor in refused:
                await listener.close()
            else:
                listener.open()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopped.wait(), LOOK_SECONDS)
    await asyncio.gather(control.close(), *(listener.close() for listener in listeners.values()))


def _app(name: str, context: VendorContext) -> ASGIApp:
    return importlib.import_module(f"sandbox.vendors.{name}").build(context)


def main() -> None:
    asyncio.run(serve(SandboxConfig.load()))


if __name__ == "__main__":
    main()
