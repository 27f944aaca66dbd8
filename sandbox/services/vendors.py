"""The vendor stand-ins as one supervised process; the product database has its history before it starts."""

from __future__ import annotations

import os
import subprocess
import sys

import httpx

from sandbox.company.seed import seed
from sandbox.config import VENDORS, SandboxConfig
from sandbox.env_file import environment
from sandbox.services import postgres


class FurnishingError(RuntimeError):
    """A vendor did not take its settings; the message carries what the command printed."""


def command(_config: SandboxConfig) -> list[str]:
    return [sys.executable, "-m", "sandbox.vendors.server"]


def prepare(config: SandboxConfig, scale: float) -> None:
    """Give the company its history, once, and land what Segment and the product had sent by then; a second call does nothing."""
    # Here, and not above: both import Google's client, which takes a while, and every command of the sandbox imports this.
    from sandbox.company.product_events import seed_product_events
    from sandbox.vendors.segment.history import seed_history

    seed(postgres.dsn(config), scale=scale, until=None)
    seed_history(config)
    seed_product_events(config)


def furnish(config: SandboxConfig) -> None:
    """Give incident.io the company's settings as production gets them: by the platform's own command, through the API."""
    command = [sys.executable, "-m", "orchestration.cli", "on-call", "apply"]
    # Not in the repository, whose `.env` may have real accounts in it.
    result = subprocess.run(
        command, cwd=config.root, env=os.environ | environment(config), capture_output=True, text=True, check=False
    )
    if result.returncode:
        raise FurnishingError(f"`dataplatform on-call apply` failed:\n{result.stdout}{result.stderr}")


def healthy(config: SandboxConfig) -> None:
    """Raise while the control app does not answer."""
    httpx.get(f"{config.url('control')}/_control/health", timeout=5).raise_for_status()


PORTS = ("control", *VENDORS)
