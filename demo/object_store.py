"""An embedded S3 or SQS: moto's server on a free port of this machine, as slow over a write as the published one was.

The wait makes the closing table compare like with like; the bytes are stored and read back for real. moto does not
check signatures; the test suite uses a server that does.
"""

from __future__ import annotations

import io
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Literal, Self

from moto.moto_server.werkzeug_app import MotoRequestHandler, create_backend_app
from moto.sqs.models import Queue
from werkzeug.serving import make_server

Environ = dict[str, Any]
WsgiApplication = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]

# moto looks at all messages of a queue, three times, for each one that it takes: 1,000 would take it 10 s.
_COUNTED_EACH_TIME = (
    "approximate_number_of_messages",
    "approximate_number_of_messages_delayed",
    "approximate_number_of_messages_not_visible",
)

LISTEN_BACKLOG = 1_024
"""A worker opens a thousand connections at once; a full backlog would make each late one wait a second and more."""


class PutClock:
    """Delays every write, and notes when each of them arrived and was answered (`time.monotonic`).

    `count_writes` says how many events a request writes; 0 for any other request.
    """

    def __init__(
        self, application: WsgiApplication, put_seconds: float, count_writes: Callable[[Environ], int]
    ) -> None:
        self._application = application
        self._put_seconds = put_seconds
        self._count_writes = count_writes
        self.first_arrival_seconds: float | None = None
        self.last_answer_seconds = 0.0
        self.answered = 0
        self._lock = threading.Lock()

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        writes = self._count_writes(environ)
        if not writes:
            return self._application(environ, start_response)
        with self._lock:
            if self.first_arrival_seconds is None:
                self.first_arrival_seconds = time.monotonic()
        time.sleep(self._put_seconds)
        answer = self._application(environ, start_response)
        with self._lock:
            self.answered += writes
            self.last_answer_seconds = time.monotonic()
        return answer

    @property
    def elapsed_seconds(self) -> float:
        """From the first write's arrival to the last one's answer."""
        return 0.0 if self.first_arrival_seconds is None else self.last_answer_seconds - self.first_arrival_seconds


def _count_objects(environ: Environ) -> int:
    """A bucket's own PUT has a path of one part: `/bucket`."""
    return int(environ["REQUEST_METHOD"] == "PUT" and "/" in environ["PATH_INFO"].strip("/"))


def _count_messages(environ: Environ) -> int:
    """Messages in a request that sends some; its body is put back for moto."""
    if environ.get("HTTP_X_AMZ_TARGET") != "AmazonSQS.SendMessageBatch":
        return 0
    body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    environ["wsgi.input"] = io.BytesIO(body)
    return int(body.count(b'"MessageBody"'))


def _count_queue(queue: Queue) -> int:
    return len(queue._messages)


class EmbeddedService:
    """One of moto's services for as long as the `with` block lasts; it keeps everything in memory."""

    def __init__(
        self, service: Literal["s3", "sqs"], put_seconds: float, count_writes: Callable[[Environ], int]
    ) -> None:
        self.clock = PutClock(create_backend_app(service), put_seconds, count_writes)
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
        self._thread = threading.Thread(target=self._server.serve_forever, name=service, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._listener.close()


class EmbeddedObjectStore(EmbeddedService):
    """S3."""

    def __init__(self, put_seconds: float) -> None:
        super().__init__("s3", put_seconds, _count_objects)


class EmbeddedQueueService(EmbeddedService):
    """SQS."""

    def __init__(self, request_seconds: float) -> None:
        for attribute in _COUNTED_EACH_TIME:
            setattr(Queue, attribute, property(_count_queue))
        super().__init__("sqs", request_seconds, _count_messages)
