"""client.properties files: Java's syntax, Confluent Cloud's content, errors by file and line, no secret shown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.client_properties import read_client_properties
from streams.consumer.configuration import consumer_configuration
from streams.errors import ConfigurationError
from streams.properties_file import PropertiesSyntaxError, parse_properties
from streams.setting_mistakes import report
from streams.settings import Settings

CONFLUENT_CLOUD_JAVA = """\
# Required connection configs for Kafka producer, consumer, and admin
bootstrap.servers=pkc-abc12.eu-central-1.aws.confluent.cloud:9092
security.protocol=SASL_SSL
sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username='KEY1' password='a/b+c=';
sasl.mechanism=PLAIN
# Required for correctness in Apache Kafka clients prior to 2.6
client.dns.lookup=use_all_dns_ips

# Best practice for higher availability in Apache Kafka clients prior to 3.0
session.timeout.ms=45000
acks=all
client.id=ccloud-java-client-1
schema.registry.url=https://psrc-abc12.eu-central-1.aws.confluent.cloud
basic.auth.credentials.source=USER_INFO
basic.auth.user.info=SRKEY:SRSECRET
"""


def settings_of(path: Path, text: str) -> dict[str, str]:
    path.write_text(text, encoding="utf-8")
    return read_client_properties(path).values


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "client.properties"


def pairs(text: str) -> list[tuple[str, str]]:
    return [(entry.key, entry.value) for entry in parse_properties(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=1", [("a", "1")]),
        ("a:1", [("a", "1")]),
        ("a 1", [("a", "1")]),
        ("  a \t =  1 2 ", [("a", "1 2 ")]),
        ("a", [("a", "")]),
        ("a==1", [("a", "=1")]),
        ("a = : 1", [("a", ": 1")]),
        ("# c\n ! c\n\n a=1", [("a", "1")]),
        ("a=1\\\n   2\\\n#3", [("a", "12#3")]),
        ("a=1\\\\\nb=2", [("a", "1\\"), ("b", "2")]),
        ("a=1\\\r\n 2\rb=3", [("a", "12"), ("b", "3")]),
        ("a\\=b\\ c\\:d=1", [("a=b c:d", "1")]),
        ('a=\\t\\n\\u00e9\\q\\"', [("a", "\t\né" + 'q"')]),
        ("a=1\na=2", [("a", "1"), ("a", "2")]),
        ("a=1\\", [("a", "1")]),
        ("a=x # no comment", [("a", "x # no comment")]),
    ],
)
def test_syntax_is_java_properties(text: str, expected: list[tuple[str, str]]) -> None:
    """Separators, comments, continuations and escapes as java.util.Properties reads them."""
    assert expected == pairs(text)


def test_lines_are_counted_where_a_property_begins() -> None:
    """Comments and continuations do not shift the numbers in messages."""
    assert [entry.line for entry in parse_properties("# c\na=1\\\n2\n\nb=3")] == [2, 5]


def test_broken_unicode_escape_names_its_line() -> None:
    """Java refuses such a file too."""
    with pytest.raises(PropertiesSyntaxError, match="four hexadecimal digits") as caught:
        parse_properties("a=1\nb=\\u12")
    assert caught.value.line == 2


@given(st.lists(st.tuples(st.text(max_size=10), st.text(max_size=20)), max_size=5))
def test_escaped_properties_come_back(entries: list[tuple[str, str]]) -> None:
    """Keys and values of any characters are read as they were written, every special one behind a backslash."""
    names = {"\t": "\\t", "\n": "\\n", "\r": "\\r", "\f": "\\f"}

    def escaped(text: str) -> str:
        return "".join(names.get(char, f"\\{char}" if char in "\\=: #!" else char) for char in text)

    assert entries == pairs("\n".join(f"{escaped(key)}={escaped(value)}" for key, value in entries))


def test_confluent_cloud_java_file_is_understood(path: Path) -> None:
    """The file that Confluent Cloud's pages offer works as it is."""
    path.write_text(CONFLUENT_CLOUD_JAVA)
    properties = read_client_properties(path)
    assert properties.values == {
        "kafka_bootstrap_servers": "pkc-abc12.eu-central-1.aws.confluent.cloud:9092",
        "kafka_security_protocol": "SASL_SSL",
        "kafka_sasl_mechanism": "PLAIN",
        "kafka_sasl_username": "KEY1",
        "kafka_sasl_password": "a/b+c=",
        "kafka_session_timeout_seconds": "45.0",
        "kafka_client_id": "ccloud-java-client-1",
    }
    assert properties.ignored == (
        "acks",
        "basic.auth.credentials.source",
        "basic.auth.user.info",
        "schema.registry.url",
    )
    assert {"client.dns.lookup": "use_all_dns_ips"} == properties.options
    assert f"{path}:4 (sasl.jaas.config)" == properties.origins["kafka_sasl_password"]


def test_librdkafka_file_is_understood(path: Path) -> None:
    """The names of Confluent's Python, Go and C clients."""
    assert settings_of(
        path,
        "bootstrap.servers=b:9092\nsasl.mechanisms=SCRAM-SHA-512\nsasl.username=u\nsasl.password=p\n"
        "ssl.ca.location=/etc/ca.pem\n",
    ) == {
        "kafka_bootstrap_servers": "b:9092",
        "kafka_sasl_mechanism": "SCRAM-SHA-512",
        "kafka_sasl_username": "u",
        "kafka_sasl_password": "p",
        "kafka_ssl_ca_file": "/etc/ca.pem",
    }


def test_oauth_login_module_is_understood(path: Path) -> None:
    """Client credentials and Confluent Cloud's extensions, over several lines as its documentation prints them."""
    assert settings_of(
        path,
        "sasl.mechanism=OAUTHBEARER\n"
        "sasl.oauthbearer.token.endpoint.url=https://idp.example/token\n"
        "sasl.jaas.config= \\\n"
        "  org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required \\\n"
        "    clientId='id' \\\n"
        '    clientSecret="se\\\\"cret" scope="a b" \\\n'
        "    extension_logicalCluster='lkc-1' \\\n"
        "    extension_identityPoolId='pool-2';\n",
    ) == {
        "kafka_oauth_client_id": "id",
        "kafka_oauth_client_secret": 'se"cret',
        "kafka_oauth_scope": "a b",
        "kafka_oauth_extensions": "logicalCluster=lkc-1,identityPoolId=pool-2",
        "kafka_oauth_token_url": "https://idp.example/token",
        "kafka_sasl_mechanism": "OAUTHBEARER",
    }


def test_separate_login_lines_win_over_the_jaas_line(path: Path) -> None:
    """They are the more specific ones, wherever they stand."""
    text = "sasl.username=line\nsasl.jaas.config=x.ScramLoginModule required username=jaas password=p;"
    assert settings_of(path, text) == {"kafka_sasl_username": "line", "kafka_sasl_password": "p"}


def test_pem_stores_are_taken(path: Path) -> None:
    """A trust store is usable here when it is PEM, by type or by name."""
    text = "ssl.truststore.location=/a/trust.store\nssl.truststore.type=PEM\nssl.keystore.location=/a/me.pem\n"
    assert settings_of(path, text) == {"kafka_ssl_ca_file": "/a/trust.store", "kafka_ssl_cert_file": "/a/me.pem"}


def test_librdkafkas_own_properties_go_through(path: Path) -> None:
    """Whatever is no setting keeps its name and its text; an empty value counts as not set."""
    path.write_text(
        "socket.timeout.ms=20000\nfetch.error.backoff.ms=200\nfetch.max.wait.ms=300\nssl.endpoint.identification.algorithm=https\n"
        "ssl.crl.location=/a/crl.pem\nssl.truststore.certificates=-----BEGIN\nbroker.address.family=\n"
        "key.deserializer=org.apache.kafka.common.serialization.StringDeserializer\nlinger.ms=5\n"
    )
    properties = read_client_properties(path)
    assert {} == properties.values
    assert {
        "socket.timeout.ms": "20000",
        "fetch.error.backoff.ms": "200",
        "fetch.wait.max.ms": "300",
        "ssl.endpoint.identification.algorithm": "https",
        "ssl.crl.location": "/a/crl.pem",
        "ssl.ca.pem": "-----BEGIN",
    } == properties.options
    assert ("key.deserializer", "linger.ms") == properties.ignored


def test_file_wins_where_it_only_says_how_soon(path: Path) -> None:
    """What is accepted is used, and not overwritten; commits and the group stay the worker's."""
    path.write_text("fetch.error.backoff.ms=200\nfetch.wait.max.ms=300\nfetch.min.bytes=1000\n")
    settings = Settings(
        kafka_bootstrap_servers="b:9092",
        topics="t",
        consumer_group="g",
        s3_bucket="events",
        kafka_client_properties=path,
    )
    options = consumer_configuration(settings)
    assert ("200", "300", "1000") == tuple(
        options[name] for name in ("fetch.error.backoff.ms", "fetch.wait.max.ms", "fetch.min.bytes")
    )
    written = set(settings.kafka_options)
    kept = {name for name in written if options[name] == settings.kafka_options[name]}
    assert written == kept


def test_pkcs12_key_store_goes_through(path: Path) -> None:
    """librdkafka reads it, where Java's own format must be converted."""
    path.write_text("ssl.keystore.location=/a/me.keystore\nssl.keystore.type=PKCS12\nssl.keystore.password=hunter2\n")
    options = {"ssl.keystore.location": "/a/me.keystore", "ssl.keystore.password": "hunter2"}
    assert options == read_client_properties(path).options


def test_msk_file_is_understood(path: Path) -> None:
    """As AWS prints it for Java: the mechanism says it all."""
    assert settings_of(
        path,
        "security.protocol=SASL_SSL\nsasl.mechanism=AWS_MSK_IAM\n"
        "sasl.jaas.config=software.amazon.msk.auth.iam.IAMLoginModule required;\n"
        "sasl.client.callback.handler.class=software.amazon.msk.auth.iam.IAMClientCallbackHandler\n",
    ) == {"kafka_security_protocol": "SASL_SSL", "kafka_sasl_mechanism": "AWS_MSK_IAM"}


def test_systems_authorities_may_be_named(path: Path) -> None:
    """`probe` is librdkafka's word for the default, not a file."""
    assert {} == settings_of(path, "ssl.ca.location=probe")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("ssl.truststore.location=/a/trust.jks", "is a Java key store; export its certificates as PEM"),
        ("ssl.truststore.location=/a/t.pem\nssl.truststore.type=JKS", "STREAMS_KAFKA_SSL_CA_FILE"),
        ("ssl.keystore.location=/a/me.jks", "STREAMS_KAFKA_SSL_CERT_FILE"),
        ("ssl.truststore.location=/a/ca.p12", "STREAMS_KAFKA_SSL_CA_FILE"),
        ("fetch.mim.bytes=1", "there is no such property, neither librdkafka's nor Java's"),
        ("fetch.min.bytes=many", 'librdkafka refuses its value (Invalid value for configuration property "fetch.min'),
        ("client.dns.lookup=default", "librdkafka refuses its value"),
        ("error_cb=print", "cannot be given in a file"),
        ("group.id=orders", "may not be set here: set STREAMS_CONSUMER_GROUP instead"),
        ("group.instance.id=a", "STREAMS_KAFKA_GROUP_INSTANCE_ID"),
        ("group.protocol=consumer", "STREAMS_KAFKA_GROUP_PROTOCOL"),
        ("enable.auto.commit=true", "may not be set here: the worker commits what is durable"),
        ("isolation.level=read_uncommitted", "only events of committed transactions"),
        ("partition.assignment.strategy=range", "partitions that move one by one"),
        ("max.partition.fetch.bytes=1", "STREAMS_KAFKA_FETCH_MAX_BYTES"),
        ("queued.min.messages=1", "STREAMS_MAX_IN_FLIGHT_BYTES"),
        ("max.poll.interval.ms=1", "the worker polls at all times"),
        ("allow.auto.create.topics=true", "a topic that does not exist"),
        ("debug=security", "STREAMS_LOG_LEVEL"),
        ("ssl.endpoint.identification.algorithm=", "may not be switched off"),
        ("ssl.endpoint.identification.algorithm=none", "may not be switched off"),
        ("enable.ssl.certificate.verification=false", "may not be switched off"),
        ("sasl.jaas.config=a.IAMLoginModule required awsProfileName='hunter2';", "set AWS_PROFILE"),
        ("sasl.password={{ CLUSTER_API_SECRET }}", "still holds a placeholder"),
        ("bootstrap.servers=<BROKER ENDPOINT>", "still holds a placeholder"),
        ("sasl.password=a${hunter2}b", "still holds a placeholder"),
        ("ssl.keystore.password={{hunter2}}", "still holds a placeholder"),
        ("client.dns.lookup=hunter2", 'librdkafka refuses its value (Invalid value for configuration property "client'),
        ("socket.timeout.ms=9", "value is outside allowed range 10..300000"),
        ("sasl.jaas.config=hunter2 required a='b';", "its login module is not supported"),
        ("heartbeat.interval.ms=2000", "STREAMS_KAFKA_SESSION_TIMEOUT_SECONDS; set that"),
        ("enabled_events=3", "may not be set here: the worker must hear of errors"),
        ("internal.termination.signal=29", "may not be set here: the worker ends"),
        ("test.mock.num.brokers=3", "may not be set here: it would read from a mock cluster"),
        ("test.mock.broker.rtt=3", "may not be set here: it would read from a mock cluster"),
        ("topic.blacklist=a", "may not be set here: STREAMS_TOPICS says what is read"),
        ("enable.sasl.oauthbearer.unsecure.jwt=true", "may not be set here: a token without a signature"),
        ("builtin.features=gzip", "may not be set here: it says what librdkafka was built with"),
        ("session.timeout.ms=45s", "is not a whole number of milliseconds"),
        ("sasl.jaas.config=nonsense", "is not '<login module> required"),
        ("sasl.jaas.config=com.sun.Krb5LoginModule required useKeyTab=true;", "Krb5LoginModule is not supported"),
        ("sasl.jaas.config=x.PlainLoginModule required user='hunter2';", "has none of the options username, password"),
        (
            "sasl.jaas.config=x.PlainLoginModule required username='a' password='hunter2;",
            "cannot be understood after 1",
        ),
        ("sasl.password=\\uhunter2", "four hexadecimal digits"),
    ],
)
def test_unusable_line_is_named_without_its_value(path: Path, line: str, problem: str) -> None:
    """The message says file, line and remedy, and never shows a secret."""
    with pytest.raises(ConfigurationError, match=re.escape(problem)) as caught:
        settings_of(path, f"# mine\n{line}")
    assert str(caught.value).startswith(f"STREAMS_KAFKA_CLIENT_PROPERTIES: {path}:2: ")
    assert "hunter2" not in str(caught.value)


def test_each_line_of_the_file_counts_as_a_mistake() -> None:
    """Five of them are not "1 mistake"."""
    assert report(["FILE:1: a\n  - FILE:2: b", "OTHER: c"]).startswith("The configuration has 3 mistakes:")
    assert report(["OTHER: c"]).startswith("The configuration has 1 mistake:")


def test_all_unusable_lines_are_named(path: Path) -> None:
    """One start shows all mistakes of the file."""
    with pytest.raises(ConfigurationError) as caught:
        settings_of(path, "session.timeout.ms=x\nsasl.jaas.config=x")
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_unreadable_file_is_named(path: Path, content: bytes | None) -> None:
    """A file that is missing or not text."""
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_client_properties(path)


def test_repr_shows_no_secret(path: Path) -> None:
    """The result may end up in a log or a traceback."""
    path.write_text(CONFLUENT_CLOUD_JAVA)
    path.write_text(CONFLUENT_CLOUD_JAVA + "sasl.oauthbearer.config=a/b+c=")
    assert "a/b+c=" not in f"{read_client_properties(path)!r}{parse_properties(CONFLUENT_CLOUD_JAVA)!r}"
