"""A broker behind a proxy that can change two answers: OffsetFetch, and Fetch.

As a coordinator answers that is still loading its group's offsets, and as a follower that does not have the position.
Every other byte of both directions is handed on as it came. The protocol: a message is its length (4 bytes) and
content; a request's content begins with API key, version and correlation id, an answer's with the id
(https://kafka.apache.org/protocol). Read and written are the versions that librdkafka 2.16 uses, all of them flexible;
another one fails the test.
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

FETCH, OFFSET_FETCH = 1, 9
OFFSET_OUT_OF_RANGE, COORDINATOR_LOAD_IN_PROGRESS = 1, 14
_FETCH_VERSIONS = range(12, 18)
_TOPIC_IDS_SINCE = 13
"""The version from which the answer to a Fetch has topics' ids in place of their names."""
_OFFSET_FETCH_VERSIONS = range(6, 10)
_GROUPS_SINCE, _MEMBER_SINCE = 8, 9
"""Versions from which a request names several groups, and the member that asks."""

Level = Literal["group", "partition"]
Topics = list[tuple[str, list[int]]]
Change = Callable[[bytes], bytes]


class ProxiedBroker(KafkaBroker):
    """A broker with one more listener, whose clients all go through `proxy`: bootstrap and advertised address alike."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.proxy = KafkaProxy()

    def _properties(self) -> dict[str, str]:
        return self.proxy.added_to(super()._properties())

    def __enter__(self) -> ProxiedBroker:
        self.start()
        return self

    def kill(self) -> None:
        self.proxy.close()
        super().kill()


class KafkaProxy:
    """The proxy of one broker.

    While `loading` is set, every OffsetFetch is answered with error 14, on that level of the answer. "group": as Apache
    Kafka does, one error and no partitions. "partition": the error beside each partition, with the offset -1, which
    would be "nothing committed" without it. The next `out_of_range` answers to a Fetch have error 1 at their first
    partition.
    """

    def __init__(self) -> None:
        self.loading: Level | None = None
        self.refused = 0
        """Questions for offsets that were answered so."""
        self.out_of_range = 0
        self.fetches = 0
        """How often something was fetched through it."""
        self.problem: Exception | None = None
        """Why a connection could not be served; the test must see that there is none."""
        self._port_behind = free_port()
        self._server = socket.create_server(("127.0.0.1", free_port()))
        self.address = "{}:{}".format(*self._server.getsockname())
        threading.Thread(target=self._accept, name="kafka-proxy", daemon=True).start()

    def added_to(self, properties: dict[str, str]) -> dict[str, str]:
        """A broker's properties with a listener that is advertised as this proxy."""
        return properties | {
            "listeners": f"{properties['listeners']},PROXIED://127.0.0.1:{self._port_behind}",
            "advertised.listeners": f"{properties['advertised.listeners']},PROXIED://{self.address}",
            "listener.security.protocol.map": f"{properties['listener.security.protocol.map']},PROXIED:PLAINTEXT",
        }

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
        changes: dict[int, Change] = {}
        with (
            client,
            contextlib.suppress(ConnectionError),  # the broker is not there, so neither is the proxy
            socket.create_connection(("127.0.0.1", self._port_behind)) as broker,
        ):
            back = threading.Thread(target=self._hand_on, args=(broker, client, lambda one: _answer(one, changes)))
            back.start()
            self._hand_on(client, broker, lambda one: self._look_at(one, changes))
            back.join()

    def _hand_on(self, source: socket.socket, target: socket.socket, change: Change) -> None:
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

    def _look_at(self, request: bytes, changes: dict[int, Change]) -> bytes:
        """A request on its way to the broker: what is to be changed about its answer."""
        key, version, correlation = struct.unpack_from(">hhi", request)
        if key == OFFSET_FETCH and self.loading is not None:
            body = _refusal(request, version, self.loading)
            changes[correlation] = lambda answer: answer[:4] + body
            self.refused += 1
        if key == FETCH:
            self.fetches += 1
            if self.out_of_range > 0:
                self.out_of_range -= 1
                changes[correlation] = lambda answer: _out_of_range(answer, version)
        return request


def _answer(message: bytes, changes: dict[int, Change]) -> bytes:
    (correlation,) = struct.unpack_from(">i", message)
    change = changes.pop(correlation, None)
    return message if change is None else change(message)


def _out_of_range(answer: bytes, version: int) -> bytes:
    """The answer to a Fetch, with the error at its first partition; of its records the client takes none then."""
    assert version in _FETCH_VERSIONS, f"Fetch of version {version} is not known here"
    reader = _Reader(answer, 4)
    reader.tags()
    reader.skip(4 + 2 + 4)  # throttle, error, session
    assert reader.count() == 1, "one topic is fetched"
    if version < _TOPIC_IDS_SINCE:
        reader.text()
    else:
        reader.skip(16)
    assert reader.count() == 1, "of one partition"
    reader.skip(4)  # its number
    # The offsets are unknown, as a broker says then; with its own librdkafka sees the end of the partition, no error.
    said = struct.pack(">hqqq", OFFSET_OUT_OF_RANGE, -1, -1, -1)
    return answer[: reader.at] + said + answer[reader.at + len(said) :]


def _messages(source: socket.socket) -> Iterator[bytes]:
    with source.makefile("rb") as stream:
        while len(head := stream.read(4)) == 4:
            yield stream.read(*struct.unpack(">i", head))


def _refusal(request: bytes, version: int, level: Level) -> bytes:
    """Header tags and body of the answer to an OffsetFetch."""
    assert version in _OFFSET_FETCH_VERSIONS, f"OffsetFetch of version {version} is not known here"
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
        self._content, self.at = content, at

    def skip(self, count: int) -> None:
        self.at += max(0, count)

    def int16(self) -> int:
        (found,) = struct.unpack_from(">h", self._content, self.at)
        self.at += 2
        return int(found)

    def count(self) -> int:
        return max(0, self._varint() - 1)

    def text(self) -> str:
        length = self.count()
        self.at += length
        return self._content[self.at - length : self.at].decode()

    def topics(self) -> Topics:
        found = []
        for _ in range(self.count()):
            name, count = self.text(), self.count()
            found.append((name, list(struct.unpack_from(f">{count}i", self._content, self.at))))
            self.at += 4 * count
            self.tags()
        return found

    def tags(self) -> None:
        for _ in range(self._varint()):
            self._varint()
            self.skip(self._varint())

    def _varint(self) -> int:
        found = shift = 0
        while True:
            byte = self._content[self.at]
            self.at += 1
            found |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return found
