"""Every mistake of a configuration as a line that names the variable and the remedy, never a secret.

Pure, used by `settings` alone: fields that are wrong by themselves, fields that do not fit together, and variables that
do not exist (a misspelt setting that is silently ignored is the worst kind of mistake).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from streams.errors import ConfigurationError
from streams.object_key import ObjectKeyTemplate, check_object_key
from streams.setting_sources import PREFIX, is_secret, is_service_link, variable

if TYPE_CHECKING:
    from streams.settings import Settings

# What Kubernetes writes for a service whose name begins with "streams" (and Docker for a link).
_SERVICE_LINK_NAME: Final = re.compile(
    r"(?:\w+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)
_BULLET: Final = "\n  - "
_CLIENT_PROPERTIES: Final = "kafka_client_properties"
_OTHER_PURPOSES: Final = ("TEST_", "DEMO_", "BENCH_")

Mistake = tuple[tuple[str, ...], str]
"""The fields that a mistake is about, and what it says."""


def unknown_variables(environ: Mapping[str, str], model: type[BaseModel]) -> list[str]:
    """A line for each `STREAMS_*` variable that is no setting."""
    known = [variable(field) for field in model.model_fields]
    return [
        _unknown(name, known)
        for name, value in sorted(environ.items())
        if name.startswith(PREFIX) and name not in known and not _is_foreign(name.removeprefix(PREFIX), value)
    ]


def invalid_fields(error: ValidationError, model: type[BaseModel]) -> frozenset[str]:
    """The fields of which nothing can be said: those that are wrong, and all that an unreadable file may have given."""
    wrong = {str(details["loc"][0]) for details in error.errors()}
    from_file = {field for field in model.model_fields if _CLIENT_PROPERTIES in wrong and field.startswith("kafka_")}
    return frozenset(wrong | from_file)


def field_mistakes(error: ValidationError, model: type[BaseModel], origins: Mapping[str, str]) -> list[str]:
    """A line for each field that is wrong by itself; `origins` says where in a file its value stands."""
    failures = {str(details["loc"][0]): details for details in error.errors(include_url=False)}
    return [
        _field_mistake(field, details, model.model_fields[field], origins.get(field))
        for field, details in failures.items()
        if details["type"] != "default_factory_not_called" and not _may_be_in_file(field, failures)
    ]


def cross_field_mistakes(settings: Settings, invalid: Collection[str]) -> list[str]:
    """A line for each pair of settings that do not fit, but for those about a field that is `invalid` anyway."""
    checks = (_sasl, _group, _tls, _s3, _sqs, _timing, _object_keys)
    return [
        f"{variable(fields[0])}: {message}"
        for check in checks
        for fields, message in check(settings)
        if not any(field in invalid for field in fields)
    ]


def report(mistakes: Sequence[str]) -> str:
    """One message for all mistakes; those of a file are lines of one."""
    lines = "".join(f"{_BULLET}{mistake}" for mistake in mistakes)
    number = lines.count(_BULLET)
    count = "1 mistake" if number == 1 else f"{number} mistakes"
    return f"The configuration has {count}:{lines}\nEvery setting is described in docs/configuration.md."


def _is_foreign(name: str, value: str) -> bool:
    if name.startswith(_OTHER_PURPOSES) or _SERVICE_LINK_NAME.fullmatch(name):
        return True
    return (name == "PORT" or name.endswith("_PORT")) and is_service_link(value)


def _unknown(name: str, known: Sequence[str]) -> str:
    similar = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    hint = f"did you mean {similar[0]}?" if similar else "take it out, or look its name up."
    return f"{name}: there is no such setting; {hint}"


def _may_be_in_file(field: str, failures: Mapping[str, Any]) -> bool:
    """Whether a field only seems to be missing because the client properties file could not be read."""
    return _CLIENT_PROPERTIES in failures and field.startswith("kafka_") and failures[field]["type"] == "missing"


def _field_mistake(field: str, details: Any, info: FieldInfo, origin: str | None) -> str:
    name, example = variable(field), (info.examples or [""])[0]
    place = f" (from {origin})" if origin else ""
    advice = f"{info.description} Example: {name}={example}"
    if details["type"] == "missing":
        return f"{name}: is not set. {advice}"
    if details["type"] == "value_error":
        text = str(details["ctx"]["error"])
        # A file's own mistakes carry their own names and lines.
        return _BULLET.join(text.splitlines()) if text.startswith(name) else f"{name}{place}: {text}. {advice}"
    problem = details["msg"].replace("Input should", "should")
    shown = "the value" if is_secret(info) else repr(details["input"])
    return f"{name}{place}: {shown}: {problem[0].lower()}{problem[1:]}. {advice}"


def _missing(settings: Settings, fields: Sequence[str]) -> list[str]:
    return [field for field in fields if not getattr(settings, field)]


_USER: Final = ("kafka_sasl_username", "kafka_sasl_password")
_OAUTH: Final = ("kafka_oauth_token_url", "kafka_oauth_client_id", "kafka_oauth_client_secret")
# Other ways of librdkafka's to a token, which take other properties (of the client properties file).
_OTHER_GRANTS: Final = ("sasl.oauthbearer.grant.type", "sasl.oauthbearer.assertion.", "sasl.oauthbearer.metadata.")


def _sasl(settings: Settings) -> Iterator[Mistake]:
    protocol, mechanism = settings.kafka_security_protocol, settings.kafka_sasl_mechanism
    if not settings.uses_sasl:
        for field in ("kafka_sasl_mechanism", *_USER, *_OAUTH):
            if getattr(settings, field):
                remedy = f"set {variable('kafka_security_protocol')}=SASL_SSL, or take it out"
                yield (field, "kafka_security_protocol"), f"is set, but {protocol} does not log in; {remedy}."
        return
    if mechanism is None:
        others = "PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER or AWS_MSK_IAM"
        yield ("kafka_sasl_mechanism", "kafka_security_protocol"), f"is not set, {protocol} needs one of {others}."
        return
    for field in _missing(settings, _needed_to_log_in(settings)):
        yield (field, "kafka_sasl_mechanism", "kafka_security_protocol"), f"is not set, and {mechanism} needs it."
    if mechanism == "AWS_MSK_IAM" and not settings.kafka_region:
        yield (
            ("kafka_aws_region", "kafka_sasl_mechanism", "kafka_bootstrap_servers"),
            "is not set, and the brokers' names hold no region; AWS_MSK_IAM signs for one, for example eu-central-1.",
        )


def _needed_to_log_in(settings: Settings) -> tuple[str, ...]:
    if settings.kafka_sasl_mechanism == "AWS_MSK_IAM":
        return ()
    if settings.kafka_sasl_mechanism != "OAUTHBEARER":
        return _USER
    return () if any(name.startswith(_OTHER_GRANTS) for name in settings.kafka_options) else _OAUTH


def _group(settings: Settings) -> Iterator[Mistake]:
    if settings.kafka_group_protocol != "consumer":
        return
    protocol = f"{variable('kafka_group_protocol')}=consumer"
    if "kafka_session_timeout_seconds" in settings.model_fields_set:
        yield (
            ("kafka_session_timeout_seconds", "kafka_group_protocol"),
            f"is set, but with {protocol} it is the brokers' group.consumer.session.timeout.ms; take it out.",
        )


def _tls(settings: Settings) -> Iterator[Mistake]:
    protocol = settings.kafka_security_protocol
    if not settings.uses_tls:
        for field in ("kafka_ssl_ca_file", "kafka_ssl_cert_file", "kafka_ssl_key_file"):
            if getattr(settings, field):
                secure = "SASL_SSL" if settings.uses_sasl else "SSL"
                remedy = f"set {variable('kafka_security_protocol')}={secure}, or take it out"
                yield (field, "kafka_security_protocol"), f"is set, but {protocol} is not encrypted; {remedy}."
    if not settings.kafka_ssl_cert_file:
        for field in ("kafka_ssl_key_file", "kafka_ssl_key_password"):
            if getattr(settings, field):
                yield (
                    (field, "kafka_ssl_cert_file"),
                    f"is set without {variable('kafka_ssl_cert_file')}; name the certificate that the key belongs to.",
                )


def _s3(settings: Settings) -> Iterator[Mistake]:
    if settings.sink == "s3" and not settings.s3_bucket:
        yield ("s3_bucket", "sink"), _not_set(settings, "s3_bucket")
    if settings.s3_sse != "aws:kms":
        for field in ("s3_sse_kms_key_id", "s3_bucket_key_enabled"):
            if getattr(settings, field):
                yield (field, "s3_sse"), f"needs {variable('s3_sse')}=aws:kms."
    if settings.s3_role_external_id and not settings.s3_role_arn:
        yield ("s3_role_external_id", "s3_role_arn"), f"needs {variable('s3_role_arn')}, the role that asks for it."


def _sqs(settings: Settings) -> Iterator[Mistake]:
    if settings.sink != "sqs":
        for field in ("sqs_queue_url", "sqs_dead_letter_queue_url"):
            if getattr(settings, field):
                yield (field, "sink"), f"is set, but events go to S3; set {variable('sink')}=sqs, or take it out."
        return
    if not settings.sqs_queue_url:
        yield ("sqs_queue_url", "sink"), _not_set(settings, "sqs_queue_url")
    elif settings.sqs_dead_letter_queue_url == settings.sqs_queue_url:
        yield ("sqs_dead_letter_queue_url", "sqs_queue_url"), "dead letters would mix with events; name another queue."
    if settings.sqs_role_external_id and not settings.sqs_role_arn:
        yield ("sqs_role_external_id", "sqs_role_arn"), f"needs {variable('sqs_role_arn')}, the role that asks for it."
    if settings.on_reject == "dead-letter" and not (settings.s3_bucket or settings.sqs_dead_letter_queue_url):
        yield (
            ("on_reject", "sqs_dead_letter_queue_url", "s3_bucket", "sink"),
            f"dead letters have no place; set {variable('sqs_dead_letter_queue_url')} or {variable('s3_bucket')}, or "
            "hold the partition of such an event instead (hold).",
        )


def _not_set(settings: Settings, field: str) -> str:
    info = type(settings).model_fields[field]
    return f"is not set. {info.description} Example: {variable(field)}={(info.examples or [''])[0]}"


def _timing(settings: Settings) -> Iterator[Mistake]:
    for larger, smaller in (
        ("retry_max_seconds", "retry_base_seconds"),
        ("s3_request_timeout_seconds", "s3_connect_timeout_seconds"),
        ("sqs_request_timeout_seconds", "sqs_connect_timeout_seconds"),
    ):
        least = getattr(settings, smaller)
        if getattr(settings, larger) < least:
            yield (larger, smaller), f"is below {variable(smaller)} ({least:g}); raise it to at least that."


def _object_keys(settings: Settings) -> Iterator[Mistake]:
    if settings.s3_prefix == settings.dead_letter_prefix:
        remedy = f"choose another than {variable('s3_prefix')}"
        yield ("dead_letter_prefix", "s3_prefix"), f"dead letters could overwrite events; {remedy}."
        return
    if settings.s3_prefix == settings.ledger_prefix:
        remedy = f"choose another than {variable('s3_prefix')}"
        yield ("ledger_prefix", "s3_prefix"), f"the ledger could overwrite events; {remedy}."
        return
    if _overlap(settings.ledger_prefix, settings.dead_letter_prefix):
        remedy = f"choose one that is not inside {variable('dead_letter_prefix')}, nor it inside this one"
        yield ("ledger_prefix", "dead_letter_prefix"), f"the ledger and dead letters would mix; {remedy}."
        return
    prefixes = (settings.s3_prefix, settings.dead_letter_prefix, settings.ledger_prefix)
    fields: tuple[str, ...] = ("object_key_template", "s3_prefix", "dead_letter_prefix", "ledger_prefix")
    try:
        topics = settings.topic_names or None
        template = ObjectKeyTemplate(settings.object_key_template, *prefixes, topics)
        fields += ("topics", "allow_overwrite")
        check_object_key(template, topics, settings.allow_overwrite)
    except ConfigurationError as error:
        yield fields, str(error).removeprefix(f"{variable('object_key_template')}: ")


def _overlap(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)
