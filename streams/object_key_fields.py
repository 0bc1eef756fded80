"""What an object key template is made of: literals and fields, each of which turns an event into a piece of the key.

Pure; `object_key` puts the parts together. Text that comes out of an event is percent-encoded here, so that it can
neither add a path segment nor leave one empty: both S3 clients then send the key as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from string import Formatter, ascii_letters, digits
from typing import Any, Final
from urllib.parse import quote

import orjson

from streams.errors import ConfigurationError, RecordRejectedError
from streams.record import Record

TEMPLATE_SETTING: Final = "STREAMS_OBJECT_KEY_TEMPLATE"

FIELDS_HELP: Final = (
    "The fields are {prefix}, {topic}, {partition}, {offset}, {key}, {header.NAME} or {header[NAME]}, "
    "{timestamp} or {timestamp:%Y/%m/%d/%H}, and {value.FIELD} (a path in the JSON value, as in {value.order.id} or "
    "{value.items.0}); {partition} and {offset} take a zero-padded width, as in {partition:05d}."
)

# S3 user guide, "Safe characters": letters, digits and these. "/" is missing on purpose.
_SAFE_IN_KEY: Final = "-_.~!*'()"
_TOPIC_CHARACTERS: Final = frozenset(ascii_letters + digits + "._-")
_TEXT_CHARACTERS: Final = frozenset(ascii_letters + digits + _SAFE_IN_KEY + "%")
_DIGITS: Final = frozenset(digits)

# Kafka's partition is an int32 and its offset an int64: padded this wide, their length never changes.
_FIXED_WIDTH: Final = {"partition": 10, "offset": 19}
_INTEGER_SPEC: Final = re.compile(r"(?:0[1-9][0-9]?d?|d)?")
_DEFAULT_SPEC: Final = {"partition": "d", "offset": "020d"}

_DEFAULT_TIME: Final = "%Y%m%dT%H%M%S.%fZ"
# Left out: directives whose result depends on the locale's date order, on the platform or on the local time zone.
_TIME_DIRECTIVES: Final = frozenset("YymdHMSfjUWuwVGaAbBIpFTzZ%")
_TIME_CHARACTERS: Final = frozenset(ascii_letters + digits + "+-:%")
_NAMES_OF_DAYS_AND_MONTHS: Final = frozenset("aAbB")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Render = Callable[[Record, Any], str]


@dataclass(frozen=True, slots=True)
class Part:
    """One piece of the template: a literal (`field` is empty) or a field.

    `characters` are those its text can hold and `fixed_width` says that its length never changes: what the proof of
    uniqueness needs. `render` turns the record (and its parsed JSON value) into text.
    """

    field: str
    literal: str
    render: Render
    spec: str = ""
    characters: frozenset[str] = frozenset()
    fixed_width: bool = False


def parse_template(template: str, prefix: str) -> list[Part]:
    try:
        pieces = list(Formatter().parse(template))
    except ValueError as error:
        raise _mistake(template, f"{error}") from error
    parts = []
    for literal, field, spec, conversion in pieces:
        parts.append(literal_part(literal))
        if field is not None:
            if conversion:
                raise _mistake(template, f"{{{field}!{conversion}}}: a conversion with '!' does not exist here")
            parts.append(_field(template, field, spec or "", prefix))
    _check_characters(template, "".join(part.literal + part.spec for part in parts))
    return parts


def _field(template: str, name: str, spec: str, prefix: str) -> Part:
    if name in _DEFAULT_SPEC:
        return _integer_field(template, name, spec)
    if name == "timestamp":
        return _timestamp_field(template, spec or _DEFAULT_TIME)
    if spec:
        raise _mistake(template, f"{{{name}:{spec}}}: only partition, offset and timestamp take a format")
    if name == "prefix":
        return literal_part(prefix)
    if name == "topic":
        return Part("topic", "", lambda record, _: record.topic, characters=_TOPIC_CHARACTERS)
    if name == "key":
        return Part("key", "", _key_text, characters=_TEXT_CHARACTERS)
    if header := _header_name(name):
        return Part("header", "", _header_text(header), characters=_TEXT_CHARACTERS)
    if name.startswith("value.") and all(path := name.split(".")[1:]):
        return Part("value", "", _value_text(path), characters=_TEXT_CHARACTERS)
    raise _mistake(template, f"{{{name}}} is not a field")


def literal_part(text: str) -> Part:
    return Part("", text, lambda _record, _document: text)


def _integer_field(template: str, name: str, spec: str) -> Part:
    if not _INTEGER_SPEC.fullmatch(spec):
        raise _mistake(template, f"{{{name}:{spec}}}: the format is a zero-padded width such as 020d, or d for none")
    spec = spec or _DEFAULT_SPEC[name]
    width = int(spec.rstrip("d") or 0)
    value_of = attrgetter(name)
    return Part(
        name,
        "",
        lambda record, _: format(value_of(record), spec),
        spec=f"0{width}d" if width else "d",
        characters=_DIGITS,
        fixed_width=width >= _FIXED_WIDTH[name],
    )


def _timestamp_field(template: str, spec: str) -> Part:
    directives = re.findall(r"%(.?)", spec, re.DOTALL)
    unknown = [f"%{letter}" for letter in directives if letter not in _TIME_DIRECTIVES or not letter]
    if unknown:
        allowed = " ".join(f"%{letter}" for letter in sorted(_TIME_DIRECTIVES))
        raise _mistake(template, f"{{timestamp:{spec}}}: {', '.join(unknown)} is not one of {allowed}")

    def render(record: Record, _document: object) -> str:
        return _event_time(record).strftime(spec)

    fixed_width = not _NAMES_OF_DAYS_AND_MONTHS.intersection(directives)
    return Part("timestamp", "", render, spec, _TIME_CHARACTERS | frozenset(spec), fixed_width)


def _event_time(record: Record) -> datetime:
    if record.timestamp_ms is None or record.timestamp_ms < 0:
        raise rejected(record, "the event has no timestamp")
    try:
        return _EPOCH + timedelta(milliseconds=record.timestamp_ms)
    except OverflowError as error:
        raise rejected(record, f"the timestamp {record.timestamp_ms} ms is past the year 9999") from error


def _header_name(field: str) -> str:
    if field.startswith("header[") and field.endswith("]"):
        return field[len("header[") : -1]
    return field.removeprefix("header.") if field.startswith("header.") else ""


def _key_text(record: Record, _document: object) -> str:
    if record.key is None:
        raise rejected(record, "the event has no key (null)")
    return _encoded(record, "the event's key", record.key)


def _header_text(name: str) -> Render:
    def render(record: Record, _document: object) -> str:
        # The last header of a name wins, as in Kafka's Headers.lastHeader.
        for header, value in reversed(record.headers):
            if header == name:
                if value is None:
                    raise rejected(record, f"the header {name!r} is null")
                return _encoded(record, f"the header {name!r}", value)
        raise rejected(record, f"the event has no header {name!r}")

    return render


def _value_text(path: Sequence[str]) -> Render:
    name = "value." + ".".join(path)

    def render(record: Record, document: Any) -> str:
        found = document
        for step in path:
            if isinstance(found, dict) and step in found:
                found = found[step]
            elif isinstance(found, list) and step.isascii() and step.isdecimal() and int(step) < len(found):
                found = found[int(step)]
            else:
                raise rejected(record, f"{name}: the event's value has no {step!r} there")
        return _encoded(record, name, _scalar_text(record, name, found).encode())

    return render


def _scalar_text(record: Record, name: str, found: object) -> str:
    if isinstance(found, str):
        return found
    if isinstance(found, bool):
        return "true" if found else "false"
    if isinstance(found, int | float):
        return str(found)
    kind = "null" if found is None else "an object" if isinstance(found, dict) else "a list"
    raise rejected(record, f"{name} is {kind}, not text, a number or a boolean")


def parse_value(record: Record) -> Any:
    if record.value is None:
        raise rejected(record, "the value is null and the template needs a field of it")
    try:
        return orjson.loads(record.value)
    except orjson.JSONDecodeError as error:
        raise rejected(record, f"the value is not JSON ({error}) and the template needs a field of it") from error


def _encoded(record: Record, what: str, raw: bytes) -> str:
    """Percent-encoded text that is never empty, `.` or `..`: S3 clients drop or resolve such path segments."""
    if not raw:
        raise rejected(record, f"{what} is empty")
    if raw in (b".", b".."):
        return "%2E" * len(raw)
    return quote(raw, safe=_SAFE_IN_KEY)


def _check_characters(template: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _mistake(template, "it holds bytes that are not UTF-8") from error
    if not text.isprintable():
        raise _mistake(template, "it holds a control character")


def _mistake(template: str, problem: str) -> ConfigurationError:
    return ConfigurationError(f"{TEMPLATE_SETTING}: {template!r}: {problem}. {FIELDS_HELP}")


def rejected(record: Record, detail: str, reason: str = "key_template") -> RecordRejectedError:
    return RecordRejectedError(reason, f"{record.position}: {detail} ({TEMPLATE_SETTING})")
