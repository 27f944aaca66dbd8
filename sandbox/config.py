"""Where the sandbox keeps its state and which loopback ports its services listen on."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

HOST = "127.0.0.1"
PROJECT = "local-dev"

DEFAULT_PORTS = {
    "dagster": 3000,
    "code_server": 4266,
    "bigquery": 9050,
    "bigquery_grpc": 9060,
    "storage": 4443,
    "postgres": 5439,
    "control": 8900,
    "fivetran": 8901,
    "hightouch": 8902,
    "salesforce": 8903,
    "incident_io": 8904,
    "slack": 8905,
    "stripe": 8906,
    "zendesk": 8907,
    "segment": 8908,
    "omni": 8909,
    "explo": 8910,
    "hex": 8911,
}

VENDORS = (
    "fivetran", "hightouch", "salesforce", "stripe", "zendesk", "segment", "omni", "explo", "hex", "incident_io", "slack",
)  # fmt: skip

FREE_PORTS = range(10_000, 32_000)
"""Below Linux's and macOS's usual ranges for outgoing connections, which begin at 32768 and 49152."""
OUTGOING_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")

REPOSITORY = Path(__file__).resolve().parent.parent


class ConfigurationError(ValueError):
    """A setting of the sandbox is malformed; the message names it and the remedy."""


@dataclass(frozen=True)
class SandboxConfig:
    """One sandbox: a state directory and its ports. Two sandboxes with different ones never meet."""

    root: Path
    ports: dict[str, int]
    location: str = "US"
    """The BigQuery location of every dataset."""
    raw_project: str = PROJECT
    """The project that sources land in. dbt builds in PROJECT."""

    @classmethod
    def load(cls) -> SandboxConfig:
        """Read `SANDBOX_DIR` and `SANDBOX_PORT_<NAME>` (0: any free one), fixing the ports in `ports.json` at first use.

        `BIGQUERY_LOCATION` and `BIGQUERY_RAW_PROJECT` are fixed in `bigquery.json` in the same way: datasets cannot be moved.

        Raises ConfigurationError for a port that is not a number from 0 to 65535, and where one of these two variables differs
        from what this sandbox was started with.
        """
        root = Path(os.environ.get("SANDBOX_DIR", REPOSITORY / ".sandbox")).resolve()
        file = root / "ports.json"
        saved: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}
        ports = {name: saved[name] for name in DEFAULT_PORTS if name in saved}
        for name in DEFAULT_PORTS:
            ports[name] = ports.get(name) or _wanted(name) or _free_port(taken=ports.values())
        if ports != saved:
            root.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(ports, indent=2))
        fixed = _fixed(root / "bigquery.json", {"BIGQUERY_LOCATION": cls.location, "BIGQUERY_RAW_PROJECT": PROJECT})
        return cls(root, ports, fixed["BIGQUERY_LOCATION"], fixed["BIGQUERY_RAW_PROJECT"])

    def port(self, name: str) -> int:
        return self.ports[name]

    def url(self, name: str) -> str:
        """`http://127.0.0.1:<port>` of the service, with no slash at the end."""
        return f"http://{HOST}:{self.ports[name]}"


def _fixed(file: Path, defaults: dict[str, str]) -> dict[str, str]:
    """Return the variables as they were at first use; `defaults` are for those that were not set."""
    given = {name: os.environ[name] for name in defaults if os.environ.get(name)}
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(defaults | given, indent=2))
    saved: dict[str, str] = json.loads(file.read_text())
    for name, value in given.items():
        if value != saved[name]:
            raise ConfigurationError(
                f"{name} is {value!r}, and this sandbox was started with {saved[name]!r}. Unset it, or set SANDBOX_DIR to another directory"
            )
    return saved


def _wanted(name: str) -> int:
    """The port that the settings say, or 0 where they leave it open."""
    variable = f"SANDBOX_PORT_{name.upper()}"
    text = os.environ.get(variable, os.environ.get("SANDBOX_PORTS", str(DEFAULT_PORTS[name])))
    if text == "free":
        text = "0"
    try:
        port = int(text)
    except ValueError:
        port = -1
    if not 0 <= port <= 65535:
        raise ConfigurationError(f"{variable}={text!r} is not a port; set a number from 0 to 65535, or 'free'")
    return port


def _free_port(taken: Collection[int]) -> int:
    """A port that nobody has, of those that the system gives to no outgoing connection: one of these could take it before its service starts."""
    while True:
        port = random.choice(_free_ports())
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            if port not in taken:
                return port


def _free_ports() -> range:
    """FREE_PORTS, but for those that this system uses for outgoing connections, unless that is all of them."""
    if not OUTGOING_PORTS.exists():
        return FREE_PORTS
    first, last = map(int, OUTGOING_PORTS.read_text().split())
    below = range(FREE_PORTS.start, min(first, FREE_PORTS.stop))
    above = range(max(last + 1, FREE_PORTS.start), FREE_PORTS.stop)
    return max(below, above, key=len) or FREE_PORTS
