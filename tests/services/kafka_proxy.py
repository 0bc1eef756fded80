"""A broker behind a proxy that can answer OffsetFetch as a coordinator does that is still loading its group's offsets.

Every byte of both directions is handed on as it came, but for those answers. The protocol: a message is its length
(4 bytes) and content; a request's content begins with API key, version and correlation id, an answer's with the id
(https://kafka.apache.org/protocol). OffsetFetch is read and written in the flexible versions 6 to 9, which librdkafka
2.16 uses; another one fails the test.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from tests.services.kafka import KafkaBroker
from tests.services.ports import free_port

OFFSET_FETCH = 9
COORDINATOR_LOAD_IN_PROGRESS = 14
_VERSIONS = range(6, 10)
_GROUPS_SINCE, _MEMBER_SINCE = 8, 9
"""Versions from which a request names several groups, and the member that asks."""

Level = Literal["group", "partition"]
Topics = list[tuple[str, list[int]]]


class ProxiedBroker(KafkaBroker):
    """A broker with one more listener, whose clients all go through `proxy`: bootstrap and advertised address alike."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._behind = free_port()
        self.proxy = LoadingCoordinator(self._behind)

    def _properties(self) -> dict[str, str]:
        own = super()._properties()
        return own | {
            "listeners": f"{own['listeners']},PROXIED://127.0.0.1:{self._behind}",
            "advertised.listeners": f"{own['advertised.listeners']},PROXIED://{self.proxy.address}",
            "listener.security.protocol.map": f"{own['listener.security.protocol.map']},PROXIED:PLAINTEXT",
        }

    def __enter__(self) -> ProxiedBroker:
        self.start()
        return self

    def kill(self) -> None:
        self.proxy.close()
        super().kill()


class LoadingCoordinator:
    """The proxy. While `loading` is set, every OffsetFetch is answered with error 14, on that level of the answer.

    "group": as Apache Kafka does, one error and no partitions. "partition": the error beside each partition, with the
    offset -1, which would be "nothing committed" without it.
    """

    def __init__(self, port_behind: int) -> None:
        self.loading: Level | None = None
        self.refused = 0
        """Questions that were answered so."""
        self.problem: Exception | None = None
        """Why a connection could not be served; the test must see that there is none."""
        self._port_behind = port_behind
        self._server = socket.create_server(("127.0.0.1", free_port()))
        self.address = "{}:{}".format(*self._server.getsockname())
        threading.Thread(target=self._accept, name="kafka-proxy", daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), name="kafka-proxy", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        instead: dict[int, bytes] = {}
        with (
            client,
            contextlib.suppress(ConnectionError),  # the broker is not there, so neither is the proxy
            socket.create_connection(("127.0.0.1", self._port_behind)) as broker,
        ):
            back = threading.Thread(target=self._hand_on, args=(broker, client, lambda one: _answer(one, instead)))
            back.start()
            self._hand_on(client, broker, lambda one: self._look_at(one, instead))
            back.join()

    def _hand_on(self, source: socket.socket, target: socket.socket, change: Callable[[bytes], bytes]) -> None:
        try:
            with contextlib.suppress(OSError):  # one of the two has gone
                for message in _messages(source):
                    content = change(message)
                    target.sendall(struct.pack(">i", len(content)) + content)
        except Exception as error:
            self.problem = error
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _look_at(self, request: bytes, instead: dict[int, bytes]) -> bytes:
        key, version, correlation = struct.unpack_from(">hhi", request)
        if key == OFFSET_FETCH and self.loading is not None:
            instead[correlation] = _refusal(request, version, self.loading)
            self.refused += 1
        return request


def _answer(message: bytes, instead: dict[int, bytes]) -> bytes:
    """The broker's answer, or what is to be said in its place."""
    (correlation,) = struct.unpack_from(">i", message)
    body = instead.pop(correlation, None)
    return message if body is None else message[:4] + body


def _messages(source: socket.socket) -> Iterator[bytes]:
    with source.makefile("rb") as stream:
        while len(head := stream.read(4)) == 4:
            yield stream.read(*struct.unpack(">i", head))


def _refusal(request: bytes, version: int, level: Level) -> bytes:
    """Header tags and body of the answer to an OffsetFetch."""
    assert version in _VERSIONS, f"OffsetFetch of version {version} is not known here"
    reader = _Reader(request, 8)
    reader.skip(reader.int16())  # client id, in the old form of a string
    reader.tags()
    if version < _GROUPS_SINCE:
        reader.text()
        topics = reader.topics()
        return b"\0" + _throttle() + _topics(topics, level) + _error(level, "group") + b"\0"
    groups = b""
    count = reader.count()
    for _ in range(count):
        name = reader.text()
        if version >= _MEMBER_SINCE:
            reader.text()
            reader.skip(4)
        topics = reader.topics()
        reader.tags()
        groups += _text(name) + _topics(topics, level) + _error(level, "group") + b"\0"
    return b"\0" + _throttle() + _varint(count + 1) + groups + b"\0"


def _throttle() -> bytes:
    return struct.pack(">i", 0)


def _error(level: Level, here: Level) -> bytes:
    return struct.pack(">h", COORDINATOR_LOAD_IN_PROGRESS if level == here else 0)


def _topics(topics: Topics, level: Level) -> bytes:
    if level == "group":
        return _varint(1)  # none
    found = _varint(len(topics) + 1)
    for name, partitions in topics:
        found += _text(name) + _varint(len(partitions) + 1)
        for number in partitions:
            found += struct.pack(">iqi", number, -1, -1) + _text("") + _error(level, "partition") + b"\0"
        found += b"\0"
    return found


def _text(text: str) -> bytes:
    content = text.encode()
    return _varint(len(content) + 1) + content


def _varint(number: int) -> bytes:
    found = b""
    while number > 0x7F:
        found += bytes([number & 0x7F | 0x80])
        number >>= 7
    return found + bytes([number])


class _Reader:
    """Reads the flexible form of the protocol: lengths are one more than they say, 0 is null."""

    def __init__(self, content: bytes, at: int) -> None:
        self._content, self._at = content, at

    def skip(self, count: int) -> None:
        self._at += max(0, count)

    def int16(self) -> int:
        (found,) = struct.unpack_from(">h", self._content, self._at)
        self._at += 2
        return int(found)

    def count(self) -> int:
        return max(0, self._varint() - 1)

    def text(self) -> str:
        length = self.count()
        self._at += length
        return self._content[self._at - length : self._at].decode()

    def topics(self) -> Topics:
        found = []
        for _ in range(self.count()):
            name, count = self.text(), self.count()
            found.append((name, list(struct.unpack_from(f">{count}i", self._content, self._at))))
            self._at += 4 * count
            self.tags()
        return found

    def tags(self) -> None:
        for _ in range(self._varint()):
            self._varint()
            self.skip(self._varint())

    def _varint(self) -> int:
        found = shift = 0
        while True:
            byte = self._content[self._at]
            self._at += 1
            found |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return found
