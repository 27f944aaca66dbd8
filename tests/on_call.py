"""incident.io's, Slack's and the control app's stand-ins as the tests use them: a real server process over a sandbox of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestration.on_call.apply import carry_out, look
from orchestration.on_call.config import FILE, load
from orchestration.on_call.plan import Change
from orchestration.vendors.incident_io_settings import OnCallSettings
from sandbox.clock import Clock
from sandbox.config import SandboxConfig
from sandbox.vendors import rate_limits
from sandbox.vendors.context import VendorContext
from tests.stand_ins import wait_for


@dataclass
class OnCall:
    config: SandboxConfig
    served: tuple[str, ...]
    configured: bool = True
    """The stand-in of incident.io has this company's settings from the start."""
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self) -> None:
        command = [sys.executable, "-m", "sandbox.vendors.server", *self.served]
        self.process = subprocess.Popen(command, env=os.environ | self.environment)
        for name in self.served:
            wait_for(lambda name=name: self.listens(name), 60, f"{name} listens")
        if self.configured and "incident_io" in self.served:
            self.configure()

    def configure(self, file: Path = FILE) -> tuple[Change, ...]:
        """Apply the file through the API; returns what there was to do."""
        api = OnCallSettings(self.config.url("incident_io"), "local-incident_io-key")
        planned = look(load(file), file, api)
        carry_out(planned, api, lambda _change, _name: None)
        return planned.pending

    def end(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)
        self.process.wait(timeout=20)

    @property
    def environment(self) -> dict[str, str]:
        return {"SANDBOX_DIR": str(self.config.root)}

    def lift_limits(self, vendor: str) -> None:
        """Let an emulator accept any number of requests: for tests that are about something else, and ask it often."""
        store = VendorContext.of(self.config).store
        for limit in rate_limits.shown(store):
            if limit["vendor"] == vendor:
                rate_limits.override(store, vendor, limit["name"], 10**6)

    def clock(self, at: str) -> None:
        """Let it be this time; it runs on."""
        Clock(self.config.root).set(datetime.fromisoformat(at))

    def inspect(self, vendor: str, what: str) -> list[dict[str, Any]]:
        return httpx.get(f"{self.config.url(vendor)}/_inspect/{what}", timeout=10).raise_for_status().json()

    def pages(self, key: str) -> list[dict[str, Any]]:
        return [page for page in self.inspect("incident_io", "pages") if page["deduplication_key"] == key]

    def events(self, key: str) -> list[dict[str, Any]]:
        return [event for event in self.inspect("incident_io", "events") if event["deduplication_key"] == key]

    def listens(self, name: str) -> bool:
        with contextlib.suppress(httpx.TransportError):
            httpx.get(f"{self.config.url(name)}/_inspect/none", timeout=5)
            return True
        return False


@contextlib.contextmanager
def running(root: Path, *served: str, configured: bool = True) -> Iterator[OnCall]:
    """The named apps, listening, until the end of the block; incident.io with the settings of `deploy/on_call.yaml`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SANDBOX_DIR", str(root))
        patch.setenv("SANDBOX_PORTS", "free")
        on_call = OnCall(SandboxConfig.load(), served, configured)
        on_call.start()
        try:
            yield on_call
        finally:
            if on_call.process.poll() is None:
                on_call.end()
