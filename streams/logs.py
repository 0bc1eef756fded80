"""Log lines: text for people, JSON for machines; never a secret (none is handed to a logger in the first place)."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

import orjson

TEXT_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
QUIET_LOGGERS = {
    "botocore": "WARNING",
    "aiobotocore": "WARNING",
    "faust": "WARNING",
    "mode": "WARNING",
    "aiohttp.access": "WARNING",
}
"""Libraries that log every step of a start and of a rebalance; `STREAMS_LOG_LEVEL=debug` lets them speak."""
TELLTALE_LOGGERS = {
    "botocore": "INFO",  # bodies of requests and answers, those of AssumeRole among them
    "aiobotocore": "INFO",
}
"""Libraries that log secrets at level debug: they are never set to it."""


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `time` (RFC 3339, UTC), `level`, `logger`, `message`, `exception`."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line).decode()


def change_level(level: str) -> None:
    """Make a running process log from another level on, as if it had been started with it."""
    loggers: dict[str, dict[str, str]] = logging_config("text", level)["loggers"]
    logging.getLogger().setLevel(level.upper())
    for name in {**QUIET_LOGGERS, **TELLTALE_LOGGERS}:
        logging.getLogger(name).setLevel(loggers[name]["level"] if name in loggers else logging.NOTSET)


def logging_config(log_format: str, level: str) -> dict[str, Any]:
    """The `logging.config.dictConfig` tree for a format (`text` or `json`) and a level, everything on stderr."""
    upper = level.upper()
    quiet = TELLTALE_LOGGERS if upper == "DEBUG" else QUIET_LOGGERS
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "text": {"format": TEXT_FORMAT},
            "json": {"()": JsonFormatter},
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": log_format}},
        "root": {"handlers": ["stderr"], "level": upper},
        "loggers": {name: {"level": level} for name, level in quiet.items()},
    }
