"""The vendor stand-ins as one supervised process; the product database has its history before it starts."""

from __future__ import annotations

import sys

import httpx

from sandbox.company.seed import seed
from sandbox.config import VENDORS, SandboxConfig
from sandbox.services import postgres


def command(_config: SandboxConfig) -> list[str]:
    return [sys.executable, "-m", "sandbox.vendors.server"]


def prepare(config: SandboxConfig, scale: float) -> None:
    """Give the company its history, once; a second call finds it and does nothing."""
    seed(postgres.dsn(config), scale=scale, until=None)


def healthy(config: SandboxConfig) -> None:
    """Raise while the control app does not answer."""
    httpx.get(f"{config.url('control')}/_control/health", timeout=5).raise_for_status()


PORTS = ("control", *VENDORS)
