"""The services that are written to, and what one write to each of them is called."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Service:
    """A service that the load server plays."""

    name: str
    title: str
    write: str


S3 = Service("s3", "S3", "PUT")
SQS = Service("sqs", "SQS", "send")
SERVICES = {service.name: service for service in (S3, SQS)}
