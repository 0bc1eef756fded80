"""The judgement of a verification: which offsets are proved, missing, absent, lost, or not verifiable."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.commands.verify import remarks
from streams.ledger import Segment
from streams.object_key import ObjectKeyTemplate
from streams.offset_set import OffsetSet, Range
from streams.proof.content import _at_ranks, describe_difference
from streams.proof.ledger_proof import LedgerIndex, LedgerProof, ListedSegment
from streams.proof.offset_ranges import joined, parted
from streams.proof.page import SLOTS, bar, describe_ranges, render_page
from streams.proof.report import CHECKSUM, checksum, partition_document
from streams.proof.result import PartitionResult, verdict_of
from streams.proof.verification import judge_by_kafka, judge_by_ledger
from streams.record import Record, TopicPartition

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
offset_sets = st.lists(st.integers(0, 60), max_size=20).map(
    lambda offsets: OffsetSet((one, one + 1) for one in offsets)
)


def part_of(start: int = 0, stop: int = 100, **changes: Any) -> PartitionResult:
    """A partition's result to judge."""
    return PartitionResult("orders", 0, start, stop, end=stop, **changes)


def ranges(offsets: OffsetSet) -> list[Range]:
    """Its ranges, as a list."""
    return list(offsets.ranges())


@given(st.integers(0, 60), st.integers(0, 60), offset_sets)
def test_parted_covers_the_range_exactly(start: int, stop: int, offsets: OffsetSet) -> None:
    """Every offset is in one piece, and the pieces say right whether it is in the set."""
    pieces = list(parted(start, stop, offsets))
    told = {offset: inside for (first, behind), inside in pieces for offset in range(first, behind)}
    assert {offset: offset in offsets for offset in range(start, stop)} == told


def test_joined_reads_through_short_distances() -> None:
    """Ranges that are near each other are read in one go; far ones are not."""
    assert [(0, 12), (100, 101)] == list(joined([(0, 1), (5, 6), (11, 12), (100, 101)], 6))
    assert [] == list(joined([], 6))


def test_ledger_tells_missing_lost_and_absent() -> None:
    """Covered offsets are sorted by the ledger, the others are left to ask Kafka."""
    proof = LedgerProof()
    proof.add(Segment("orders", 0, 10, 40, absent=((12, 14),), lost=((20, 30),)))
    part = part_of()
    unknown = judge_by_ledger(part, OffsetSet([(5, 13), (19, 22), (39, 41)]), proof)
    assert [(5, 10), (40, 41)] == ranges(unknown)
    assert [(10, 12), (19, 20), (39, 40)] == ranges(part.missing)
    assert [(12, 13)] == ranges(part.absent)
    assert [(20, 22)] == ranges(part.lost)


def test_was_durable_wins_where_segments_disagree() -> None:
    """A group that was set back passes offsets that were compacted since: the first ledger remembers the events."""
    proof = LedgerProof()
    proof.add(Segment("orders", 0, 0, 10))
    proof.add(Segment("orders", 0, 5, 15, absent=((7, 8),), lost=((8, 9),)))
    part = part_of()
    judge_by_ledger(part, OffsetSet([(7, 9)]), proof)
    assert ([(7, 9)], [], []) == (ranges(part.missing), ranges(part.absent), ranges(part.lost))


def test_kafka_tells_missing_from_absent_and_old_ones_are_not_verifiable() -> None:
    """What the broker delivers is missing, what it does not deliver never was; below its earliest nobody knows."""
    part = part_of(missing=OffsetSet([(50, 52)]))
    judge_by_kafka(part, OffsetSet([(8, 14), (30, 31)]), 10, OffsetSet([(12, 13), (50, 51)]))
    assert [(8, 10)] == ranges(part.unverifiable)
    assert [(12, 13), (50, 52)] == ranges(part.missing)
    assert [(10, 12), (13, 14), (30, 31)] == ranges(part.absent)
    assert [(12, 13), (50, 51)] == ranges(part.repairable)


@pytest.mark.parametrize(
    ("changes", "exit_code", "status", "words"),
    [
        ({"found": 100, "objects": 100}, 0, "proved", "PROVED: all 100 events of 1 partition"),
        (
            {"missing": OffsetSet([(1, 4)]), "repairable": OffsetSet([(1, 4)])},
            1,
            "missing",
            "Kafka still has all of them",
        ),
        ({"missing": OffsetSet([(1, 2)])}, 1, "missing", "MISSING: 1 event of 1 partition is not in the bucket"),
        ({"missing": OffsetSet([(1, 4)])}, 1, "missing", "cannot be repaired"),
        ({"wrong": OffsetSet([(1, 2)]), "repairable": OffsetSet([(1, 2)])}, 1, "wrong", "repair --content all"),
        ({"lost": OffsetSet([(1, 2)])}, 1, "lost", "Nothing can bring them back"),
        ({"unverifiable": OffsetSet([(1, 2)]), "found": 7}, 2, "not verifiable", "7 events are in the bucket"),
        ({"problem": "no idea"}, 2, "not checked", "orders/0: no idea"),
        ({"unverifiable": OffsetSet([(1, 2)]), "missing": OffsetSet([(3, 4)])}, 1, "missing", "MISSING"),
        ({"start": 100}, 2, "not checked", "Widen --from"),
        ({"stop": 0}, 2, "not checked", "STREAMS_CONSUMER_GROUP"),
    ],
)
def test_verdict(changes: dict[str, Any], exit_code: int, status: str, words: str) -> None:
    """0 only for what is proved, 1 for any fault, else 2, each in one sentence."""
    verdict = verdict_of([part_of(**changes)], "archive")
    assert (exit_code, status) == (verdict.exit_code, verdict.status)
    assert words in verdict.sentence


def test_an_archive_that_is_not_found_at_all_is_looked_for_elsewhere_first() -> None:
    """A wrong prefix: repair would write all of it a second time."""
    missing: dict[str, Any] = {"missing": OffsetSet([(0, 100)]), "repairable": OffsetSet([(0, 100)])}
    verdict = verdict_of([part_of(**missing)], "archive")
    assert "first check STREAMS_S3_BUCKET, STREAMS_S3_PREFIX and STREAMS_OBJECT_KEY_TEMPLATE" in verdict.sentence
    assert verdict.sentence.endswith("If they are right, run: faust -A streams repair")
    other = PartitionResult("orders", 1, 0, 100, end=100, found=100)
    assert "first check" not in verdict_of([part_of(**missing), other], "archive").sentence


def test_what_is_to_be_said_of_all_partitions_is_said_once() -> None:
    """With how many there are."""
    parts = [PartitionResult("orders", number, 0, 1, notes=["so it is", f"only {number}"]) for number in range(2)]
    lines = ["orders (2 partitions): so it is", "orders/0: only 0", "orders/1: only 1"]
    assert lines == remarks(parts)


def test_ledger_gives_the_beginning_for_a_time_that_kafka_has_forgotten() -> None:
    """An event cannot be newer than the segment that it is in; without order among the segments nothing is known."""
    listed = [ListedSegment(start, start + 100, "", NOW - timedelta(hours=5 - start / 100)) for start in (0, 100, 200)]
    index = LedgerIndex(TopicPartition("orders", 0), listed, Segment("orders", 0, 300, 310))
    assert 200 == index.not_before(NOW - timedelta(hours=3.5))
    assert 300 == index.not_before(NOW)
    assert index.not_before(NOW - timedelta(hours=9)) is None
    turned = [listed[0]._replace(modified_at=NOW - timedelta(hours=4)), listed[1]._replace(modified_at=NOW)]
    assert LedgerIndex(TopicPartition("orders", 0), turned[::-1]).not_before(NOW - timedelta(hours=3)) is None


def test_differences_are_named_and_contents_are_not_shown() -> None:
    """A reader learns which fields differ, and no value ends up in a report."""
    record = Record("orders", 0, 1, 5, 0, b"k", b"secret", ())
    other = Record("orders", 0, 1, 5, 0, b"k", None, (("h", b"v"),))
    assert describe_difference(record, record) is None
    expected = "value, headers differ (value: 6 bytes in Kafka, null in the object)"
    assert expected == describe_difference(record, other)


def test_sample_is_drawn_by_rank() -> None:
    """Ranks count the offsets of the set within the bound."""
    offsets = OffsetSet([(0, 5), (10, 13), (20, 30)])
    assert [3, 4, 10, 12, 20] == list(_at_ranks(offsets, (3, 25), [0, 1, 2, 4, 5]))


def test_bar_shows_a_single_missing_event_among_millions() -> None:
    """The worst in a slot gives it its colour."""
    part = part_of(0, 10_000_000, missing=OffsetSet([(5_000_000, 5_000_001)]))
    stretches = bar(partition_document(part))
    assert ["proved", "missing", "proved"] == [stretch.state for stretch in stretches]
    assert SLOTS == sum(stretch.width for stretch in stretches)
    assert [] == bar(partition_document(part_of(7, 7)))
    assert SLOTS == sum(stretch.width for stretch in bar(partition_document(part_of(0, 7))))


def test_ranges_are_said_as_people_count() -> None:
    """The last offset is part of a range, and long lists are cut."""
    assert "7, 10-19 and 1 more" == describe_ranges([(7, 8), (10, 20), (30, 31)], 2)


def test_page_escapes_what_it_shows() -> None:
    """Whatever stands in a report, the page holds no markup of others."""
    report = {
        "report": "streams verify", "sentence": "<script>alert(1)</script>", "exit_code": 1, "signed_off_by": "a&b",
        "made_at": "now", "started_at": "then", "product": "streams", "method": ["<b>"], "requests": {"LIST": 2},
        "cost_usd": 0.00001, "totals": {"compared": 0, "not_comparable": 0}, "other_objects": 0,
        "settings": {"STREAMS_TOPICS": "<i>"},
        "partitions": [partition_document(part_of(missing=OffsetSet([(1, 3)]), notes=["<u>"]))],
    }  # fmt: skip
    page = render_page({**report, CHECKSUM: checksum(report)})
    for raw in ("<script", "<b>", "<i>", "<u>", "a&b"):
        assert raw not in page
    assert checksum(report) in page


def test_checksum_covers_everything_but_itself() -> None:
    """The order of fields does not matter, any other change does."""
    report = {"a": 1, "b": [1, 2]}
    assert checksum(report) == checksum({"b": [1, 2], "a": 1, CHECKSUM: "x"})
    assert checksum(report) != checksum({"a": 1, "b": [2, 1]})


def test_templates_whose_keys_tell_nothing_are_not_unique() -> None:
    """`check_template` refuses what is not unique; a single fixed topic may be left out."""
    assert not ObjectKeyTemplate("{key}").is_unique(["orders"])
    assert ObjectKeyTemplate("{partition}/{offset}").is_unique(["orders"])
