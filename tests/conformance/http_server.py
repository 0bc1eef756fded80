"""A small HTTP server for what a real S3 server cannot be made to do: it records requests and answers as it is told.

Never used as proof that S3 would accept a request.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from urllib.parse import parse_qsl, unquote, urlsplit

from aiohttp import web
from multidict import CIMultiDictProxy


@dataclass(frozen=True)
class Recorded:
    """One request as it came over the wire; `path` is not decoded."""

    method: str
    path: str
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def object_key(self) -> str:
        """The key of a path-style request."""
        return unquote(urlsplit(self.path).path).split("/", 2)[2]

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode()))

    @property
    def access_key(self) -> str:
        """Who signed it, from the Authorization header."""
        return self.headers["Authorization"].partition("Credential=")[2].split("/")[0]

    @property
    def signed_headers(self) -> list[str]:
        return self.headers["Authorization"].partition("SignedHeaders=")[2].split(",")[0].split(";")


@dataclass(frozen=True)
class Reply:
    status: int = 200
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


REQUEST_ID = "4442587FB7D0A2F9"
STORED = Reply(200, headers={"ETag": '"0123456789abcdef"'})


def s3_error(status: int, code: str, message: str = "what S3 says about it", extra: str = "") -> Reply:
    """An answer as S3 writes it."""
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{code}</Code><Message>{message}</Message>{extra}"
        f"<RequestId>{REQUEST_ID}</RequestId><HostId>host</HostId></Error>"
    )
    return Reply(status, body, {"Content-Type": "application/xml", "x-amz-request-id": REQUEST_ID})


class HttpServer:
    """Answers every request with `answer`, which may be a function of the request; over TLS with `ssl_context`."""

    def __init__(
        self, answer: Reply | Callable[[Recorded], Reply] = STORED, ssl_context: ssl.SSLContext | None = None
    ) -> None:
        self.answer = answer
        self._ssl_context = ssl_context
        self.requests: list[Recorded] = []
        self.port = 0
        self._runner: web.ServerRunner | None = None

    @property
    def url(self) -> str:
        scheme = "http" if self._ssl_context is None else "https"
        return f"{scheme}://127.0.0.1:{self.port}"

    async def __aenter__(self) -> HttpServer:
        self._runner = web.ServerRunner(web.Server(self._handle))
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._ssl_context).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.Response:
        recorded = Recorded(request.method, request.raw_path, request.headers, await request.content.read())
        self.requests.append(recorded)
        reply = self.answer if isinstance(self.answer, Reply) else self.answer(recorded)
        return web.Response(status=reply.status, body=reply.body.encode(), headers=reply.headers)


class BrokenServer:
    """Accepts connections, reads what comes first and then misbehaves: `reset`, `hang` or `nonsense`."""

    def __init__(self, behaviour: str) -> None:
        self.behaviour = behaviour
        self.port = 0
        self._server: asyncio.Server | None = None
        self._over = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> BrokenServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(64)
        if self.behaviour == "hang":
            await self._over.wait()
        elif self.behaviour == "nonsense":
            writer.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
            await writer.drain()
        writer.transport.abort()
