"""A real S3 server, versitygw over a directory: it checks signatures, keeps metadata and survives a kill."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import boto3
from botocore.config import Config

from tests.services.install import VERSITYGW
from tests.services.ports import free_port
from tests.services.process import ServerProcess
from tests.services.waiting import wait_until

ACCESS_KEY = "streams-tests"
SECRET_KEY = "streams-tests-secret"
REGION = "us-east-1"


@dataclass(frozen=True)
class StoredObject:
    """An object as S3 holds it; `metadata` has its names without `x-amz-meta-`."""

    key: str
    body: bytes
    metadata: dict[str, str]
    content_type: str


class S3Server:
    """A server in `directory` with one administrator (`ACCESS_KEY`, `SECRET_KEY`), for path-style addresses.

    The port and the objects live as long as the object, the process from `start` to `stop` or `kill`.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._objects = directory / "objects"
        self._objects.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self._process = ServerProcess("the S3 server", directory / "s3.log")
        self._client: Any = None

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        """The variables by which AWS's own credential chain finds this server's administrator."""
        return {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "AWS_REGION": REGION}

    @property
    def client(self) -> Any:
        """A boto3 client of the administrator, straight to the server (past any proxy)."""
        if self._client is None:
            self._client = s3_client(self.endpoint_url)
        return self._client

    # -- life ---------------------------------------------------------------------------------------------------------

    def __enter__(self) -> S3Server:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()
        if self._client is not None:
            self._client.close()

    def start(self, timeout_seconds: float = 30) -> None:
        """Start (or start again, with the objects that are there) and return when it answers."""
        options = ["--port", f"127.0.0.1:{self.port}", "--region", REGION, "--health", "/health", "--quiet"]
        self._process.start(
            [str(VERSITYGW), *options, "--keep-alive", "posix", *self._metadata_store(), str(self._objects)],
            {**os.environ, "ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY},
            self.directory,
        )
        wait_until(self._answers, timeout_seconds, lambda: f"the S3 server did not answer\n{self._process.log_tail()}")

    def stop(self, timeout_seconds: float = 30) -> None:
        self._process.signal(signal.SIGTERM)
        self._process.wait(timeout_seconds)

    def kill(self) -> None:
        """End it at once (SIGKILL); objects and port stay for the next `start`."""
        self._process.kill()

    def restart(self) -> None:
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Stop the process in its tracks (SIGSTOP): connections stay open and nothing answers."""
        self._process.freeze()

    def thaw(self) -> None:
        self._process.thaw()

    @property
    def running(self) -> bool:
        return self._process.running

    def log_tail(self) -> str:
        return self._process.log_tail()

    def _answers(self) -> bool:
        if not self._process.running:
            raise AssertionError(f"the S3 server ended while starting\n{self._process.log_tail()}")
        try:
            with urlopen(f"{self.endpoint_url}/health", timeout=1) as answer:  # noqa: S310 - an address of ours
                return bool(answer.status == 200)
        except HTTPError as error:
            error.close()
            return False
        except (URLError, OSError):
            return False

    def _metadata_store(self) -> list[str]:
        """Metadata goes into extended attributes; where the file system has none, into a directory beside."""
        try:
            os.setxattr(self._objects, "user.streams-tests", b"1")
        except OSError:
            sidecar = self.directory / "metadata"
            sidecar.mkdir(exist_ok=True)
            return ["--sidecar", str(sidecar)]
        return []

    # -- buckets and objects ------------------------------------------------------------------------------------------

    def create_bucket(self, name: str) -> None:
        self.client.create_bucket(Bucket=name)

    def keys(self, bucket: str, prefix: str = "") -> list[str]:
        """Every key under `prefix`, in S3's order."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", ())]

    def read(self, bucket: str, key: str) -> StoredObject:
        answer = self.client.get_object(Bucket=bucket, Key=key)
        with answer["Body"] as body:
            content = body.read()
        return StoredObject(key, content, dict(answer["Metadata"]), answer["ContentType"])

    def objects(self, bucket: str, prefix: str = "") -> Iterator[StoredObject]:
        return (self.read(bucket, key) for key in self.keys(bucket, prefix))


def s3_client(endpoint_url: str, access_key: str = ACCESS_KEY, secret_key: str = SECRET_KEY) -> Any:
    """A boto3 client for tests: path style, no retries, nothing read from the person's own AWS configuration."""
    return boto3.client(
        "s3",
        endpoint_url=endpoint_url,
        region_name=REGION,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=Config(
            s3={"addressing_style": "path"},
            retries={"total_max_attempts": 1},
            max_pool_connections=64,
            read_timeout=30,
        ),
    )
