"""What the text of a setting means: small pure parsers that `settings` validates with and reads its properties from.

Each raises `ValueError` with words that finish the sentence "<variable>: ...": what is wrong, and what to do.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlsplit

_TOPIC: Final = re.compile(r"[a-zA-Z0-9._-]{1,249}")
_HOST_AND_PORT: Final = re.compile(r"(?:[A-Z_]+://)?(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):(\d{1,5})")
_QUEUE_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,80}|[A-Za-z0-9_-]{1,75}\.fifo")
_MSK_HOST: Final = re.compile(r"\.kafka(?:-serverless)?\.([a-z0-9-]+)\.(?:amazonaws\.com(?:\.cn)?|api\.aws)(?=:)")
_EXTENSION: Final = re.compile(r"([A-Za-z]+)=([^\x00-\x1f,=]+)")
MAX_PREFIX_BYTES: Final = 512
MAX_TAGS: Final = 10


def is_pattern(topics: str) -> bool:
    """Whether a value of STREAMS_TOPICS is a pattern: it begins with `^`, which no topic name can hold."""
    return topics.startswith("^")


def parse_topic_names(topics: str) -> tuple[str, ...]:
    """The topics of a comma-separated list, each once, in their order; none for a pattern."""
    if is_pattern(topics):
        return ()
    names = dict.fromkeys(name.strip() for name in topics.split(","))
    names.pop("", None)
    if not names:
        raise ValueError("names no topic")
    for name in names:
        # Kafka's Topic.java: these characters, at most 249 of them, and neither "." nor "..".
        if not _TOPIC.fullmatch(name) or name in (".", ".."):
            raise ValueError(
                f"{name!r} is not a topic name (letters, digits, '.', '_' and '-', at most 249); "
                "a pattern must begin with '^'"
            )
    return tuple(names)


def check_topics(topics: str) -> str:
    """The value of STREAMS_TOPICS itself, known to be a list of names or a pattern that compiles."""
    if is_pattern(topics):
        try:
            re.compile(topics)
        except re.error as error:
            raise ValueError(f"{topics!r} is not a regular expression: {error}") from error
    parse_topic_names(topics)
    return topics


def parse_servers(servers: str) -> tuple[str, ...]:
    """`host:port` of each bootstrap server; a protocol in front, as Confluent Cloud's pages show it, is dropped."""
    found = []
    for server in filter(None, (server.strip() for server in servers.split(","))):
        match = _HOST_AND_PORT.fullmatch(server)
        if not match or not 1 <= int(match[2]) <= 65535:
            shown = "a server with a user or password in front" if "@" in server else repr(server)
            raise ValueError(f"{shown} is not host:port")
        found.append(f"{match[1]}:{match[2]}")
    if not found:
        raise ValueError("names no server")
    return tuple(found)


def check_servers(servers: str) -> str:
    """Bootstrap servers as a clean comma-separated list of `host:port`."""
    return ",".join(parse_servers(servers))


def msk_region(servers: str) -> str | None:
    """The region in the names of Amazon MSK's brokers: `b-1.orders.a1b2c3.c4.kafka.eu-central-1.amazonaws.com:9098`."""
    found = _MSK_HOST.search(servers)
    return None if found is None else found[1]


def check_prefix(prefix: str) -> str:
    """A prefix of object keys that both S3 clients send unchanged: no empty or dot segment, printable, short enough."""
    if prefix.startswith("/"):
        raise ValueError("may not begin with '/'")
    segments = prefix.split("/")
    # The last segment is what follows the last "/": empty, or the beginning of a name.
    if any(segment in ("", ".", "..") for segment in segments[:-1]) or segments[-1] in (".", ".."):
        raise ValueError("may not hold '//', nor '.' or '..' as a segment")
    if not prefix.isprintable():
        raise ValueError("may not hold control characters")
    if len(prefix.encode("utf-8", "replace")) > MAX_PREFIX_BYTES:
        raise ValueError(f"has more than {MAX_PREFIX_BYTES} bytes")
    return prefix


def parse_tags(tags: str) -> tuple[tuple[str, str], ...]:
    """Object tags of a `key=value&key=value` text (percent-encoded where needed), within the limits of S3."""
    try:
        pairs = tuple(parse_qsl(tags, keep_blank_values=True, strict_parsing=True)) if tags else ()
    except ValueError:
        raise ValueError("is not key=value&key=value") from None
    if len(pairs) > MAX_TAGS or len(dict(pairs)) < len(pairs):
        raise ValueError(f"holds a key twice or more than {MAX_TAGS} tags, which S3 refuses")
    if any(not 1 <= len(key) <= 128 or len(value) > 256 for key, value in pairs):
        raise ValueError("holds a tag whose key is not 1 to 128 or whose value is past 256 characters")
    return pairs


def check_tags(tags: str) -> str:
    """The text of STREAMS_S3_TAGS itself, known to parse."""
    parse_tags(tags)
    return tags


def parse_extensions(extensions: str) -> dict[str, str]:
    """SASL extensions of a `name=value,name=value` text (RFC 7628; names are letters, `auth` is taken)."""
    found: dict[str, str] = {}
    for extension in filter(None, (extension.strip() for extension in extensions.split(","))):
        match = _EXTENSION.fullmatch(extension)
        if not match or match[1] == "auth":
            raise ValueError("is not name=value,name=value with names of letters only, and none called 'auth'")
        found[match[1]] = match[2]
    return found


def check_extensions(extensions: str) -> str:
    """The text of STREAMS_KAFKA_OAUTH_EXTENSIONS itself, known to parse."""
    parse_extensions(extensions)
    return extensions


def check_url(url: str) -> str:
    """An http(s) address with a host and without credentials."""
    try:
        parts = urlsplit(url)
        complete = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        complete = False
        parts = urlsplit("")
    if not complete:
        raise ValueError("is not an address such as https://host:port")
    if parts.username is not None or parts.password is not None:
        raise ValueError("may not hold a user name or password")
    if parts.fragment:
        raise ValueError("may not hold a '#' part")
    return url


def check_endpoint_url(url: str) -> str:
    """As `check_url`, without the '/' at its end, to which the clients would add their own."""
    return check_url(url).rstrip("/")


def check_queue_url(url: str) -> str:
    """The address of an SQS queue: its path ends with the account's number and the queue's name."""
    check_url(url)
    account, _, name = urlsplit(url).path.rpartition("/")
    if not account.strip("/") or not _QUEUE_NAME.fullmatch(name) or urlsplit(url).query:
        raise ValueError("is not the address of a queue such as https://sqs.REGION.amazonaws.com/ACCOUNT/NAME")
    return url


def check_readable_file(path: Path) -> Path:
    """A file that exists and may be read, found out before anything is connected."""
    if not path.is_file():
        raise ValueError(f"{str(path)!r} is not a file")
    if not os.access(path, os.R_OK):
        raise ValueError(f"{str(path)!r} may not be read by this user")
    return path
