"""A token server for OAUTHBEARER: the client-credentials grant (RFC 6749, 4.4) with unsigned tokens, for tests only."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import parse_qs, unquote_plus

from tests.services.kafka import PASSWORD, SUPERUSER


class TokenServer:
    """Gives who shows `client_id` and `client_secret` (as Basic or in the form) a token that Kafka's test mode takes.

    The token's subject is the client id, so it is the Kafka user. `requests` holds the forms that came in.
    """

    def __init__(
        self, client_id: str = SUPERUSER, client_secret: str = PASSWORD, *, lifetime_seconds: float = 300
    ) -> None:
        self.client_id = client_id
        self.client_secret = client_secret
        self.lifetime_seconds = lifetime_seconds
        self.requests: list[dict[str, str]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, name="token-server", daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/oauth/token"

    def __enter__(self) -> TokenServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def answer(self, form: dict[str, str], authorization: str) -> tuple[int, dict[str, object]]:
        """Status and document for one request."""
        self.requests.append(form)
        shown = _basic(authorization) or (form.get("client_id", ""), form.get("client_secret", ""))
        if shown != (self.client_id, self.client_secret):
            return 401, {"error": "invalid_client", "error_description": "The client id or secret is wrong."}
        if form.get("grant_type") != "client_credentials":
            return 400, {"error": "unsupported_grant_type"}
        return 200, {
            "access_token": unsigned_token(self.client_id, self.lifetime_seconds),
            "token_type": "Bearer",
            "expires_in": int(self.lifetime_seconds),
        }

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        tokens = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
                form = {name: values[0] for name, values in parse_qs(body).items()}
                status, document = tokens.answer(form, self.headers.get("Authorization", ""))
                content = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_arguments: object) -> None:
                """No line for each request."""

        return Handler


def unsigned_token(subject: str, lifetime_seconds: float) -> str:
    """A JWT with `alg: none` (RFC 7519, 6), which only Kafka's unsecured validator takes."""
    now = time.time()
    claims = {"sub": subject, "iat": now, "exp": now + lifetime_seconds}
    return f"{_part({'alg': 'none'})}.{_part(claims)}."


def _part(document: Mapping[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


def _basic(authorization: str) -> tuple[str, str] | None:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    name, _, secret = base64.b64decode(encoded).decode().partition(":")
    return unquote_plus(name), unquote_plus(secret)
