"""The worker whose second look at headers (names that are not UTF-8) meets brokers that do not answer.

`faust -A tests.integration.apps.silent_headers worker`, for `test_header_names`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streams.application import create_app
from streams.kafka.header_names import HeaderReader

_MAKE = HeaderReader.__init__


def _make(self: HeaderReader, options: Mapping[str, Any]) -> None:
    _MAKE(self, {**options, "bootstrap.servers": "127.0.0.1:1"})


HeaderReader.__init__ = _make  # type: ignore[method-assign] # for this test
app = create_app()
