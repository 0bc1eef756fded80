"""Calls the write actions of a worker's web port, as an administrator or as somebody who is none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from email.message import Message
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tests.services.worker import WorkerProcess

TOKEN = "a-token-of-24-characters"


class Answer(NamedTuple):
    """What came back."""

    status: int
    body: str
    headers: Message[str, str]

    def json(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.body)
        return document


def post(
    worker: WorkerProcess,
    path: str,
    body: Mapping[str, Any] | bytes,
    *,
    token: str | None = TOKEN,
    headers: Mapping[str, str] | None = None,
    method: str = "POST",
) -> Answer:
    """One request, with the token unless told otherwise."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"Content-Type": "application/json", **(headers or {})}
    if token is not None:
        sent["Authorization"] = f"Bearer {token}"
    request = Request(f"http://127.0.0.1:{worker.web_port}{path}", data=data, headers=sent, method=method)
    try:
        with urlopen(request, timeout=10) as answer:  # noqa: S310 - the address is a worker of the test
            return Answer(answer.status, answer.read().decode(), answer.headers)
    except HTTPError as error:
        with error:
            return Answer(error.code, error.read().decode(), error.headers)
