"""The default S3 client: obstore, which signs and sends in Rust, outside the interpreter's lock.

Measured with obstore 0.12.1: `use_multipart=False` is cheaper for bodies of our size; attribute names that it does not
know become signed `x-amz-meta-*` headers. It reads `AWS_*` variables of its own, so what must not depend on them is set
here; AWS_SERVER_SIDE_ENCRYPTION, AWS_SSE_* and AWS_CHECKSUM_ALGORITHM (obstore's names, not AWS's) cannot be unset and
count where the settings say nothing.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from aiobotocore.session import get_session
from obstore import get_async, put_async
from obstore.exceptions import AlreadyExistsError
from obstore.store import S3Store

from streams.errors import SinkUnavailableError, StreamsError
from streams.settings import Settings
from streams.sinks.credentials import CredentialSource
from streams.sinks.s3 import PutRequest
from streams.sinks.s3_address import S3Address, credential_settings, resolve_address
from streams.sinks.s3_errors import from_obstore

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials
    from obstore.store import ClientConfig, S3Config


class ObstoreClient:
    """Writes objects with `obstore.put_async`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # The content type is an option of the client instead, so that most events' metadata is passed on as it is.
        storage_class = settings.s3_storage_class
        self._attributes = {} if storage_class is None else {"Storage-Class": storage_class}
        self._tags = dict(settings.s3_tag_pairs) or None
        self._credentials = CredentialSource(credential_settings(settings))
        self._address: S3Address | None = None
        self._store: Any = None
        self._signs_with: ReadOnlyCredentials | None = None

    async def start(self) -> None:
        # Read by obstore's runtime (tokio) when the process sends its first request; there is no other way to say it.
        os.environ["TOKIO_WORKER_THREADS"] = str(self._settings.s3_client_threads)
        self._address = resolve_address(self._settings, get_session())

    async def put(self, request: PutRequest) -> None:
        object_key, body, attributes, content_type = request
        store = await self.store()
        if self._attributes:
            attributes = {**self._attributes, **attributes}
        if content_type is not None:
            attributes = {**attributes, "Content-Type": content_type}
        try:
            await put_async(store, object_key, body, attributes=attributes, tags=self._tags, use_multipart=False)
        except Exception as error:
            # Not chained: obstore's text holds S3's whole answer, which repeats the session token of `ExpiredToken`.
            raise self.translate(error) from None

    async def create(self, request: PutRequest) -> bool:
        store = await self.store()
        attributes = {**self._attributes, "Content-Type": request.content_type or self._settings.s3_content_type}
        try:
            await put_async(
                store,
                request.object_key,
                request.body,
                attributes=attributes,
                tags=self._tags,
                mode="create",
                use_multipart=False,
            )
        except AlreadyExistsError:
            return False
        except Exception as error:
            raise self.translate(error) from None
        return True

    async def get(self, object_key: str) -> bytes | None:
        store = await self.store()
        try:
            return bytes(await (await get_async(store, object_key)).bytes_async())
        except Exception as error:
            if isinstance(error, FileNotFoundError) and "NoSuchKey" in str(error):
                return None
            raise self.translate(error) from None

    async def store(self) -> Any:
        """What to send the next request with: it signs with credentials that are good now. Raises as `put` does."""
        credentials = self._credentials.known() or await self._credentials.frozen()
        if credentials is not self._signs_with:
            self._sign_with(credentials)
        return self._store

    async def close(self) -> None:
        self._store = None
        await self._credentials.close()

    def _sign_with(self, credentials: ReadOnlyCredentials) -> None:
        """Take over credentials, with a new store where they have changed; writes in flight end on the old one.

        obstore's own `credential_provider` costs a tenth of the throughput, and asks ten times a second for credentials
        that expire within five minutes, while every request waits (measured, 0.12.1). Renewals are rare.
        """
        if self._address is None:
            raise RuntimeError("put before start")
        if self._store is None or credentials != self._signs_with:
            self._store = S3Store(
                self._address.bucket,
                config=_store_config(self._settings, self._address, credentials),
                client_options=_client_options(self._settings, self._address),
                retry_config={"max_retries": 0},
            )
        self._signs_with = credentials

    def translate(self, error: Exception) -> StreamsError:
        """What an exception of obstore means; credentials that S3 calls expired are got anew for the next request."""
        meaning = from_obstore(error)
        if isinstance(meaning, SinkUnavailableError) and meaning.reason == "credentials_expired":
            self._credentials.expire()
        return meaning


def _store_config(settings: Settings, address: S3Address, credentials: ReadOnlyCredentials) -> S3Config:
    endpoint_url = address.endpoint_url if address.path_style else address.bucket_url
    config: S3Config = {
        "access_key_id": credentials.access_key,
        "secret_access_key": credentials.secret_key,
        "region": address.region,
        "endpoint": endpoint_url,
        "aws_endpoint_url_s3": endpoint_url,
        "virtual_hosted_style_request": not address.path_style,
        "skip_signature": False,
        "unsigned_payload": False,
        "disable_tagging": False,
        "s3_express": False,
        "request_payer": False,
    }
    if credentials.token:
        config["session_token"] = credentials.token
    if settings.s3_checksum != "none":
        config["checksum_algorithm"] = settings.s3_checksum
    if settings.s3_sse is not None:
        config["server_side_encryption"] = settings.s3_sse
    if settings.s3_sse_kms_key_id is not None:
        config["sse_kms_key_id"] = settings.s3_sse_kms_key_id
    if settings.s3_bucket_key_enabled:
        config["sse_bucket_key_enabled"] = True
    return config


def _client_options(settings: Settings, address: S3Address) -> ClientConfig:
    options: ClientConfig = {
        "allow_http": address.is_plain_http,
        "timeout": timedelta(seconds=settings.s3_request_timeout_seconds),
        "connect_timeout": timedelta(seconds=settings.s3_connect_timeout_seconds),
        "pool_max_idle_per_host": str(settings.max_in_flight),
        "default_content_type": settings.s3_content_type,
    }
    if settings.s3_ca_file is not None:
        options["root_certificate"] = settings.s3_ca_file.read_bytes()
    return options
