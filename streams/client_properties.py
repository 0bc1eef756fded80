"""Kafka connection settings from a `client.properties` file, as Confluent Cloud hands it to its users.

Sits before `settings`, which reads it below the environment: what is set there wins over the file. Java's names and
librdkafka's are both understood. What is no setting goes to librdkafka under its own name; what only Java's clients or
producers know is listed, not refused; what the worker decides by itself, or nobody knows, is a mistake.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from confluent_kafka import Consumer, KafkaException

from streams.client_property_names import CHECKS, OPTIONS, SETTINGS, is_foreign, refusal
from streams.errors import ConfigurationError
from streams.properties_file import PropertiesSyntaxError, Property, parse_properties

SETTING: Final = "STREAMS_KAFKA_CLIENT_PROPERTIES"

_STORES: Final = {
    "ssl.truststore.location": ("ssl.truststore.type", "kafka_ssl_ca_file"),
    "ssl.keystore.location": ("ssl.keystore.type", "kafka_ssl_cert_file"),
}
_PEM_SUFFIXES: Final = (".pem", ".crt", ".cer")
_PKCS12_SUFFIXES: Final = (".p12", ".pfx")
_TOO_SHORT_FOR_A_SECRET: Final = 3
"""Characters; such a value is in many a sentence by chance (`0`, `in`)."""
_END_OF_CHECK: Final = "streams.end.of.check"
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
    "IAMLoginModule": {},  # the credentials are AWS's business
}


@dataclass(frozen=True, slots=True)
class ClientProperties:
    """What a file says: settings by field name, and where each stands (`file:line (key)`).

    `options` are librdkafka's own, by their names. `ignored` are the keys that mean nothing here, for the log. Values
    may be secrets, so `repr` leaves them out.
    """

    values: dict[str, str] = field(repr=False)
    options: dict[str, str] = field(repr=False)
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
    found = ClientProperties({}, {}, {}, tuple(sorted(key for key in by_key if is_foreign(key))))
    mistakes: list[str] = []
    # The JAAS line first: username and password that stand on lines of their own are more specific.
    for entry in sorted(by_key.values(), key=lambda entry: entry.key != "sasl.jaas.config"):
        try:
            settings, options = _meaning(entry, by_key)
        except _LineError as error:
            mistakes.append(f"{SETTING}: {path}:{entry.line}: {entry.key}: {error}.")
            continue
        found.values.update(settings)
        found.options.update(options)
        found.origins.update(dict.fromkeys(settings, f"{path}:{entry.line} ({entry.key})"))
    if mistakes:
        raise ConfigurationError("\n".join(mistakes))
    return found


def _meaning(entry: Property, by_key: dict[str, Property]) -> tuple[dict[str, str], dict[str, str]]:
    """The settings that one property gives, and the options of librdkafka's; neither where it means nothing here."""
    key = entry.key
    if (reason := refusal(key)) is not None:
        raise _LineError(f"may not be set here: {reason}")
    if key in CHECKS and entry.value.strip().lower() != CHECKS[key][0]:
        raise _LineError(CHECKS[key][1])
    if key in _STORES:
        return _store(entry, by_key)
    if is_foreign(key):
        return {}, {}
    if key == "sasl.jaas.config":
        return _jaas_settings(_filled_in(entry.value)), {}
    if key == "session.timeout.ms":
        return {"kafka_session_timeout_seconds": _seconds(entry.value)}, {}
    value = _filled_in(entry.value)
    # "probe" is librdkafka's word for the system's authorities, which are the default here.
    if key in SETTINGS:
        return ({} if (key, value) == ("ssl.ca.location", "probe") else {SETTINGS[key]: value}), {}
    return {}, _option(OPTIONS.get(key, key), value)


def _option(key: str, value: str) -> dict[str, str]:
    """A property under librdkafka's own name, which librdkafka takes."""
    if not value:
        return {}
    if (problem := _refusal(key, value)) is not None:
        raise _LineError(problem)
    return {key: value}


def _refusal(key: str, value: str) -> str | None:
    """Why librdkafka does not take a property, `None` where it does."""
    try:
        # Properties are read in their order, so that a good one is told by what is wrong with the one after it, and
        # no client is ever made.
        Consumer({"group.id": "check", key: value, _END_OF_CHECK: ""})
    except KafkaException as error:
        text = error.args[0].str().rstrip(".")
    except (TypeError, AttributeError, ValueError):
        # The Python client's own names (`error_cb`), which take functions.
        return "cannot be given in a file; take the line out"
    if _END_OF_CHECK in text:
        return None
    if text.startswith("No such configuration property"):
        return "there is no such property, neither librdkafka's nor Java's; correct its name, or take the line out"
    return f"librdkafka refuses its value ({_without_value(text, value)})"


def _without_value(text: str, value: str) -> str:
    """librdkafka's reason; it repeats the value in quotes, or as a number in front of the range that is allowed."""
    text = re.sub(r" value -?\d+ is ", " value is ", text.replace(f' "{value}"', ""))
    return text if len(value) <= _TOO_SHORT_FOR_A_SECRET or value not in text else "it repeats the value"


def _filled_in(value: str) -> str:
    if _PLACEHOLDER.search(value):
        raise _LineError("still holds a placeholder ({{…}}, <…> or ${…}); put your own value there")
    return value.strip()


def _seconds(value: str) -> str:
    try:
        return str(int(value.strip()) / 1000)
    except ValueError:
        raise _LineError("is not a whole number of milliseconds") from None


def _store(entry: Property, by_key: dict[str, Property]) -> tuple[dict[str, str], dict[str, str]]:
    type_key, setting = _STORES[entry.key]
    location = _filled_in(entry.value)
    store_type = by_key[type_key].value.strip().upper() if type_key in by_key else ""
    if store_type == "PEM" or (not store_type and location.lower().endswith(_PEM_SUFFIXES)):
        return {setting: location}, {}
    is_pkcs12 = store_type == "PKCS12" or (not store_type and location.lower().endswith(_PKCS12_SUFFIXES))
    if is_pkcs12 and entry.key == "ssl.keystore.location":
        return {}, {entry.key: location}
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
        shown = name if name.endswith("LoginModule") else "its login module"
        raise _LineError(f"{shown} is not supported; use one of {', '.join(_JAAS_OPTIONS)}")
    if name == "IAMLoginModule":
        return _iam_settings(config[module.end() :])
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


def _iam_settings(options: str) -> dict[str, str]:
    """AWS's login module for MSK: what it may say is found in the environment here."""
    if _jaas_options(options):
        raise _LineError("options of IAMLoginModule are not read; set AWS_PROFILE, or give the worker the role itself")
    return {}


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
