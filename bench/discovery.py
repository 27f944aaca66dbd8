"""What 40 syncs, 300 documents, 25 dashboards and 30 projects add to loading the code location: `uv run python -m bench.discovery`.

Starts stand-ins of its own in a temporary directory. Prints the median of five loads in seconds without and with that content, and
the difference.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time

REPEATS = 5
LOAD = "from orchestration.definitions import defs; defs().get_repository_def()"


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="discovery-") as directory:
        os.environ |= {"SANDBOX_DIR": directory, "SANDBOX_PORTS": "free"}
        from sandbox.config import SandboxConfig
        from sandbox.env_file import environment
        from sandbox.stack import stack
        from sandbox.vendors.context import VendorContext
        from sandbox.vendors.control.content import Wanted, add

        config = SandboxConfig.load()
        supervisor = stack(config, scale=0.1, with_platform=False)
        supervisor.up(lambda _done: None)
        try:
            variables = os.environ | environment(config)
            without = measure(variables)
            print(f"without: {without:.2f} s")
            added = add(VendorContext.of(config).store, Wanted(hightouch=40, omni=300, explo=25, hex=34))
            together = measure(variables)
            print(
                f"with {', '.join(f'{len(pieces)} of {vendor}' for vendor, pieces in added.items())}: {together:.2f} s"
            )
            print(f"difference: {together - without:.2f} s, ratio {together / without:.2f}")
        finally:
            supervisor.down(lambda _name: None)


def measure(variables: dict[str, str]) -> float:
    """Refresh, then load; the median in seconds."""
    subprocess.run([sys.executable, "-m", "orchestration.cli", "refresh"], env=variables, check=True)
    took: list[float] = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", LOAD], env=variables, check=True, stderr=subprocess.DEVNULL
        )
        took.append(time.perf_counter() - began)
    return statistics.median(took)


if __name__ == "__main__":
    main()
