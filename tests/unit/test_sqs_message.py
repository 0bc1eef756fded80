"""SQS messages: what they hold, that the event comes back byte for byte, and that SQS takes them."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.envelope import decode_dead_letter
from streams.errors import RecordRejectedError
from streams.record import Life, Record
from streams.sinks.sqs_message import MessageRules, payload_location, read_message

ALLOWED = re.compile(r"[\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]+")
"""What SQS's API reference says of a body."""
IDENTIFIER = re.compile(r"[A-Za-z0-9!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]{1,128}")
"""What it says of group and deduplication ids."""

contents = st.one_of(
    st.none(),
    st.binary(max_size=80),
    st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.sampled_from([b"", b"{}", b'"\xef\xbf\xbf"', b"\x00", b"\t\r\n", b"null", b'""']),
)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
records = st.builds(
    Record,
    topic=st.from_regex(r"[a-zA-Z0-9._-]{1,249}", fullmatch=True),
    partition=st.integers(0, 2**31 - 1),
    offset=st.integers(0, 2**63 - 1),
    timestamp_ms=st.one_of(st.none(), st.integers(-(2**60), 2**60)),
    timestamp_type=st.sampled_from([None, 0, 1]),
    key=st.one_of(contents, st.binary(min_size=900, max_size=1200)),
    value=contents,
    headers=st.lists(st.tuples(names, contents), max_size=4).map(tuple),
)
rules = st.builds(MessageRules, envelope=st.booleans(), fifo=st.booleans(), group_by_key=st.booleans())


def event(**fields: Any) -> Record:
    basis: dict[str, Any] = {
        "topic": "orders",
        "partition": 3,
        "offset": 7,
        "timestamp_ms": 1_700_000_000_123,
        "timestamp_type": 0,
        "key": b"k",
        "value": b'{"id": 7}',
    }
    return Record(**basis | fields)


@given(records, rules)
def test_event_comes_back_and_sqs_takes_the_message(record: Record, rule: MessageRules) -> None:
    """Any event in any mode: the body and attributes keep SQS's rules, and give the event back byte for byte."""
    message = rule.message(record)
    assert ALLOWED.fullmatch(message.body)
    assert len(message.attributes) <= 10
    assert all(value and value.isascii() and value.isprintable() for value in message.attributes.values())
    assert record == read_message(message.body, message.attributes)


@given(records)
def test_size_is_what_sqs_counts(record: Record) -> None:
    """The body in UTF-8, and name, type and value of each attribute."""
    message = MessageRules().message(record)
    attributes = message.entry("0")["MessageAttributes"]
    counted = sum(len(name) + len(one["DataType"]) + len(one["StringValue"]) for name, one in attributes.items())
    assert message.size_bytes == len(message.body.encode()) + counted


@given(records, records)
def test_fifo_identifiers_are_allowed_and_tell_events_apart(one: Record, other: Record) -> None:
    """The deduplication id is the event's position; equal positions alone have equal ids."""
    messages = [MessageRules(fifo=True).message(record) for record in (one, other)]
    for message in messages:
        assert IDENTIFIER.fullmatch(message.group or "")
        assert IDENTIFIER.fullmatch(message.deduplication_id or "")
    assert (one.position == other.position) == (messages[0].deduplication_id == messages[1].deduplication_id)


@given(
    records,
    st.sampled_from([None, Life("c", "SdosoGFiQNSZ6iuNvoBkyQ"), Life("c", "AbCd-_09QNSZ6iuNvoBkyQ", "AbCd-_09")]),
)
def test_a_recreated_topic_s_events_are_no_duplicates(record: Record, life: Life | None) -> None:
    """It counts from 0 again, perhaps within the five minutes for which SQS remembers."""
    this = replace(record, life=Life("c", "0therTopicQNSZ6iuNvoBk")) if life else record
    other = replace(record, life=life) if life else record
    ids = [MessageRules(fifo=True).message(one).deduplication_id or "" for one in (this, other)]
    assert all(IDENTIFIER.fullmatch(one) for one in ids)
    assert (ids[0] == ids[1]) == (life is None)


def test_deduplication_id_is_readable() -> None:
    """Unchanged where the brokers give topics no id."""
    rules = MessageRules(fifo=True)
    assert "orders/3/7" == rules.message(event()).deduplication_id
    assert "orders@Sdoso-Fi/3/7" == rules.message(event(life=Life("c", "Sdoso-FiQNSZ6iuNvoBkyQ"))).deduplication_id


def test_message_of_a_plain_event() -> None:
    """Text stays text, and only what is there becomes an attribute."""
    message = MessageRules().message(event(headers=(("h", b"1"),)))
    assert message.body == '{"id": 7}'
    assert message.attributes == {
        "kafka-position": "orders/3/7",
        "kafka-timestamp-ms": "1700000000123",
        "kafka-key": "k",
        "kafka-headers": "h=1",
    }
    assert (message.group, message.deduplication_id) == (None, None)


@pytest.mark.parametrize(
    ("value", "body", "encoding"),
    [
        (None, "null", "none"),
        (b"", '""', "none"),
        (b"\x00", "AA==", "base64"),
        (b"\xff", "/w==", "base64"),
        (b"\xef\xbf\xbf", "77+/", "base64"),
        (b"\t\r\n", "\t\r\n", None),
    ],
)
def test_body_says_how_it_is_encoded(value: bytes | None, body: str, encoding: str | None) -> None:
    """What SQS does not take is base64, what is empty has a stand-in, and `kafka-body` says so."""
    message = MessageRules().message(event(value=value))
    assert (message.body, message.attributes.get("kafka-body")) == (body, encoding)


def test_groups_follow_the_key_or_the_partition() -> None:
    """Events of a key share a group within a topic; without a key, or when told so, those of a partition do."""
    by_key, by_partition = MessageRules(fifo=True), MessageRules(fifo=True, group_by_key=False)

    def group(rule: MessageRules, **fields: Any) -> str | None:
        return rule.message(event(**fields)).group

    assert group(by_key) == group(by_key, offset=8, partition=4)
    assert group(by_key) != group(by_key, key=b"other")
    assert group(by_key) != group(by_key, topic="payments")
    assert group(by_key, key=None) == group(by_partition) == "orders/3"
    assert group(by_key, key=b"") != group(by_key, key=None)


@pytest.mark.parametrize("rule", [MessageRules(), MessageRules(envelope=True)], ids=["raw", "envelope"])
def test_pointer_is_the_extended_clients_own(rule: MessageRules) -> None:
    """Class name, bucket and key as the Java library writes them, and the object's size as a Number."""
    record = event(value=b"\x00large")
    message = rule.pointer(record, "events", "orders/3/7.json", 300_000)
    entry = message.entry("4")
    assert orjson.loads(message.body) == [
        "software.amazon.payloadoffloading.PayloadS3Pointer",
        {"s3BucketName": "events", "s3Key": "orders/3/7.json"},
    ]
    assert entry["MessageAttributes"]["ExtendedPayloadSize"] == {"DataType": "Number", "StringValue": "300000"}
    assert payload_location(message.body, message.attributes) == ("events", "orders/3/7.json")
    assert payload_location("{}", {}) is None
    with pytest.raises(ValueError, match="the event is in S3"):
        read_message(message.body, message.attributes)
    if not rule.envelope:
        assert record == read_message(message.body, message.attributes, b"\x00large")


@given(records)
def test_message_has_nine_attributes_at_most(record: Record) -> None:
    """Whatever is there at once stays within SQS's ten."""
    for message in (MessageRules().message(record), MessageRules().pointer(record, "events", "key", 1)):
        assert len(message.attributes) <= 9


def test_large_headers_make_an_envelope() -> None:
    """Past 2 KB of metadata the body is the envelope, and only the position stays an attribute."""
    record = event(headers=(("large", b"x" * 3000),))
    message = MessageRules().message(record)
    assert message.attributes == {
        "kafka-position": "orders/3/7",
        "kafka-body": "envelope",
    }
    assert record == read_message(message.body, message.attributes)


def test_dead_letter_holds_event_and_reason() -> None:
    """The body is the dead letter's document, from which the event comes back."""
    record = event(value=b"\xff")
    message = MessageRules().dead_letter(record, RecordRejectedError("too_large", "no room"))
    letter = decode_dead_letter(message.body.encode())
    assert (letter.record, letter.reason, letter.detail) == (record, "too_large", "no room")
    assert record == read_message(message.body, message.attributes)


@pytest.mark.parametrize(
    ("body", "attributes"),
    [
        ("{}", {}),
        ("{}", {"kafka-body": "envelope"}),
        ("*", {"kafka-body": "base64"}),
        ("{}", {"kafka-body": "zip"}),
    ],
)
def test_foreign_message_is_a_value_error(body: str, attributes: dict[str, str]) -> None:
    """A message of somebody else's is told from ours."""
    with pytest.raises(ValueError, match=r"."):
        read_message(body, attributes)


@pytest.mark.parametrize(
    "body",
    ["", "{}", "[]", '["x"]', '["x", 1]', '["x", {"s3BucketName": "b"}]', '["x", {"s3BucketName": "b", "s3Key": 1}]'],
)
def test_pointer_that_is_none_is_an_error(body: str) -> None:
    """One kind of error, whatever somebody has put into the queue."""
    with pytest.raises(ValueError, match="not a pointer"):
        payload_location(body, {"ExtendedPayloadSize": "1"})
