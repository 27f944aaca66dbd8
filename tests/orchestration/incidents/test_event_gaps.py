"""Which ids of the event log were skipped, and the blocks that a sweep compares."""

from __future__ import annotations

from dataclasses import replace

from orchestration.incidents import clock_offsets, event_gaps, signals
from orchestration.incidents.event_log import Row
from orchestration.incidents.model import Signal
from orchestration.incidents.state import Block, Gap

NOW = 1_800_000_000.0


def rows(*ids: int) -> list[Row]:
    return [Row(id_, "ASSET_OBSERVATION", "r") for id_ in ids]


def test_skipped_ids_are_ranges_with_the_times_between_which_they_were_assigned() -> None:
    found = event_gaps.find_gaps(rows(8, 9, 12, 13, 20), 5, NOW - 5, NOW)
    assert found == [Gap(6, 7, NOW - 5, NOW), Gap(10, 11, NOW - 5, NOW), Gap(14, 19, NOW - 5, NOW)]
    assert event_gaps.find_gaps([], 5, NOW - 5, NOW) == []


def test_an_id_that_appears_splits_its_gap() -> None:
    gap = Gap(10, 20, NOW - 5, NOW)
    assert event_gaps.fill_gaps([gap], [10, 15, 20, 99]) == [
        replace(gap, first=11, last=14),
        replace(gap, first=16, last=19),
    ]
    assert event_gaps.fill_gaps([gap], range(10, 21)) == []


def test_gaps_are_kept_for_an_hour_and_in_a_bounded_number() -> None:
    old, young = Gap(1, 1, 0.0, NOW - 3600), Gap(3, 3, 0.0, NOW - 3599)
    assert event_gaps.keep_gaps([old, young], NOW) == (young,)
    many = [Gap(id_, id_, 0.0, NOW) for id_ in range(0, 4 * event_gaps.MOST_GAPS, 2)]
    assert event_gaps.keep_gaps(many, NOW) == tuple(many[-event_gaps.MOST_GAPS :])


def test_a_block_ends_by_its_ids_or_its_age_so_that_it_is_never_older_than_what_is_remembered_as_judged() -> None:
    blocks = event_gaps.extend_blocks([], rows(4, 9), 2, 3, NOW)
    assert blocks == [Block(4, 9, 2, NOW)]
    blocks = event_gaps.extend_blocks(blocks, rows(11), 1, 9, NOW + 5)
    assert blocks == [Block(4, 11, 3, NOW)]
    blocks = event_gaps.extend_blocks(blocks, rows(12), 1, 11, NOW + event_gaps.BLOCK_SECONDS)
    assert blocks[-1] == Block(12, 12, 1, NOW + event_gaps.BLOCK_SECONDS)
    blocks = event_gaps.extend_blocks(blocks, rows(90_000), 1, 12, NOW + event_gaps.BLOCK_SECONDS)
    assert event_gaps.extend_blocks(blocks, rows(90_001), 0, 90_000, NOW + event_gaps.BLOCK_SECONDS)[-1].first == 90_001
    assert event_gaps.keep_blocks(blocks, NOW + event_gaps.SWEPT_SECONDS) == tuple(blocks[1:])
    oldest_swept = event_gaps.SWEPT_SECONDS + event_gaps.SWEEP_SECONDS
    assert min(signals.HANDLED_SECONDS, signals.OK_SECONDS) > oldest_swept


def test_a_late_event_is_counted_in_its_block() -> None:
    blocks = [Block(1, 10, 3, NOW), Block(11, 20, 4, NOW)]
    assert [block.events for block in event_gaps.count_late(blocks, [2, 10, 20, 99])] == [5, 5]


def test_a_time_outside_of_what_the_ids_allow_is_moved() -> None:
    assert clock_offsets.offset_of(NOW - 600, NOW - 5, NOW) == 595
    assert clock_offsets.offset_of(NOW - 9, NOW - 5, NOW) == 0
    assert clock_offsets.offset_of(NOW + 7200, NOW - 5, NOW) == -7200
    assert clock_offsets.offset_of(NOW - 600, 0.0, 0.0) == 0


def test_a_run_that_starts_before_it_was_created_has_a_clock_that_is_behind() -> None:
    # 600 s behind, read an hour after it had ended, so that the ids say nothing.
    created, started, ended = NOW - 1000, NOW - 1595, NOW - 1500
    assert clock_offsets.offset_of_run(created, started, ended, NOW - 3600, NOW, NOW) == 595
    assert clock_offsets.offset_of_run(created, None, ended, 0.0, 0.0, NOW) == 500
    assert clock_offsets.offset_of_run(created, created + 5, NOW + 130, NOW - 5, NOW, NOW) == -130
    assert clock_offsets.offset_of_run(created, created + 5, NOW - 2, NOW - 5, NOW, NOW) == 0


def test_a_moved_signal_keeps_its_id() -> None:
    moved = clock_offsets.shift_signal(Signal("x", NOW, well={"a": NOW - 3}), 10.0)
    assert moved == Signal("x", NOW + 10, well={"a": NOW + 7})
