"""An embedded S3: moto's server on a free port of this machine, as slow over a PUT as the published S3 was.

The wait makes the closing table compare like with like; the bytes are stored and read back for real. moto does not
check signatures; the test suite uses a server that does.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

from moto.moto_server.werkzeug_app import MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

Environ = dict[str, Any]
WsgiApplication = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]

LISTEN_BACKLOG = 1_024
"""A worker opens a thousand connections at once; a full backlog would make each late one wait a second and more."""


class PutClock:
    """Delays every object PUT, and notes when each of them arrived and was answered (`time.monotonic`)."""

    def __init__(self, application: WsgiApplication, put_seconds: float) -> None:
        self._application = application
        self._put_seconds = put_seconds
        self.first_arrival_seconds: float | None = None
        self.last_answer_seconds = 0.0
        self.answered = 0
        self._lock = threading.Lock()

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        if not _is_object_put(environ):
            return self._application(environ, start_response)
        with self._lock:
            if self.first_arrival_seconds is None:
                self.first_arrival_seconds = time.monotonic()
        time.sleep(self._put_seconds)
        answer = self._application(environ, start_response)
        with self._lock:
            self.answered += 1
            self.last_answer_seconds = time.monotonic()
        return answer

    @property
    def elapsed_seconds(self) -> float:
        """From the first PUT's arrival to the last one's answer."""
        return 0.0 if self.first_arrival_seconds is None else self.last_answer_seconds - self.first_arrival_seconds


def _is_object_put(environ: Environ) -> bool:
    """A bucket's own PUT has a path of one part: `/bucket`."""
    return environ["REQUEST_METHOD"] == "PUT" and "/" in environ["PATH_INFO"].strip("/")


class EmbeddedObjectStore:
    """S3 for as long as the `with` block lasts; it keeps its objects in memory."""

    def __init__(self, put_seconds: float) -> None:
        self.clock = PutClock(create_backend_app("s3"), put_seconds)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=LISTEN_BACKLOG)
        port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._server = make_server(
            "127.0.0.1",
            port,
            self.clock,
            threaded=True,
            request_handler=MotoRequestHandler,
            fd=self._listener.fileno(),
        )
        logging.getLogger("werkzeug").setLevel(logging.ERROR)  # else it prints a line for each request
        self._thread = threading.Thread(target=self._server.serve_forever, name="object-store", daemon=True)

    def __enter__(self) -> EmbeddedObjectStore:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._listener.close()
