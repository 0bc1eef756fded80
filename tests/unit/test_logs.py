"""What may be logged at which level."""

from __future__ import annotations

import logging

import pytest

from streams.kafka.logs import LOGGER_NAME, librdkafka_logger
from streams.logs import logging_config


@pytest.mark.parametrize("logger", ["botocore", "aiobotocore"])
@pytest.mark.parametrize("level", ["debug", "info", "warning"])
def test_libraries_that_log_secrets_are_never_set_to_debug(level: str, logger: str) -> None:
    """At level debug they write logins, tokens and the answers of AWS's token service."""
    loggers = logging_config("text", level)["loggers"]
    known = [loggers[name]["level"] for name in (logger, logger.partition(".")[0]) if name in loggers]
    assert known[0] in ("INFO", "WARNING")


# -- librdkafka's own lines --------------------------------------------------------------------------------------------

BROKER = "[thrd:ssl://broker-1:9093/1]: ssl://broker-1:9093/1: "


def said(level: int, facility: str, text: str, at: float, threshold: int = logging.INFO) -> str | None:
    """What becomes of a line that the Python client logs; `None`: nothing."""
    logger = librdkafka_logger()
    logger.setLevel(threshold)
    record = logger.makeRecord(LOGGER_NAME, level, "", 0, "%s [%s] %s", (facility, "streams#consumer-1", text), None)
    record.created = at
    try:
        return f"{record.levelname} {record.getMessage()}" if logger.filter(record) else None
    finally:
        logger.setLevel(logging.NOTSET)


@pytest.fixture
def _fresh() -> None:
    logging.getLogger(LOGGER_NAME).filters.clear()


@pytest.mark.usefixtures("_fresh")
def test_line_of_librdkafka_is_in_plain_words() -> None:
    """Without thread, address twice, duration and numbers of errors."""
    text = BROKER + "SSL engine: error:0A000086:SSL routines::odd thing (after 3ms in state UP)"
    assert "WARNING Kafka client: SSL engine: SSL routines: odd thing (SSL)" == said(
        logging.WARNING, "SSL", text, 100.0
    )


@pytest.mark.usefixtures("_fresh")
def test_line_of_a_kind_and_a_broker_comes_once_in_ten_seconds() -> None:
    """Another broker's, or of another kind, comes at once."""
    other = BROKER.replace("broker-1", "broker-2")
    assert said(logging.WARNING, "GETSUBSCRIPTIONS", BROKER + "a", 100.0)
    assert said(logging.WARNING, "GETSUBSCRIPTIONS", BROKER + "b", 105.0) is None
    assert said(logging.WARNING, "GETSUBSCRIPTIONS", other + "a", 105.0)
    assert said(logging.WARNING, "PROTOERR", BROKER + "a", 105.0)
    assert said(logging.WARNING, "GETSUBSCRIPTIONS", BROKER + "c", 111.0)


@pytest.mark.usefixtures("_fresh")
@pytest.mark.parametrize("facility", ["FAIL", "ERROR", "REQTMOUT", "OIDC", "CONFWARN"])
def test_what_the_worker_says_itself_is_for_debugging(facility: str) -> None:
    """A broker that is down is a condition of the worker's, with since when and what to do."""
    text = BROKER + "Connect to ipv4#10.0.0.1:9093 failed: Connection refused (after 0ms in state CONNECT)"
    assert said(logging.ERROR, facility, text, 100.0) is None
    line = said(logging.ERROR, facility, text, 100.0, logging.DEBUG)
    assert line == f"DEBUG Kafka client: Connect to ipv4#10.0.0.1:9093 failed: Connection refused ({facility})"
