"""Why no OAuth token could be had, of librdkafka's words only what may be shown.

Pure. What a token endpoint answers, and the query of its URL, may hold secrets, and librdkafka repeats both: in an
error the whole answer, in its log the URL, the answer and the HTTP status. Kept are the status, the endpoint's own
`error` (RFC 6749, 5.2: one word), and sentences that are librdkafka's or its HTTP client's, word for word.
"""

from __future__ import annotations

import json
import re
from typing import Final, NamedTuple

_URL: Final = re.compile(r"""\b([A-Za-z][\w+.-]*://)(?:[^\s/?#"']*@)?([^\s?#"']*)(?:[?#][^\s"']*)?""")
_IN_ERROR: Final = re.compile(r"(?s)Failed to acquire SASL OAUTHBEARER token: (?P<answer>.*)")
_IN_LOG: Final = re.compile(r'(?s)Failed to retrieve OIDC token from "[^"]*": (?P<answer>.*) \((?P<status>-?\d+)\)')
_OWN: Final = re.compile(
    r"(?:Could not resolve host: [\w.-]+"
    r"|Failed to connect to [\w.:\[\]-]+(?: port \d+)?(?: via [\w.:\[\]-]+)? after \d+ ms: [\w' ]+"
    r"|(?:Could not|Couldn't) connect to server"
    r"|(?:Resolving|Connection|Operation|SSL connection) (?:timed out|timeout)(?: after \d+ milliseconds)?[\w ]*"
    r"|(?:Recv|Send) failure: [\w ]+"
    r"|Empty reply from server"
    r"|TLS connect error: error:[0-9A-F]+:[\w ]*:[\w ]*:[\w /-]*"
    r"|SSL certificate (?:problem|OpenSSL verify result): [\w ,.'-]+(?: \(\d+\))?"
    r"|error (?:adding|setting) [\w ]*(?:trust anchors|certificate)[\w ]*"
    r"|Response is not JSON encoded"
    r'|Expected JSON (?:JWT )?response with "\w+" field'
    r"|Failed to (?:decode JWT payload|parse JSON JWT payload|parse JSON response)"
    r"|Server did not provide an error string)(?=: | at |\Z)"
)
"""Sentences of librdkafka 2.16 (`rdhttp.c`, `rdkafka_sasl_oauthbearer_oidc.c`) and of the curl built into it."""


class TokenFailure(NamedTuple):
    """What may be shown of a failure."""

    status: int | None
    """The HTTP status where it is known."""
    error: str
    """The endpoint's own `error`, as `invalid_client`; empty where it sent none."""
    sentence: str
    """librdkafka's or its HTTP client's own words; empty where the endpoint's would have to be repeated."""

    @property
    def codes(self) -> str:
        """` (HTTP 401, invalid_client)`, as far as they are known."""
        found = [f"HTTP {self.status}" if self.status else "", self.error]
        return f" ({', '.join(filter(None, found))})" if any(found) else ""


def token_failure(text: str) -> TokenFailure | None:
    """What an error or a log line of librdkafka's says about a token, `None` where it is about something else."""
    if (match := _IN_LOG.search(text)) is not None:
        status = int(match["status"])  # below 0: nothing was answered
        return TokenFailure(status if status > 0 else None, _error_code(match["answer"]), _own(match["answer"]))
    if (match := _IN_ERROR.search(text)) is not None:
        return TokenFailure(None, _error_code(match["answer"]), _own(match["answer"]))
    return None


def without_secrets(text: str) -> str:
    """A sentence of librdkafka's without what a token endpoint sent, and without users and queries in URLs."""
    failure = token_failure(text)
    if failure is None:
        return bare_urls(text)
    why = f": {failure.sentence}" if failure.sentence else ""
    return f"No OAuth token could be had{why}{failure.codes}"


def bare_urls(text: str) -> str:
    """The text, its URLs without user, password, query and fragment."""
    return _URL.sub(r"\1\2", text)


def _error_code(answer: str) -> str:
    try:
        code = json.loads(answer)["error"]
    except (ValueError, KeyError, TypeError):
        return ""
    known = isinstance(code, str) and code.isascii() and len(code) <= 64 and code.replace("_", "").isalnum()
    return code if known else ""


def _own(answer: str) -> str:
    match = _OWN.match(answer)
    return match[0] if match else ""
