"""Envelopes and dead letters: any event survives the way there and back, byte for byte."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streams.envelope import decode_dead_letter, decode_envelope, encode_dead_letter, encode_envelope
from streams.record import Headers, Record

BYTES = st.none() | st.binary(max_size=50) | st.text(max_size=20).map(str.encode)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
HEADERS: st.SearchStrategy[Headers] = st.lists(st.tuples(st.text(max_size=8), BYTES), max_size=4).map(tuple)
RECORDS = st.builds(
    Record,
    topic=st.from_regex(r"[a-zA-Z0-9._-]{1,30}", fullmatch=True),
    partition=st.integers(0, 2**31 - 1),
    offset=st.integers(0, 2**63 - 1),
    timestamp_ms=st.none() | st.integers(-(2**63), 2**63 - 1),
    timestamp_type=st.sampled_from([None, 0, 1]),
    key=BYTES,
    value=BYTES | JSON_VALUES.map(orjson.dumps),
    headers=HEADERS,
)


def event(value: bytes | None) -> Record:
    return Record("orders", 3, 42, 1_700_000_000_123, 0, b"k\xff", value, (("a", b"1"), ("a", None), ("b", b"\xff")))


@given(RECORDS)
@example(event(None))
@example(event(b""))
@example(event(b"null"))
def test_envelope_round_trip_is_exact(record: Record) -> None:
    """Null and empty, duplicate headers and any bytes come back as they were."""
    assert record == decode_envelope(encode_envelope(record))


@given(RECORDS, st.text(max_size=10), st.text(max_size=30), st.none() | st.text(max_size=30))
def test_dead_letter_round_trip_is_exact(record: Record, reason: str, detail: str, key: str | None) -> None:
    """A dead letter holds the whole event, the reason and the key that the event should have had."""
    letter = decode_dead_letter(encode_dead_letter(record, reason, detail, key))
    assert (record, reason, detail, key) == (
        letter.record,
        letter.reason,
        letter.detail,
        letter.original_object_key,
    )


@given(RECORDS)
def test_same_event_gives_the_same_bytes(record: Record) -> None:
    """A redelivered event must overwrite its own object with the same content."""
    assert encode_envelope(record) == encode_envelope(record)
    assert encode_dead_letter(record, "r", "d") == encode_dead_letter(record, "r", "d")


@pytest.mark.parametrize(
    "value",
    [
        b'{"a": 1.50, "b" : [ ]}',
        b'  {"a":1}\n',
        b"123456789012345678901234567890",
        b'"text"',
        b"null",
        b'{"a":1,"a":2}',
    ],
)
def test_json_value_is_embedded_verbatim_at_the_end(value: bytes) -> None:
    """White space, number forms and repeated names of the producer are kept, and can be cut out without a parser."""
    document = encode_envelope(event(value))
    fields = orjson.loads(document)
    assert ("json", len(value)) == (fields["value_encoding"], fields["value_length"])
    assert value == document[-1 - len(value) : -1]


@pytest.mark.parametrize(
    ("value", "encoding"),
    [
        (b"", "utf-8"),
        (b"1,2", "utf-8"),
        (b"],[", "utf-8"),
        (b'1,"dead_letter":2', "utf-8"),
        (b'{"a":1', "utf-8"),
        (b"NaN", "utf-8"),
        (b"\xef\xbb\xbf1", "utf-8"),
        (b"\xff", "base64"),
        (None, None),
    ],
)
def test_value_that_is_not_json_is_text_or_base64(value: bytes | None, encoding: str | None) -> None:
    """Nothing that is not one JSON value is embedded, so the document is always valid JSON."""
    document = encode_envelope(event(value))
    assert encoding == orjson.loads(document)["value_encoding"]
    assert value == decode_envelope(document).value


@pytest.mark.parametrize("depth", [1022, 1023, 1024, 1025])
def test_deepest_values_can_be_read_again(depth: int) -> None:
    """The envelope adds a level: a value at the parser's limit must still come back."""
    value = b"[" * depth + b"]" * depth
    assert value == decode_envelope(encode_envelope(event(value))).value


def test_envelope_fields_are_in_their_documented_order() -> None:
    """Readers may rely on the value being last and on the names."""
    assert list(orjson.loads(encode_dead_letter(event(b"{}"), "too_large", "6 GB"))) == [
        "topic",
        "partition",
        "offset",
        "timestamp_ms",
        "timestamp_type",
        "key",
        "key_encoding",
        "headers",
        "dead_letter",
        "value_encoding",
        "value_length",
        "value",
    ]


def test_detail_with_undecodable_bytes_is_still_encoded() -> None:
    """A dead letter may not fail because of the words of an error message."""
    assert decode_dead_letter(encode_dead_letter(event(b""), "r", "bad \udc80")).detail == "bad ?"


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b"{}",
        b'{"value_encoding":null,"value":null}',
        b'{"value_encoding":"rot13","value":"x"}',
        b'{"value_encoding":"base64","value":"!"}',
        b'{"value_encoding":"utf-8","value":null}',
    ],
)
def test_other_documents_are_refused(document: bytes) -> None:
    """What is not an envelope gives one kind of error."""
    with pytest.raises(ValueError, match="not a"):
        decode_envelope(document)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=300)
@given(data=st.data(), record=RECORDS, other=ANY_JSON)
def test_damaged_document_is_read_or_refused(data: st.DataObject, record: Record, other: object) -> None:
    """Whatever stands in one of its fields: an event of the right types, or the one kind of error."""
    fields = orjson.loads(encode_dead_letter(record, "reason", "detail"))
    fields[data.draw(st.sampled_from(sorted(fields)))] = other
    try:
        letter = decode_dead_letter(orjson.dumps(fields))
    except ValueError:
        return
    assert letter == decode_dead_letter(
        encode_dead_letter(letter.record, letter.reason, letter.detail, letter.original_object_key)
    )


@pytest.mark.parametrize(
    "change",
    [
        {"headers": [1, 2, 3]},
        {"headers": {"a": "1"}},
        {"headers": ["abc"]},
        {"headers": [["a", "1"]]},
        {"headers": [["a", "1", "utf-8", "utf-8", "x"]]},
        {"headers": [["a", 1, "utf-8"]]},
        {"headers": [[1, "1", "utf-8"]]},
        {"headers": [["a", "!", "base64"]]},
        {"headers": [["!", "1", "utf-8", "base64"]]},
        {"headers": [[None, "1", "utf-8", None]]},
        {"headers": [["a", "1", []]]},
        {"key": 5},
        {"key": ["k"]},
        {"key": "k", "key_encoding": None},
        {"topic": 5},
        {"partition": "3"},
        {"partition": -1},
        {"offset": 1.5},
        {"offset": True},
        {"offset": 2**63},
        {"timestamp_ms": "now"},
        {"timestamp_ms": 2**63},
        {"timestamp_type": []},
        {"value_length": -3},
        {"value_length": 1},
        {"value_length": 10**6},
        {"value_length": "2"},
    ],
    ids=str,
)
def test_field_of_the_wrong_type_is_refused(change: dict[str, object]) -> None:
    """No such event is taken for one and handed on."""
    document = orjson.dumps({**orjson.loads(encode_envelope(event(b'{"a":1}'))), **change})
    with pytest.raises(ValueError, match="not a"):
        decode_envelope(document)


@pytest.mark.parametrize("change", [{"reason": 1}, {"detail": None}, {"original_object_key": 7}], ids=str)
def test_dead_letter_of_the_wrong_types_is_refused(change: dict[str, object]) -> None:
    """Its words are shown to people and compared with options."""
    fields = orjson.loads(encode_dead_letter(event(b"x"), "reason", "detail", "key"))
    fields["dead_letter"] |= change
    with pytest.raises(ValueError, match="not a dead letter"):
        decode_dead_letter(orjson.dumps(fields))


def test_envelope_is_no_dead_letter() -> None:
    """Replaying dead letters may not take plain envelopes for them."""
    with pytest.raises(ValueError, match="not a dead letter"):
        decode_dead_letter(encode_envelope(event(b"{}")))
