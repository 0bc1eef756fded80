"""Streams: every event of the Kafka topics as an object of its own in S3, in parallel, with nothing lost.

`faust -A streams worker` finds `app` here; it is built from the environment when it is first asked for.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streams.application import StreamsApp

    app: StreamsApp

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from streams.application import create_app
    from streams.errors import ConfigurationError

    if "worker" not in sys.argv:  # which needs none of them, nor their 19 MB
        import streams.commands  # noqa: F401 - Faust knows commands once they are imported
    try:
        globals()["app"] = create_app()
    except ConfigurationError as error:
        if "--help" in sys.argv:  # which is for those who have set nothing yet
            import faust

            return faust.App(__name__)
        print(f"streams: cannot start: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    return globals()["app"]
