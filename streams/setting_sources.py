"""Where `settings` takes values from: the process's environment, and below it the Kafka client properties file.

The environment is handed in by `settings`; this module turns it into values by field name and leaves out what only
looks like a setting (Kubernetes writes variables of its own into every container).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, get_args

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from streams.client_properties import ClientProperties, read_client_properties
from streams.errors import ConfigurationError

PREFIX: Final = "STREAMS_"
_SERVICE_LINK: Final = re.compile(r"(?:tcp|udp|sctp)://\S+")
# botocore itself knows only the second; AWS's other SDKs, Lambda and ECS use the first.
_AWS_REGIONS: Final = ("AWS_REGION", "AWS_DEFAULT_REGION")


def variable(field: str) -> str:
    """The environment variable of a field."""
    return PREFIX + field.upper()


def is_service_link(value: str) -> bool:
    """Whether Kubernetes wrote this value: a service called `streams-web` gives STREAMS_WEB_PORT=tcp://10.0.0.1:80."""
    return _SERVICE_LINK.fullmatch(value) is not None


def is_secret(field: FieldInfo) -> bool:
    """Whether a field's value may never be shown."""
    return _holds_secret(field.annotation)


def environment_values(environ: Mapping[str, str], model: type[BaseModel]) -> dict[str, str]:
    """The values of the fields that are set; white space around a value is dropped, an empty one counts as not set.

    A secret loses only line ends, which files and Kubernetes secrets tend to add.
    """
    values = {}
    for name, field in model.model_fields.items():
        raw = environ.get(variable(name), "")
        value = raw.strip("\r\n") if is_secret(field) else raw.strip()
        if value and not is_service_link(value):
            values[name] = value
    region = next(filter(None, (environ.get(name, "").strip() for name in _AWS_REGIONS)), None)
    return values if region is None else {"s3_region": region, **values}


def client_properties(values: Mapping[str, Any]) -> ClientProperties | None:
    """The file that `kafka_client_properties` names, `None` without one or where it cannot be understood.

    The field's own validator reads it too and says what is wrong with it.
    """
    path = values.get("kafka_client_properties")
    if not path:
        return None
    try:
        return read_client_properties(Path(path))
    except ConfigurationError:
        return None


def check_client_properties(path: Path) -> Path:
    """A client properties file that can be understood. Raises `ValueError` with a line for each mistake in it."""
    try:
        read_client_properties(path)
    except ConfigurationError as error:
        raise ValueError(str(error)) from error
    return path


class EnvironmentSource(PydanticBaseSettingsSource):
    """`STREAMS_*` variables; the region falls back to AWS's own variables."""

    def __init__(self, settings_cls: type[BaseSettings], environ: Mapping[str, str]) -> None:
        super().__init__(settings_cls)
        self._values = environment_values(environ, settings_cls)

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """The text of one field, `None` when it is not set; nothing is decoded here."""
        return self._values.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        """All values, by field name."""
        return dict(self._values)


class ClientPropertiesSource(PydanticBaseSettingsSource):
    """What the Kafka client properties file says, where the sources above name one."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """The text of one field, `None` when the file does not give it."""
        return self().get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        """All values of the file, by field name."""
        properties = client_properties(self.current_state)
        values = dict(properties.values) if properties else {}
        # Confluent Cloud writes it into every file; with this protocol it is the brokers'.
        if str(self.current_state.get("kafka_group_protocol", "")).lower() == "consumer":
            values.pop("kafka_session_timeout_seconds", None)
        return values


def _holds_secret(annotation: Any) -> bool:
    return annotation is SecretStr or any(_holds_secret(argument) for argument in get_args(annotation))
