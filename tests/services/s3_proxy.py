"""An HTTP/1.1 proxy between a worker and S3, with faults: see `s3_faults` for what it can do to a request.

It hands on every byte as it came (the `Host` header too), so that signatures stay valid. It reads the whole body
first, and drops a request whose client is gone before S3 has seen it: a write that still waits when its worker is
killed never reaches S3. Without that, the late write would hide the loss that a kill test looks for.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections import Counter
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from tests.services.ports import free_port
from tests.services.s3_faults import Delay, Fault, Hang, Numbering, Reply, Reset, Rule, S3Request

_READ_BYTES = 256 * 1024
_SETTLE_SECONDS = 0.05
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_BAD_GATEWAY = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

Result = TypeVar("Result")
Headers = dict[str, str]


class _ClientGoneError(Exception):
    """The client has closed its connection while its request was waiting."""


class _Connection:
    """One side's stream, read as HTTP/1.1 messages; `raw` bytes are kept as they came."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self._ahead = b""

    async def head(self) -> bytes:
        """The start line and headers up to the empty line; `IncompleteReadError` at the end of the stream."""
        head = self._ahead + await self._reader.readuntil(b"\r\n\r\n")
        self._ahead = b""
        return head

    async def body(self, headers: Headers) -> bytes:
        """The body that `headers` announce, in its raw form (chunks with their sizes)."""
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return await self._chunks()
        return await self._reader.readexactly(int(headers.get("content-length", "0")))

    async def _chunks(self) -> bytes:
        raw = bytearray()
        while True:
            line = await self._reader.readuntil(b"\r\n")
            size = int(line.split(b";")[0], 16)
            raw += line + await self._reader.readexactly(size + 2 if size else 0)
            if size == 0:
                while (trailer := await self._reader.readuntil(b"\r\n")) != b"\r\n":
                    raw += trailer
                return bytes(raw + trailer)

    async def gone(self) -> None:
        """Return when the other side has closed; a byte of a next request is kept for `head`."""
        while True:
            try:
                read = await self._reader.read(1)
            except ConnectionError:
                return
            if not read:
                return
            self._ahead += read

    async def send(self, content: bytes) -> None:
        self.writer.write(content)
        await self.writer.drain()

    def reset(self) -> None:
        """Close with RST, as a load balancer or a dying host does."""
        held: socket.socket = self.writer.get_extra_info("socket")
        held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def close(self) -> None:
        self.writer.close()


class S3FaultProxy:
    """Listens on a free port and forwards to `target_url`; `rule` decides about each request, `None` for none.

    It runs in a thread of its own. `rule` may be set at any time; `requests` counts by method, `injected` by fault
    (`SlowDown`, `Reset`, `Hang`, `Delay`, ...), `dropped` the requests that S3 never saw because their client was gone.
    """

    def __init__(self, target_url: str, rule: Rule | None = None) -> None:
        target = urlsplit(target_url)
        self._target = (target.hostname or "127.0.0.1", target.port or 80)
        self.port = free_port()
        self.rule = rule
        self.injected: Counter[str] = Counter()
        self.dropped = 0
        self.in_flight = 0
        self.most_in_flight = 0
        self._numbering = Numbering()
        self._idle: list[_Connection] = []
        self._clients: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="s3-fault-proxy", daemon=True)

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def requests(self) -> Counter[str]:
        return self._numbering.totals()

    # -- life ---------------------------------------------------------------------------------------------------------

    def __enter__(self) -> S3FaultProxy:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        self._thread.start()
        self.connect()

    def close(self) -> None:
        """Close everything, requests in flight included; a second call does nothing."""
        if self._loop.is_closed():
            return
        self._call(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def connect(self) -> None:
        """Take connections (again, after `disconnect`)."""
        self._call(self._listen())

    def disconnect(self) -> None:
        """S3 is gone: reset every connection and refuse new ones, until `connect`."""
        self._call(self._shut())

    def _call(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self.port, limit=_READ_BYTES, backlog=2048, start_serving=True
        )

    async def _shut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
            await asyncio.sleep(_SETTLE_SECONDS)  # connections that are just being accepted get their task
        for client in list(self._clients):
            client.reset()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        while self._idle:
            self._idle.pop().close()
        await asyncio.sleep(_SETTLE_SECONDS)  # closed transports let go of their sockets

    # -- a client's connection ----------------------------------------------------------------------------------------

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A plain function, so that the task is ours to cancel and its errors ours to see."""
        client = _Connection(reader, writer)
        self._clients.add(client)
        task = self._loop.create_task(self._serve_client(client))
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._left(done, client))

    def _left(self, task: asyncio.Task[None], client: _Connection) -> None:
        """Also for a task that was cancelled before it ran."""
        self._tasks.discard(task)
        self._clients.discard(client)
        client.close()

    async def _serve_client(self, client: _Connection) -> None:
        try:
            while await self._serve_request(client):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            return  # the client has closed between requests, or in the middle of one
        except _ClientGoneError:
            self.dropped += 1

    async def _serve_request(self, client: _Connection) -> bool:
        """One request and its answer; whether the connection can take another."""
        start_line, headers, head = _parse(await client.head())
        if headers.get("expect", "").lower() == "100-continue":
            await client.send(_CONTINUE)
        body = await client.body(headers)
        request = self._request(start_line, headers, len(body))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            fault = self.rule(request) if self.rule is not None else None
            if fault is not None:
                self.injected[fault.name] += 1
            return await self._answer(client, request, head + body, fault)
        finally:
            self.in_flight -= 1

    def _request(self, start_line: str, headers: Headers, body_bytes: int) -> S3Request:
        method, target, _ = start_line.split(" ", 2)
        path, _, query = target.partition("?")
        bucket, _, key = unquote(path.lstrip("/")).partition("/")
        number, attempt = self._numbering.next(method, bucket, key)
        return S3Request(method, bucket, key, query, number, attempt, headers, body_bytes)

    async def _answer(self, client: _Connection, request: S3Request, raw: bytes, fault: Fault | None) -> bool:
        match fault:
            case Delay(seconds=seconds) | Hang(seconds=seconds):
                await self._hold(client, seconds)
                if isinstance(fault, Hang):
                    return False
            case Reply(after_write=False):
                await client.send(fault.response(request))
                return True
            case Reset(after_write=False):
                client.reset()
                return False
        answer, keep_open = await self._forward(request.method, raw)
        if isinstance(fault, Reset):
            client.reset()
            return False
        await client.send(fault.response(request) if isinstance(fault, Reply) else answer)
        return keep_open or isinstance(fault, Reply)

    async def _hold(self, client: _Connection, seconds: float) -> None:
        """Wait; `_ClientGoneError` as soon as the client closes its connection."""
        gone = asyncio.ensure_future(client.gone())
        try:
            await asyncio.wait({gone}, timeout=seconds)
            if gone.done():
                raise _ClientGoneError
        finally:
            gone.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await gone

    # -- the server's side --------------------------------------------------------------------------------------------

    async def _forward(self, method: str, raw: bytes) -> tuple[bytes, bool]:
        """The server's answer byte for byte, and whether it leaves the client's connection open."""
        while True:
            reused = bool(self._idle)
            try:
                server = self._idle.pop() if reused else await self._open()
            except OSError:
                return _BAD_GATEWAY, False  # the server is down: what a load balancer says then
            try:
                await server.send(raw)
                return await self._receive(method, server)
            except (asyncio.IncompleteReadError, ConnectionError):
                server.close()
                if not reused:
                    return _BAD_GATEWAY, False
                # The server had closed an idle connection: the next one, in the end a new one, will do.
            except asyncio.CancelledError:
                server.close()
                raise

    async def _open(self) -> _Connection:
        return _Connection(*await asyncio.open_connection(*self._target, limit=_READ_BYTES))

    async def _receive(self, method: str, server: _Connection) -> tuple[bytes, bool]:
        start_line, headers, _ = _parse(raw_head := await server.head())
        while start_line.split(" ")[1] == "100":
            start_line, headers, _ = _parse(raw_head := await server.head())
        bodiless = method == "HEAD" or start_line.split(" ")[1] in ("204", "304")
        body = b"" if bodiless else await server.body(headers)
        keep_open = headers.get("connection", "").lower() != "close"
        if keep_open:
            self._idle.append(server)
        else:
            server.close()
        return raw_head + body, keep_open


def _parse(head: bytes) -> tuple[str, Headers, bytes]:
    """Start line, headers by their lower-case names, and the head to forward.

    `Expect` is left out of the latter (it is never signed): the proxy has answered it already.
    """
    lines = head.decode("latin-1").split("\r\n")
    headers = {}
    for line in lines[1:-2]:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    if "expect" not in headers:
        return lines[0], headers, head
    kept = [line for line in lines if not line.lower().startswith("expect:")]
    return lines[0], headers, "\r\n".join(kept).encode("latin-1")
