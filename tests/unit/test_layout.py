"""From keys back to events: what `ObjectKeyTemplate` renders it reads again, and the layout names all other objects."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.layout import Layout
from streams.object_key import ObjectKeyTemplate
from streams.record import Record
from streams.settings import Settings

UNIQUE = [
    "{prefix}{topic}/{partition}/{offset}.json",
    "{prefix}{topic}/{partition:05d}/{offset:d}",
    "{prefix}{timestamp:%Y/%m/%d/%H}/{topic}/{partition}/{offset}.json",
    "{prefix}{key}/{topic}-{partition}-{offset}",
    "{prefix}{topic}/{value.id}/{header.h}/{partition}/{offset}",
    "{topic}/{partition}{offset}.json",
    "{prefix}{offset}/{topic}/{partition}/{offset:d}",
]
topics = st.text("abcXYZ019._-", min_size=1, max_size=20).filter(lambda name: name not in (".", ".."))
partitions = st.integers(0, 2**31 - 1)
offsets = st.integers(0, 2**63 - 1)


def _record(topic: str, partition: int, offset: int, text: bytes = b"k") -> Record:
    value = b'{"id": "i/%d"}' % offset
    return Record(topic, partition, offset, 1_700_000_000_000, 0, text, value, (("h", text),))


@pytest.mark.parametrize("template", UNIQUE)
@given(topic=topics, partition=partitions, offset=offsets, text=st.binary(min_size=1, max_size=12))
def test_a_key_tells_its_event(template: str, topic: str, partition: int, offset: int, text: bytes) -> None:
    """Topic, partition and offset are read back from any key of a unique template, and it begins with its prefix."""
    compiled = ObjectKeyTemplate(template, "events/", "dead-letter/", "ledger/")
    assert compiled.is_unique(None)
    key = compiled.render(_record(topic, partition, offset, text))
    assert (topic, partition, offset) == compiled.parse(key)
    assert key.startswith(compiled.listing_prefix(topic, partition))


@given(topic=topics, partition=partitions, first=offsets, second=offsets)
def test_keys_list_in_the_order_of_the_offsets(topic: str, partition: int, first: int, second: int) -> None:
    """Where the template says so; those keys depend on the position alone."""
    compiled = ObjectKeyTemplate(UNIQUE[0], "events/")
    assert compiled.offset_ordered
    keys = [compiled.key_at(topic, partition, offset) or "" for offset in (first, second)]
    assert (first < second) == (keys[0] < keys[1])
    assert keys == [compiled.render(_record(topic, partition, offset)) for offset in (first, second)]


@pytest.mark.parametrize("template", UNIQUE[1:5])
def test_other_templates_do_not_claim_that_order(template: str) -> None:
    """Offsets that are not padded, or stand behind something else, list in another order."""
    assert not ObjectKeyTemplate(template, "events/").offset_ordered


def test_keys_that_depend_on_the_event_are_not_made_up() -> None:
    """`key_at` knows the position alone."""
    assert None is ObjectKeyTemplate("{key}/{topic}/{partition}/{offset}").key_at("t", 0, 0)
    assert "t/0/7" == ObjectKeyTemplate("{topic}/{partition}/{offset:d}").key_at("t", 0, 7)


@pytest.mark.parametrize(
    "key",
    [
        "events/orders/0/00000000000000000001.json.kafka.json",
        "events/orders/0/1.json",
        "events/orders/0/00000000000000000001.txt",
        "other/orders/0/00000000000000000001.json",
        "events/orders/x/00000000000000000001.json",
        "dead-letter/orders/0/00000000000000000001.json",
        "events/orders/0/",
        "",
    ],
)
def test_other_objects_are_nobodys_event(key: str) -> None:
    """Sidecars, dead letters and strangers."""
    assert None is ObjectKeyTemplate(UNIQUE[0], "events/", "dead-letter/").parse(key)


def test_a_single_topic_may_be_left_out() -> None:
    """The key then tells partition and offset only."""
    compiled = ObjectKeyTemplate("{prefix}{partition}/{offset}", "p/")
    assert (None, 3, 5) == compiled.parse("p/3/00000000000000000005")
    assert "p/3/" == compiled.listing_prefix("orders", 3)


def test_a_template_without_a_position_parses_nothing() -> None:
    """Overwriting templates cannot be read back."""
    assert None is ObjectKeyTemplate("{key}").parse("k")


@given(topic=topics, partition=partitions, offset=offsets)
def test_dead_letters_and_ledgers(topic: str, partition: int, offset: int) -> None:
    """Their keys are read back, and never as each other's or as an event's."""
    layout = Layout(
        Settings(
            kafka_bootstrap_servers="b:1",
            topics="orders",
            consumer_group="g",
            s3_bucket="bucket",
            dead_letter_prefix="dead/",
            ledger_prefix="ledger/",
        )
    )
    letter = layout.dead_letter_key(topic, partition, offset)
    segment = layout.ledger_key(topic, partition, offset, offset + 1, "0123456789ab")
    position = (topic, partition, offset)
    assert (position, None, None) == (
        layout.parse_dead_letter(letter),
        layout.parse_ledger(letter),
        layout.template.parse(letter),
    )
    assert ((*position, offset + 1), None, None) == (
        layout.parse_ledger(segment),
        layout.parse_dead_letter(segment),
        layout.template.parse(segment),
    )
    assert letter.startswith(layout.dead_letter_prefix(topic, partition))
    assert segment.startswith(layout.ledger_prefix(topic))
    assert ("dead/", "ledger/") == (layout.dead_letter_prefix(), layout.ledger_prefix())
