"""What is on disk outlives the process that accepted it, and is sent by one process at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from product_events.publisher import Publisher, Undelivered
from product_events.registry import load
from product_events.spool import Spool
from product_events.tables import apply
from sandbox.config import PROJECT
from tests.orchestration.wire import reply
from tests.product_events.conftest import DATASET, QUICK, Tables, publisher
from tests.product_events.faulty import Network
from tests.product_events.publishing import BATCH
from tests.product_events.test_registry import WITH_KEY, file, written
from tests.stand_ins import wait_for

View = Callable[..., str]
UNAVAILABLE = reply(503, {"error": {"message": "down"}})


def test_two_processes_share_a_folder_and_one_that_is_killed_loses_nothing_that_it_accepted(
    tables: Tables, spool: Path, view: View, between: Network
) -> None:
    command = [
        sys.executable,
        "-m",
        "tests.product_events.publishing",
        PROJECT,
        DATASET,
        str(spool),
        tables.organisation,
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    accepted = [process.stdout.readline().strip()]
    with publisher(spool) as publishing:
        for _ in range(30):
            accepted += [process.stdout.readline().strip(), view(publishing)]
        process.kill()
        accepted += [line for line in process.stdout.read().splitlines() if len(line) == 36]
        process.wait()
    between.script = [UNAVAILABLE]
    publisher(spool, limits=replace(QUICK, batch_events=BATCH)).close()
    assert list(spool.rglob("*.jsonl")) == []
    assert set(accepted) <= set(tables.ids())
    # Only what was under way at the kill or met the fault was sent again.
    assert sum(times - 1 for times in Counter(between.sent).values()) <= 2 * BATCH


def test_two_publishers_send_each_event_that_waits_for_both_once(
    tables: Tables, spool: Path, view: View, between: Network
) -> None:
    between.judge = lambda _body: UNAVAILABLE
    left = publisher(spool, limits=replace(QUICK, batch_events=4))
    accepted = [view(left) for _ in range(20)]
    with pytest.raises(Undelivered):
        left.close(0)
    between.inserts.clear()
    between.judge = lambda _body: time.sleep(0.02)
    first, second = publisher(spool), publisher(spool)
    first.close()
    second.close()
    assert set(accepted) <= set(tables.ids())
    assert Counter(between.sent) == dict.fromkeys(accepted, 1)


def test_an_event_is_in_a_file_when_publish_returns_and_on_the_disk_if_that_was_asked_for(
    spool: Path, view: View, between: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    between.judge = lambda _body: UNAVAILABLE
    synced: list[int] = []
    fsync = os.fsync
    for durable in (False, True):
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", lambda handle: (synced.append(handle), fsync(handle)))
            publishing = publisher(spool / str(durable), durable=durable)
            identifier = view(publishing)
            [path] = (spool / str(durable)).rglob("*.jsonl")
            assert json.loads(path.read_text())["event_id"] == identifier
            # The folder, which got a file, and the line; without `durable` the request does not wait for the disk.
            assert len(synced) == 2 * durable
            with pytest.raises(Undelivered):
                publishing.close(0)
        synced.clear()


def test_a_line_that_cannot_be_read_is_a_dead_letter_and_the_others_arrive(
    tables: Tables, spool: Path, view: View, between: Network
) -> None:
    between.judge = lambda _body: UNAVAILABLE
    publishing = publisher(spool)
    identifier = view(publishing)
    with pytest.raises(Undelivered):
        publishing.close(0)
    [path] = spool.rglob("*.jsonl")
    path.write_bytes(
        path.read_bytes() + b'12\n{"event_id": "torn", "organisation_id": "' + tables.organisation.encode()
    )
    between.judge = lambda _body: None
    publisher(spool).close()
    assert tables.ids() == [identifier]
    [dead] = tables.rows("dead_letters")
    assert (dead["event_id"], dead["event_name"]) == (None, "insight_viewed")
    assert dead["reason"] == "its line in the spool cannot be read"
    assert '"torn"' in json.loads(dead["payload"])


def test_an_event_whose_columns_the_table_lacks_waits_for_them_and_earlier_versions_do_not(
    tables: Tables, spool: Path, tmp_path: Path
) -> None:
    dataset = f"behind_{tables.organisation}"
    apply(tables.client, dataset, load(written(tmp_path, file())))
    events = load(written(tmp_path, file(), file(version=2, **WITH_KEY)))

    def versions() -> list[int]:
        query = f"select event_version from {dataset}.door_opened order by 1"
        return [row[0] for row in tables.client.query(query).result()]

    publishing = Publisher(PROJECT, dataset, spool_dir=spool, limits=QUICK, events=events)
    publishing.publish("door_opened", 1, {"door": "front"}, organisation_id=tables.organisation)
    publishing.publish("door_opened", 2, {"door": "front", "key": "k"}, organisation_id=tables.organisation)
    wait_for(lambda: versions() == [1], 30, "the event of version 1 arrives")
    with pytest.raises(Undelivered):
        publishing.flush(0.2)
    apply(tables.client, dataset, events)
    publishing.close()
    assert versions() == [1, 2]


def test_a_disk_that_is_full_leaves_whole_lines_and_is_told(tmp_path: Path) -> None:
    program = f"""
import resource, signal
from pathlib import Path
from product_events.registry import load
from product_events.spool import Spool
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
segment = Spool(Path({str(tmp_path)!r})).segment("t")
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
segment.append(b"a" * 79 + b"\\n", False)
try:
    segment.append(b"b" * 79 + b"\\n", False)
except OSError as error:
    print(error)
segment.append(b"c" * 19 + b"\\n", False)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert "File too large" in result.stdout, result.stderr
    [path] = tmp_path.iterdir()
    assert path.read_bytes() == b"a" * 79 + b"\n" + b"c" * 19 + b"\n"


def test_a_batch_is_claimed_by_one_and_by_none_once_it_is_sent(tmp_path: Path) -> None:
    spool, other = Spool(tmp_path), Spool(tmp_path)
    segment = spool.segment("t")
    segment.append(b"1\n2\n", False)
    with other.claim(segment.path) as batch:
        assert batch is None
    segment.seal()
    with spool.claim(segment.path) as batch:
        assert batch is not None
        assert batch.lines() == [b"1", b"2"]
        with other.claim(segment.path) as second:
            assert second is None
    with other.claim(segment.path) as batch:
        assert batch is not None
        assert batch.read(1, 100) == [b"1"]
        batch.mark_sent()
    with spool.claim(segment.path) as batch:
        assert batch is not None
        assert batch.lines() == [b"2"]
        batch.delete()
    with spool.claim(segment.path) as batch:
        assert batch is None
    assert list(tmp_path.iterdir()) == []
