"""What `doctor` says about money: the last day's events, and storage classes that are a trap for small objects."""

from __future__ import annotations

import os
from typing import Any

import pytest

from streams.doctor.costs import DayOfEvents, cost_finding, day_of_events, storage_class_finding
from streams.doctor.findings import Status
from streams.settings import Settings


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("STREAMS_", "AWS_")):
            monkeypatch.delenv(name)


def make_settings(**fields: Any) -> Settings:
    required = {"kafka_bootstrap_servers": "b:9092", "topics": "orders", "consumer_group": "g", "s3_bucket": "events"}
    return Settings(**{**required, **fields})


# -- the last day ------------------------------------------------------------------------------------------------------


def test_events_of_the_last_day_are_counted_by_offsets() -> None:
    """From the first event of the day to the end; a partition without any since then adds none."""
    begins, since, ends = {"a": 0, "b": 10}, {"a": 100, "b": -1}, {"a": 350, "b": 90}
    assert DayOfEvents(250, False, 57.0) == day_of_events(begins, since, ends, 57.0)


def test_a_day_that_kafka_no_longer_has_whole_is_a_lower_bound() -> None:
    """The first event that is left is of the last day, and there were others before it."""
    day = day_of_events({"a": 40}, {"a": 40}, {"a": 50}, None)
    assert DayOfEvents(10, True, None) == day
    assert cost_finding(day, make_settings()).finding.startswith("at least 10 events")
    assert not day_of_events({"a": 0}, {"a": 0}, {"a": 50}, None).shortened


def test_partitions_that_told_nothing_are_left_out() -> None:
    """Their leaders were away."""
    assert 5 == day_of_events({"a": 0, "b": 0}, {"a": 0}, {"a": 5, "b": 9}, None).events


def test_cost_of_a_day_on_s3() -> None:
    """A million events are $5 a day; their storage is that of a day's objects."""
    finding = cost_finding(DayOfEvents(1_000_000, False, 1024.0), make_settings())
    assert Status.OK == finding.status
    assert "1,000,000 events came in the last 24 h: 1,000,000 PUTs, $5.00 a day and $150.00 a month" in finding.finding
    assert "at 1,024 bytes each (a sample) every day's objects add $0.022 a month" in finding.finding
    assert "2026-11" in finding.finding


def test_cost_of_a_day_on_sqs() -> None:
    """Ten events to a request; no storage, and no word of the built-in prices where the user has set his own."""
    settings = make_settings(
        sink="sqs", sqs_queue_url="https://sqs.us-east-1.amazonaws.com/1/q", s3_bucket="", price_sqs_usd_per_million=1.0
    )
    finding = cost_finding(DayOfEvents(1_000_001, False, 57.0), settings)
    assert "100,001 requests if each is full, $0.10 a day and $3.00 a month" in finding.finding
    assert "STREAMS_PRICE" not in finding.finding
    assert "storage" not in finding.finding


def test_no_events_and_no_knowledge() -> None:
    """An idle topic costs nothing; one whose offsets are not told is not guessed at."""
    assert "0 events came in the last 24 h: no requests, $0.00" in (
        cost_finding(DayOfEvents(0, False, None), make_settings()).finding
    )
    assert Status.UNCHECKED == cost_finding(None, make_settings()).status


# -- storage classes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [None, "STANDARD", "INTELLIGENT_TIERING", "OUTPOSTS"])
def test_classes_without_a_floor_are_not_worth_a_word(name: str | None) -> None:
    """Nor those that nothing is known of."""
    assert storage_class_finding(make_settings(s3_storage_class=name), 57.0) is None


@pytest.mark.parametrize("name", ["STANDARD_IA", "ONEZONE_IA", "GLACIER_IR"])
def test_small_events_are_warned_about_the_128_kib_floor(name: str) -> None:
    """With how much dearer it gets, and what to take out."""
    finding = storage_class_finding(make_settings(s3_storage_class=name), 57.0)
    assert finding is not None
    assert Status.WARNING == finding.status
    assert "billed as at least 128 KiB" in finding.finding
    assert "STREAMS_S3_STORAGE_CLASS" in finding.remedy


def test_the_factor_is_right() -> None:
    """128 KiB at 0.0125 against 64 bytes at 0.023."""
    finding = storage_class_finding(make_settings(s3_storage_class="STANDARD_IA"), 64.0)
    assert finding is not None
    assert f"costs {128 * 1024 / 64 * 0.0125 / 0.023:,.0f} times STANDARD's" in finding.finding
    assert "a PUT costs 2 times STANDARD's; " not in finding.finding
    assert "a PUT costs 2 times STANDARD's" in finding.finding


def test_a_cheaper_class_is_not_called_dearer() -> None:
    """100 KB in GLACIER_IR: above the floor's worth, below its size."""
    finding = storage_class_finding(make_settings(s3_storage_class="GLACIER_IR"), 100_000.0)
    assert finding is not None
    assert f"{128 * 1024 / 100_000 * 0.004 / 0.023:.0%} of STANDARD's" in finding.finding


@pytest.mark.parametrize(("name", "mean_bytes"), [("STANDARD_IA", 200_000.0), ("GLACIER", 1_000_000.0)])
def test_large_events_may_go_there(name: str, mean_bytes: float) -> None:
    """The floor does not matter to them."""
    finding = storage_class_finding(make_settings(s3_storage_class=name), mean_bytes)
    assert finding is not None
    assert Status.OK == finding.status


def test_unknown_sizes_are_warned_about() -> None:
    """One object for each event is small more often than not; archives cannot be read by our commands either."""
    finding = storage_class_finding(make_settings(s3_storage_class="DEEP_ARCHIVE"), None)
    assert finding is not None
    assert Status.WARNING == finding.status
    assert "40 KiB more than it has" in finding.finding
    assert "restore" in finding.finding


def test_a_queue_without_a_bucket_has_no_storage_class() -> None:
    """The setting is for the objects of large events."""
    settings = make_settings(
        sink="sqs",
        sqs_queue_url="https://sqs.us-east-1.amazonaws.com/1/q",
        s3_bucket="",
        s3_storage_class="STANDARD_IA",
    )
    assert storage_class_finding(settings, 57.0) is None
