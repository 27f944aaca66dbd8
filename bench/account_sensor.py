"""One tick of the sensor `fivetran_syncs` over 1,000 connections, next to asking for them one by one: `uv run python -m bench.account_sensor`.

Starts Fivetran's emulator alone, in a temporary directory, with 100 ms before each answer. Ten of the connections fail differently between
the first tick and the second. Prints the seconds and the requests of each tick, what was reported, and the seconds for `ONE_BY_ONE`
connections that are asked for one after the other, as well as those for all at that pace.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import httpx

if TYPE_CHECKING:
    from orchestration.components.fivetran_account import Connection
    from sandbox.vendors.context import VendorContext

SIZE, LATENCY_SECONDS, ONE_BY_ONE = 1_000, 0.1, 100
START_SECONDS = 60


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="account-sensor-") as directory:
        os.environ |= {"SANDBOX_DIR": directory, "SANDBOX_PORTS": "free"}
        from sandbox.config import SandboxConfig
        from sandbox.env_file import environment
        from sandbox.vendors.context import VendorContext

        config = SandboxConfig.load()
        os.environ |= environment(config) | {"DATAPLATFORM_STATE_DIR": str(Path(directory) / "state")}
        context = VendorContext.of(config)
        server = subprocess.Popen([sys.executable, "-m", "sandbox.vendors.server", "fivetran"])
        try:
            wait_until_it_listens(config.url("fivetran"))
            measure(context, config.url("fivetran"))
        finally:
            server.terminate()
            server.wait(timeout=20)


def wait_until_it_listens(url: str) -> None:
    """Return when the emulator answers. Raises TimeoutError."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            httpx.get(f"{url}/_inspect/none", timeout=5)
        except httpx.TransportError:
            time.sleep(0.2)
        else:
            return
    raise TimeoutError("Fivetran's emulator does not listen")


def measure(context: VendorContext, url: str) -> None:
    """Print the ticks, and the one-by-one reading."""
    from orchestration.components.fivetran import look_at_account
    from orchestration.components.fivetran_account import Connection, Table, fivetran
    from orchestration.components.outside_syncs import watch
    from sandbox.vendors.fivetran import content

    truth = content.add_connections(context.store, SIZE)
    found = [
        Connection(f"{name}_conn", name, tuple(Table(name, t.split(".")[1], name, t.split(".")[1]) for t in tables))
        for name, tables in truth.items()
    ]
    sensor = watch("fivetran_syncs", "Fivetran", lambda: look_at_account(found), at_once=8)
    instance, cursor = dg.DagsterInstance.ephemeral(), None
    for moment in ("first tick", "ten have failed", "nothing is new"):
        if moment == "ten have failed":
            context.faults.remove("fivetran", None, "slow")
            fail_ten(context, url, found)
        context.faults.add("fivetran", kind="slow", params={"seconds": LATENCY_SECONDS})
        before, began = count_requests(url), time.perf_counter()
        tick = sensor.evaluate_tick(dg.build_sensor_context(instance, cursor=cursor))
        took, cursor = time.perf_counter() - began, tick.cursor
        print(f"{moment}: {took:.2f} s, {count_requests(url) - before} requests: {tick.skip_message}")
    began, client = time.perf_counter(), fivetran()
    for own in found[1 : ONE_BY_ONE + 1]:
        client.connection(own.id)
    took = time.perf_counter() - began
    print(f"one by one: {took:.1f} s for {ONE_BY_ONE} connections, so {took * SIZE / ONE_BY_ONE:.0f} s for {SIZE:,}")


def fail_ten(context: VendorContext, url: str, found: list[Connection]) -> None:
    """Delete three connections, and let seven others fail, each in another way."""
    from sandbox.vendors.fivetran import KEY, SECRET

    client = httpx.Client(base_url=url, auth=(KEY, SECRET), timeout=30)
    for number in (0, 500, 999):
        client.delete(f"/v1/connections/{found[number].id}").raise_for_status()
    write = context.store.execute
    write("update fivetran_connection set succeeded_at = 'yesterday' where id = ?", (found[200].id,))
    context.faults.add("fivetran", found[304].name, "broken")
    for number in range(300, 306):
        kind = "broken_credentials" if number % 2 else "sync_failure"
        context.faults.add("fivetran", found[number].name, kind, {"reason": f"The reason {number}."}, times=1)
        client.post(f"/v1/connections/{found[number].id}/sync", json={"force": False}).raise_for_status()
    write("update fivetran_connection set paused = 1 where id = ?", (found[302].id,))
    tasks = json.dumps([{"code": "resync_table_warning", "message": "Resync Table Warning", "details": None}])
    write("update fivetran_connection set tasks = ? where id = ?", (tasks, found[300].id))


def count_requests(url: str) -> int:
    """Return how many requests have reached the emulator."""
    return len(httpx.get(f"{url}/_inspect/requests", timeout=30).raise_for_status().json())


if __name__ == "__main__":
    main()
