"""Why a connection to Kafka cannot be made: tried for real, with the same library and the same options as the worker.

The words are those of `explanations`, whose `Problem` and `explain` are handed on here.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from streams.kafka.aws_iam import AwsTokenError, signed_token
from streams.kafka.connection import client_options
from streams.kafka.explanations import (
    CONNECT_LIMIT_SECONDS,
    Problem,
    explain,
    explain_text,
    login_name,
    no_answer,
    no_aws_token,
    untrusted,
)
from streams.kafka.logs import facility_and_text
from streams.kafka.tls import why_untrusted
from streams.kafka.token_failures import token_failure
from streams.settings import Settings

__all__ = ["CONNECT_LIMIT_SECONDS", "Problem", "connection_problem", "explain", "explain_text", "login_name"]

NO_FAILURE_HEARD: Final = ""
_POLL_SECONDS: Final = 0.05
_SECOND_THOUGHTS_SECONDS: Final = 1.0
"""How long a failure may still be followed by success: a name may have several addresses, of which one works."""
_FINAL: Final = frozenset({KafkaError._AUTHENTICATION, KafkaError._SSL, KafkaError._RESOLVE})


async def connection_problem(settings: Settings, address: str | None = None) -> Problem | None:
    """Reach a broker, shake hands, log in and get an answer, all within `CONNECT_LIMIT_SECONDS`; `None`: it works.

    `address` (`host:port`) is the one broker to try; without it any of the bootstrap servers will do.
    """
    if settings.kafka_sasl_mechanism == "AWS_MSK_IAM":
        try:
            await asyncio.to_thread(signed_token, settings.kafka_region or "")
        except AwsTokenError as error:
            return no_aws_token(str(error), settings)
    try:
        attempt = await asyncio.to_thread(_Attempt, settings, address or settings.kafka_bootstrap_servers)
    except KafkaException as error:
        return explain(error.args[0], settings)
    failure = await attempt.failure()
    if failure is None:
        return None
    if failure == NO_FAILURE_HEARD:
        return no_answer(settings)
    problem = explain_text(failure, settings)
    if problem == untrusted("", settings) and address is not None:
        host, _, port = address.rpartition(":")
        return untrusted(await why_untrusted(host.strip("[]"), int(port), settings), settings)
    return problem


class _Attempt:
    """One client that asks one question, and what is heard of it.

    The question is asked in a thread, which ends with the client: closing one that waits for a token endpoint takes as
    long as that waits.
    """

    def __init__(self, settings: Settings, servers: str) -> None:
        self._heard = NO_FAILURE_HEARD
        self._heard_at_seconds = 0.0
        self._is_final = False
        self._answered = threading.Event()
        self._over = threading.Event()
        options: dict[str, Any] = {
            **client_options(settings),
            "bootstrap.servers": servers,
            "reconnect.backoff.ms": 100,
            "reconnect.backoff.max.ms": 200,
            # A little before our own limit, so that librdkafka says in what it was stuck.
            "socket.connection.setup.timeout.ms": int(CONNECT_LIMIT_SECONDS * 1000) - 500,
            "error_cb": self._on_error,
            # Disconnections are told in its log alone, at level info.
            "log_level": 6,
        }
        self._client: AdminClient | None = AdminClient(options, logger=_listener(self._on_log))
        # All topics where a pattern wants them; else one, in a large cluster the smaller answer.
        topic = {"topic": settings.topic_names[0]} if settings.topic_names else {}
        asking = threading.Thread(target=self._ask, args=(self._client, topic), name="kafka-attempt", daemon=True)
        asking.start()

    async def failure(self) -> str | None:
        """`None` when the broker has answered, else the last of what librdkafka said, which may be nothing."""
        client, self._client = self._client, None
        if client is None:
            raise RuntimeError("an attempt is made once: make another one")
        ends_at_seconds = time.monotonic() + CONNECT_LIMIT_SECONDS
        try:
            while time.monotonic() < ends_at_seconds and not self._answered.is_set() and not self._is_settled():
                client.poll(0)
                await asyncio.sleep(_POLL_SECONDS)
            return None if self._answered.is_set() else self._heard
        finally:
            del client
            self._over.set()

    def _ask(self, client: AdminClient, topic: dict[str, str]) -> None:
        try:
            client.list_topics(**topic, timeout=CONNECT_LIMIT_SECONDS)
        except KafkaException as error:
            # "Timed out" or "no brokers", while the callbacks hear why.
            logging.getLogger(__name__).debug("no answer of the broker: %s", error)
        else:
            self._answered.set()
        self._over.wait(CONNECT_LIMIT_SECONDS)

    def _is_settled(self) -> bool:
        if not self._heard_at_seconds:
            return False
        return self._is_final or time.monotonic() > self._heard_at_seconds + _SECOND_THOUGHTS_SECONDS

    def _on_error(self, error: KafkaError) -> None:
        # "All brokers down" follows the reason; a token that is refused is told by the log already, with the status.
        if error.code() != KafkaError._ALL_BROKERS_DOWN and not self._is_final:
            self._hear(error.str(), is_final=error.code() in _FINAL)

    def _on_log(self, facility: str, text: str) -> None:
        if facility == "FAIL" and not self._is_final:
            self._hear(text, is_final=False)
        elif token_failure(text) is not None:
            self._hear(text, is_final=True)

    def _hear(self, text: str, *, is_final: bool) -> None:
        self._heard = text
        self._heard_at_seconds = self._heard_at_seconds or time.monotonic()
        self._is_final = self._is_final or is_final


def _listener(hear: Any) -> logging.Logger:
    """A logger that hands over librdkafka's facility and text, and writes nothing."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            facility, text = facility_and_text(record)
            hear(facility, text)

    listener = logging.Logger("kafka-attempt", logging.DEBUG)
    listener.addHandler(Handler())
    return listener
