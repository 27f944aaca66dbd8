"""The publisher against BigQuery's stand-in: what arrives, what is a dead letter, and what faults of the network do."""

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from product_events.publisher import Publisher, SpoolFull, Undelivered
from sandbox.config import PROJECT
from tests.orchestration.wire import RESET, reply
from tests.product_events.conftest import DATASET, QUICK, Tables, publisher
from tests.product_events.faulty import CUT, Network

View = Callable[..., str]
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def test_events_of_many_threads_arrive_once_each_with_what_they_were_given(
    tables: Tables, spool: Path, view: View
) -> None:
    with publisher(spool, clock=lambda: NOON, limits=replace(QUICK, batch_events=30)) as publishing:

        def work(number: int) -> str:
            if number % 2:
                return view(publishing, number)
            page = {"status_page_id": "sp_1", "visitor_id": f"v{number}", "referrer": "https://example.com/ä"}
            happened = (NOON - timedelta(minutes=number)).astimezone(timezone(timedelta(hours=2)))
            done = publishing.publish(
                "status_page_viewed", 2, page, organisation_id=tables.organisation, user_id="u", occurred_at=happened
            )
            return done.event_id

        with ThreadPoolExecutor(8) as pool:
            identifiers = list(pool.map(work, range(200)))
        publishing.flush()
        assert sorted(tables.ids()) == sorted(identifiers[1::2])
    rows = {row["event_id"]: row for row in tables.rows("status_page_viewed")}
    assert sorted(rows) == sorted(identifiers[::2])
    assert rows[identifiers[4]] == {
        "event_id": identifiers[4],
        "event_version": 2,
        "occurred_at": NOON - timedelta(minutes=4),
        "received_at": NOON,
        "organisation_id": tables.organisation,
        "user_id": "u",
        "status_page_id": "sp_1",
        "visitor_id": "v4",
        "component": None,
        "referrer": "https://example.com/ä",
    }
    assert list(spool.rglob("*.jsonl")) == []


GOOD: dict[str, Any] = {"insight": "on_call_load", "load_ms": 7}
MALFORMED: list[tuple[dict[str, Any], str]] = [
    ({"name": "insight_seen"}, "unknown event 'insight_seen'"),
    ({"name": ["insight_viewed"]}, "unknown event ['insight_viewed']"),
    ({"version": 2}, "unknown version 2 of insight_viewed, which has 1 to 1"),
    ({"version": 0}, "unknown version 0"),
    ({"version": True}, "unknown version True"),
    ({"properties": {"insight": "on_call_load"}}, "'load_ms' is a required property"),
    ({"properties": GOOD | {"load_ms": "7"}}, "load_ms: '7' is not of type 'integer'"),
    ({"properties": GOOD | {"load_ms": -1, "insight": "A"}}, "insight: 'A' does not match"),
    ({"properties": GOOD | {"load_ms": float("nan")}}, "properties are not JSON: Out of range float"),
    ({"properties": GOOD | {"colour": "red"}}, "'colour' was unexpected"),
    ({"properties": GOOD | {"at": NOON}}, "properties are not JSON: Object of type datetime"),
    ({"properties": GOOD | {"insight": "\ud800"}}, "properties are not JSON: 'utf-8' codec can't encode"),
    ({"properties": GOOD | {"insight": "a" * 300_000}}, "properties are too large: 300"),
    ({"properties": [1]}, "properties must be a mapping, not [1]"),
    ({"occurred_at": NOON + timedelta(hours=1)}, "occurred_at is in the future"),
    ({"occurred_at": NOON.replace(tzinfo=None)}, "occurred_at must be a datetime with a time zone"),
    ({"occurred_at": "2026-03-02T12:00:00Z"}, "occurred_at must be a datetime with a time zone"),
    ({"user_id": 7}, "user_id must be text of 1 to 128 bytes, not 7"),
    ({"event_id": "e" * 200}, "event_id must be text of 1 to 128 bytes"),
]


def test_what_does_not_fit_the_registry_is_a_dead_letter_with_the_reason(tables: Tables, spool: Path) -> None:
    good = {"name": "insight_viewed", "version": 1, "properties": GOOD, "organisation_id": tables.organisation}
    told: list[tuple[str, str]] = []
    with publisher(spool, clock=lambda: NOON) as publishing:
        for change, reason in MALFORMED:
            done = publishing.publish(**(good | change))
            assert reason in (done.problem or "")
            told.append((done.problem or "", reason))
        assert publishing.publish(**(good | {"organisation_id": ""})).problem
    dead = tables.rows("dead_letters")
    assert sorted(row["reason"] for row in dead) == sorted(problem for problem, _ in told)
    assert tables.ids() == []
    version = next(row for row in dead if row["reason"].startswith("unknown version 2"))
    assert (version["event_name"], version["event_version"], version["received_at"]) == ("insight_viewed", 2, NOON)
    assert '"properties": {"insight": "on_call_load", "load_ms": 7}' in version["payload"]
    assert [row["event_name"] for row in dead if "['insight_viewed']" in row["reason"]] == [None]
    assert [row["event_id"] for row in dead if row["reason"].startswith("event_id")] == [None]


def test_of_a_batch_only_the_rows_that_bigquery_refuses_are_dead_letters(
    tables: Tables, spool: Path, view: View
) -> None:
    with publisher(spool) as publishing:
        before, refused, after = view(publishing, 1), view(publishing, 2**70), view(publishing, 3)
    assert tables.ids() == sorted([before, after])
    [dead] = tables.rows("dead_letters")
    assert (dead["event_id"], dead["event_name"], dead["event_version"]) == (refused, "insight_viewed", 1)
    assert dead["reason"].startswith("load_ms: Cannot convert value to integer")
    assert str(2**70) in dead["payload"]


@pytest.mark.parametrize("status", [400, 413])
def test_of_a_request_that_is_refused_whole_only_the_rows_to_blame_are_dead_letters(
    tables: Tables, spool: Path, view: View, between: Network, status: int
) -> None:
    answer = reply(status, {"error": {"message": "not this one", "errors": []}})
    between.judge = lambda body: (
        answer if b'"load_ms":4242' in body.replace(b" ", b"") and b"payload" not in body else None
    )
    with publisher(spool) as publishing:
        identifiers = [view(publishing, 4242 if number == 5 else number) for number in range(8)]
    poison = identifiers.pop(5)
    assert tables.ids() == sorted(identifiers)
    [dead] = tables.rows("dead_letters")
    assert dead["event_id"] == poison
    assert "not this one" in dead["reason"]


ERROR = {"error": {"message": "again, please", "errors": [{"reason": "backendError"}]}}
STOPPED = {"insertErrors": [{"index": 0, "errors": [{"reason": "stopped"}]}]}


FAULTS = [
    reply(429, ERROR),
    reply(500, ERROR),
    reply(503, "<html>not even JSON</html>"),
    reply(403, ERROR),
    reply(200, "{"),
    RESET,
    CUT,
]


def test_faults_of_the_network_are_outlasted(tables: Tables, spool: Path, view: View, between: Network) -> None:
    between.script = list(FAULTS)
    with publisher(spool) as publishing:
        identifiers = [view(publishing) for _ in range(3)]
    assert tables.ids() == sorted(identifiers)
    # What the last answer was cut off from had arrived: BigQuery dropped the repeat.
    assert Counter(between.sent) == dict.fromkeys(identifiers, len(FAULTS) + 1)


def test_it_waits_as_long_as_bigquery_asks(tables: Tables, spool: Path, view: View, between: Network) -> None:
    between.script = [reply(429, ERROR, Retry_After="1")]
    with publisher(spool) as publishing:
        view(publishing)
    (first, _), (second, _) = between.inserts
    assert second - first >= 1


def test_rows_that_were_put_off_are_sent_again_and_the_others_not(
    tables: Tables, spool: Path, view: View, between: Network
) -> None:
    between.script = [reply(200, STOPPED)]
    with publisher(spool) as publishing:
        first, _second = view(publishing), view(publishing)
    assert [rows for _, rows in between.inserts] == [[first, _second], [first]]
    assert tables.rows("dead_letters") == []


def test_a_table_that_does_not_take_rows_holds_up_no_other(
    tables: Tables, spool: Path, view: View, between: Network
) -> None:
    between.judge = lambda body: reply(403, ERROR) if b"/incident" in body else None
    publishing = publisher(spool)
    command = {"command": "/incident", "channel_kind": "public", "duration_ms": 5, "succeeded": True}
    publishing.publish("slack_command_invoked", 1, command, organisation_id=tables.organisation)
    identifiers = [view(publishing)]
    with pytest.raises(Undelivered, match=r"1 events are not delivered .*slack_command_invoked: Forbidden") as raised:
        publishing.close(1)
    assert raised.value.count == 1
    assert tables.ids() == identifiers


def test_what_cannot_be_delivered_stays_and_the_next_publisher_sends_it(
    tables: Tables, spool: Path, view: View, unreachable: Callable[[], pytest.MonkeyPatch]
) -> None:
    away = unreachable()
    cut_off = publisher(spool)
    away.undo()
    identifiers = [view(cut_off) for _ in range(5)]
    cut_off.publish("insight_viewed", 1, {}, organisation_id=tables.organisation)
    with pytest.raises(Undelivered, match=r"6 events are not delivered .*refused") as raised:
        cut_off.close(0.3)
    assert (raised.value.count, raised.value.folder) == (6, spool / f"{PROJECT}.{DATASET}")
    cut_off.close()
    with pytest.raises(RuntimeError, match="closed"):
        view(cut_off)

    assert tables.ids() == []
    publisher(spool).close()
    assert tables.ids() == sorted(identifiers)
    assert len(tables.rows("dead_letters")) == 1
    assert list(spool.rglob("*.jsonl")) == []


def test_without_a_folder_undelivered_events_are_kept_too_and_delivered_ones_leave_nothing(
    tables: Tables,
    view: View,
    unreachable: Callable[[], pytest.MonkeyPatch],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with Publisher(PROJECT, DATASET, limits=QUICK) as publishing:
        view(publishing)
    assert list(tmp_path.iterdir()) == []
    away = unreachable()
    cut_off = Publisher(PROJECT, DATASET, limits=QUICK)
    away.undo()
    view(cut_off)
    with pytest.raises(Undelivered) as raised:
        cut_off.close(0.2)
    publisher(raised.value.folder.parent).close()
    assert len(tables.ids()) == 2


def test_an_error_of_the_caller_is_not_hidden_by_events_that_wait(
    spool: Path, view: View, unreachable: Callable[[], pytest.MonkeyPatch], caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        away = unreachable()
        with publisher(spool, limits=replace(QUICK, flush_seconds=0.2)) as publishing:
            away.undo()
            view(publishing)
            raise ZeroDivisionError

    with caplog.at_level(logging.ERROR), pytest.raises(ZeroDivisionError):
        fail()
    assert "1 events are not delivered" in caplog.text


def test_a_full_folder_refuses_aloud_and_goes_on_when_there_is_room(
    tables: Tables, spool: Path, view: View, between: Network
) -> None:
    between.judge = lambda _body: reply(503, ERROR)
    limits = replace(QUICK, batch_events=10, spool_bytes=20_000, block_seconds=0.2)
    accepted: list[str] = []
    with publisher(spool, limits=limits) as publishing:
        with pytest.raises(SpoolFull, match="bytes: insight_viewed: ServiceUnavailable"):
            accepted.extend(view(publishing) for _ in range(100))
        assert sum(path.stat().st_size for path in spool.rglob("*.jsonl")) < 20_000 + 10 * 300
        between.judge = lambda _body: None
        publishing.flush()
        accepted.append(view(publishing))
    assert tables.ids() == sorted(accepted)
