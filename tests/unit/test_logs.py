"""What may be logged at which level."""

from __future__ import annotations

import pytest

from streams.logs import logging_config


@pytest.mark.parametrize("logger", ["aiokafka.conn", "botocore", "aiobotocore"])
@pytest.mark.parametrize("level", ["debug", "info", "warning"])
def test_libraries_that_log_secrets_are_never_set_to_debug(level: str, logger: str) -> None:
    """At level debug they write logins, tokens and the answers of AWS's token service."""
    loggers = logging_config("text", level)["loggers"]
    known = [loggers[name]["level"] for name in (logger, logger.partition(".")[0]) if name in loggers]
    assert known[0] in ("INFO", "WARNING")
