"""While BigQuery is down: how many files there are, what they take on the disk, who may read them, and what is refused."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from product_events.publisher import Limits, Publisher, SpoolFull, Undelivered
from product_events.registry import load
from product_events.spool import Spool
from product_events.tables import apply
from sandbox.config import PROJECT
from tests.orchestration.wire import reply
from tests.product_events.conftest import DATASET, QUICK, Tables, publisher
from tests.product_events.faulty import Network
from tests.product_events.test_registry import WITH_KEY, file, written
from tests.stand_ins import wait_for

View = Callable[..., str]
UNAVAILABLE = reply(503, {"error": {"message": "down"}})
EVENTS: dict[str, dict[str, Any]] = {
    "insight_viewed": {"insight": "on_call_load", "load_ms": 1},
    "slack_command_invoked": {"command": "/page", "channel_kind": "public", "duration_ms": 5, "succeeded": True},
    "status_page_viewed": {"status_page_id": "sp_1", "visitor_id": "v_1"},
    "workflow_run_finished": {"workflow_id": "wf_1", "outcome": "failed", "duration_ms": 7},
}
SHORT = replace(QUICK, batch_seconds=0.05)


def blocks(spool: Path) -> list[Path]:
    return sorted(spool.rglob("*.jsonl"))


def publish_one_of_each(publishing: Publisher, organisation: str) -> list[str]:
    return [
        publishing.publish(name, 1, properties, organisation_id=organisation).event_id
        for name, properties in EVENTS.items()
    ]


def delivered(tables: Tables) -> list[str]:
    return [identifier for name in EVENTS for identifier in tables.ids(name)]


def row(identifier: str, organisation: str) -> bytes:
    """A line as `publish` writes it."""
    envelope = {"event_id": identifier, "event_version": 1, "occurred_at": "2026-03-02T12:00:00+00:00"}
    properties = {"organisation_id": organisation, "user_id": None, "insight": "on_call_load", "load_ms": 1}
    return json.dumps(envelope | properties).encode() + b"\n"


def test_an_outage_leaves_one_block_for_each_table_however_long_it_is(
    tables: Tables, spool: Path, between: Network
) -> None:
    between.judge = lambda _body: UNAVAILABLE
    accepted: list[str] = []
    publishing = publisher(spool, limits=SHORT)
    accepted += publish_one_of_each(publishing, tables.organisation)
    wait_for(lambda: len(between.inserts) >= 2 * len(EVENTS), 20, "BigQuery refuses each table twice")
    before = len(blocks(spool))
    for _ in range(60):
        accepted += publish_one_of_each(publishing, tables.organisation)
        time.sleep(0.02)
        with pytest.raises(Undelivered):
            publishing.flush(0)
    # The one that is tried, and the one that grows.
    assert len(blocks(spool)) <= before + len(EVENTS) <= 3 * len(EVENTS)
    between.judge = lambda _body: None
    publishing.close()
    assert sorted(delivered(tables)) == sorted(accepted)
    assert [path.name for path in spool.rglob("*") if path.is_file()] == []


def test_a_block_that_is_full_is_followed_by_the_next(
    tables: Tables, spool: Path, view: View, between: Network
) -> None:
    between.judge = lambda _body: UNAVAILABLE
    publishing = publisher(spool, limits=replace(SHORT, block_bytes=2_000))
    accepted = [view(publishing) for _ in range(50)]
    assert 5 <= len(blocks(spool)) <= 10
    assert max(path.stat().st_size for path in blocks(spool)) < 2_500
    between.judge = lambda _body: None
    publishing.close()
    assert tables.ids() == sorted(accepted)


def test_processes_that_come_and_go_continue_each_others_blocks(
    tables: Tables, spool: Path, view: View, between: Network
) -> None:
    between.judge = lambda _body: UNAVAILABLE
    accepted: list[str] = []
    for _ in range(8):
        publishing = publisher(spool)
        accepted.append(view(publishing))
        with pytest.raises(Undelivered):
            publishing.close(0)
    # The first one's may be at BigQuery just when the next process looks for it.
    assert len(blocks(spool)) <= 2
    between.judge = lambda _body: None
    publisher(spool).close()
    assert tables.ids() == sorted(accepted)


def test_a_line_without_its_end_does_not_take_the_next_event_along(
    tables: Tables, spool: Path, view: View, between: Network
) -> None:
    between.judge = lambda _body: UNAVAILABLE
    first = publisher(spool)
    accepted = [view(first)]
    with pytest.raises(Undelivered):
        first.close(0)
    [path] = blocks(spool)
    with path.open("ab") as file:
        file.write(b'{"event_id": "' + tables.organisation.encode())
    second = publisher(spool)
    accepted.append(view(second))
    between.judge = lambda _body: None
    second.close()
    assert tables.ids() == sorted(accepted)
    assert [dead["reason"] for dead in tables.rows("dead_letters")] == ["its line in the spool cannot be read"]


def test_small_blocks_of_earlier_versions_are_united_in_few_requests(
    tables: Tables, spool: Path, between: Network
) -> None:
    folder = spool / f"{PROJECT}.{DATASET}"
    folder.mkdir(parents=True)
    accepted = [str(uuid4()) for _ in range(1_000)]
    for number, identifier in enumerate(accepted):
        (folder / f"insight_viewed.{number}-{identifier}.jsonl").write_bytes(row(identifier, tables.organisation))
    publisher(spool).close()
    assert tables.ids() == sorted(accepted)
    assert Counter(between.sent) == dict.fromkeys(accepted, 1)
    assert len(between.inserts) <= 11


def test_what_is_not_a_block_stops_no_other(tables: Tables, spool: Path, view: View, between: Network) -> None:
    folder = spool / f"{PROJECT}.{DATASET}"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "insight_viewed.1-a.jsonl")
    (folder / "insight_viewed.2-a.jsonl").mkdir()
    (folder / "insight_viewed.3-a.jsonl").symlink_to("/etc/passwd")
    (folder / "insight_viewed.4-a.jsonl").touch()
    (folder / "insight_viewed.5-a.new").touch()
    (folder / "insight_viewed.6-a.jsonl.sent").write_text("12")
    with publisher(spool) as publishing:
        identifier = view(publishing)
    assert tables.ids() == [identifier]
    assert [path.name for path in folder.iterdir() if path.is_file() and not path.is_symlink()] == []


def test_what_was_sent_of_a_block_is_not_sent_again_by_the_next_process(
    tables: Tables, spool: Path, view: View, between: Network
) -> None:
    between.judge = lambda _body: UNAVAILABLE
    publishing = publisher(spool)
    accepted = [view(publishing) for _ in range(30)]
    with pytest.raises(Undelivered):
        publishing.close(0)
    between.inserts.clear()
    between.script = [None, None]
    again = publisher(spool, limits=replace(QUICK, batch_events=7))
    with pytest.raises(Undelivered, match=r"^16 events are not delivered") as raised:
        again.close(1)
    assert raised.value.count == 16
    between.judge = lambda _body: None
    publisher(spool).close()
    times = Counter(between.sent)
    assert tables.ids() == sorted(accepted)
    assert [times[identifier] for identifier in accepted[:14]] == [1] * 14
    assert list(spool.rglob("*.sent")) == []


@pytest.mark.parametrize("note", [b"", b"many", b"-5", b"00000000000000000003", b"99999999999999999999"])
def test_a_note_that_does_not_fit_its_block_is_ignored(tmp_path: Path, note: bytes) -> None:
    spool = Spool(tmp_path)
    segment = spool.segment("t")
    spool.append(segment, b"11\n22\n", False)
    segment.seal()
    segment.path.with_name(segment.path.name + ".sent").write_bytes(note)
    with spool.claim(segment.path) as block:
        assert block is not None
        assert block.lines() == ([b"22"] if note.endswith(b"3") else [b"11", b"22"])


def test_rows_that_wait_for_a_column_grow_one_block_and_others_pass_them(
    tables: Tables, spool: Path, tmp_path: Path
) -> None:
    dataset = f"behind_{tables.organisation}"
    apply(tables.client, dataset, load(written(tmp_path, file())))
    events = load(written(tmp_path, file(), file(version=2, **WITH_KEY)))

    def versions() -> Counter[int]:
        query = f"select event_version from {dataset}.door_opened"
        return Counter(row[0] for row in tables.client.query(query).result())

    publishing = Publisher(PROJECT, dataset, spool_dir=spool, limits=SHORT, events=events)
    for _ in range(25):
        publishing.publish("door_opened", 2, {"door": "front", "key": "k"}, organisation_id=tables.organisation)
        publishing.publish("door_opened", 1, {"door": "front"}, organisation_id=tables.organisation)
        time.sleep(0.06)
    wait_for(lambda: versions() == {1: 25}, 30, "the events of version 1 arrive")
    assert len(blocks(spool)) <= 3
    with pytest.raises(Undelivered, match=r"25 events are not delivered .*BigQuery does not take"):
        publishing.flush(0.5)
    apply(tables.client, dataset, events)
    publishing.close()
    assert versions() == {1: 25, 2: 25}
    assert blocks(spool) == []


def test_publish_never_lists_the_folder(
    spool: Path, view: View, between: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    between.judge = lambda _body: UNAVAILABLE
    publishing = publisher(spool, limits=SHORT)
    listing: list[str] = []
    for name in ("scandir", "listdir", "statvfs"):
        original = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *a, _o=original: (listing.append(threading.current_thread().name), _o(*a))[1]
        )
    for _ in range(50):
        view(publishing)
        time.sleep(0.01)
    assert "product-events" in listing
    assert threading.current_thread().name not in listing
    with pytest.raises(Undelivered):
        publishing.close(0)


# What waits takes whole disk blocks.


def test_a_spool_is_measured_in_disk_blocks(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    for table in "abc":
        segment = spool.segment(table)
        spool.append(segment, b"1\n", False)
        segment.seal()
    on_disk = sum(path.stat().st_blocks * 512 for path in spool.batches())
    assert spool.used == spool.size() == on_disk == 3 * os.statvfs(tmp_path).f_frsize
    # Allocated beyond its length, as file systems do ahead of writes.
    with spool.batches()[0].open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, 1_000_000)
        file.truncate(2)
        os.ftruncate(file.fileno(), 1_000_000)
        os.posix_fallocate(file.fileno(), 0, 1_000_000)
    assert spool.size() == sum(path.stat().st_blocks * 512 for path in spool.batches()) > 1_000_000
    with spool.claim(spool.batches()[0]) as block:
        assert block is not None
        spool.delete(block)
    assert spool.used == spool.size()


def test_a_folder_that_has_grown_counts_too(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    for number in range(3_000):
        (spool.folder / f"t.{number}-{'0' * 200}.jsonl").touch()
    grown = spool.folder.stat().st_blocks * 512 - os.statvfs(tmp_path).f_frsize
    assert spool.size() == max(0, grown)


def test_the_limit_counts_disk_blocks_and_refusals_are_fast_counted_and_reported(
    tables: Tables, spool: Path, between: Network, caplog: pytest.LogCaptureFixture
) -> None:
    between.judge = lambda _body: UNAVAILABLE
    unit = os.statvfs(spool.parent).f_frsize
    publishing = publisher(spool, limits=replace(QUICK, spool_bytes=3 * unit, block_seconds=0.3))
    accepted: list[str] = []
    with caplog.at_level(logging.ERROR), pytest.raises(SpoolFull, match=rf"holds {3 * unit} bytes: "):
        # Three tables fit, each in one disk block, though the lines are short.
        accepted.extend(
            publishing.publish(name, 1, properties, organisation_id=tables.organisation).event_id
            for name, properties in EVENTS.items()
        )
    began = time.monotonic()
    for _ in range(9):
        with pytest.raises(SpoolFull):
            publishing.publish(
                "workflow_run_finished", 1, EVENTS["workflow_run_finished"], organisation_id=tables.organisation
            )
    assert time.monotonic() - began < 0.3
    assert publishing.refused == 10
    assert caplog.text.count("events were refused so far") == 1
    # What fits in the disk block of a table is accepted still.
    accepted.append(
        publishing.publish("insight_viewed", 1, EVENTS["insight_viewed"], organisation_id=tables.organisation).event_id
    )
    between.judge = lambda _body: None
    publishing.close()
    query = (
        f"select event_name, payload, reason from {DATASET}.dead_letters where reason like 'the spool was full: 10 %'"
    )
    [report] = tables.client.query(query).result()
    assert (report["event_name"], json.loads(report["payload"])["refused"]) == ("workflow_run_finished", 10)
    assert sorted(delivered(tables)) == sorted([*accepted])
    assert len(accepted) == 4


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"a file system of 64 kB cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_full_disk_refuses_events_and_deliveries_make_room_on_it(
    tables: Tables, small_disk: Path, view: View, between: Network
) -> None:
    between.judge = lambda _body: UNAVAILABLE
    publishing = publisher(small_disk / "spool", limits=replace(SHORT, block_bytes=8_000))
    accepted = [view(publishing)]
    # BigQuery will refuse this one, and there is no room for its dead letter.
    poison = view(publishing, 2**70)
    with pytest.raises(OSError, match="No space left on device"):
        accepted.extend(view(publishing) for _ in range(1_000))
    with pytest.raises(OSError, match="No space left on device"):
        publish_one_of_each(publishing, tables.organisation)
    lines = [json.loads(line) for path in blocks(small_disk) for line in path.read_bytes().splitlines()]
    mine = [line["event_id"] for line in lines if line.get("load_ms") != 1 or line["event_id"] in accepted]
    between.judge = lambda _body: None
    publishing.close()
    assert len(accepted) > 100
    assert set(accepted) <= set(mine)
    assert set(accepted) <= set(tables.ids())
    assert [dead["event_id"] for dead in tables.rows("dead_letters")] == [poison]


# No one else reads what waits.


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o277, 0o777])
def test_files_are_0600_and_folders_0700_whatever_the_umask_is(
    tmp_path: Path, tables: Tables, between: Network, view: View, umask: int
) -> None:
    before = os.umask(umask)
    try:
        # The rows are put off: there are blocks of all kinds.
        between.judge = lambda _body: reply(200, {"insertErrors": [{"index": 0, "errors": [{"reason": "stopped"}]}]})
        publishing = publisher(tmp_path / "new" / "spool", limits=replace(SHORT, batch_events=2))
        for _ in range(9):
            view(publishing)
        publishing.publish("insight_viewed", 1, {}, organisation_id=tables.organisation)
        with pytest.raises(Undelivered):
            publishing.close(0.5)
    finally:
        os.umask(before)
    found = list((tmp_path / "new").rglob("*"))
    assert {oct(path.stat().st_mode & 0o777) for path in found if path.is_file()} == {"0o600"}
    assert {oct(path.stat().st_mode & 0o777) for path in [tmp_path / "new", *found] if path.is_dir()} == {"0o700"}


def test_files_of_earlier_versions_are_made_private(spool: Path, view: View, between: Network) -> None:
    between.judge = lambda _body: UNAVAILABLE
    folder = spool / f"{PROJECT}.{DATASET}"
    folder.mkdir(parents=True, mode=0o755)
    old = folder / "insight_viewed.1-a.jsonl"
    old.write_bytes(row("e", "o"))
    old.chmod(0o644)
    publishing = publisher(spool)
    assert (old.stat().st_mode & 0o777, folder.stat().st_mode & 0o777) == (0o600, 0o700)
    # The folder that the caller made is left as it is.
    assert spool.stat().st_mode & 0o777 == 0o755
    with pytest.raises(Undelivered):
        publishing.close(0)


# Clocks and forks.


def test_a_clock_that_jumps_loses_nothing(
    tables: Tables, spool: Path, view: View, between: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    between.judge = lambda _body: UNAVAILABLE
    publishing = publisher(spool, limits=replace(SHORT, block_bytes=500))
    accepted: list[str] = []
    now = time.time_ns()
    for hours in (0, 30_000, -30_000, 1, 0, -1):
        monkeypatch.setattr(time, "time_ns", lambda hours=hours: now + hours * 3_600_000_000_000)
        accepted += [view(publishing) for _ in range(4)]
    between.judge = lambda _body: None
    publishing.close()
    assert tables.ids() == sorted(accepted)


def test_a_forked_process_neither_publishes_nor_releases_blocks_of_its_parent(
    spool: Path, between: Network, tmp_path: Path
) -> None:
    program = f"""
import os, time
from pathlib import Path
from product_events.publisher import Limits, Publisher
from product_events.spool import Spool
publisher = Publisher({PROJECT!r}, {DATASET!r}, spool_dir=Path({str(spool)!r}), limits=Limits(batch_seconds=60))
event = ("insight_viewed", 1, {{"insight": "a", "load_ms": 1}})
publisher.publish(*event, organisation_id="forked")
child = os.fork()
if child == 0:
    try:
        publisher.publish(*event, organisation_id="forked")
    except RuntimeError as error:
        print(error, flush=True)
    publisher.close()
    time.sleep(60)
spool = Spool(Path({str(spool)!r}) / "{PROJECT}.{DATASET}")
time.sleep(1)
[path] = spool.batches()
with spool.claim(path) as block:
    print("held" if block is None else "free", flush=True)
publisher.flush()
print(spool.batches(), flush=True)
os.kill(child, 9)
os.waitpid(child, 0)
publisher.close()
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    said, held, left = result.stdout.splitlines()
    assert "make it after forking" in said, result.stderr
    # The child still has the descriptor of the block, which was sent all the same.
    assert (held, left) == ("held", "[]")
    assert Limits().block_bytes <= 8 * 1024 * 1024
