"""Settings: what is accepted, that every mistake is reported at once, and that no secret ever shows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from streams.errors import ConfigurationError
from streams.setting_sources import is_secret, variable
from streams.settings import Settings, load_settings

REQUIRED = {
    "KAFKA_BOOTSTRAP_SERVERS": "broker:9092",
    "TOPICS": "orders",
    "CONSUMER_GROUP": "orders-to-s3",
    "S3_BUCKET": "events",
}
QUEUE = "https://sqs.eu-central-1.amazonaws.com/111122223333/orders"
SQS = {"SINK": "sqs", "SQS_QUEUE_URL": QUEUE}
SASL = {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_SASL_MECHANISM": "PLAIN"}
LOGIN = {**SASL, "KAFKA_SASL_USERNAME": "key", "KAFKA_SASL_PASSWORD": "hunter2"}
FILES = ("kafka_ssl_ca_file", "kafka_ssl_cert_file", "kafka_ssl_key_file", "s3_ca_file", "kafka_client_properties")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("STREAMS_", "AWS_")):
            monkeypatch.delenv(name)


def load(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Settings:
    for name, value in (REQUIRED | variables).items():
        monkeypatch.setenv(f"STREAMS_{name}", value)
    return load_settings()


def mistakes(monkeypatch: pytest.MonkeyPatch, **variables: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load(monkeypatch, **variables)
    head, *lines, tail = str(caught.value).splitlines()
    assert head.startswith("The configuration has ")
    assert tail == "Every setting is described in docs/configuration.md."
    return [line.removeprefix("  - ") for line in lines]


def test_required_settings_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four variables make a worker; the rest has defaults."""
    settings = load(monkeypatch)
    assert settings.topic_names == ("orders",)
    assert settings.topic_pattern is None
    assert (
        settings.max_in_flight,
        settings.max_in_flight_bytes,
        settings.commit_interval_seconds,
        settings.drain_timeout_seconds,
    ) == (1000, 64 * 1024**2, 0.5, 25.0)
    assert (settings.web_bind, settings.web_port, settings.uvloop) == ("127.0.0.1", 6066, True)
    assert (
        settings.object_key_template,
        settings.dead_letter_prefix,
    ) == ("{prefix}{topic}/{partition}/{offset}.json", "dead-letter/")


@pytest.mark.parametrize(
    "variables",
    [
        {"S3_BUCKET": "events"},
        {"SQS_DEAD_LETTER_QUEUE_URL": f"{QUEUE}-rejected"},
        {"ON_REJECT": "hold"},
    ],
    ids=lambda variables: next(iter(variables)),
)
def test_queue_needs_no_bucket_but_a_place_for_dead_letters(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    """A bucket, a second queue, or holding what can never be written: one of them."""
    settings = load(monkeypatch, **SQS | {"S3_BUCKET": ""} | variables)
    assert (settings.sink, settings.sqs_queue_url) == ("sqs", QUEUE)


def test_every_missing_setting_is_reported_at_once() -> None:
    """Nobody has to start four times to learn of four mistakes."""
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    message = str(caught.value)
    assert message.startswith("The configuration has 4 mistakes:")
    assert all(f"STREAMS_{name}: is not set." in message for name in REQUIRED)


def test_mistakes_of_every_kind_are_reported_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown names, wrong values and settings that do not fit each other, in one message."""
    lines = mistakes(
        monkeypatch,
        TOPICS="bad topic",
        MAX_IN_FLIGHT="0",
        S3_ENDPOINT_URL="s3.example.com",
        S3_SSE_KMS_KEY_ID="key",
        OBJECT_KEY_TEMPLATE="{topik}",
        MAX_IN_FLIHGT="5",
    )
    expected = [
        "STREAMS_MAX_IN_FLIHGT: there is no such setting; did you mean STREAMS_MAX_IN_FLIGHT?",
        "STREAMS_TOPICS: 'bad topic' is not a topic name",
        "STREAMS_S3_ENDPOINT_URL: is not an address such as https://host:port.",
        "STREAMS_MAX_IN_FLIGHT: '0': should be greater than or equal to 1.",
        "STREAMS_S3_SSE_KMS_KEY_ID: needs STREAMS_S3_SSE=aws:kms.",
        "STREAMS_OBJECT_KEY_TEMPLATE: '{topik}': {topik} is not a field.",
    ]
    assert expected == [line[: len(start)] for line, start in zip(lines, expected, strict=True)]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"TOPICS": "a,."}, "STREAMS_TOPICS: '.' is not a topic name"),
        ({"TOPICS": "t" * 250}, "is not a topic name"),
        ({"TOPICS": "^orders("}, "is not a regular expression"),
        ({"TOPICS": ","}, "STREAMS_TOPICS: names no topic"),
        ({"CONSUMER_GROUP": "two words"}, "STREAMS_CONSUMER_GROUP: 'two words'"),
        ({"KAFKA_BOOTSTRAP_SERVERS": "broker"}, "STREAMS_KAFKA_BOOTSTRAP_SERVERS: 'broker' is not host:port"),
        (
            {"KAFKA_BOOTSTRAP_SERVERS": "SASL_SSL://user:hunter2@host:9092"},
            "with a user or password in front",
        ),
        ({"KAFKA_BOOTSTRAP_SERVERS": "broker:99999"}, "is not host:port"),
        ({"S3_BUCKET": "s3://events"}, "STREAMS_S3_BUCKET: 's3://events'"),
        ({"S3_PREFIX": "/events"}, "STREAMS_S3_PREFIX: may not begin with '/'"),
        ({"S3_PREFIX": "a//b"}, "STREAMS_S3_PREFIX: may not hold '//'"),
        ({"S3_PREFIX": "a/../b"}, "STREAMS_S3_PREFIX: may not hold '//', nor '.' or '..'"),
        ({"S3_PREFIX": "a/."}, "STREAMS_S3_PREFIX: may not hold '//', nor '.' or '..'"),
        ({"S3_PREFIX": "é" * 257}, "STREAMS_S3_PREFIX: has more than 512 bytes"),
        ({"DEAD_LETTER_PREFIX": "/"}, "STREAMS_DEAD_LETTER_PREFIX: may not begin with '/'"),
        ({"S3_PREFIX": "dead-letter/"}, "STREAMS_DEAD_LETTER_PREFIX: dead letters could overwrite events"),
        ({"LEDGER_PREFIX": "/"}, "STREAMS_LEDGER_PREFIX: may not begin with '/'"),
        ({"S3_PREFIX": "ledger/"}, "STREAMS_LEDGER_PREFIX: the ledger could overwrite events"),
        ({"LEDGER_PREFIX": "dead-letter/"}, "STREAMS_LEDGER_PREFIX: the ledger and dead letters would mix"),
        ({"LEDGER_PREFIX": "dead-letter/ledger/"}, "STREAMS_LEDGER_PREFIX: the ledger and dead letters would mix"),
        ({"LEDGER_PREFIX": "dead"}, "STREAMS_LEDGER_PREFIX: the ledger and dead letters would mix"),
        (
            {"TOPICS": "a", "OBJECT_KEY_TEMPLATE": "ledger/{partition}/{offset}"},
            "STREAMS_OBJECT_KEY_TEMPLATE: 'ledger/{partition}/{offset}' gives keys such as",
        ),
        ({"KAFKA_RETENTION_SECONDS": "0"}, "STREAMS_KAFKA_RETENTION_SECONDS"),
        ({"S3_PREFIX": "dead-letter/x/"}, "kept for dead letters"),
        ({"S3_TAGS": "team"}, "STREAMS_S3_TAGS: is not key=value&key=value"),
        ({"S3_TAGS": "a=1&a=2"}, "STREAMS_S3_TAGS: holds a key twice"),
        ({"S3_SSE": "kms"}, "STREAMS_S3_SSE: 'kms'"),
        ({"S3_BUCKET_KEY_ENABLED": "true"}, "STREAMS_S3_BUCKET_KEY_ENABLED: needs STREAMS_S3_SSE=aws:kms"),
        ({"S3_ROLE_EXTERNAL_ID": "x"}, "STREAMS_S3_ROLE_EXTERNAL_ID: needs STREAMS_S3_ROLE_ARN"),
        ({"S3_ENDPOINT_URL": "https://user:hunter2@s3"}, "STREAMS_S3_ENDPOINT_URL: may not hold a user name"),
        ({"S3_ENDPOINT_URL": "http://[::1"}, "STREAMS_S3_ENDPOINT_URL: is not an address"),
        ({"SQS_QUEUE_URL": QUEUE}, "STREAMS_SQS_QUEUE_URL: is set, but events go to S3; set STREAMS_SINK=sqs"),
        ({"SQS_QUEUE_URL": "orders"}, "STREAMS_SQS_QUEUE_URL: is not an address"),
        ({"SQS_QUEUE_URL": "https://sqs/orders"}, "STREAMS_SQS_QUEUE_URL: is not the address of a queue"),
        ({"SQS_QUEUE_URL": f"{QUEUE}!"}, "STREAMS_SQS_QUEUE_URL: is not the address of a queue"),
        ({"SINK": "sqs"}, "STREAMS_SQS_QUEUE_URL: is not set. Address of the queue"),
        (SQS | {"SQS_DEAD_LETTER_QUEUE_URL": QUEUE}, "STREAMS_SQS_DEAD_LETTER_QUEUE_URL: dead letters would mix"),
        (SQS | {"S3_BUCKET": ""}, "STREAMS_ON_REJECT: dead letters have no place; set STREAMS_SQS_DEAD_LETTER_QUEUE"),
        (SQS | {"SQS_ROLE_EXTERNAL_ID": "x"}, "STREAMS_SQS_ROLE_EXTERNAL_ID: needs STREAMS_SQS_ROLE_ARN"),
        (SQS | {"SQS_BATCH_EVENTS": "11"}, "less than or equal to 10"),
        (SQS | {"SQS_MAX_MESSAGE_BYTES": "2MiB"}, "less than or equal to 1048576"),
        ({"MAX_IN_FLIGHT": "10001"}, "less than or equal to 10000"),
        (
            {"MAX_IN_FLIGHT_BYTES": "64 apples"},
            "STREAMS_MAX_IN_FLIGHT_BYTES: '64 apples': could not interpret byte unit",
        ),
        ({"COMMIT_INTERVAL_SECONDS": "nan"}, "finite number"),
        ({"RETRY_BASE_SECONDS": "30"}, "STREAMS_RETRY_MAX_SECONDS: is below STREAMS_RETRY_BASE_SECONDS (30)"),
        ({"S3_REQUEST_TIMEOUT_SECONDS": "2"}, "STREAMS_S3_REQUEST_TIMEOUT_SECONDS: is below"),
        ({"UVLOOP": "perhaps"}, "STREAMS_UVLOOP: 'perhaps'"),
        ({"OBJECT_KEY_TEMPLATE": "{value.id}.json"}, "STREAMS_ALLOW_OVERWRITE=true"),
        ({"KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}, "STREAMS_KAFKA_SASL_MECHANISM: is not set, SASL_SSL needs one of"),
        (SASL, "STREAMS_KAFKA_SASL_USERNAME: is not set, and PLAIN needs it."),
        ({**SASL, "KAFKA_SASL_USERNAME": "key"}, "STREAMS_KAFKA_SASL_PASSWORD: is not set, and PLAIN needs it."),
        ({**SASL, "KAFKA_SASL_MECHANISM": "OAUTHBEARER"}, "STREAMS_KAFKA_OAUTH_TOKEN_URL: is not set, and OAUTHBEARER"),
        (
            {**SASL, "KAFKA_SASL_MECHANISM": "AWS_MSK_IAM"},
            "STREAMS_KAFKA_AWS_REGION: is not set, and the brokers' names hold no region",
        ),
        (
            {"KAFKA_GROUP_PROTOCOL": "consumer", "KAFKA_SESSION_TIMEOUT_SECONDS": "30"},
            "STREAMS_KAFKA_SESSION_TIMEOUT_SECONDS: is set, but with STREAMS_KAFKA_GROUP_PROTOCOL=consumer it is the",
        ),
        ({"KAFKA_GROUP_PROTOCOL": "eager"}, "STREAMS_KAFKA_GROUP_PROTOCOL: 'eager': should be 'classic' or 'consumer'"),
        (
            {"KAFKA_SASL_MECHANISM": "PLAIN"},
            "is set, but PLAINTEXT does not log in; set STREAMS_KAFKA_SECURITY_PROTOCOL",
        ),
        ({"KAFKA_SASL_MECHANISM": "GSSAPI"}, "STREAMS_KAFKA_SASL_MECHANISM: 'GSSAPI': should be 'PLAIN'"),
        ({"KAFKA_SSL_CA_FILE": "/no/such.pem"}, "STREAMS_KAFKA_SSL_CA_FILE: '/no/such.pem' is not a file"),
        ({"KAFKA_SSL_CA_FILE": __file__}, "STREAMS_KAFKA_SSL_CA_FILE: is set, but PLAINTEXT is not encrypted"),
        ({"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_SSL_KEY_FILE": __file__}, "without STREAMS_KAFKA_SSL_CERT_FILE"),
        ({"KAFKA_OAUTH_EXTENSIONS": "auth=x"}, "STREAMS_KAFKA_OAUTH_EXTENSIONS: is not name=value"),
        (
            {"KAFKA_CLIENT_PROPERTIES": "/no/such.properties"},
            "STREAMS_KAFKA_CLIENT_PROPERTIES: '/no/such.properties' is",
        ),
        ({"BUCKET": "x"}, "STREAMS_BUCKET: there is no such setting; did you mean STREAMS_S3_BUCKET?"),
        ({"XYZZY": "x"}, "STREAMS_XYZZY: there is no such setting; take it out, or look its name up."),
        ({"PORT": "8080"}, "STREAMS_PORT: there is no such setting"),
    ],
)
def test_mistake_names_the_variable_and_the_remedy(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: str
) -> None:
    """Each mistake is a line that says which variable, what is wrong with it and what would be right."""
    lines = mistakes(monkeypatch, **variables)
    assert any(expected in line for line in lines), lines
    assert all(line.startswith("STREAMS_") for line in lines)


def test_secret_appears_in_no_message_and_no_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a wrong configuration nor a printed one shows what is secret."""
    settings = load(monkeypatch, **LOGIN)
    assert "hunter2" not in f"{settings!r}{settings}{settings.model_dump()}{settings.model_dump_json()}"
    assert settings.kafka_sasl_password == SecretStr("hunter2")
    lines = mistakes(
        monkeypatch,
        KAFKA_SASL_USERNAME="",
        KAFKA_SECURITY_PROTOCOL="PLAINTEXT",
        KAFKA_SASL_PASWORD="hunter2",
        MAX_IN_FLIGHT="0",
        S3_ENDPOINT_URL="https://user:hunter2@host",
    )
    assert "hunter2" not in "".join(lines)


def test_secret_loses_only_line_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets that were made from files end with a line end that nobody meant; spaces may be meant."""
    settings = load(monkeypatch, **LOGIN | {"KAFKA_SASL_PASSWORD": " hunter2 \r\n"})
    assert SecretStr(" hunter2 ") == settings.kafka_sasl_password


def test_kubernetes_service_links_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Services called `streams` or `streams-web` put variables of our prefix into each container."""
    plain = load(monkeypatch)
    links = {
        "PORT": "tcp://10.0.0.1:80",
        "SERVICE_HOST": "10.0.0.1",
        "SERVICE_PORT": "80",
        "SERVICE_PORT_HTTP": "80",
        "PORT_80_TCP": "tcp://10.0.0.1:80",
        "PORT_80_TCP_PROTO": "tcp",
        "PORT_80_TCP_PORT": "80",
        "PORT_80_TCP_ADDR": "10.0.0.1",
        "WEB_PORT": "tcp://10.0.0.1:80",
        "WEB_SERVICE_HOST": "10.0.0.1",
        "WEB_SERVICE_PORT": "80",
        "WEB_PORT_80_TCP": "tcp://10.0.0.1:80",
        "OTHER_PORT": "udp://10.0.0.1:53",
    }
    assert plain == load(monkeypatch, **links)


def test_variables_of_tests_demo_and_bench_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are read by those tools, not by the worker."""
    assert load(monkeypatch) == load(monkeypatch, TEST_KAFKA="1", DEMO_KEEP="1", BENCH_RUNS="3")


def test_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose files and charts write empty variables for what is not given."""
    assert load(monkeypatch) == load(monkeypatch, MAX_IN_FLIGHT="", DEAD_LETTER_PREFIX=" ", S3_ENDPOINT_URL="")


def test_pattern_of_topics_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that begins with ^ is a pattern; there are then no fixed names."""
    settings = load(monkeypatch, TOPICS=r"^orders\..*")
    assert settings.topic_pattern is not None
    assert settings.topic_pattern.match("orders.eu")
    assert settings.topic_names == ()


def test_topic_names_are_cleaned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spaces, doubles and a comma at the end do no harm."""
    assert load(monkeypatch, TOPICS=" orders, payments ,orders,").topic_names == ("orders", "payments")


@pytest.mark.parametrize(
    ("given", "expected"),
    [("64MiB", 64 * 1024**2), ("500 MB", 500_000_000), ("2097152", 2 * 1024**2), ("1.5GiB", 1536 * 1024**2)],
)
def test_sizes_take_units(monkeypatch: pytest.MonkeyPatch, given: str, expected: int) -> None:
    """Bytes can be written as people write them."""
    assert expected == load(monkeypatch, MAX_IN_FLIGHT_BYTES=given).max_in_flight_bytes


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, False),
        ({"S3_ENDPOINT_URL": "http://127.0.0.1:7070/"}, True),
        ({"S3_ENDPOINT_URL": "http://127.0.0.1:7070", "S3_PATH_STYLE": "false"}, False),
        ({"S3_PATH_STYLE": "true"}, True),
    ],
)
def test_path_style_follows_the_endpoint(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: bool
) -> None:
    """Other S3 servers rarely have a host name for each bucket, AWS does."""
    settings = load(monkeypatch, **variables)
    assert expected == settings.s3_path_style
    assert settings.s3_endpoint_url in (None, "http://127.0.0.1:7070")


def test_region_falls_back_to_aws_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours first, then AWS_REGION, then AWS_DEFAULT_REGION, else the profile's (later, by botocore)."""
    assert load(monkeypatch).s3_region is None
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    assert load(monkeypatch).s3_region == "eu-west-1"
    monkeypatch.setenv("AWS_REGION", "eu-west-2")
    assert load(monkeypatch).s3_region == "eu-west-2"
    assert load(monkeypatch, S3_REGION="eu-west-3").s3_region == "eu-west-3"


def test_tags_and_extensions_are_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both come as text and are read as pairs."""
    settings = load(
        monkeypatch,
        S3_TAGS="team=data%20eng&empty=",
        KAFKA_OAUTH_EXTENSIONS="logicalCluster=lkc-1, identityPoolId=pool-2",
    )
    assert settings.s3_tag_pairs == (("team", "data eng"), ("empty", ""))
    assert settings.kafka_oauth_extension_values == {"logicalCluster": "lkc-1", "identityPoolId": "pool-2"}


@pytest.mark.parametrize("protocol_prefix", ["", "SASL_SSL://"])
def test_bootstrap_servers_are_cleaned(monkeypatch: pytest.MonkeyPatch, protocol_prefix: str) -> None:
    """Confluent Cloud's pages show a protocol in front of the address."""
    settings = load(monkeypatch, KAFKA_BOOTSTRAP_SERVERS=f"{protocol_prefix}a.example:9092, [::1]:9093,")
    assert settings.kafka_bootstrap_servers == "a.example:9092,[::1]:9093"


def test_choices_are_read_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """`sasl_ssl` and `INFO` are clear enough."""
    settings = load(monkeypatch, **LOGIN | {"KAFKA_SECURITY_PROTOCOL": "sasl_ssl", "LOG_LEVEL": "DEBUG", "BODY": "Raw"})
    assert (settings.kafka_security_protocol, settings.log_level, settings.body) == ("SASL_SSL", "debug", "raw")


def test_client_properties_are_read_below_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The file alone is enough for the connection, and a variable that is set wins over it."""
    path = tmp_path / "client.properties"
    path.write_text(
        "bootstrap.servers=cloud:9092\nsecurity.protocol=SASL_SSL\nsasl.mechanism=PLAIN\nsasl.username=key\n"
        "sasl.password=secret\nsession.timeout.ms=30000\nclient.id=from-file\n"
    )
    monkeypatch.setenv("STREAMS_KAFKA_CLIENT_PROPERTIES", str(path))
    monkeypatch.setenv("STREAMS_KAFKA_CLIENT_ID", "from-environment")
    for name in ("TOPICS", "CONSUMER_GROUP", "S3_BUCKET"):
        monkeypatch.setenv(f"STREAMS_{name}", REQUIRED[name])
    settings = load_settings()
    assert (
        settings.kafka_bootstrap_servers,
        settings.kafka_security_protocol,
        settings.kafka_sasl_username,
        settings.kafka_session_timeout_seconds,
        settings.kafka_client_id,
    ) == ("cloud:9092", "SASL_SSL", "key", 30.0, "from-environment")


def test_librdkafkas_own_properties_are_kept_beside_the_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """They cannot be changed, and no repr shows them."""
    path = tmp_path / "client.properties"
    path.write_text("fetch.min.bytes=17\nssl.key.pem=hunter2\n")
    settings = load(monkeypatch, KAFKA_CLIENT_PROPERTIES=str(path))
    assert {"fetch.min.bytes": "17", "ssl.key.pem": "hunter2"} == dict(settings.kafka_options)
    assert "hunter2" not in repr(settings)
    with pytest.raises(TypeError):
        settings.kafka_options["fetch.min.bytes"] = "18"  # type: ignore[index]  # what the test is about


def test_brokers_keep_the_session_with_the_new_group_protocol(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The session timeout that Confluent Cloud writes into every file is left out; a heartbeat is a mistake."""
    path = tmp_path / "client.properties"
    path.write_text("session.timeout.ms=30000\n")
    settings = load(monkeypatch, KAFKA_CLIENT_PROPERTIES=str(path), KAFKA_GROUP_PROTOCOL="Consumer")
    assert ("consumer", 45.0) == (settings.kafka_group_protocol, settings.kafka_session_timeout_seconds)
    path.write_text("heartbeat.interval.ms=2000\n")
    (line,) = mistakes(monkeypatch, KAFKA_CLIENT_PROPERTIES=str(path), KAFKA_GROUP_PROTOCOL="consumer")
    assert "group.consumer.heartbeat.interval.ms" in line


def test_another_grant_needs_no_client_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """librdkafka's other ways to a token take properties of their own."""
    path = tmp_path / "client.properties"
    path.write_text("sasl.oauthbearer.metadata.authentication.type=azure_imds\nsasl.oauthbearer.config=query=a\n")
    oauth = {**SASL, "KAFKA_SASL_MECHANISM": "OAUTHBEARER", "KAFKA_CLIENT_PROPERTIES": str(path)}
    assert "OAUTHBEARER" == load(monkeypatch, **oauth).kafka_sasl_mechanism


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"KAFKA_BOOTSTRAP_SERVERS": "b-1.a.b2.c4.kafka.eu-west-1.amazonaws.com:9098"}, "eu-west-1"),
        ({"KAFKA_BOOTSTRAP_SERVERS": "boot-x1.c2.kafka-serverless.us-east-1.amazonaws.com:9098"}, "us-east-1"),
        ({"KAFKA_BOOTSTRAP_SERVERS": "b-1.a.b2.c4.kafka.cn-north-1.amazonaws.com.cn:9098"}, "cn-north-1"),
        ({"KAFKA_BOOTSTRAP_SERVERS": "kafka.example.com:9098", "S3_REGION": "eu-west-2"}, "eu-west-2"),
        (
            {
                "KAFKA_AWS_REGION": "eu-west-3",
                "KAFKA_BOOTSTRAP_SERVERS": "b-1.a.b2.c4.kafka.eu-west-1.amazonaws.com:9098",
            },
            "eu-west-3",
        ),
    ],
)
def test_region_of_msk_is_found(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: str) -> None:
    """Ours first, then the brokers' names, then where everything else of AWS is."""
    msk = {**SASL, "KAFKA_SASL_MECHANISM": "AWS_MSK_IAM"}
    assert expected == load(monkeypatch, **msk | variables).kafka_region


def test_wrong_value_from_the_file_names_file_and_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The place to mend is the file, not a variable that nobody set."""
    path = tmp_path / "client.properties"
    path.write_text("# mine\nsecurity.protocol=SECURE\n")
    lines = mistakes(monkeypatch, KAFKA_CLIENT_PROPERTIES=str(path))
    assert len(lines) == 1
    assert f"STREAMS_KAFKA_SECURITY_PROTOCOL (from {path}:2 (security.protocol)): 'SECURE': should be" in lines[0]


def test_broken_file_hides_no_other_mistake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its own mistakes and those elsewhere are listed; what it would have given is not called missing."""
    path = tmp_path / "client.properties"
    path.write_text("sasl.password={{ SECRET }}\nsession.timeout.ms=long\n")
    monkeypatch.setenv("STREAMS_KAFKA_CLIENT_PROPERTIES", str(path))
    monkeypatch.setenv("STREAMS_KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    message = str(caught.value)
    assert f"{path}:1: sasl.password: still holds a placeholder" in message
    assert f"{path}:2: session.timeout.ms: is not a whole number" in message
    assert "STREAMS_TOPICS: is not set." in message
    assert "STREAMS_KAFKA_BOOTSTRAP_SERVERS" not in message
    assert "STREAMS_KAFKA_SASL_MECHANISM" not in message


def test_settings_cannot_be_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One configuration from start to end."""
    settings = load(monkeypatch)
    with pytest.raises(ValidationError, match="frozen"):
        settings.max_in_flight = 1  # type: ignore[misc]  # what the test is about


@pytest.mark.parametrize("field", Settings.model_fields)
def test_every_setting_is_described_with_an_example_that_works(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, field: str
) -> None:
    """The documentation's examples are accepted as they stand (files are made up for the test)."""
    info = Settings.model_fields[field]
    assert info.description
    assert info.description.endswith(".")
    assert info.examples
    example = info.examples[0]
    if field in FILES:
        example = str(tmp_path / "file")
        Path(example).touch()
    needed: dict[str, Any] = {name.lower(): value for name, value in REQUIRED.items()}
    settings = Settings(**needed | {field: example})
    found = getattr(settings, field)
    assert found is not None
    assert isinstance(found, SecretStr) == is_secret(info)
    assert variable(field).startswith("STREAMS_")
