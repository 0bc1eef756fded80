"""The second S3 client: aiobotocore, for those who want AWS's own library in the path; several times slower.

Tuned: no parameter validation, no retries and no redirects of its own, no checksum but the one that is configured.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from contextlib import AsyncExitStack
from hashlib import sha256
from typing import Any
from urllib.parse import urlencode

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import ClientError
from botocore.handlers import add_expect_header

from streams.errors import SinkUnavailableError, StreamsError
from streams.settings import Settings
from streams.sinks.credentials import CredentialSource
from streams.sinks.s3 import PutRequest
from streams.sinks.s3_address import S3Address, credential_settings, resolve_address
from streams.sinks.s3_errors import from_botocore


class AiobotocoreClient:
    """Writes objects with aiobotocore's `put_object`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._parameters = _parameters(settings)
        self._content_type = settings.s3_content_type
        self._checksum = settings.s3_checksum == "sha256"
        self._timeout_seconds = settings.s3_request_timeout_seconds
        self._stack = AsyncExitStack()
        self._credentials: CredentialSource | None = None
        self._client: Any = None

    async def start(self) -> None:
        session = get_session()
        address = resolve_address(self._settings, session)
        self._credentials = CredentialSource(credential_settings(self._settings))
        self._stack.push_async_callback(self._credentials.close)
        session.register_component("credential_provider", _Resolver(self._credentials))
        self._client = await self._stack.enter_async_context(
            session.create_client(
                "s3",
                region_name=address.region,
                endpoint_url=address.endpoint_url,
                verify=None if self._settings.s3_ca_file is None else str(self._settings.s3_ca_file),
                config=_client_config(self._settings, address),
            )
        )
        events = self._client.meta.events
        # botocore sends `Expect: 100-continue` with every body: a round trip more for each event, and aiohttp waits for
        # the 100 without any time limit (measured).
        events.unregister("before-call.s3", add_expect_header)
        events.register("before-call.s3", _forbid_redirects)

    async def put(self, request: PutRequest) -> None:
        parameters = dict(self._parameters)
        if self._checksum:
            parameters["ChecksumSHA256"] = b64encode(sha256(request.body).digest()).decode("ascii")
        try:
            async with asyncio.timeout(self._timeout_seconds):
                answer = await self._client.put_object(
                    Key=request.object_key,
                    Body=request.body,
                    Metadata=request.metadata,
                    ContentType=request.content_type or self._content_type,
                    **parameters,
                )
        except Exception as error:
            raise self._translate(error) from error
        if "ETag" not in answer:
            raise SinkUnavailableError("server_error", "the answer has no ETag, so it did not come from S3")

    async def create(self, request: PutRequest) -> bool:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await self._client.put_object(
                    Key=request.object_key,
                    Body=request.body,
                    ContentType=request.content_type or self._content_type,
                    IfNoneMatch="*",
                    **self._parameters,
                )
        except Exception as error:
            if _code(error) in ("PreconditionFailed", "ConditionalRequestConflict"):
                return False
            raise self._translate(error) from error
        return True

    async def get(self, object_key: str) -> bytes | None:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                answer = await self._client.get_object(Bucket=self._settings.s3_bucket, Key=object_key)
                body: bytes = await answer["Body"].read()
                return body
        except Exception as error:
            if _code(error) == "NoSuchKey":
                return None
            raise self._translate(error) from error

    async def close(self) -> None:
        await self._stack.aclose()
        self._client = None

    def _translate(self, error: Exception) -> StreamsError:
        meaning = from_botocore(error)
        expired = isinstance(meaning, SinkUnavailableError) and meaning.reason == "credentials_expired"
        if expired and self._credentials is not None:
            self._credentials.expire()
        return meaning


def _code(error: Exception) -> str | None:
    """S3's error code, where the answer had one."""
    return error.response.get("Error", {}).get("Code") if isinstance(error, ClientError) else None


class _Resolver:
    """botocore's interface for the credential chain of a session."""

    def __init__(self, source: CredentialSource) -> None:
        self._source = source

    async def load_credentials(self) -> Any:
        return self._source.for_botocore()


def _forbid_redirects(params: dict[str, Any], **_: Any) -> None:
    """Make botocore believe that it has followed a redirect already: a wrong region is told, not worked around."""
    params["context"].setdefault("s3_redirect", {})["redirected"] = True


def _parameters(settings: Settings) -> dict[str, Any]:
    """What every object has in common."""
    optional = {
        "StorageClass": settings.s3_storage_class,
        "ServerSideEncryption": settings.s3_sse,
        "SSEKMSKeyId": settings.s3_sse_kms_key_id,
        "BucketKeyEnabled": settings.s3_bucket_key_enabled or None,
        "Tagging": urlencode(settings.s3_tag_pairs) or None,
    }
    given = {name: value for name, value in optional.items() if value is not None}
    return {"Bucket": settings.s3_bucket, **given}


def _client_config(settings: Settings, address: S3Address) -> AioConfig:
    return AioConfig(
        signature_version="s3v4",
        s3={"addressing_style": "path" if address.path_style else "virtual"},
        retries={"total_max_attempts": 1},
        parameter_validation=False,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        max_pool_connections=settings.max_in_flight,
        connect_timeout=settings.s3_connect_timeout_seconds,
        read_timeout=settings.s3_request_timeout_seconds,
        # `address` knows about these; botocore refuses them beside an explicit endpoint.
        use_fips_endpoint=False,
        use_dualstack_endpoint=False,
    )
