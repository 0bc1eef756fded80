"""Object metadata: within S3's 2 KB, printable, and enough to restore the event exactly."""

from __future__ import annotations

import string
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streams.metadata import SIDECAR_SUFFIX, object_metadata, record_fields_from_metadata
from streams.record import CREATE_TIME, LOG_APPEND_TIME, Headers, Record

BYTES = st.none() | st.binary(max_size=60) | st.text(max_size=20).map(str.encode)
HEADERS: st.SearchStrategy[Headers] = st.lists(st.tuples(st.text(max_size=8), BYTES), max_size=40).map(tuple)
RECORDS = st.builds(
    Record,
    topic=st.from_regex(r"[a-zA-Z0-9._-]{1,30}", fullmatch=True),
    partition=st.integers(0, 2**31 - 1),
    offset=st.integers(0, 2**63 - 1),
    timestamp_ms=st.none() | st.integers(-(2**63), 2**63 - 1),
    timestamp_type=st.sampled_from([None, 0, 1]),
    key=BYTES | st.binary(min_size=1500, max_size=2200),
    value=st.none() | st.binary(max_size=5),
    headers=HEADERS,
)


def event(key: bytes | None = None, value: bytes | None = b"v", headers: Headers = ()) -> Record:
    return Record("orders", 3, 42, 1_700_000_000_123, 0, key, value, headers)


def size_bytes(metadata: dict[str, str]) -> int:
    return sum(len(f"x-amz-meta-{name}") + len(value) for name, value in metadata.items())


@given(RECORDS)
@example(event(headers=(("", None),)))
@example(event(headers=(("", b""),)))
@example(event(headers=(("", None), ("", None))))
@example(event(headers=(("a=b&c", b"=&%"), ("a", b"1"), ("a", None), ("a", b""))))
@example(event(key=b"", value=b""))
@example(event(key=None, value=None))
def test_event_is_restored_exactly_from_metadata_and_body(record: Record) -> None:
    """Null and empty, the order and the duplicates of headers, any bytes: all come back."""
    metadata, sidecar = object_metadata(record)
    assert record == record_fields_from_metadata(metadata, sidecar).to_record(record.value or b"")


@given(RECORDS)
def test_metadata_fits_s3_and_its_header_lines(record: Record) -> None:
    """At most 2,048 bytes of printable ASCII without white space, and never an empty value, which servers drop."""
    metadata, sidecar = object_metadata(record)
    assert size_bytes(metadata) <= 2048
    printable = set(string.ascii_letters + string.digits + string.punctuation)
    assert all(value and set(value) <= printable for value in metadata.values())
    assert (sidecar is not None) == ("kafka-sidecar" in metadata)


def test_plain_event_says_where_it_came_from() -> None:
    """The names that other tools read."""
    assert object_metadata(
        event(key=b"order/7", headers=(("trace", b"a b"), ("trace", b"c"), ("flag", None), ("empty", b"")))
    ) == (
        {
            "kafka-position": "orders/3/42",
            "kafka-timestamp-ms": "1700000000123",
            "kafka-key": "order%2F7",
            "kafka-headers": "trace=a%20b&trace=c&flag&empty=",
        },
        None,
    )


@pytest.mark.parametrize(
    ("key", "value", "null", "empty"),
    [
        (None, b"", None, None),
        (b"", None, "value", "key"),
        (None, None, "value", None),
        (b"", b"", None, "key"),
        (b"k", b"v", None, None),
    ],
)
def test_nulls_and_empty_keys_are_told_apart(
    key: bytes | None, value: bytes | None, null: str | None, empty: str | None
) -> None:
    """What is usual costs no header: no key, and a value."""
    metadata, _ = object_metadata(event(key=key, value=value))
    assert (null, empty) == (metadata.get("kafka-null"), metadata.get("kafka-empty"))


def test_usual_event_needs_two_names() -> None:
    """Each is a header that is signed and sent with every event."""
    assert {"kafka-position", "kafka-timestamp-ms"} == set(object_metadata(event(key=None))[0])


@pytest.mark.parametrize(
    ("timestamp_ms", "timestamp_type", "name"),
    [(5, CREATE_TIME, None), (5, LOG_APPEND_TIME, "append"), (5, None, "none"), (None, None, "none")],
)
def test_only_unusual_timestamps_name_their_type(
    timestamp_ms: int | None, timestamp_type: int | None, name: str | None
) -> None:
    """The time of creation is what nearly every topic keeps (KIP-32)."""
    record = Record("orders", 3, 42, timestamp_ms, timestamp_type, None, b"v")
    assert name == object_metadata(record)[0].get("kafka-timestamp-type")


def test_sidecar_begins_one_byte_past_2048() -> None:
    """The limit counts names with their prefix and values."""
    room_bytes = 2048 - size_bytes(object_metadata(event(key=b"k"))[0]) + 1
    fitting, no_sidecar = object_metadata(event(key=b"k" * room_bytes))
    assert (size_bytes(fitting), no_sidecar) == (2048, None)
    metadata, sidecar = object_metadata(event(key=b"k" * (room_bytes + 1)))
    assert metadata["kafka-sidecar"] == SIDECAR_SUFFIX
    assert "kafka-key" not in metadata
    assert sidecar is not None


def test_large_headers_take_the_key_along_into_the_sidecar() -> None:
    """Key and headers are found in one place, whichever of them is large."""
    metadata, sidecar = object_metadata(event(key=b"small", headers=(("h", b"x" * 3000),)))
    assert not {"kafka-key", "kafka-headers"} & set(metadata)
    assert record_fields_from_metadata(metadata, sidecar).key == b"small"


def test_missing_sidecar_is_an_error() -> None:
    """A restore without the sidecar would lose key and headers silently."""
    metadata, _ = object_metadata(event(key=b"k" * 3000))
    with pytest.raises(ValueError, match="sidecar"):
        record_fields_from_metadata(metadata)


def test_names_are_read_in_any_case() -> None:
    """Some servers and clients change the case of metadata names."""
    metadata, _ = object_metadata(event(key=b"k"))
    assert record_fields_from_metadata({name.title(): value for name, value in metadata.items()}).key == b"k"


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"kafka-timestamp-ms": "1"},
        {"kafka-position": "t/0/x"},
        {"kafka-position": "t/0"},
        {"kafka-position": "t/0/1", "kafka-timestamp-type": "other"},
        {"kafka-position": "t/0/1_0"},
        {"kafka-position": "t/-1/1"},
        {"kafka-position": "t/0/9223372036854775808"},
        {"kafka-position": "t/0/1", "kafka-timestamp-ms": "9223372036854775808"},
        {"kafka-position": "t/0/1", "kafka-timestamp-ms": " 5"},
        {"kafka-position": "t/0/1", "kafka-timestamp-ms": "1" * 5000},
    ],
)
def test_foreign_metadata_is_refused(metadata: dict[str, str]) -> None:
    """An object that is not ours is not taken for an event."""
    with pytest.raises(ValueError, match=r"not the metadata of an event|no whole number"):
        record_fields_from_metadata(metadata)


@pytest.mark.parametrize("sidecar", [b"", b"[1,2,3]", b"7", b"{}", b'{"headers": [1,2,3]}', b"\xff"])
def test_damaged_sidecar_is_refused(sidecar: bytes) -> None:
    """One kind of error, whatever it holds."""
    metadata, _ = object_metadata(event(key=b"k" * 3000))
    with pytest.raises(ValueError, match=r"not a document|unexpected|JSON|str is not valid|Input"):
        record_fields_from_metadata(metadata, sidecar)


def test_sidecar_of_another_event_is_refused() -> None:
    """Its key and headers are not this event's."""
    metadata, _ = object_metadata(event(key=b"k" * 3000))
    _, other = object_metadata(Record("orders", 3, 43, 0, 0, b"k" * 3000, b"v"))
    with pytest.raises(ValueError, match="orders/3/43"):
        record_fields_from_metadata(metadata, other)


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "kafka-position",
                "kafka-timestamp-ms",
                "kafka-timestamp-type",
                "kafka-key",
                "kafka-headers",
                "kafka-null",
                "kafka-empty",
                "kafka-sidecar",
            ]
        ),
        st.text(max_size=12),
    ),
    st.none() | st.binary(max_size=20),
)
def test_any_metadata_is_read_or_refused(metadata: dict[str, str], sidecar: bytes | None) -> None:
    """No traceback: an event, or the one kind of error."""
    metadata = {"kafka-position": "t/0/1", **metadata}
    with suppress(ValueError):
        assert record_fields_from_metadata(metadata, sidecar).offset >= 0
