"""What may be logged at which level."""

from __future__ import annotations

import logging

import pytest

from streams.logs import OnceInAWhile, logging_config


@pytest.mark.parametrize("logger", ["aiokafka.conn", "botocore", "aiobotocore"])
@pytest.mark.parametrize("level", ["debug", "info", "warning"])
def test_libraries_that_log_secrets_are_never_set_to_debug(level: str, logger: str) -> None:
    """At level debug they write logins, tokens and the answers of AWS's token service."""
    loggers = logging_config("text", level)["loggers"]
    known = [loggers[name]["level"] for name in (logger, logger.partition(".")[0]) if name in loggers]
    assert known[0] in ("INFO", "WARNING")


def test_repeated_message_of_the_kafka_client_is_logged_once_in_a_while() -> None:
    """A broker that is down does not bury the worker's own lines; those always come through."""
    once = OnceInAWhile()

    def passes(name: str, message: str, at: float) -> bool:
        record = logging.LogRecord(name, logging.ERROR, "", 0, message, (), None)
        record.created = at
        return once.filter(record)

    assert [True, False, True] == [passes("aiokafka.client", "Unable connect", at) for at in (100.0, 105.0, 111.0)]
    assert passes("aiokafka.client", "another message", 105.0)
    assert [True, True] == [passes("streams.delivery", "same", at) for at in (100.0, 100.1)]
