"""Writes docs/configuration.md from `settings`: `python -m streams.configuration_docs`.

A test keeps the two equal, so the page cannot lag behind the code.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal, Union, get_args, get_origin

from pydantic import ByteSize
from pydantic.fields import FieldInfo

from streams.setting_sources import is_secret, variable
from streams.settings import Settings

PAGE: Final = Path(__file__).parent.parent / "docs" / "configuration.md"

_INTRODUCTION: Final = """\
# Configuration

Generated from `streams/settings.py` by `python -m streams.configuration_docs`; edit it there.

The worker is configured by environment variables, and stops at once with one message that lists every mistake.
White space around a value is dropped and an empty variable counts as not set. Sizes take units (`64MiB`, `500kB`),
times are in seconds, switches are `true` or `false`. A variable that begins with `STREAMS_` and is no setting is a
mistake, unless Kubernetes wrote it for a service, or it is one of `STREAMS_TEST_*`, `STREAMS_DEMO_*` and
`STREAMS_BENCH_*`.

AWS's own variables (`AWS_PROFILE`, `AWS_ACCESS_KEY_ID`, `AWS_ROLE_ARN`, ...) mean what they mean to every AWS tool.
"""

# A section begins at its first field and goes on to the next section's.
_SECTIONS: Final = {
    "kafka_bootstrap_servers": "Kafka: connection and login",
    "kafka_client_id": "Kafka: the client",
    "topics": "Topics and consumer group",
    "sink": "S3",
    "sqs_queue_url": "SQS",
    "object_key_template": "Objects",
    "max_in_flight": "Delivery",
    "price_s3_put_usd_per_1000": "Prices",
    "web_enabled": "Web endpoints",
    "log_format": "Logs and process",
}
_TABLE_HEAD: Final = "| Variable | Type | Default | Meaning | Example |\n|---|---|---|---|---|\n"
_BOUNDS: Final = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
_TYPE_NAMES: Final = {str: "text", int: "integer", float: "number", bool: "switch", Path: "path", ByteSize: "size"}


def render() -> str:
    """The page, in the order of the settings."""
    return "".join(_lines())


def main() -> None:
    """Write the page."""
    PAGE.write_text(render(), encoding="utf-8")


def _lines() -> Iterator[str]:
    yield _INTRODUCTION
    for name, field in Settings.model_fields.items():
        if name in _SECTIONS:
            yield f"\n## {_SECTIONS[name]}\n\n{_TABLE_HEAD}"
        cells = (_code(variable(name)), _type(field), _default(field), field.description or "", _example(field))
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _type(field: FieldInfo) -> str:
    limits = [
        f"{words} {_limit(getattr(constraint, name))}"
        for constraint in field.metadata
        for name, words in _BOUNDS.items()
        if hasattr(constraint, name) and getattr(constraint, name) is not None
    ]
    return ", ".join([_type_name(field), *limits])


def _type_name(field: FieldInfo) -> str:
    if is_secret(field):
        return "secret"
    found = _inner_type(field.annotation)
    if get_origin(found) is Literal:
        return ", ".join(_code(choice) for choice in get_args(found))
    return _TYPE_NAMES[found]


def _inner_type(annotation: Any) -> Any:
    """The type itself, out of its optional and annotated wrappings."""
    if get_origin(annotation) in (Union, types.UnionType):
        return _inner_type(next(choice for choice in get_args(annotation) if choice is not type(None)))
    if hasattr(annotation, "__metadata__"):
        return _inner_type(get_args(annotation)[0])
    return annotation


def _limit(value: Any) -> str:
    return _size(value) if isinstance(value, int) and value and value % 1024 == 0 else f"{value:.15g}"


def _size(value: int) -> str:
    return ByteSize(value).human_readable().replace(".0", "")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    extra = field.json_schema_extra
    if isinstance(extra, dict) and "default_text" in extra:
        return str(extra["default_text"])
    value = field.get_default()
    if value is None or value == "":
        return "none"
    if isinstance(value, ByteSize):
        return _code(_size(value))
    return _code(str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else value)


def _example(field: FieldInfo) -> str:
    return _code((field.examples or [""])[0])


def _code(text: Any) -> str:
    return f"`{text}`"


if __name__ == "__main__":
    main()
