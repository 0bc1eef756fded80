"""Object keys: what templates can say, which are refused, and that distinct events never share a key."""

from __future__ import annotations

import re
from collections.abc import Sequence

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.errors import ConfigurationError, RecordRejectedError
from streams.object_key import ObjectKeyTemplate, check_object_key
from streams.record import Headers, Record

DEFAULT = "{prefix}{topic}/{partition}/{offset}.json"
TOPIC_NAMES = st.from_regex(r"[a-zA-Z0-9._-]{1,40}", fullmatch=True).filter(lambda name: name not in (".", ".."))
POSITIONS = st.tuples(TOPIC_NAMES, st.integers(0, 2**31 - 1), st.integers(0, 2**63 - 1))


def event(
    key: bytes | None = b"order-7",
    value: bytes | None = b'{"message_id": 5}',
    headers: Headers = (),
    timestamp_ms: int | None = 1_700_000_000_123,
) -> Record:
    return Record("orders", 3, 42, timestamp_ms, 0, key, value, headers)


def rendered(template: str, record: Record) -> str:
    return ObjectKeyTemplate(template, "events/", "dead-letter/").render(record)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (DEFAULT, "events/orders/3/00000000000000000042.json"),
        ("{topic}/{partition:05d}-{offset:d}", "orders/00003-42"),
        ("100%/{topic}/{partition}/{offset}", "100%/orders/3/00000000000000000042"),
        ("{{{topic}}}/{offset}", "{orders}/00000000000000000042"),
        ("message_{value.message_id}.json", "message_5.json"),
        ("{timestamp:%Y/%m/%d/%H}/{offset:d}", "2023/11/14/22/42"),
        ("{timestamp}", "20231114T221320.123000Z"),
        ("{timestamp:%F %T %%F}", "2023-11-14 22:13:20 %F"),
        ("{key}/{offset:d}", "order-7/42"),
        ("{prefix}", None),
    ],
)
def test_template_fields_become_the_key(template: str, expected: str | None) -> None:
    """Each field stands for its part of the event, literal text (percent signs and braces too) for itself."""
    if expected is None:
        with pytest.raises(ConfigurationError, match="may not begin or end with '/'"):
            ObjectKeyTemplate(template, "events/")
    else:
        assert expected == rendered(template, event())


@pytest.mark.parametrize(
    ("timestamp_ms", "expected"),
    [
        (-1, "19691231T235959.999000Z 1970/365 1969-12-31"),
        (-2, "19691231T235959.998000Z 1970/365 1969-12-31"),
        (-30_641_760_000_000, "09990101T000000.000000Z 0999/001 0999-01-01"),
        (-62_135_596_800_000, "00010101T000000.000000Z 0001/001 0001-01-01"),
    ],
)
def test_years_have_four_digits(timestamp_ms: int, expected: str) -> None:
    """Times before 1970 are times, and those before the year 1000 are as wide as any other."""
    assert expected == rendered("{timestamp} {timestamp:%G/%j %F}", event(timestamp_ms=timestamp_ms))


@pytest.mark.parametrize(
    ("value", "path", "expected"),
    [
        (b'{"a": {"b": [10, "x y"]}}', "a.b.1", "x%20y"),
        (b'{"a": {"0": "text"}}', "a.0", "text"),
        (b'{"a": true}', "a", "true"),
        (b'{"a": -1.5}', "a", "-1.5"),
        (b'{"a": "\xc3\xa9/b"}', "a", "%C3%A9%2Fb"),
        (b'["first"]', "0", "first"),
    ],
)
def test_value_path_reads_scalars(value: bytes, path: str, expected: str) -> None:
    """A path walks objects by name and lists by index, and its text is percent-encoded."""
    assert expected == rendered(f"{{value.{path}}}", event(value=value))


def test_header_field_takes_the_last_of_its_name() -> None:
    """As Kafka's own lastHeader does."""
    headers = (("trace-id", b"first"), ("trace-id", b"last"), ("odd name:1", b"odd"))
    assert rendered("{header.trace-id}/{header[odd name:1]}", event(headers=headers)) == "last/odd"


@pytest.mark.parametrize(("text", "expected"), [(b".", "%2E"), (b"..", "%2E%2E"), (b"...", "..."), (b"a/b", "a%2Fb")])
def test_event_text_never_makes_a_path_segment(text: bytes, expected: str) -> None:
    """S3 clients drop or resolve dot segments, so text of an event may not become one."""
    assert f"{expected}/x" == rendered("{key}/x", event(key=text))


@pytest.mark.parametrize(
    ("template", "record", "problem"),
    [
        ("{key}", event(key=None), "no key (null)"),
        ("{key}", event(key=b""), "key is empty"),
        ("{header.a}", event(), "no header 'a'"),
        ("{header.a}", event(headers=(("a", None),)), "header 'a' is null"),
        ("{header.a}", event(headers=(("a", b""),)), "header 'a' is empty"),
        ("{value.a}", event(value=None), "value is null"),
        ("{value.a}", event(value=b"not json"), "not JSON"),
        ("{value.a}", event(value=b"{}"), "no 'a' there"),
        ("{value.a}", event(value=b'{"a": null}'), "value.a is null"),
        ("{value.a}", event(value=b'{"a": {}}'), "value.a is an object"),
        ("{value.a}", event(value=b'{"a": []}'), "value.a is a list"),
        ("{value.a}", event(value=b'{"a": ""}'), "value.a is empty"),
        ("{value.a.1}", event(value=b'{"a": [0]}'), "no '1' there"),
        ("{timestamp:%Y}", event(timestamp_ms=None), "no timestamp"),
        ("{timestamp:%Y}", event(timestamp_ms=2**62), "past the year 9999"),
        ("{timestamp:%Y}", event(timestamp_ms=-(2**62)), "before the year 1"),
        ("{key}/{offset}", event(key=b"dead-letter"), "reserved"),
        ("{offset}/{key}", event(key=b"x.kafka.json"), "reserved"),
    ],
)
def test_event_without_what_the_template_needs_is_rejected(template: str, record: Record, problem: str) -> None:
    """Such an event can never be written as configured: it is rejected by name, for the dead letters."""
    with pytest.raises(RecordRejectedError, match=re.escape(problem)) as caught:
        rendered(template, record)
    assert caught.value.reason == "key_template"
    assert caught.value.detail.startswith("orders/3/42: ")


def test_key_of_1024_bytes_is_the_longest() -> None:
    """S3 counts UTF-8 bytes, not characters."""
    template = ObjectKeyTemplate("é/{key}")
    assert len(template.render(event(key=b"k" * 1021)).encode()) == 1024
    with pytest.raises(RecordRejectedError, match="1025 bytes") as caught:
        template.render(event(key=b"k" * 1022))
    assert caught.value.reason == "key_too_long"


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{topik}", "{topik} is not a field"),
        ("{}", "is not a field"),
        ("{value}", "is not a field"),
        ("{value.a..b}", "is not a field"),
        ("{header}", "is not a field"),
        ("{topic!r}", "a conversion"),
        ("{topic:>10}", "only partition, offset and timestamp take a format"),
        ("{offset:20}", "zero-padded width"),
        ("{offset:{topic}}", "zero-padded width"),
        ("{timestamp:%Q}", "%Q is not one of"),
        ("{timestamp:%s}", "%s is not one of"),
        ("{timestamp:%Y%}", "% is not one of"),
        ("{topic", "expected '}'"),
        ("a\nb/{topic}", "control character"),
        ("{topic}/\udc80", "not UTF-8"),
        ("/{topic}", "may not begin or end with '/'"),
        ("{topic}//{offset}", "'//'"),
        ("{topic}/../{offset}", "'/../'"),
        ("{timestamp:%Y//%m}", "'//'"),
        ("", "may not begin or end with '/'"),
    ],
)
def test_impossible_template_is_refused_by_name(template: str, problem: str) -> None:
    """A template is checked once, at start, and the message names the setting."""
    with pytest.raises(ConfigurationError, match=re.escape(problem)) as caught:
        ObjectKeyTemplate(template)
    assert str(caught.value).startswith("STREAMS_OBJECT_KEY_TEMPLATE: ")


def test_unknown_field_message_lists_the_fields() -> None:
    """Somebody who guessed wrong reads what exists."""
    with pytest.raises(ConfigurationError, match=r"\{header\.NAME\}.*\{timestamp:%Y/%m/%d/%H\}.*\{value\.FIELD\}"):
        ObjectKeyTemplate("{date}/{topic}")


UNIQUE = [
    (DEFAULT, None),
    ("{topic}/{partition}{offset}", None),
    ("{topic}-{partition}/{offset:d}", None),
    ("{topic}.{partition:010d}{offset}", None),
    ("{timestamp:%Y/%m/%d/%H}/{topic}/{partition}/{offset}.json", None),
    ("{topic}/{timestamp:%b %d}/{partition}/{offset:d}", None),
    ("{topic}/{key}/{partition}/{offset}", None),
    ("{topic}/{partition}/{offset}-{value.id}.json", None),
    ("{partition}/{offset}", ["orders"]),
    ("1{partition}{offset}", ["orders"]),
    ("{topic}{partition}/{offset}", ["orders"]),
    (DEFAULT, ["orders", "payments"]),
]
NOT_UNIQUE: list[tuple[str, Sequence[str] | None]] = [
    ("{partition}/{offset}", None),
    ("{partition}/{offset}", ["orders", "payments"]),
    ("{topic}/{offset}", None),
    ("{topic}/{partition}", None),
    ("{topic}/{offset:d}{partition}", None),
    ("{topic}/{partition}{offset:d}", None),
    ("{topic}{partition}/{offset}", None),
    ("{topic}/{key}-{partition}-{key}/{offset:04d}", None),
    ("message_{value.message_id}.json", ["messages"]),
]


@pytest.mark.parametrize(("template", "topics"), UNIQUE)
def test_separated_position_is_unique(template: str, topics: Sequence[str] | None) -> None:
    """Topic, partition and offset can be read back from the key."""
    assert ObjectKeyTemplate(template).is_unique(topics)


@pytest.mark.parametrize(("template", "topics"), NOT_UNIQUE)
def test_position_that_is_missing_or_runs_together_is_not_unique(template: str, topics: Sequence[str] | None) -> None:
    """Two events could share such a key, or it cannot be proved that they do not."""
    assert not ObjectKeyTemplate(template).is_unique(topics)


@given(
    template=st.lists(
        st.sampled_from(
            [
                "{topic}",
                "{partition}",
                "{offset}",
                "{offset:d}",
                "{partition:010d}",
                "{key}",
                "/",
                "-",
                "0",
                "a",
                "{prefix}",
            ]
        ),
        min_size=2,
        max_size=8,
    ).map("".join),
    first=POSITIONS,
    second=POSITIONS,
    keys=st.tuples(st.binary(min_size=1, max_size=3), st.binary(min_size=1, max_size=3)),
)
def test_unique_template_never_gives_two_events_one_key(
    template: str, first: tuple[str, int, int], second: tuple[str, int, int], keys: tuple[bytes, bytes]
) -> None:
    """Whatever template passes the proof keeps any two positions apart, whatever the rest of the events."""
    try:
        compiled = ObjectKeyTemplate(template, "p")
    except ConfigurationError:
        return
    if compiled.is_unique(None) and first != second:
        one, other = (Record(*at, 0, 0, key, b"") for at, key in zip((first, second), keys, strict=True))
        assert compiled.render(one) != compiled.render(other)


@given(
    template=st.lists(st.sampled_from(["{topic}", "{partition}", "{offset:d}", "{offset}", "/", "-", "1"]), min_size=3)
    .filter(lambda parts: len(parts) <= 6)
    .map("".join),
    positions=st.lists(
        st.tuples(st.sampled_from(["a", "a1", "a-1", "1"]), st.integers(0, 11), st.integers(0, 11)), unique=True
    ),
)
def test_small_positions_never_collide_under_a_unique_template(
    template: str, positions: list[tuple[str, int, int]]
) -> None:
    """Positions chosen to run together easily do so only under templates that are not called unique."""
    try:
        compiled = ObjectKeyTemplate(template)
    except ConfigurationError:
        return
    if compiled.is_unique(None):
        assert len(positions) == len({compiled.render(Record(*at, 0, 0, None, b"")) for at in positions})


@given(text=st.binary(min_size=1, max_size=60))
def test_any_key_bytes_make_safe_segments_that_differ(text: bytes) -> None:
    """Any bytes become one safe segment, and other bytes another."""
    key = rendered("{key}/x", event(key=text))
    assert re.fullmatch(r"[A-Za-z0-9_.~!*'()%-]+/x", key)
    assert key.split("/")[0] not in (".", "..")
    assert key != rendered("{key}/x", event(key=text + b"."))


@given(value=st.recursive(st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(), st.lists, max_leaves=5))
def test_any_json_value_renders_or_is_rejected(value: object) -> None:
    """No JSON value breaks the renderer: it gives a key or a rejection."""
    try:
        key = rendered("{value.a}", event(value=orjson.dumps({"a": value})))
    except RecordRejectedError:
        return
    assert key


def test_overwriting_template_is_refused_unless_it_is_meant() -> None:
    """The user has to say that overwriting is meant."""
    template = ObjectKeyTemplate("message_{value.message_id}.json")
    with pytest.raises(ConfigurationError, match="STREAMS_ALLOW_OVERWRITE=true"):
        check_object_key(template, ["messages"], allow_overwrite=False)
    check_object_key(template, ["messages"], allow_overwrite=True)


@pytest.mark.parametrize(
    ("template", "prefix", "topics"),
    [
        (DEFAULT, "dead-letter/", None),
        (DEFAULT, "dead-letter/events/", ["orders"]),
        (DEFAULT, "", ["orders", "dead-letter"]),
        ("dead-letter/{topic}/{partition}/{offset}", "", None),
        ("{topic}/{partition}/{offset}.kafka.json", "", None),
        ("{partition}/{offset}/{topic}.json", "", ["orders.kafka"]),
    ],
)
def test_events_may_not_land_on_dead_letters_or_sidecars(
    template: str, prefix: str, topics: Sequence[str] | None
) -> None:
    """An event there would overwrite what must not be lost: refused at start, even if overwriting is allowed."""
    compiled = ObjectKeyTemplate(template, prefix, "dead-letter/")
    with pytest.raises(ConfigurationError, match="STREAMS_DEAD_LETTER_PREFIX"):
        check_object_key(compiled, topics, allow_overwrite=True)


@pytest.mark.parametrize("topics", [None, ["orders"], ["orders", "payments"]])
def test_default_template_is_accepted(topics: Sequence[str] | None) -> None:
    """With names and with a pattern."""
    check_object_key(ObjectKeyTemplate(DEFAULT, "", "dead-letter/"), topics, allow_overwrite=False)
