"""Every setting of the worker, typed and checked at start: where the environment is read, and nowhere else.

The first module of the flow. `load_settings` builds one frozen `Settings` from `STREAMS_*` variables and, below them,
the Kafka client properties file; it reports every mistake at once. `docs/configuration.md` is generated from here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ByteSize,
    Field,
    JsonValue,
    PrivateAttr,
    SecretStr,
    StringConstraints,
    ValidationError,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from streams.errors import ConfigurationError
from streams.setting_mistakes import cross_field_mistakes, field_mistakes, invalid_fields, report, unknown_variables
from streams.setting_sources import (
    ClientPropertiesSource,
    EnvironmentSource,
    check_client_properties,
    client_properties,
    environment_values,
)
from streams.setting_values import (
    check_endpoint_url,
    check_extensions,
    check_prefix,
    check_queue_url,
    check_readable_file,
    check_servers,
    check_tags,
    check_topics,
    check_url,
    is_pattern,
    msk_region,
    parse_extensions,
    parse_tags,
    parse_topic_names,
)

Text = Annotated[str, StringConstraints(min_length=1, pattern=r"^[^\x00-\x1f\x7f]+$")]
Word = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^\s\x00-\x1f\x7f]+$")]
Secret = Annotated[SecretStr, Field(min_length=1)]
ReadableFile = Annotated[Path, AfterValidator(check_readable_file)]
Url = Annotated[str, AfterValidator(check_url)]
Upper = BeforeValidator(lambda value: value.upper() if isinstance(value, str) else value)
Lower = BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value)
Seconds = Annotated[float, Field(allow_inf_nan=False)]
LogLevel = Literal["debug", "info", "warning", "error", "critical"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "AWS_MSK_IAM"]
Price = Annotated[float, Field(allow_inf_nan=False)]


def _setting(default: Any, description: str, example: str, default_text: str | None = None, **bounds: Any) -> Any:
    """A field with what the documentation says of it; `...` as default makes it required.

    `default_text` is for the documentation, where the default depends on another setting.
    """
    extra: dict[str, JsonValue] | None = {"default_text": default_text} if default_text else None
    default_argument = {"default_factory": default} if callable(default) else {"default": default}
    return Field(description=description, examples=[example], json_schema_extra=extra, **default_argument, **bounds)


def _has_endpoint_url(validated: dict[str, Any]) -> bool:
    return validated.get("s3_endpoint_url") is not None


class Settings(BaseSettings):
    """The worker's configuration; a field `x_y` is the environment variable `STREAMS_X_Y`."""

    model_config = SettingsConfigDict(
        env_prefix="STREAMS_", case_sensitive=True, frozen=True, extra="forbid", hide_input_in_errors=True
    )

    kafka_bootstrap_servers: Annotated[str, AfterValidator(check_servers)] = _setting(
        ..., "Kafka brokers to connect to first, host:port, separated by commas.", "broker-1:9092,broker-2:9092"
    )
    kafka_security_protocol: Annotated[Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"], Upper] = _setting(
        "PLAINTEXT", "How to speak to the brokers; Confluent Cloud takes SASL_SSL.", "SASL_SSL"
    )
    kafka_sasl_mechanism: Annotated[SaslMechanism | None, Upper] = _setting(
        None,
        "How to log in, with a SASL protocol; API keys of Confluent Cloud take PLAIN, IAM access control of Amazon MSK "
        "takes AWS_MSK_IAM.",
        "PLAIN",
    )
    kafka_sasl_username: Text | None = _setting(None, "User name or API key, for PLAIN and SCRAM.", "KJ4VXAMPLE2K7Q3T")
    kafka_sasl_password: Secret | None = _setting(None, "Password or API secret, for PLAIN and SCRAM.", "my-secret")
    kafka_ssl_ca_file: ReadableFile | None = _setting(
        None,
        "PEM file of the authorities that the brokers' certificates are checked against.",
        "/etc/kafka/ca.pem",
        default_text="the system's authorities",
    )
    kafka_ssl_cert_file: ReadableFile | None = _setting(
        None, "PEM file of the client certificate, for brokers that ask for one.", "/etc/kafka/client.pem"
    )
    kafka_ssl_key_file: ReadableFile | None = _setting(
        None,
        "PEM file of the client certificate's private key.",
        "/etc/kafka/client.key",
        default_text="the certificate's file",
    )
    kafka_ssl_key_password: Secret | None = _setting(None, "Password of an encrypted private key.", "my-secret")
    kafka_oauth_token_url: Url | None = _setting(
        None, "Token endpoint for OAUTHBEARER (client credentials).", "https://login.example.com/oauth2/token"
    )
    kafka_oauth_client_id: Text | None = _setting(None, "Client id at the token endpoint.", "streams-worker")
    kafka_oauth_client_secret: Secret | None = _setting(None, "Client secret at the token endpoint.", "my-secret")
    kafka_oauth_scope: Text | None = _setting(
        None, "Scope to ask the token endpoint for; several are separated by spaces.", "kafka.read"
    )
    kafka_oauth_extensions: Annotated[str, AfterValidator(check_extensions)] = _setting(
        "",
        "SASL extensions sent with the token; Confluent Cloud needs logicalCluster and identityPoolId.",
        "logicalCluster=lkc-abc123,identityPoolId=pool-xyz",
    )
    kafka_aws_region: Word | None = _setting(
        None,
        "Region of the MSK cluster, for AWS_MSK_IAM.",
        "eu-central-1",
        default_text="the one in the brokers' names, else as STREAMS_S3_REGION",
    )
    kafka_client_properties: Annotated[ReadableFile, AfterValidator(check_client_properties)] | None = _setting(
        None,
        "A client.properties file as Confluent Cloud hands it out, in Java's names or librdkafka's; variables that are "
        "set win over it. What is no setting here goes to librdkafka as it stands.",
        "/etc/kafka/client.properties",
    )
    kafka_client_id: Word = _setting("streams", "Name of this client in the brokers' logs and quotas.", "orders-to-s3")
    kafka_client_rack: Word | None = _setting(
        None, "Rack or availability zone, to fetch from the nearest replica.", "use1-az1"
    )
    kafka_group_instance_id: Word | None = _setting(
        None,
        "Static membership: an id of this worker alone, which spares a rebalance when it restarts.",
        "streams-0",
    )
    kafka_group_protocol: Annotated[Literal["classic", "consumer"], Lower] = _setting(
        "classic",
        "How workers share partitions: classic, or consumer (KIP-848), where the brokers (4.0 or later) do it. All "
        "workers of a group use the same.",
        "consumer",
    )
    kafka_session_timeout_seconds: Seconds = _setting(
        45.0,
        "How long the group waits for a silent worker before others take over; with the consumer protocol this is the "
        "brokers' group.consumer.session.timeout.ms.",
        "30",
        ge=6,
        le=1800,
    )
    kafka_fetch_max_bytes: ByteSize = _setting(
        ByteSize(1024**2), "Largest fetch per partition.", "4MiB", ge=1024, le=1024**3
    )

    kafka_retention_seconds: Seconds | None = _setting(
        None,
        "How long Kafka keeps the events, where the worker may not ask (ACL DescribeConfigs on the topics); for the "
        "time to loss in /stats and /metrics.",
        "604800",
        default_text="what the topics' configuration says",
        ge=1,
    )

    topics: Annotated[str, AfterValidator(check_topics)] = _setting(
        ..., "Topics to archive: names separated by commas, or a pattern that begins with ^.", "orders,payments"
    )
    consumer_group: Word = _setting(
        ..., "Consumer group; workers with the same one share the partitions.", "orders-to-s3"
    )
    commit_interval_seconds: Seconds = _setting(
        0.5, "How often the offsets of durable events are committed.", "1", ge=0.05, le=60
    )

    sink: Annotated[Literal["s3", "sqs"], Lower] = _setting(
        "s3", "Where events go: s3, an object each, or sqs, a message each.", "sqs"
    )
    s3_bucket: Annotated[str, StringConstraints(pattern=r"^(?:[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9])?$")] = (
        _setting(
            "",
            "Name of the bucket (not its address or ARN). With SQS: for events past its size limit and dead letters.",
            "my-events",
            default_text="**required** with STREAMS_SINK=s3",
        )
    )
    s3_prefix: Annotated[str, AfterValidator(check_prefix)] = _setting(
        "", "What {prefix} stands for in the object key template.", "events/"
    )
    s3_region: Word | None = _setting(
        None,
        "Region of the bucket.",
        "eu-central-1",
        default_text="AWS_REGION, AWS_DEFAULT_REGION or the AWS profile's",
    )
    s3_endpoint_url: Annotated[str, AfterValidator(check_endpoint_url)] | None = _setting(
        None, "Address of another S3 server or of a VPC endpoint.", "https://s3.example.com", default_text="AWS's own"
    )
    s3_path_style: bool = _setting(
        _has_endpoint_url,
        "Whether the bucket stands in the path rather than in the host name.",
        "true",
        default_text="true where STREAMS_S3_ENDPOINT_URL is set, else false",
    )
    s3_client: Annotated[Literal["obstore", "aiobotocore"], Lower] = _setting(
        "obstore", "Library that writes the objects; obstore is several times faster.", "aiobotocore"
    )
    s3_client_threads: int = _setting(
        8,
        "Threads in which obstore signs, encrypts and sends. They wait for the interpreter's lock now and then, so "
        "more of them than cores keep the cores busy.",
        "16",
        ge=1,
        le=256,
    )
    s3_content_type: Text = _setting("application/json", "Content type of the objects.", "application/octet-stream")
    s3_storage_class: Annotated[str, StringConstraints(pattern=r"^[A-Z0-9_]+$"), Upper] | None = _setting(
        None,
        "Storage class of the objects; those for infrequent access bill small objects as 128 KiB (docs/costs.md).",
        "INTELLIGENT_TIERING",
        default_text="the bucket's (STANDARD)",
    )
    s3_sse: Literal["AES256", "aws:kms"] | None = _setting(
        None, "Server-side encryption: AES256 (SSE-S3) or aws:kms.", "aws:kms", default_text="the bucket's"
    )
    s3_sse_kms_key_id: Word | None = _setting(
        None,
        "KMS key for aws:kms.",
        "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
        default_text="the account's key aws/s3",
    )
    s3_bucket_key_enabled: bool = _setting(
        False, "Use an S3 bucket key with aws:kms, which spares most calls to KMS.", "true"
    )
    s3_tags: Annotated[str, AfterValidator(check_tags)] = _setting(
        "", "Tags of the objects, percent-encoded where needed; at most 10.", "team=data&source=kafka"
    )
    s3_checksum: Annotated[Literal["sha256", "none"], Lower] = _setting(
        "none",
        "Checksum that S3 keeps with each object. S3 checks every body against its signed SHA-256 in any case; sha256 "
        "makes it part of the object, for a tenth of the throughput.",
        "sha256",
    )
    s3_role_arn: Annotated[str, StringConstraints(pattern=r"^arn:[a-z-]+:iam::\d{12}:role/\S+$")] | None = _setting(
        None, "Role to assume for writing.", "arn:aws:iam::111122223333:role/streams-writer"
    )
    s3_role_external_id: Word | None = _setting(None, "External id for assuming that role.", "streams-7f3a")
    s3_request_timeout_seconds: Seconds = _setting(
        30.0, "How long one request to S3 may take before it is tried again.", "60", ge=1, le=600
    )
    s3_connect_timeout_seconds: Seconds = _setting(5.0, "How long connecting to S3 may take.", "3", ge=0.1, le=60)
    s3_ca_file: ReadableFile | None = _setting(
        None,
        "PEM file of the authorities that the S3 server's certificate is checked against.",
        "/etc/ssl/s3-ca.pem",
        default_text="the system's authorities",
    )

    sqs_queue_url: Annotated[str, AfterValidator(check_queue_url)] | None = _setting(
        None,
        "Address of the queue; a name that ends with .fifo is a FIFO queue.",
        "https://sqs.eu-central-1.amazonaws.com/111122223333/orders",
        default_text="**required** with STREAMS_SINK=sqs",
    )
    sqs_region: Word | None = _setting(
        None,
        "Region of the queue.",
        "eu-central-1",
        default_text="the one in the queue's address, else as STREAMS_S3_REGION",
    )
    sqs_endpoint_url: Annotated[str, AfterValidator(check_endpoint_url)] | None = _setting(
        None,
        "Address of another SQS server or of a VPC endpoint.",
        "https://sqs.example.com",
        default_text="the host in the queue's address",
    )
    sqs_batch_events: int = _setting(10, "Most messages in one request; a message is one event.", "1", ge=1, le=10)
    sqs_batch_linger_ms: float = _setting(
        5.0, "How long a request waits for more messages.", "20", ge=0, le=1000, allow_inf_nan=False
    )
    sqs_group_by: Annotated[Literal["key", "partition"], Lower] = _setting(
        "key",
        "Message group of a FIFO queue: one for each key (events without a key: for each partition), or for each "
        "partition.",
        "partition",
    )
    sqs_max_message_bytes: ByteSize = _setting(
        ByteSize(1024**2),
        "Largest message, and largest request, attributes included; a larger event goes to STREAMS_S3_BUCKET and the "
        "message points there, or without a bucket to the dead letters.",
        "256KiB",
        ge=4096,
        le=1024**2,
    )
    sqs_dead_letter_queue_url: Annotated[str, AfterValidator(check_queue_url)] | None = _setting(
        None,
        "Queue for events that can never be written, where there is no STREAMS_S3_BUCKET.",
        "https://sqs.eu-central-1.amazonaws.com/111122223333/orders-rejected",
    )
    sqs_group_events: int = _setting(
        1,
        "Most messages of one group in a request to a FIFO queue. Only 1 keeps the order whatever happens: of several, "
        "SQS may refuse one and take the next. More is faster where few groups have many events.",
        "10",
        ge=1,
        le=10,
    )
    sqs_role_arn: Annotated[str, StringConstraints(pattern=r"^arn:[a-z-]+:iam::\d{12}:role/\S+$")] | None = _setting(
        None, "Role to assume for sending.", "arn:aws:iam::111122223333:role/streams-sender"
    )
    sqs_role_external_id: Word | None = _setting(None, "External id for assuming that role.", "streams-7f3a")
    sqs_request_timeout_seconds: Seconds = _setting(
        30.0, "How long one request to SQS may take before it is tried again.", "60", ge=1, le=600
    )
    sqs_connect_timeout_seconds: Seconds = _setting(5.0, "How long connecting to SQS may take.", "3", ge=0.1, le=60)

    object_key_template: Text = _setting(
        "{prefix}{topic}/{partition}/{offset}.json",
        "Object key of an event. Fields: prefix, topic, partition, offset, key, header.NAME, timestamp:FORMAT (UTC) "
        "and value.FIELD (of a JSON value). It must give every event a key of its own.",
        "{prefix}{timestamp:%Y/%m/%d/%H}/{topic}/{partition}/{offset}.json",
    )
    allow_overwrite: bool = _setting(
        False,
        "Accept a template that can give two events the same key; the one written last stays, which need not be the "
        "later event.",
        "true",
    )
    body: Annotated[Literal["raw", "envelope"], Lower] = _setting(
        "raw",
        "raw: the object is the event's value, byte for byte, the rest is metadata. envelope: one JSON document.",
        "envelope",
    )
    dead_letter_prefix: Annotated[str, AfterValidator(check_prefix)] = _setting(
        "dead-letter/", "Where events go that can never be written as configured.", "rejected/", min_length=1
    )
    on_reject: Annotated[Literal["dead-letter", "hold"], Lower] = _setting(
        "dead-letter", "What to do with such an event: dead-letter it, or hold its partition.", "hold"
    )
    on_new_topic: Annotated[Literal["hold", "new-life"], Lower] = _setting(
        "hold",
        "What to do where a topic was deleted and recreated, or the bucket holds another cluster's events of its name: "
        "hold it, or write under names with the new topic's id.",
        "new-life",
    )
    ledger_enabled: bool = _setting(
        True,
        "Keep a ledger of the offsets that are durable, so that `verify` can prove it after Kafka has forgotten the "
        "events; it costs one PUT per 10,000 events.",
        "false",
    )
    ledger_prefix: Annotated[str, AfterValidator(check_prefix)] = _setting(
        "ledger/", "Where the ledger is kept.", "proof/", min_length=1
    )

    max_in_flight: int = _setting(
        1000, "Most writes in flight in one worker; within it, concurrency adapts by itself.", "500", ge=1, le=10_000
    )
    max_in_flight_bytes: ByteSize = _setting(
        ByteSize(64 * 1024**2), "Most bytes of events held at once.", "256MiB", ge=1024**2, le=64 * 1024**3
    )
    retry_base_seconds: Seconds = _setting(
        0.1, "First step of the exponential backoff (with full jitter).", "0.2", ge=0.001, le=60
    )
    retry_max_seconds: Seconds = _setting(20.0, "Longest pause between two tries.", "60", ge=0.001, le=3600)
    drain_timeout_seconds: Seconds = _setting(
        25.0,
        "How long a stopping worker, or a rebalance, takes at most: seven tenths for writes in flight, the rest for "
        "commits; keep it below the container's grace period.",
        "20",
        ge=0.1,
        le=55,
    )

    price_s3_put_usd_per_1000: Price | None = _setting(
        None,
        "What 1,000 PUTs to S3 cost in your region, in US dollars; for the cost in /stats, /metrics, doctor and the "
        "commands' estimates (docs/costs.md).",
        "0.0054",
        default_text="of us-east-1 in 2026-11, by class: 0.005 (STANDARD), 0.01 (the two IA), 0.02 (GLACIER_IR)",
        ge=0,
    )
    price_s3_list_usd_per_1000: Price | None = _setting(
        None, "What 1,000 LISTs cost.", "0.0054", default_text="of us-east-1 in 2026-11: 0.005", ge=0
    )
    price_s3_get_usd_per_1000: Price | None = _setting(
        None,
        "What 1,000 GETs or HEADs cost.",
        "0.00043",
        default_text="of us-east-1 in 2026-11, by storage class: 0.0004 (STANDARD), 0.001 (the two IA)",
        ge=0,
    )
    price_s3_storage_usd_per_gb_month: Price | None = _setting(
        None,
        "What keeping a GB in S3 for a month costs.",
        "0.0245",
        default_text="of us-east-1 in 2026-11, by storage class: 0.023 (STANDARD), 0.0125 (STANDARD_IA)",
        ge=0,
    )
    price_sqs_usd_per_million: Price | None = _setting(
        None,
        "What a million requests to SQS cost.",
        "0.40",
        default_text="of us-east-1 in 2026-11: 0.40, of a FIFO queue 0.50",
        ge=0,
    )

    web_enabled: bool = _setting(
        True, "Serve the dashboard at /, and /stats, /health/live, /health/ready and /metrics.", "false"
    )
    web_bind: Word = _setting(
        "127.0.0.1",
        "Address to serve them on; 0.0.0.0 for all (there is no authentication).",
        "0.0.0.0",  # noqa: S104 - an example in the documentation; nothing binds to it
    )
    web_port: int = _setting(6066, "Port to serve them on.", "8080", ge=1, le=65535)
    admin_token: Annotated[SecretStr, Field(min_length=16)] | None = _setting(
        None,
        "Token of at least 16 characters that allows to pause and resume topics, and to change the most writes in "
        "flight and the log level, over the web port (docs/dashboard.md). Without it there are no such actions.",
        "at-least-16-characters",
        default_text="no such actions",
    )

    log_format: Annotated[Literal["text", "json"], Lower] = _setting("text", "Form of the log lines.", "json")
    log_level: Annotated[LogLevel, Lower] = _setting("info", "Least severe log lines to write.", "warning")
    summary_interval_seconds: Seconds = _setting(
        60.0, "How often a one-line summary is logged.", "300", ge=1, le=86_400
    )
    uvloop: bool = _setting(True, "Use the uvloop event loop where it is installed.", "false")
    data_dir: Path | None = _setting(
        None, "Directory for Faust's local files.", "/var/lib/streams", default_text="a temporary directory"
    )

    _kafka_options: Mapping[str, str] = PrivateAttr(default_factory=dict)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments (tests), then the environment, then the Kafka client properties file."""
        return init_settings, EnvironmentSource(settings_cls, os.environ), ClientPropertiesSource(settings_cls)

    def model_post_init(self, _context: Any) -> None:
        """Keeps what the client properties file says beyond the settings."""
        properties = client_properties({"kafka_client_properties": self.kafka_client_properties})
        self._kafka_options = MappingProxyType(properties.options if properties else {})

    @property
    def kafka_options(self) -> Mapping[str, str]:
        """What the client properties file says under librdkafka's own names, beyond the settings; may hold secrets."""
        return self._kafka_options

    @property
    def kafka_region(self) -> str | None:
        """The AWS region of the brokers, for AWS_MSK_IAM."""
        return self.kafka_aws_region or msk_region(self.kafka_bootstrap_servers) or self.s3_region

    @property
    def topic_names(self) -> tuple[str, ...]:
        """The fixed list of topics, empty where `topics` is a pattern."""
        return parse_topic_names(self.topics)

    @property
    def topic_pattern(self) -> re.Pattern[str] | None:
        """The pattern of topics, `None` where `topics` is a list of names."""
        return re.compile(self.topics) if is_pattern(self.topics) else None

    @property
    def s3_tag_pairs(self) -> tuple[tuple[str, str], ...]:
        """Object tags, decoded, in their order."""
        return parse_tags(self.s3_tags)

    @property
    def kafka_oauth_extension_values(self) -> dict[str, str]:
        """SASL extensions by name."""
        return parse_extensions(self.kafka_oauth_extensions)

    @property
    def keeps_order(self) -> bool:
        """Whether events must be begun in the order of their partition: a FIFO queue is what they go to."""
        return self.sink == "sqs" and (self.sqs_queue_url or "").endswith(".fifo")

    @property
    def uses_tls(self) -> bool:
        """Whether the connection to the brokers is encrypted."""
        return self.kafka_security_protocol in ("SSL", "SASL_SSL")

    @property
    def uses_sasl(self) -> bool:
        """Whether the worker logs in to the brokers."""
        return self.kafka_security_protocol in ("SASL_PLAINTEXT", "SASL_SSL")


def load_settings() -> Settings:
    """The settings of this process, from its environment: the way to a `Settings` whose fields also fit together.

    Raises `ConfigurationError` with one message that lists every mistake, by variable, without any secret.
    """
    mistakes = unknown_variables(os.environ, Settings)
    invalid: frozenset[str] = frozenset()
    try:
        settings = Settings()
    except ValidationError as error:
        invalid = invalid_fields(error, Settings)
        mistakes += field_mistakes(error, Settings, _origins())
        # Stand-ins for what is wrong, so that the rest can still be checked against each other.
        settings = Settings(**{field: _stand_in(field) for field in invalid})
    mistakes += cross_field_mistakes(settings, invalid)
    if mistakes:
        raise ConfigurationError(report(mistakes))
    return settings


def _stand_in(field: str) -> Any:
    info = Settings.model_fields[field]
    return info.examples[0] if info.is_required() and info.examples else info.get_default()


def _origins() -> dict[str, str]:
    """Where the values stand that came from the client properties file, by field."""
    values = environment_values(os.environ, Settings)
    properties = client_properties(values)
    return {field: place for field, place in (properties.origins if properties else {}).items() if field not in values}
