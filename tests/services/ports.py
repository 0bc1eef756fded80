"""Free TCP ports for servers that must keep their port over a restart."""

from __future__ import annotations

import random
import socket

# Below the range from which the kernel picks ports for outgoing connections (32768 and up on Linux): a server that is
# down for a while then finds its port still free.
_FIRST, _LAST = 20_000, 32_000
_given: set[int] = set()


def free_port() -> int:
    """A port on 127.0.0.1 that nothing listens on and that no earlier call in this process has returned."""
    while True:
        port = random.randint(_FIRST, _LAST)
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
