"""`python -m streams worker`: the same as `faust -A streams worker`, for a container's first process.

The kernel drops a SIGTERM that such a process has no handler for, and importing Faust takes a second or two: a
container that is stopped in that time would wait for SIGKILL. So the handler comes before the imports.
`streams.worker` replaces it by the one that drains.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType

from streams import __name__ as package


def leave(number: int, frame: FrameType | None) -> None:
    """Nothing has been taken from Kafka yet: there is nothing to finish."""
    sys.exit(128 + number)


def main() -> None:
    """Faust's command line for this app."""
    signal.signal(signal.SIGTERM, leave)
    from faust.cli.faust import cli

    sys.argv[1:1] = ["-A", package]
    cli(prog_name="streams")


if __name__ == "__main__":
    main()
