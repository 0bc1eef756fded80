"""What people type is understood, or answered with the form that would be."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from streams.archive.positions import UsageError, parse_position, parse_selection, parse_time, show_time

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def test_position_names_topic_partition_and_offset() -> None:
    """The form is that of error messages and logs."""
    assert ("or.de-rs_1", 3, 42) == parse_position("or.de-rs_1/3/42")


@pytest.mark.parametrize(
    "text", ["", "orders", "orders/0", "orders/0/x", "orders/-1/2", "orders/01/2", "a/b/1/2", "/0/1"]
)
def test_other_positions_are_refused_with_the_form(text: str) -> None:
    """Somebody who mistypes reads what to type."""
    with pytest.raises(UsageError, match="TOPIC/PARTITION/OFFSET"):
        parse_position(text)


def test_selection_is_a_topic_or_some_of_its_partitions() -> None:
    """Partitions come in order and once; a topic without a number means all of them."""
    assert ("orders", None) == parse_selection(("orders",))
    assert ("orders", (0, 3)) == parse_selection(("orders/3", "orders/0", "orders/3"))
    assert ("orders", None) == parse_selection(("orders/3", "orders"))


@pytest.mark.parametrize("texts", [(), ("",), ("orders/x",), ("orders/0/1",), ("orders", "payments")])
def test_other_selections_are_refused(texts: tuple[str, ...]) -> None:
    """One topic at a time, and nothing that is none."""
    with pytest.raises(UsageError):
        parse_selection(texts)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-23", datetime(2026, 11, 23, tzinfo=UTC)),
        ("2026-11-23T08:00", datetime(2026, 11, 23, 8, tzinfo=UTC)),
        ("2026-11-23T08:00:00Z", datetime(2026, 11, 23, 8, tzinfo=UTC)),
        ("2026-11-23T08:00:00+01:00", datetime(2026, 11, 23, 7, tzinfo=UTC)),
        ("24h", datetime(2026, 11, 22, 12, tzinfo=UTC)),
        ("1.5h", datetime(2026, 11, 23, 10, 30, tzinfo=UTC)),
        ("2w", datetime(2026, 11, 9, 12, tzinfo=UTC)),
    ],
)
def test_times_are_utc_or_say_otherwise(text: str, expected: datetime) -> None:
    """A time without an offset is UTC whatever the machine's zone is; a duration counts back from now."""
    assert expected.timestamp() * 1000 == parse_time(text, NOW)


def test_other_times_are_refused() -> None:
    """The message shows the forms."""
    for text in ("yesterday", "9" * 400 + "w", "99999999w"):
        with pytest.raises(UsageError, match="24h"):
            parse_time(text, NOW)


def test_any_timestamp_can_be_shown() -> None:
    """Kafka takes any number for a time, years that no calendar has among them."""
    assert "1970-01-01 00:00:01.234" == show_time(1234)
    assert "-" == show_time(None)
    assert str(2**62) == show_time(2**62)
    assert "1969-12-31 23:59:59.998" == show_time(-2)
    assert "0001-01-01 00:00:00.000" == show_time(-62_135_596_800_000)
