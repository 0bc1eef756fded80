"""From keys back to events: what `ObjectKeyTemplate` renders it reads again, and the layout names all other objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.errors import ConfigurationError, RecordRejectedError
from streams.layout import Layout, common_prefix
from streams.object_key import ObjectKeyTemplate
from streams.record import UNKNOWN_LIFE, Life, Record, name_in_bucket
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


@pytest.mark.parametrize(
    ("template", "topics", "record"),
    [
        ("{offset}{partition}/{topic}", None, Record("orders", 5, 12, 0, 0, b"k", None)),
        ("{offset:019d}{partition}", ["orders"], Record("orders", 5, 12, 0, 0, b"k", None)),
        ("{timestamp:%Y-%m-%d}-{topic}/{partition}/{offset}", None, Record("my-topic", 5, 12, 0, 0, b"k", None)),
        ("{timestamp:%F}{topic}/{partition}/{offset}", None, Record("-1-my", 5, 12, 0, 0, b"k", None)),
        ("{topic}{partition}/{offset}", ["orders1"], Record("orders1", 5, 12, 0, 0, b"k", None)),
        ("{topic}{partition}/{topic}/{partition}/{offset}", None, Record("a1", 5, 12, 0, 0, b"k", None)),
        ("{topic}/{partition:03d}/{offset:d}", None, Record("a", 1234, 12, 0, 0, b"k", None)),
    ],
)
def test_a_key_is_never_read_as_another_event_s(template: str, topics: Sequence[str] | None, record: Record) -> None:
    """Fixed widths, names that look like what stands beside them, fields that stand there twice."""
    compiled = ObjectKeyTemplate(template, topics=topics)
    assert compiled.is_unique(topics)
    found = compiled.parse(compiled.render(record))
    assert found is not None
    assert (None if found[0] is None else record.topic, record.partition, record.offset) == found


TIMES = ["%Y", "%F", "%H%M", "%d.%b", "%A", "%y-%j", "%f", "%p%I", "%u%w", "%V%G", "%T", "%z", "%Z", "1-", "a%%", "@%d"]
PIECES = st.sampled_from(
    [
        *("{topic}", "{partition}", "{offset}") * 3,
        *("{key}", "{header.h}", "{value.id}", "{prefix}", "{timestamp}"),
        *("/", "-", ".", "_", "0", "1", "a", "topic", "%", "@", "@AbCd-_09/"),
    ]
) | st.one_of(
    st.integers(0, 21).map(lambda width: f"{{partition:{f'0{width}d' if width else 'd'}}}"),
    st.integers(0, 21).map(lambda width: f"{{offset:{f'0{width}d' if width else 'd'}}}"),
    st.lists(st.sampled_from(TIMES), min_size=1, max_size=3).map(lambda times: f"{{timestamp:{''.join(times)}}}"),
)
# Most of these are accepted: each field with something behind it that may end it, or with a width that need not.
BLOCKS = st.tuples(
    st.sampled_from(["{topic}/", "{topic}"]),
    st.sampled_from(["{partition}/", "{partition:05d}/", "{partition:03d}-", "{partition:010d}", "{partition:02d}"]),
    st.sampled_from(["{offset}", "{offset:d}/", "{offset:019d}", "{offset:04d}.", "{offset:d}"]),
    st.sampled_from(
        ["", "", "{timestamp}", "{timestamp:%Y-%m-%d}-", "{timestamp:%F}", "{timestamp:%b}/", "{key}/", "1"]
    ),
    st.sampled_from(["", "", "", "{offset:d}/", "{partition:05d}/", "{topic}/", "-", "0"]),
).flatmap(st.permutations)
TEMPLATES = st.one_of(
    st.lists(PIECES, min_size=2, max_size=10),
    BLOCKS,
    BLOCKS.map(lambda blocks: [*blocks, "x"]),
    BLOCKS.map(lambda blocks: ["{prefix}", *blocks, ".json"]),
).map("".join)
TOPICS = st.one_of(
    topics,
    st.sampled_from(["1", "01", "a1", "a-1", "2023-11-14", "0" * 20, "1970", "topic", "topic-topic", "12.Nov", "UTC"]),
)
NUMBERS = st.sampled_from([0, 1, 9, 10, 99, 100, 101, 99_999, 100_000])


@settings(max_examples=500, deadline=None)
@given(
    template=TEMPLATES,
    only=st.booleans(),
    topic=TOPICS,
    partition=NUMBERS | st.integers(0, 99_999),
    offset=NUMBERS | offsets,
    timestamp_ms=st.integers(-62_135_596_800_000, 253_402_300_799_999),
    text=st.binary(min_size=1, max_size=12),
    tag=st.sampled_from(["", "AbCd-_09", "00000001"]),
)
def test_every_accepted_template_is_read_back(
    template: str, only: bool, topic: str, partition: int, offset: int, timestamp_ms: int, text: bytes, tag: str
) -> None:
    """Whatever passes the check at start gives keys that name their event and no other."""
    known = [topic] if only else None
    try:
        compiled = ObjectKeyTemplate(template, "p@", topics=known)
    except ConfigurationError:
        return
    if not compiled.is_unique(known):
        return
    value = b'{"id": %d}' % timestamp_ms
    record = Record(topic, partition, offset, timestamp_ms, 0, text, value, (("h", text),), Life("c", "i", tag))
    try:
        key = compiled.render(record)
    except RecordRejectedError:
        return
    found = compiled.parse(key)
    assert found is not None
    assert found[1:] == (partition, offset)
    name = name_in_bucket(topic, record.life)
    assert found[0] == name or (only and "{topic}" not in template and not tag and found[0] is None)
    assert key.startswith(compiled.listing_prefix(name, partition))


SEPARATORS = st.sampled_from(["", "/", "-", "/1", "x/"])


@given(
    template=st.tuples(
        st.sampled_from(["{topic}"]),
        SEPARATORS,
        st.sampled_from(["{partition}", "{partition:02d}", "{partition:010d}"]),
        SEPARATORS,
    ),
    one=st.tuples(TOPICS, NUMBERS),
    other=st.tuples(TOPICS, NUMBERS),
    offset=offsets,
)
def test_a_prefix_of_one_partition_holds_no_other(
    template: tuple[str, ...], one: tuple[str, int], other: tuple[str, int], offset: int
) -> None:
    """Where the template says that partitions are apart: a listing may then jump from one to the next."""
    compiled = ObjectKeyTemplate("p/" + "".join(template) + "{offset}")
    if compiled.partitions_apart and one != other:
        assert not (compiled.key_at(*other, offset) or "").startswith(compiled.listing_prefix(*one))


@pytest.mark.parametrize(
    ("template", "apart"),
    [
        ("{topic}/{partition}/{offset}", True),
        ("{topic}/{partition:010d}{offset}", True),
        ("{partition}/{offset}", True),
        ("{partition}/{topic}/{offset}", True),
        ("{topic}/{partition}{offset}", False),
        ("{offset}/{topic}/{partition}", False),
        ("{partition}/{offset}/{topic}", False),
        ("{topic}/{offset}/{partition}", False),
        ("{topic}/{key}/{partition}/{offset}", False),
    ],
)
def test_partitions_are_apart_only_before_what_varies(template: str, apart: bool) -> None:
    """The beginning of the key must tell the partition, and the topic where the key tells that."""
    assert apart == ObjectKeyTemplate(template).partitions_apart


def test_fields_that_contradict_each_other_are_nobody_s() -> None:
    """A template can name a field twice; its keys say the same both times."""
    compiled = ObjectKeyTemplate("{offset}/{topic}/{partition}/{offset:d}")
    assert ("t", 3, 7) == compiled.parse("00000000000000000007/t/3/7")
    assert compiled.parse("00000000000000000007/t/3/8") is None


def test_a_single_topic_may_be_left_out() -> None:
    """The key then tells partition and offset only."""
    compiled = ObjectKeyTemplate("{prefix}{partition}/{offset}", "p/")
    assert (None, 3, 5) == compiled.parse("p/3/00000000000000000005")
    assert "p/3/" == compiled.listing_prefix("orders", 3)


def test_a_template_without_a_position_parses_nothing() -> None:
    """Overwriting templates cannot be read back."""
    assert None is ObjectKeyTemplate("{key}").parse("k")


@pytest.mark.parametrize(
    ("template", "key"),
    [
        ("{prefix}{topic}/{partition}/{offset:d}", "events/orders@AbCd-_09/3/7"),
        ("{prefix}{partition}/{offset:d}", "events/@AbCd-_09/3/7"),
        ("all/{partition}/{offset:d}", "@AbCd-_09/all/3/7"),
    ],
)
def test_a_later_life_has_names_of_its_own(template: str, key: str) -> None:
    """The tag is behind the topic, or where the key has none, behind the prefix; neither listing meets the other."""
    compiled = ObjectKeyTemplate(template, "events/", topics=["orders"])
    later = Record("orders", 3, 7, None, None, None, b"", life=Life("c", "AbCd-_09xxxxxxxxxxxxxx", "AbCd-_09"))
    first = compiled.render(replace(later, life=UNKNOWN_LIFE))
    assert (key, key) == (compiled.render(later), compiled.key_at("orders@AbCd-_09", 3, 7))
    assert ("orders@AbCd-_09", 3, 7) == compiled.parse(key)
    assert not first.startswith(compiled.listing_prefix("orders@AbCd-_09", 3))
    assert not key.startswith(compiled.listing_prefix("orders", 3))


@pytest.mark.parametrize(
    "key", ["events/orders@AbC/3/7", "events/orders@AbCd-_09@AbCd-_09/3/7", "events/@AbCd-_09/3/7"]
)
def test_what_only_looks_like_a_tag_is_nobody_s(key: str) -> None:
    """Of another length, twice, or without a topic."""
    assert ObjectKeyTemplate("{prefix}{topic}/{partition}/{offset:d}", "events/").parse(key) is None


@given(topic=topics | topics.map(lambda name: f"{name}@AbCd-_09"), partition=partitions, offset=offsets)
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
    assert layout.parse_ledger(layout.identity_key(topic)) is None
    assert ("dead/", "ledger/") == (layout.dead_letter_prefix(), layout.ledger_prefix())


def test_common_prefix_is_of_text_and_not_of_paths() -> None:
    """Partitions 1 and 10 share more than their folder; topics that share nothing have none."""
    assert "events/orders/1" == common_prefix(["events/orders/1/", "events/orders/10/"])
    assert "" == common_prefix(["a/0/", "b/1/"])
