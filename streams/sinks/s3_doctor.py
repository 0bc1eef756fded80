"""What `doctor` finds about S3: credentials and who they are, the bucket, and every kind of request on canary objects.

Canaries are written exactly as the worker writes events, and are taken away again whatever happens.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncGenerator
from contextlib import suppress
from statistics import median
from time import monotonic
from typing import Final

from streams.doctor.findings import Finding, unchecked, wrong
from streams.doctor.remedies import CANARY_FOLDER, IamStatements, Prefixes
from streams.errors import ConfigurationError, SinkUnavailableError, StreamsError
from streams.layout import Layout
from streams.metadata import object_metadata
from streams.record import CREATE_TIME, Record
from streams.settings import Settings
from streams.sinks.doctor_signing import (
    clock_finding,
    credential_finding,
    find_credentials,
    identity_finding,
    refused_finding,
)
from streams.sinks.s3 import PutRequest, S3Client, make_client
from streams.sinks.s3_address import credential_settings
from streams.sinks.s3_doctor_client import Answer, DoctorClient
from streams.sinks.s3_doctor_findings import (
    IDENTITY_CHECK,
    bucket_finding,
    conditional_finding,
    delete_finding,
    encryption_finding,
    get_finding,
    latency_finding,
    lifecycle_finding,
    list_finding,
    owner_finding,
    put_finding,
    topic_identity_finding,
    versioning_finding,
)

logger = logging.getLogger(__name__)

PUT_LIMIT_SECONDS: Final = 10.0
LATENCY_PUTS: Final = 20
LATENCY_LIMIT_SECONDS: Final = 8.0
REMOVE_LIMIT_SECONDS: Final = 5.0


async def examine_s3(settings: Settings) -> AsyncGenerator[Finding, None]:
    """Findings about S3, each part as far as those before it allow."""
    try:
        credentials, facts = await find_credentials(credential_settings(settings))
        doctor = DoctorClient(settings, credentials)
    except ConfigurationError as error:
        yield wrong("s3 settings", str(error), "Correct the setting that the message names.")
        return
    except StreamsError as error:
        yield refused_finding("s3 credentials", error)
        yield unchecked("s3 bucket, requests", "there are no credentials")
        return
    yield credential_finding(facts)
    async with doctor:
        async for finding in _Examination(settings, doctor).findings():
            yield finding


class _Canaries:
    """Small objects under our prefixes, written with the worker's own client and remembered until they are gone."""

    def __init__(self, settings: Settings) -> None:
        self._client: S3Client = make_client(settings)
        self._name = uuid.uuid4().hex
        value = b'{"canary": "streams doctor"}'
        record = Record("streams-doctor", 0, 0, None, CREATE_TIME, None, value)
        self.body = value
        self.metadata, _ = object_metadata(record)
        self.left: list[str] = []
        self._endings = {Layout(settings).ledger_prefix(): "/topic.json"}
        """A policy may tell the objects under a prefix apart: this is the one that the worker also reads."""

    async def start(self) -> None:
        await self._client.start()

    async def close(self) -> None:
        await self._client.close()

    def key(self, prefix: str) -> str:
        """The canary's key under a prefix."""
        return f"{prefix}{CANARY_FOLDER}{self._name}{self._endings.get(prefix, '')}"

    async def put(self, prefix: str) -> StreamsError | None:
        """Write it as the worker writes an event; why that failed."""
        key = self.key(prefix)
        if key not in self.left:
            self.left.append(key)
        try:
            async with asyncio.timeout(PUT_LIMIT_SECONDS):
                await self._client.put(PutRequest(key, self.body, self.metadata))
        except TimeoutError:
            return SinkUnavailableError("timeout", f"no answer within {PUT_LIMIT_SECONDS:.0f} s")
        except StreamsError as error:
            if not isinstance(error, SinkUnavailableError):  # refused: it was not written
                self.left.remove(key)
            return error
        return None


class _Examination:
    """One run; what a check has learnt and later ones need is kept here."""

    def __init__(self, settings: Settings, doctor: DoctorClient) -> None:
        self._settings = settings
        self._doctor = doctor
        self._prefixes = Prefixes(settings)
        self._account = ""
        self._iam = IamStatements(settings, doctor.address.region)
        self._canaries = _Canaries(settings)

    async def findings(self) -> AsyncGenerator[Finding, None]:
        """All of them, in order."""
        yield await self._identity()
        usable = True
        for finding, goes_on in await self._bucket():
            yield finding
            usable = usable and goes_on
        if not usable:
            yield unchecked("s3 requests", "the bucket cannot be used, see above")
            return
        yield await self._owner()
        await self._canaries.start()
        try:
            async for finding in self._requests():
                yield finding
        finally:
            await self._remove_at_the_end()
            await self._canaries.close()
        yield versioning_finding(await self._doctor.ask("get_bucket_versioning"), self._iam)
        yield lifecycle_finding(await self._doctor.ask("get_bucket_lifecycle_configuration"), self._iam)

    async def _identity(self) -> Finding:
        finding, self._account = await identity_finding(self._doctor.identity, "S3")
        if self._account:
            self._iam = IamStatements(self._settings, self._doctor.address.region, self._account)
        return finding

    # -- the bucket ---------------------------------------------------------------------------------------------------

    async def _bucket(self) -> list[tuple[Finding, bool]]:
        """Bucket, region and clock; each with whether requests make sense after it."""
        head = await self._doctor.ask("head_bucket")
        told = head
        if head.error is not None and not head.code and head.status in (400, 403):
            # The answer to a HEAD has no body, and so no code: a listing says what is wrong.
            told = await self._doctor.ask("list_objects_v2", Prefix=self._prefixes.events, MaxKeys=1)
        finding, usable = bucket_finding(self._doctor.address, head, told, self._iam)
        return [(finding, usable), *self._clock(head)]

    def _clock(self, answer: Answer) -> list[tuple[Finding, bool]]:
        finding = clock_finding(answer.skew_seconds)
        return [] if finding is None else [(finding, True)]

    async def _owner(self) -> Finding:
        check = "s3 owner"
        if not self._account:
            return unchecked(check, "the caller's own account is not known (see identity)")
        answer = await self._doctor.ask("head_bucket", ExpectedBucketOwner=self._account)
        return owner_finding(answer, self._account, self._iam)

    # -- requests on canaries -----------------------------------------------------------------------------------------

    async def _requests(self) -> AsyncGenerator[Finding, None]:
        events = self._prefixes.events
        refused = await self._canaries.put(events)
        name = "events" if self._settings.sink == "s3" else "large events"
        yield put_finding(name, self._canaries.key(events), refused, self._iam.put([events]), self._iam.kms())
        for name, prefix in (("dead letters", self._prefixes.dead_letters), ("ledger", self._prefixes.ledgers)):
            if prefix:
                error = await self._canaries.put(prefix)
                yield put_finding(name, prefix + CANARY_FOLDER, error, self._iam.put([prefix]), self._iam.kms())
        if self._settings.sink == "s3":
            yield await self._topic_identity()
            async for finding in self._other_requests(events, refused):
                yield finding
        yield await self._delete()

    async def _topic_identity(self) -> Finding:
        """Whether the worker can read what it writes down of a topic's identity."""
        prefix = Layout(self._settings).ledger_prefix()
        if await self._canaries.put(prefix) is not None:
            return unchecked(IDENTITY_CHECK, f"it cannot be written under {prefix}")
        answer = await self._doctor.ask("get_object", Key=self._canaries.key(prefix))
        return topic_identity_finding(answer, f"{prefix}*/topic.json", self._iam.identity(prefix))

    async def _other_requests(self, events: str, refused: StreamsError | None) -> AsyncGenerator[Finding, None]:
        """What the commands send that look at an archive; beside a queue there is none."""
        prefixes = self._prefixes.all()
        listing = await self._doctor.ask("list_objects_v2", Prefix=f"{events}{CANARY_FOLDER}")
        expected = None if refused else self._canaries.key(events)
        yield list_finding(listing, expected, self._iam.list_objects(prefixes))
        if refused is not None:
            yield unchecked("s3 GET, conditional PUT, encryption, latency", "no canary could be written")
        else:
            async for finding in self._canary_findings(self._canaries.key(events)):
                yield finding

    async def _canary_findings(self, key: str) -> AsyncGenerator[Finding, None]:
        read = self._iam.get(self._prefixes.all())
        yield get_finding(
            await self._doctor.ask("get_object", Key=key), self._canaries.body, self._canaries.metadata, read
        )
        yield encryption_finding(self._settings, await self._doctor.ask("head_object", Key=key))
        yield conditional_finding(
            await self._doctor.ask("put_object", Key=key, Body=self._canaries.body, IfNoneMatch="*")
        )
        yield await self._latency()

    async def _latency(self) -> Finding:
        """How long a PUT takes here, one after the other."""
        seconds: list[float] = []
        deadline = monotonic() + LATENCY_LIMIT_SECONDS
        while len(seconds) < LATENCY_PUTS and monotonic() < deadline:
            began = monotonic()
            if (error := await self._canaries.put(self._prefixes.events)) is not None:
                return unchecked("s3 latency", f"a PUT failed: {error}")
            seconds.append(monotonic() - began)
        return latency_finding(median(seconds), len(seconds), self._settings.max_in_flight)

    async def _delete(self) -> Finding:
        if not self._canaries.left:
            return unchecked("s3 DELETE", "no canary could be written")
        refusals = await self._remove()
        self._canaries.left.clear()  # those that stay are named in the finding
        return delete_finding(refusals, self._settings, self._iam.delete(self._prefixes.all()))

    async def _remove(self) -> dict[str, Answer]:
        """Take the canaries away; the answers to those that stay."""
        refusals = {}
        for key in list(self._canaries.left):
            answer = await self._doctor.ask("delete_object", Key=key)
            if answer.error is None:
                self._canaries.left.remove(key)
            else:
                refusals[key] = answer
        return refusals

    async def _remove_at_the_end(self) -> None:
        """For checks that were cut off before the DELETE: nobody reads a finding of it any more."""
        with suppress(TimeoutError):
            async with asyncio.timeout(REMOVE_LIMIT_SECONDS):
                await self._remove()
        if self._canaries.left:
            left = ", ".join(f"s3://{self._settings.s3_bucket}/{key}" for key in self._canaries.left)
            logger.warning("canary objects are left over, delete them: %s", left)
