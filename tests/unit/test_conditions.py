"""A condition is told when it begins, once a minute while it lasts, and when it is over; it keeps its beginning."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from streams.stats import KAFKA, Conditions, Kind, conditions
from tests.services.install import ROOT

Clock = Callable[[float], None]


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Sets the time."""

    def set_time(seconds: float) -> None:
        monkeypatch.setattr(conditions, "monotonic", lambda: seconds)

    set_time(0.0)
    return set_time


def test_one_line_at_the_beginning_one_a_minute_one_at_the_end(at: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """However often it is seen."""
    found = Conditions()
    with caplog.at_level(logging.WARNING):
        for second in range(131):
            at(float(second))
            found.begin(Kind.NO_LEADER, "No leader.", "Nothing: brokers choose one.", subject="orders/0")
        found.end(Kind.NO_LEADER, "orders/0")
        found.end(Kind.NO_LEADER, "orders/0")
    assert [
        "partition_without_leader orders/0: No leader. Nothing: brokers choose one.",
        "partition_without_leader orders/0, for 60 s now: No leader. Nothing: brokers choose one.",
        "partition_without_leader orders/0, for 120 s now: No leader. Nothing: brokers choose one.",
        "partition_without_leader orders/0 is over, after 130 s",
    ] == [record.getMessage() for record in caplog.records]
    assert 1 == found.begun[Kind.NO_LEADER]


@pytest.mark.parametrize(
    ("kind", "level", "severity"),
    [(Kind.BROKERS_DOWN, logging.ERROR, "critical"), (Kind.NO_LEADER, logging.WARNING, "warning")],
)
def test_level_is_that_of_the_alert(kind: Kind, level: int, severity: str, caplog: pytest.LogCaptureFixture) -> None:
    """What wakes somebody up is an error in the log."""
    found = Conditions()
    with caplog.at_level(logging.WARNING):
        assert severity == found.begin(kind, "Wrong.", "Act.").severity
    assert [level] == [record.levelno for record in caplog.records]


def test_new_words_are_taken_over_and_the_beginning_stays(at: Clock) -> None:
    """Who looks later sees since when it has been so."""
    found = Conditions()
    found.begin(Kind.TOPIC_GONE, "Old.", "Act.", subject="orders")
    at(42.0)
    found.begin(Kind.TOPIC_GONE, "New.", "Act.", subject="orders", blocks_readiness=True)
    (document,) = [one.document(50.0) for one in found.active()]
    assert ("New.", True, 50.0) == (document["detail"], document["blocks_readiness"], document["for_seconds"])


def test_most_serious_first(at: Clock) -> None:
    """What the worker is not ready for, then critical ones, then the oldest."""
    found = Conditions()
    for second, kind, blocks in (
        (1.0, Kind.NO_LEADER, False),
        (2.0, Kind.TOPIC_GONE, False),
        (3.0, Kind.SINK_FAILING, False),
        (4.0, Kind.LEDGER_HELD, True),
    ):
        at(second)
        found.begin(kind, "Wrong.", "Act.", blocks_readiness=blocks)
    expected = [Kind.LEDGER_HELD, Kind.SINK_FAILING, Kind.NO_LEADER, Kind.TOPIC_GONE]
    assert expected == [one.kind for one in found.most_serious_first()]


def test_those_of_other_subjects_end_together() -> None:
    """What a watcher no longer sees is over."""
    found = Conditions()
    for subject in ("a/0", "a/1", "a/2"):
        found.begin(Kind.NO_LEADER, "Wrong.", "Act.", subject=subject)
    found.end_all_but(Kind.NO_LEADER, {"a/1"})
    assert ["partition_without_leader a/1"] == [one.name for one in found.active()]


def test_sink_and_ledger_are_not_kafkas() -> None:
    """A new kind is thought to be about Kafka until somebody says otherwise."""
    assert {Kind.SINK_FAILING, Kind.WRITES_FAILING, Kind.LEDGER_HELD} == set(Kind) - KAFKA


@pytest.mark.parametrize("page", ["operations.md", "logs.md", "metrics.md"])
def test_every_kind_is_explained(page: str) -> None:
    """Whoever sees one finds what it is and its runbook."""
    text = (ROOT / "docs" / page).read_text()
    assert [] == [kind.value for kind in Kind if f"`{kind.value}`" not in text]
