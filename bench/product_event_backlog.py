"""Measure how long `publish` takes with a day of backlog: `uv run python -m bench.product_event_backlog`.

Four tables at 100 events a second, which is 34.6 million events a day. For each table one block is written by the publisher itself while
BigQuery answers 503; its file is then copied under new names until the day is complete, because to publish every event would take hours. The
copies repeat event ids, which nothing here reads. BigQuery is a server in a process of its own that takes every row at once (`--latency-ms`
makes it slower), so that the sender's thread is as busy as it can be.

Prints the milliseconds of `publish` at 4 x 100 events a second: with an empty folder, with the backlog while BigQuery answers 503, and while the
backlog drains; and the events a second that are drained. The same for another commit (`--against`, the one to compare with), whose publisher
leaves a file for each table and second: of its day of 345,600 files only `--against-files` are made, so that the ratio is a lower bound.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socketserver
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from product_events.publisher import Publisher

DAY = 4 * 100 * 86_400
TABLES = 4
PROJECT, DATASET = "local-dev", "backlog"
DOWN, UP = b"503 Service Unavailable", b"200 OK"
SPOOL_BYTES = 64 * 1024**3


def main() -> None:
    arguments = parsed()
    if arguments.worker:
        work(arguments)
    elif arguments.server:
        serve(arguments.latency_ms / 1000)
    else:
        compare(arguments)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=DAY, help="Events of the backlog.")
    parser.add_argument("--seconds", type=float, default=30, help="How long each line is measured.")
    parser.add_argument("--latency-ms", type=float, default=0, help="How long BigQuery takes to answer.")
    parser.add_argument("--against", default="", help="A commit to compare with.")
    parser.add_argument("--against-files", type=int, default=20_000)
    parser.add_argument("--worker", choices=["block", "measure"], help=argparse.SUPPRESS)
    parser.add_argument("--server", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def compare(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="backlog-") as directory, server(arguments.latency_ms) as port:
        root = Path(directory)
        here = Path(__file__).resolve().parents[1]
        print(f"{'':<48} {'p50':>8} {'p99':>8} {'max':>9} {'ratio of p99':>13}")
        run = Run(here, port, arguments.seconds, None)
        run.measure("empty folder, BigQuery answers", root / "empty", UP)
        began = time.monotonic()
        events, files, size = build(run, root / "day", arguments.events, one_second=False)
        took = time.monotonic() - began
        print(f"backlog: {events:,} events in {files:,} files, {size / 1e9:.1f} GB on the disk, built in {took:.0f} s")
        run.measure("backlog, BigQuery answers 503", root / "day", DOWN)
        run.measure("backlog, draining", root / "day", UP)
        shutil.rmtree(root / "day")
        if not arguments.against:
            return
        old = root / "against"
        extract(here, arguments.against, old)
        other = Run(old, port, arguments.seconds, run.first)
        other.measure(f"{arguments.against}: empty folder", root / "empty-old", UP)
        events, files, size = build(other, root / "old", arguments.against_files * 100, one_second=True)
        print(f"backlog: {events:,} events in {files:,} files, {size / 1e9:.1f} GB on the disk")
        other.measure(f"{arguments.against}: backlog, 503", root / "old", DOWN)
        other.measure(f"{arguments.against}: backlog, draining", root / "old", UP)


class Run:
    """Measurements with the code of one folder."""

    def __init__(self, code: Path, port: int, seconds: float, first: float | None) -> None:
        self.code, self.port, self.seconds, self.first = code, port, seconds, first

    def worker(self, kind: str, folder: Path) -> str:
        command = [sys.executable, str(Path(__file__).resolve()), "--worker", kind, "--folder", str(folder)]
        environment = {
            **os.environ,
            "PYTHONPATH": str(self.code),
            "BIGQUERY_EMULATOR_HOST": f"http://127.0.0.1:{self.port}",
        }
        done = subprocess.run(
            [*command, "--seconds", str(self.seconds)],
            env=environment,
            stdout=subprocess.PIPE,
            check=True,
            cwd=self.code,
        )
        return done.stdout.decode()

    def measure(self, what: str, folder: Path, status: bytes) -> None:
        set_status(self.port, status)
        before, began = rows_taken(self.port), time.monotonic()
        result = json.loads(self.worker("measure", folder))
        drained = (rows_taken(self.port) - before) / (time.monotonic() - began)
        self.first = self.first or result["p99"]
        line = f"{what:<48} {result['p50']:>5.2f} ms {result['p99']:>5.2f} ms {result['max']:>6.1f} ms"
        line += f" {result['p99'] / self.first:>13.1f}   {result['calls']:,} calls in {result['seconds']:.0f} s"
        line += f", constructor {result['start']:.1f} s" + f", {drained:,.0f} events/s sent" * (status == UP)
        print(line, flush=True)


def build(run: Run, folder: Path, events: int, *, one_second: bool) -> tuple[int, int, int]:
    """Make a backlog of one block for each table that `publish` wrote; return its events, files and bytes on the disk."""
    set_status(run.port, DOWN)
    run.worker("block", folder)
    spool = folder / f"{PROJECT}.{DATASET}"
    sources = {path.name.partition(".")[0]: path for path in sorted(spool.glob("*.jsonl"))}
    made = 0
    for table, path in sources.items():
        lines = path.read_bytes().splitlines(keepends=True)
        block = lines[:100] if one_second else lines
        content = b"".join(block)
        for other in spool.glob(f"{table}.*.jsonl"):
            other.unlink()
        wanted = events // len(sources)
        for number in range(-(-wanted // len(block))):
            (spool / f"{table}.{time.time_ns()}-{number:032x}.jsonl").write_bytes(content)
            made += len(block)
    size = sum(path.stat().st_blocks * 512 for path in spool.iterdir())
    return made, len(list(spool.iterdir())), size


def extract(repository: Path, commit: str, folder: Path) -> None:
    archive = subprocess.run(
        ["git", "archive", commit, "product_events"], cwd=repository, stdout=subprocess.PIPE, check=True
    )
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")


# The publisher's process.

EVENTS = (
    ("insight_viewed", 1, {"insight": "on_call_load", "load_ms": 840}),
    (
        "slack_command_invoked",
        1,
        {"command": "/incident", "channel_kind": "public", "duration_ms": 5, "succeeded": True},
    ),
    ("status_page_viewed", 1, {"status_page_id": "sp_0001", "visitor_id": "v_0001", "component": None}),
    ("workflow_run_finished", 1, {"workflow_id": "wf_0001", "outcome": "succeeded", "duration_ms": 1200}),
)


def work(arguments: argparse.Namespace) -> None:
    import logging
    from unittest.mock import patch

    from google.auth.credentials import AnonymousCredentials

    # The script's own folder is first on the path, and has no product_events: PYTHONPATH says whose.
    from product_events.publisher import Limits, Publisher

    logging.disable(logging.CRITICAL)
    limits = Limits(spool_bytes=SPOOL_BYTES)
    began = time.monotonic()
    # The server of this program asks for no token.
    with patch("google.auth.default", return_value=(AnonymousCredentials(), PROJECT)):
        publisher = Publisher(PROJECT, DATASET, spool_dir=arguments.folder, limits=limits)
    started = time.monotonic() - began
    if arguments.worker == "block":
        # Older code has no such limit, and writes a file a second.
        fill_blocks(publisher, getattr(limits, "block_bytes", 0))
    else:
        print(json.dumps(measure(publisher, arguments.seconds) | {"start": started}))
    sys.stdout.flush()
    # As a process that is killed: to close would wait for the backlog.
    os._exit(0)


def fill_blocks(publisher: Publisher, block_bytes: int) -> None:
    """Publish, while BigQuery is down, until a block of each table is full; for older code, for a second."""
    for _ in range(max(100, block_bytes // 250)):
        for name, version, properties in EVENTS:
            publisher.publish(name, version, properties, organisation_id="org_0001")


def measure(publisher: Publisher, seconds: float) -> dict[str, float]:
    took: list[float] = []
    time.sleep(3)
    began = time.perf_counter()
    number = 0
    while time.perf_counter() - began < seconds:
        name, version, properties = EVENTS[number % TABLES]
        before = time.perf_counter()
        publisher.publish(name, version, properties, organisation_id="org_0001")
        after = time.perf_counter()
        took.append((after - before) * 1000)
        number += 1
        # The next of 400 a second; what a slow call delays is not made up for by a burst.
        time.sleep(max(0.0, 1 / 400 - (after - before)))
    took.sort()
    return {
        "p50": took[len(took) // 2],
        "p99": took[int(len(took) * 0.99)],
        "max": took[-1],
        "calls": len(took),
        "seconds": time.perf_counter() - began,
    }


# BigQuery.


@contextmanager
def server(latency_ms: float) -> Iterator[int]:
    command = [sys.executable, str(Path(__file__).resolve()), "--server", "--latency-ms", str(latency_ms)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


def serve(latency: float) -> None:
    state = {"status": UP, "rows": 0}
    lock = threading.Lock()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            # A publisher's process ends as if it were killed.
            with suppress(ConnectionError):
                self.answer()

        def answer(self) -> None:
            while first := self.rfile.readline():
                length = 0
                while (header := self.rfile.readline().strip().lower()) != b"":
                    if header.startswith(b"content-length:"):
                        length = int(header.partition(b":")[2])
                body = self.rfile.read(length)
                answer = b"{}"
                status: bytes = state["status"]
                if first.startswith(b"PUT"):
                    state["status"], status = body, UP
                elif first.startswith(b"GET"):
                    answer, status = str(state["rows"]).encode(), UP
                elif status == UP:
                    time.sleep(latency)
                    with lock:
                        state["rows"] += body.count(b'"insertId"')
                head = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                self.wfile.write(head % (status, len(answer)) + answer)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as listening:
        print(listening.server_address[1], flush=True)
        listening.serve_forever()


def set_status(port: int, status: bytes) -> None:
    import httpx

    httpx.put(f"http://127.0.0.1:{port}/", content=status)


def rows_taken(port: int) -> int:
    import httpx

    return int(httpx.get(f"http://127.0.0.1:{port}/").text)


if __name__ == "__main__":
    main()
