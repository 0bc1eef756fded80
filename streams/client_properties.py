"""Kafka connection settings from a `client.properties` file, as Confluent Cloud hands it to its users.

Sits before `settings`, which reads it below the environment: what is set there wins over the file. Java's names and
librdkafka's are both understood; keys that a consumer of ours has no use for are listed, not refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from streams.errors import ConfigurationError
from streams.properties_file import PropertiesSyntaxError, Property, parse_properties

SETTING: Final = "STREAMS_KAFKA_CLIENT_PROPERTIES"

_DIRECT: Final = {
    "bootstrap.servers": "kafka_bootstrap_servers",
    "security.protocol": "kafka_security_protocol",
    "sasl.mechanism": "kafka_sasl_mechanism",
    "sasl.mechanisms": "kafka_sasl_mechanism",
    "sasl.username": "kafka_sasl_username",
    "sasl.password": "kafka_sasl_password",
    "sasl.oauthbearer.token.endpoint.url": "kafka_oauth_token_url",
    "sasl.oauthbearer.client.id": "kafka_oauth_client_id",
    "sasl.oauthbearer.client.secret": "kafka_oauth_client_secret",
    "sasl.oauthbearer.scope": "kafka_oauth_scope",
    "sasl.oauthbearer.extensions": "kafka_oauth_extensions",
    "ssl.ca.location": "kafka_ssl_ca_file",
    "ssl.certificate.location": "kafka_ssl_cert_file",
    "ssl.key.location": "kafka_ssl_key_file",
    "ssl.key.password": "kafka_ssl_key_password",
    "client.id": "kafka_client_id",
    "client.rack": "kafka_client_rack",
}
_STORES: Final = {
    "ssl.truststore.location": ("ssl.truststore.type", "kafka_ssl_ca_file"),
    "ssl.keystore.location": ("ssl.keystore.type", "kafka_ssl_cert_file"),
}
_PEM_SUFFIXES: Final = (".pem", ".crt", ".cer")
_PLACEHOLDER: Final = re.compile(r"\{\{.*?\}\}|<[A-Z_ -]+>|\$\{.*?\}")

_JAAS_MODULE: Final = re.compile(r"\s*([\w.$]+)\s+(?:required|requisite|sufficient|optional)\b")
_JAAS_OPTION: Final = re.compile(r"""\s*([\w.-]+)\s*=\s*("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|[^\s;"']+)""", re.DOTALL)
_JAAS_OPTIONS: Final = {
    "PlainLoginModule": {"username": "kafka_sasl_username", "password": "kafka_sasl_password"},
    "ScramLoginModule": {"username": "kafka_sasl_username", "password": "kafka_sasl_password"},
    "OAuthBearerLoginModule": {
        "clientId": "kafka_oauth_client_id",
        "clientSecret": "kafka_oauth_client_secret",
        "scope": "kafka_oauth_scope",
    },
}


@dataclass(frozen=True, slots=True)
class ClientProperties:
    """What a file says: settings by field name, and where each stands (`file:line (key)`).

    `ignored` are the keys that mean nothing here, for the log; the values may be secrets, so `repr` leaves them out.
    """

    values: dict[str, str] = field(repr=False)
    origins: dict[str, str]
    ignored: tuple[str, ...]


class _LineError(ValueError):
    """A property that cannot be used; its message says why, without the value."""


def read_client_properties(path: Path) -> ClientProperties:
    """Read and understand a file.

    Raises `ConfigurationError` with one line per mistake, each naming file and line, none holding a value.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        problem = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigurationError(f"{SETTING}: {path} cannot be read: {problem}. Name a readable file.") from error
    try:
        properties = parse_properties(text)
    except PropertiesSyntaxError as error:
        raise ConfigurationError(f"{SETTING}: {path}:{error.line}: {error}.") from error
    return _understand(path, properties)


def _understand(path: Path, properties: list[Property]) -> ClientProperties:
    by_key = {entry.key: entry for entry in properties}
    values: dict[str, str] = {}
    origins: dict[str, str] = {}
    ignored: list[str] = []
    mistakes: list[str] = []
    # The JAAS line first: username and password that stand on lines of their own are more specific.
    for entry in sorted(by_key.values(), key=lambda entry: entry.key != "sasl.jaas.config"):
        try:
            found = _settings_of(entry, by_key)
        except _LineError as error:
            mistakes.append(f"{SETTING}: {path}:{entry.line}: {entry.key}: {error}.")
            continue
        if not found:
            ignored.append(entry.key)
        values.update(found)
        origins.update(dict.fromkeys(found, f"{path}:{entry.line} ({entry.key})"))
    if mistakes:
        raise ConfigurationError("\n".join(mistakes))
    return ClientProperties(values, origins, tuple(sorted(ignored)))


def _settings_of(entry: Property, by_key: dict[str, Property]) -> dict[str, str]:
    """The settings that one property gives, none for a key that means nothing here."""
    if entry.key in _DIRECT:
        return {_DIRECT[entry.key]: _filled_in(entry.value)}
    if entry.key == "sasl.jaas.config":
        return _jaas_settings(_filled_in(entry.value))
    if entry.key == "session.timeout.ms":
        return {"kafka_session_timeout_seconds": _seconds(entry.value)}
    if entry.key in _STORES:
        return _store_setting(entry, by_key)
    return {}


def _filled_in(value: str) -> str:
    if placeholder := _PLACEHOLDER.search(value):
        raise _LineError(f"still holds the placeholder {placeholder[0]}; put your own value there")
    return value.strip()


def _seconds(value: str) -> str:
    try:
        return str(int(value.strip()) / 1000)
    except ValueError:
        raise _LineError("is not a whole number of milliseconds") from None


def _store_setting(entry: Property, by_key: dict[str, Property]) -> dict[str, str]:
    type_key, setting = _STORES[entry.key]
    location = _filled_in(entry.value)
    store_type = by_key[type_key].value.strip().upper() if type_key in by_key else ""
    if store_type == "PEM" or (not store_type and location.lower().endswith(_PEM_SUFFIXES)):
        return {setting: location}
    variable = f"STREAMS_{setting.upper()}"
    raise _LineError(
        f"is a Java key store; export its certificates as PEM (keytool -exportcert -rfc, or openssl pkcs12), name that "
        f"file in {variable} and take this line out, or, if the file is PEM already, add {type_key}=PEM"
    )


def _jaas_settings(config: str) -> dict[str, str]:
    """The options of one login module, as the JAAS syntax of Kafka's documentation has them ("Security", JAAS)."""
    module = _JAAS_MODULE.match(config)
    if not module:
        raise _LineError("is not '<login module> required name=\"value\" ...;'")
    name = module[1].rpartition(".")[2]
    if name not in _JAAS_OPTIONS:
        raise _LineError(f"{name} is not supported; use one of {', '.join(_JAAS_OPTIONS)}")
    options = _jaas_options(config[module.end() :])
    found = {setting: options[option] for option, setting in _JAAS_OPTIONS[name].items() if option in options}
    extensions = [
        f"{option.removeprefix('extension_')}={value}"
        for option, value in options.items()
        if option.startswith("extension_")
    ]
    if extensions:
        found["kafka_oauth_extensions"] = ",".join(extensions)
    if not found:
        raise _LineError(f"{name} has none of the options {', '.join(_JAAS_OPTIONS[name])}")
    return found


def _jaas_options(text: str) -> dict[str, str]:
    options: dict[str, str] = {}
    position = 0
    while match := _JAAS_OPTION.match(text, position):
        options[match[1]] = _unquoted(match[2])
        position = match.end()
    if not re.fullmatch(r"\s*;?\s*", text[position:]):
        raise _LineError(f"cannot be understood after {len(options)} option(s); quote values and end with ';'")
    return options


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL) if text[0] in "\"'" else text
