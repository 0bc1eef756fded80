"""Writes what the chart repeats of other files: `python -m tests.helm.generate` (after a change of settings or values).

Of `streams/settings.py` the settings that `values.schema.json` accepts, with their types and bounds; of the comments in
`values.yaml` the table in the chart's README. `tests/helm/test_reference.py` fails where they differ.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BeforeValidator, ByteSize, SecretStr
from pydantic.fields import FieldInfo

from streams.settings import Settings

CHART = Path(__file__).resolve().parents[2] / "helm" / "streams"
SCHEMA = CHART / "values.schema.json"
README = CHART / "README.md"
VALUES = CHART / "values.yaml"
BEGIN, END = "<!-- values: begin -->", "<!-- values: end -->"

SET_BY_THE_CHART = {"WEB_ENABLED", "DATA_DIR", "KAFKA_GROUP_INSTANCE_ID"}
NEVER_NULL = {"WEB_BIND", "WEB_PORT", "DRAIN_TIMEOUT_SECONDS"}
"""The chart itself computes with these."""
NAMES_OF_ACCOUNTS = {"KAFKA_SASL_USERNAME", "KAFKA_OAUTH_CLIENT_ID"}
"""Not secret, and yet usually kept beside the secret."""

Schema = dict[str, Any]


def _bare_type(annotation: Any) -> Any:
    """The type itself, without `Annotated` and `None`."""
    if get_origin(annotation) is Annotated:
        return _bare_type(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        (only,) = (part for part in get_args(annotation) if part is not NoneType)
        return _bare_type(only)
    return annotation


def _bounds(metadata: list[Any]) -> Schema:
    names = {"ge": "minimum", "le": "maximum"}
    return {schema: getattr(item, name) for item in metadata for name, schema in names.items() if hasattr(item, name)}


def _constraint(field: FieldInfo) -> Schema:
    """What the schema says of a setting's value, apart from `null`."""
    kind = _bare_type(field.annotation)
    if kind is bool:
        return {"type": "boolean"}
    if kind is ByteSize:
        return {"type": ["integer", "string"], **_bounds(field.metadata), "pattern": r"^[0-9.]+ *[A-Za-z]*$"}
    if kind is int:
        return {"type": "integer", **_bounds(field.metadata)}
    if kind is float:
        return {"type": "number", **_bounds(field.metadata)}
    if get_origin(kind) is Literal:
        words = get_args(kind)
        if any(isinstance(item, BeforeValidator) for item in field.metadata):  # the worker takes either case
            words = (*words, *map(str.upper, words), *map(str.lower, words))
        return {"enum": sorted(set(words))}
    return {"type": ["string", "number"]}


def _property(name: str, field: FieldInfo) -> Schema:
    schema = _constraint(field)
    if name not in NEVER_NULL:
        if "enum" in schema:
            schema["enum"] = [*schema["enum"], None]
        else:
            types = schema["type"]
            schema["type"] = [*([types] if isinstance(types, str) else types), "null"]
    return {"description": field.description, **schema}


def secret_names() -> set[str]:
    """Settings that may not stand in a ConfigMap."""
    return {name.upper() for name, field in Settings.model_fields.items() if _bare_type(field.annotation) is SecretStr}


def settings_schema() -> Schema:
    """What `settings` of the values accepts."""
    left_out = SET_BY_THE_CHART | secret_names()
    fields = {name.upper(): field for name, field in Settings.model_fields.items()}
    return {
        "description": "Settings of docs/configuration.md without STREAMS_; null leaves one at the worker's default",
        "type": "object",
        "additionalProperties": False,
        "properties": {name: _property(name, field) for name, field in fields.items() if name not in left_out},
        "required": sorted(NEVER_NULL),
    }


def credential_names() -> list[str]:
    """What `credentials` accepts."""
    return sorted(secret_names() | NAMES_OF_ACCOUNTS)


def schema_document(present: Schema) -> Schema:
    """The whole schema, with the settings as they are now."""
    document: Schema = json.loads(json.dumps(present))
    document["properties"]["settings"] = settings_schema()
    document["definitions"]["secretSetting"] = {"enum": credential_names()}
    return document


def rows() -> list[tuple[str, str, str]]:
    """Path, default and comment of each value whose comment begins with `--`."""
    found: list[tuple[str, str, str]] = []
    parents: list[str] = []
    comment: list[str] | None = None
    for line in VALUES.read_text(encoding="utf-8").splitlines():
        if match := re.match(r" *# -- (.*)", line):
            comment = [match[1]]
        elif comment is not None and (match := re.match(r" *# (.*)", line)):
            comment.append(match[1])
        elif match := re.match(r"( *)([A-Za-z_][\w-]*):(?: (.*))?$", line):
            parents = [*parents[: len(match[1]) // 2], match[2]]
            if comment is not None:
                found.append((".".join(parents), match[3] or "see values.yaml", " ".join(comment)))
            comment = None
    return found


def table() -> str:
    """The README's table of values."""
    lines = ["| value | default | meaning |", "|---|---|---|"]
    for path, default, comment in rows():
        shown = default if default.startswith("see ") else f"`{default}`"
        lines.append(f"| `{path}` | {shown} | {comment.replace('|', chr(92) + '|')} |")
    return "\n".join(lines)


def readme(present: str) -> str:
    """The README with the table as it is now."""
    before, rest = present.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def main() -> None:
    schema = schema_document(json.loads(SCHEMA.read_text(encoding="utf-8")))
    SCHEMA.write_text(json.dumps(schema, indent=2) + "\n", encoding="utf-8")
    README.write_text(readme(README.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
