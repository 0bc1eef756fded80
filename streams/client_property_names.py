"""What a property of a `client.properties` file is to the worker: a setting, none of its business, or its own decision.

Tables only, for `client_properties`. What stands in none of them is handed to librdkafka under its own name.
"""

from __future__ import annotations

from typing import Final

SETTINGS: Final = {
    "bootstrap.servers": "kafka_bootstrap_servers",
    "metadata.broker.list": "kafka_bootstrap_servers",
    "security.protocol": "kafka_security_protocol",
    "sasl.mechanism": "kafka_sasl_mechanism",
    "sasl.mechanisms": "kafka_sasl_mechanism",
    "sasl.username": "kafka_sasl_username",
    "sasl.password": "kafka_sasl_password",
    "sasl.oauthbearer.token.endpoint.url": "kafka_oauth_token_url",
    "sasl.oauthbearer.client.id": "kafka_oauth_client_id",
    "sasl.oauthbearer.client.secret": "kafka_oauth_client_secret",
    "sasl.oauthbearer.client.credentials.client.id": "kafka_oauth_client_id",
    "sasl.oauthbearer.client.credentials.client.secret": "kafka_oauth_client_secret",
    "sasl.oauthbearer.scope": "kafka_oauth_scope",
    "sasl.oauthbearer.extensions": "kafka_oauth_extensions",
    "ssl.ca.location": "kafka_ssl_ca_file",
    "ssl.certificate.location": "kafka_ssl_cert_file",
    "ssl.key.location": "kafka_ssl_key_file",
    "ssl.key.password": "kafka_ssl_key_password",
    "client.id": "kafka_client_id",
    "client.rack": "kafka_client_rack",
}
"""Properties that are settings of ours, in Java's names and librdkafka's."""

OPTIONS: Final = {
    "ssl.truststore.certificates": "ssl.ca.pem",
    "ssl.keystore.certificate.chain": "ssl.certificate.pem",
    "ssl.keystore.key": "ssl.key.pem",
    "fetch.max.wait.ms": "fetch.wait.max.ms",
}
"""Java's names of what librdkafka calls otherwise."""

_COMMITS: Final = "the worker commits what is durable, and begins where it has committed; take the line out"
_MEMORY: Final = "memory is bounded by STREAMS_KAFKA_FETCH_MAX_BYTES and STREAMS_MAX_IN_FLIGHT_BYTES; set those"
_ASSIGNOR: Final = "the worker needs partitions that move one by one; take the line out"
_LOGS: Final = "log lines are chosen by STREAMS_LOG_LEVEL; take the line out"
_FETCH: Final = "set STREAMS_KAFKA_FETCH_MAX_BYTES instead"
_CODE: Final = "it would load code into the worker; take the line out"

REFUSED: Final = {
    "group.id": "set STREAMS_CONSUMER_GROUP instead",
    "group.instance.id": "set STREAMS_KAFKA_GROUP_INSTANCE_ID instead",
    "group.protocol": "set STREAMS_KAFKA_GROUP_PROTOCOL instead",
    "group.protocol.type": "set STREAMS_KAFKA_GROUP_PROTOCOL instead",
    "group.remote.assignor": _ASSIGNOR,
    "partition.assignment.strategy": _ASSIGNOR,
    "enable.auto.commit": _COMMITS,
    "auto.commit.enable": _COMMITS,
    "auto.commit.interval.ms": _COMMITS,
    "enable.auto.offset.store": _COMMITS,
    "auto.offset.reset": _COMMITS,
    "offset.store.method": _COMMITS,
    "isolation.level": "only events of committed transactions are archived; take the line out",
    "enable.partition.eof": "the worker needs to know where a partition ends; take the line out",
    "allow.auto.create.topics": "a topic that does not exist is a mistake to be told; take the line out",
    "heartbeat.interval.ms": "it is a fifteenth of STREAMS_KAFKA_SESSION_TIMEOUT_SECONDS; set that (with "
    "STREAMS_KAFKA_GROUP_PROTOCOL=consumer it is the brokers' group.consumer.heartbeat.interval.ms)",
    "topic.blacklist": "STREAMS_TOPICS says what is read; set that",
    "max.poll.interval.ms": "the worker polls at all times, whatever S3 does; take the line out",
    "max.poll.records": _MEMORY,
    "queued.min.messages": _MEMORY,
    "queued.max.messages.kbytes": _MEMORY,
    "fetch.queue.backoff.ms": _MEMORY,
    "fetch.max.bytes": _MEMORY,
    "receive.message.max.bytes": _MEMORY,
    "fetch.message.max.bytes": _FETCH,
    "max.partition.fetch.bytes": _FETCH,
    "statistics.interval.ms": "the worker asks for what it needs itself; take the line out",
    "enabled_events": "the worker must hear of errors, commits and rebalances; take the line out",
    "internal.termination.signal": "the worker ends librdkafka's threads itself; take the line out",
    "builtin.features": "it says what librdkafka was built with and changes nothing; take the line out",
    "enable.sasl.oauthbearer.unsecure.jwt": "a token without a signature proves nothing; set "
    "STREAMS_KAFKA_OAUTH_TOKEN_URL instead",
    "debug": _LOGS,
    "log_level": _LOGS,
    "log.queue": _LOGS,
    "logger": _LOGS,
    "plugin.library.paths": _CODE,
    "ssl.engine.location": _CODE,
    "ssl.engine.id": _CODE,
    "ssl.providers": _CODE,
    "sasl.kerberos.kinit.cmd": _CODE,
    "sasl.kerberos.keytab": _CODE,
    "sasl.kerberos.principal": _CODE,
    "topic.metadata.refresh.interval.ms": "it is how soon new partitions are noticed; take the line out",
    "api.version.request": "without it brokers would be asked in versions that know no transactions; take the line out",
}
"""Properties that the worker decides by itself, with the reason and what to do."""

REFUSED_PREFIXES: Final = {
    "test.mock.": "it would read from a mock cluster within the worker instead of the brokers; take the line out",
}
"""The same for whole families."""


def refusal(key: str) -> str | None:
    """Why a property may not be set in the file, and what to do; `None` where it may."""
    families = (reason for prefix, reason in REFUSED_PREFIXES.items() if key.startswith(prefix))
    return REFUSED.get(key) or next(families, None)


_CERTIFICATES: Final = "may not be switched off: the brokers' certificates and names are always checked"

CHECKS: Final = {
    "ssl.endpoint.identification.algorithm": ("https", _CERTIFICATES),
    "enable.ssl.certificate.verification": ("true", _CERTIFICATES),
    "check.crcs": ("true", "may not be switched off: a damaged event would be archived as if it were whole"),
    "sasl.oauthbearer.method": ("oidc", "may only be oidc: tokens are got from STREAMS_KAFKA_OAUTH_TOKEN_URL"),
}
"""What has no switch here: the only value that may be written, and why another is refused."""

_PRODUCERS_TEXT: Final = """
    acks request.required.acks request.timeout.ms delivery.timeout.ms message.timeout.ms linger.ms
    queue.buffering.max.ms queue.buffering.max.messages queue.buffering.max.kbytes
    queue.buffering.backpressure.threshold batch.size batch.num.messages buffer.memory max.block.ms max.request.size
    message.max.bytes message.copy.max.bytes message.send.max.retries retries max.in.flight
    max.in.flight.requests.per.connection compression.type compression.codec compression.level
    compression.gzip.level compression.lz4.level compression.zstd.level enable.idempotence enable.gapless.guarantee
    transactional.id transaction.timeout.ms partitioner partitioner.class partitioner.ignore.keys
    partitioner.adaptive.partitioning.enable partitioner.availability.timeout.ms sticky.partitioning.linger.ms
    queuing.strategy produce.offset.report delivery.report.only.error dr_cb dr_msg_cb key.serializer
    value.serializer metadata.max.idle.ms transaction.two.phase.commit.enable
"""
_PRODUCERS: Final = frozenset(_PRODUCERS_TEXT.split())
_JAVA_TEXT: Final = """
    key.deserializer value.deserializer key.subject.name.strategy value.subject.name.strategy specific.avro.reader
    default.api.timeout.ms exclude.internal.topics throw.on.fetch.stable.offset.unsupported
    auto.include.jmx.reporter metric.reporters metrics.num.samples metrics.recording.level metrics.sample.window.ms
    interceptor.classes config.providers security.providers receive.buffer.bytes send.buffer.bytes
    socket.connection.setup.timeout.max.ms share.acknowledgement.mode share.acquire.mode
    sasl.client.callback.handler.class sasl.login.callback.handler.class sasl.login.class
    sasl.login.connect.timeout.ms sasl.login.read.timeout.ms sasl.login.retry.backoff.max.ms
    sasl.login.retry.backoff.ms sasl.login.refresh.buffer.seconds sasl.login.refresh.min.period.seconds
    sasl.login.refresh.window.factor sasl.login.refresh.window.jitter sasl.kerberos.ticket.renew.jitter
    sasl.kerberos.ticket.renew.window.factor sasl.oauthbearer.clock.skew.seconds sasl.oauthbearer.expected.audience
    sasl.oauthbearer.expected.issuer sasl.oauthbearer.header.urlencode sasl.oauthbearer.jwks.endpoint.url
    sasl.oauthbearer.jwks.endpoint.refresh.ms sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms
    sasl.oauthbearer.jwks.endpoint.retry.backoff.ms sasl.oauthbearer.jwt.retriever.class
    sasl.oauthbearer.jwt.validator.class sasl.oauthbearer.scope.claim.name ssl.enabled.protocols ssl.protocol
    ssl.provider ssl.engine.factory.class ssl.keymanager.algorithm ssl.trustmanager.algorithm
    ssl.secure.random.implementation ssl.keystore.type ssl.truststore.type ssl.truststore.password
"""
_JAVA: Final = frozenset(_JAVA_TEXT.split())
_FOREIGN_PREFIXES: Final = (
    "schema.registry.",
    "basic.auth.",
    "bearer.auth.",
    "auto.register.",
    "use.latest.",
    "confluent.",
    "producer.",
    "admin.",
    "consumer.",
    "connect.",
    "streams.",
    "json.",
    "avro.",
    "protobuf.",
    "client.metrics.",
)


def is_foreign(key: str) -> bool:
    """Whether a property is for producers, for Java's clients or for another program: left out without complaint."""
    return key in _PRODUCERS or key in _JAVA or key.startswith(_FOREIGN_PREFIXES)
