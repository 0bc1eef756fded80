"""What an object key template is made of: literals and fields, each of which turns an event into a piece of the key.

Pure; `object_key` puts the parts together. Text that comes out of an event is percent-encoded here, so that it can
neither add a path segment nor leave one empty: both S3 clients then send the key as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
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
_DIRECTIVE: Final = re.compile(r"%(.?)", re.DOTALL)
# What the C library writes out itself, each as the directives that it stands for.
_SHORT_FORMS: Final = {"F": "%Y-%m-%d", "T": "%H:%M:%S"}
_DIGITS_OF: Final = {"Y": 4, "G": 4, "f": 6, "j": 3, "w": 1, "u": 1} | dict.fromkeys("ymdHMSIUWV", 2)
_TEXTS_OF: Final = {"p": "(?:AM|PM)", "z": r"\+0000", "Z": "UTC", "%": "%"} | dict.fromkeys("aAbB", "[A-Za-z]+")
_NAMES_OF_DAYS_AND_MONTHS: Final = frozenset("aAbB")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Render = Callable[[Record, Any], str]


@dataclass(frozen=True, slots=True)
class Part:
    """One piece of the template: a literal (`field` is empty) or a field.

    `characters` are those its text can hold and `fixed_width` says that its length never changes: what the proof of
    uniqueness needs. `pattern` matches the texts that it can have and no longer or shorter ones, as a regular
    expression. `render` turns the record (and its parsed JSON value) into text.
    """

    field: str
    literal: str
    render: Render
    pattern: str
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
        return _text_field("topic", lambda record, _: record.topic, _TOPIC_CHARACTERS)
    if name == "key":
        return _text_field("key", _key_text, _TEXT_CHARACTERS)
    if header := _header_name(name):
        return _text_field("header", _header_text(header), _TEXT_CHARACTERS)
    if name.startswith("value.") and all(path := name.split(".")[1:]):
        return _text_field("value", _value_text(path), _TEXT_CHARACTERS)
    raise _mistake(template, f"{{{name}}} is not a field")


def literal_part(text: str) -> Part:
    return Part("", text, lambda _record, _document: text, re.escape(text))


def merge_literals(parts: Iterable[Part]) -> list[Part]:
    """The parts with one literal in place of several that stand side by side, and none that is empty."""
    merged: list[Part] = []
    for part in parts:
        if part.field:
            merged.append(part)
        elif merged and not merged[-1].field:
            merged[-1] = literal_part(merged[-1].literal + part.literal)
        elif part.literal:
            merged.append(part)
    return merged


def _text_field(name: str, render: Render, characters: frozenset[str]) -> Part:
    return Part(name, "", render, f"[{re.escape(''.join(sorted(characters)))}]+", characters=characters)


def _integer_field(template: str, name: str, spec: str) -> Part:
    if not _INTEGER_SPEC.fullmatch(spec):
        raise _mistake(template, f"{{{name}:{spec}}}: the format is a zero-padded width such as 020d, or d for none")
    spec = spec or _DEFAULT_SPEC[name]
    width = int(spec.rstrip("d") or 0)
    value_of = attrgetter(name)
    fixed_width = width >= _FIXED_WIDTH[name]
    return Part(
        name,
        "",
        lambda record, _: format(value_of(record), spec),
        _integer_pattern(width, fixed_width),
        spec=f"0{width}d" if width else "d",
        characters=_DIGITS,
        fixed_width=fixed_width,
    )


def _integer_pattern(width: int, fixed_width: bool) -> str:
    """The texts of a number padded to this width: one that outgrows it has no zero in front."""
    if fixed_width:
        return f"[0-9]{{{width}}}"
    return f"(?:[0-9]{{{width}}}|[1-9][0-9]{{{width},}})" if width > 1 else "(?:0|[1-9][0-9]*)"


def _timestamp_field(template: str, spec: str) -> Part:
    directives = _DIRECTIVE.findall(spec)
    unknown = [f"%{letter}" for letter in directives if letter not in _TIME_DIRECTIVES or not letter]
    if unknown:
        allowed = " ".join(f"%{letter}" for letter in sorted(_TIME_DIRECTIVES))
        raise _mistake(template, f"{{timestamp:{spec}}}: {', '.join(unknown)} is not one of {allowed}")

    long_form = _DIRECTIVE.sub(lambda found: _SHORT_FORMS.get(found[1], found[0]), spec)

    def render(record: Record, _document: object) -> str:
        moment = _event_time(record)
        return moment.strftime(long_form if moment.year > 999 else _with_padded_years(long_form, moment))

    fixed_width = not _NAMES_OF_DAYS_AND_MONTHS.intersection(directives)
    characters = _TIME_CHARACTERS | frozenset(spec)
    return Part("timestamp", "", render, _time_pattern(long_form), spec, characters, fixed_width)


def _with_padded_years(spec: str, moment: datetime) -> str:
    """The format with the year, which the C library pads with nothing, already in it, in four digits."""
    years = {"Y": f"{moment.year:04d}", "G": f"{moment.isocalendar().year:04d}"}
    return _DIRECTIVE.sub(lambda found: years.get(found[1], found[0]), spec)


def _time_pattern(spec: str) -> str:
    # Every other piece is the letter of a directive.
    pieces = _DIRECTIVE.split(spec)
    return "".join(_directive_pattern(piece) if index % 2 else re.escape(piece) for index, piece in enumerate(pieces))


def _directive_pattern(letter: str) -> str:
    return _TEXTS_OF[letter] if letter in _TEXTS_OF else f"[0-9]{{{_DIGITS_OF[letter]}}}"


def _event_time(record: Record) -> datetime:
    if record.timestamp_ms is None:
        raise rejected(record, "the event has no timestamp")
    try:
        return _EPOCH + timedelta(milliseconds=record.timestamp_ms)
    except OverflowError as error:
        side = "past the year 9999" if record.timestamp_ms > 0 else "before the year 1"
        raise rejected(record, f"the timestamp {record.timestamp_ms} ms is {side}") from error


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
