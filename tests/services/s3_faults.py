"""What can go wrong between a worker and S3, as data; and rules that say to which request it happens.

A rule is any function from an `S3Request` to a fault, or to `None` when that request goes through untouched.
"""

from __future__ import annotations

import itertools
import re
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import escape


@dataclass(frozen=True)
class S3Request:
    """A request as it came from the client, its body read.

    `number` counts the requests of this method that the proxy has seen, `attempt` those for this method and key; both
    start at 1.
    """

    method: str
    bucket: str
    key: str
    query: str
    number: int
    attempt: int
    headers: Mapping[str, str]
    body_bytes: int


@dataclass(frozen=True)
class Reply:
    """Answer with an S3 error. With `after_write` S3 has stored the object all the same, and the client cannot know."""

    status: int
    code: str
    message: str = "Injected by a test."
    headers: Mapping[str, str] = field(default_factory=dict)
    after_write: bool = False

    @property
    def name(self) -> str:
        return self.code

    def response(self, request: S3Request) -> bytes:
        """The whole HTTP response, as S3 words its errors."""
        document = (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f"<Error><Code>{self.code}</Code><Message>{escape(self.message)}</Message>"
            f"<Resource>/{escape(request.bucket)}/{escape(request.key)}</Resource>"
            "<RequestId>INJECTED</RequestId><HostId>streams-tests</HostId></Error>"
        ).encode()
        body = b"" if request.method == "HEAD" else document
        head = {
            "Content-Type": "application/xml",
            "Content-Length": str(len(body)),
            "x-amz-request-id": "INJECTED",
            **self.headers,
        }
        lines = [f"HTTP/1.1 {self.status} Injected", *(f"{name}: {value}" for name, value in head.items())]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass(frozen=True)
class Reset:
    """Reset the connection (RST). With `after_write` S3 has stored the object all the same."""

    after_write: bool = False
    name: str = "Reset"


@dataclass(frozen=True)
class Hang:
    """Answer nothing for `seconds`, then close the connection; S3 never sees the request."""

    seconds: float
    name: str = "Hang"


@dataclass(frozen=True)
class Delay:
    """Hold the request for `seconds`, then hand it to S3, unless its client is gone by then."""

    seconds: float
    name: str = "Delay"


Fault = Reply | Reset | Hang | Delay
Rule = Callable[[S3Request], Fault | None]

SLOW_DOWN = Reply(503, "SlowDown", "Please reduce your request rate.")
INTERNAL_ERROR = Reply(500, "InternalError", "We encountered an internal error. Please try again.")
SERVICE_UNAVAILABLE = Reply(503, "ServiceUnavailable", "Service is unable to handle request.")
REQUEST_TIMEOUT = Reply(400, "RequestTimeout", "Your socket connection to the server was not read from in time.")
CONFLICT = Reply(409, "ConditionalRequestConflict", "A conflicting operation occurred.")
ACCESS_DENIED = Reply(403, "AccessDenied", "Access Denied")
EXPIRED_TOKEN = Reply(400, "ExpiredToken", "The provided token has expired.")
NO_SUCH_BUCKET = Reply(404, "NoSuchBucket", "The specified bucket does not exist")
WRONG_REGION = Reply(
    301,
    "PermanentRedirect",
    "The bucket you are attempting to access must be addressed using the specified endpoint.",
    {"x-amz-bucket-region": "eu-west-1"},
)
WRONG_SIGNING_REGION = Reply(
    400,
    "AuthorizationHeaderMalformed",
    "The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-west-1'",
    {"x-amz-bucket-region": "eu-west-1"},
)
ENTITY_TOO_LARGE = Reply(400, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed size")
KEY_TOO_LONG = Reply(400, "KeyTooLongError", "Your key is too long")
RESET = Reset()


def always(fault: Fault, method: str = "PUT") -> Rule:
    """Every request of `method`."""
    return lambda request: fault if request.method == method else None


def every(nth: int, fault: Fault, method: str = "PUT") -> Rule:
    """Each `nth` request of `method`: `every(100, Delay(3))` makes 1 % of the writes take 3 s."""
    return lambda request: fault if request.method == method and request.number % nth == 0 else None


def first_attempts(attempts: int, fault: Fault, method: str = "PUT") -> Rule:
    """The first `attempts` of every key; what comes after goes through."""
    return lambda request: fault if request.method == method and request.attempt <= attempts else None


def matching(pattern: str, fault: Fault, method: str = "PUT") -> Rule:
    """Requests of `method` whose key has the regular expression `pattern` in it."""
    compiled = re.compile(pattern)
    return lambda request: fault if request.method == method and compiled.search(request.key) else None


def in_turn(nth: int, faults: Sequence[Fault], method: str = "PUT") -> Rule:
    """Each `nth` request of `method`, with one fault after the other."""
    cycle = itertools.cycle(faults)
    return lambda request: next(cycle) if request.method == method and request.number % nth == 0 else None


def first_of(*rules: Rule) -> Rule:
    """The fault of the first rule that has one."""
    return lambda request: next((fault for rule in rules if (fault := rule(request)) is not None), None)


class Numbering:
    """Counts requests by method, and attempts by method and key."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers: Counter[str] = Counter()
        self._attempts: Counter[tuple[str, str, str]] = Counter()

    def next(self, method: str, bucket: str, key: str) -> tuple[int, int]:
        """The number and the attempt of a request that has just come in."""
        with self._lock:
            self._numbers[method] += 1
            self._attempts[method, bucket, key] += 1
            return self._numbers[method], self._attempts[method, bucket, key]

    def totals(self) -> Counter[str]:
        """How many requests of each method have come in."""
        with self._lock:
            return Counter(self._numbers)
